"""Random learning rules, weights, spikes and third factors, and what Lava and the engine make of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snncompile.backends.lava.interpreter import find_interpreter
from snncompile.backends.lava.supervisor import run_guest
from snncompile.learning.engine import PlasticDense
from snncompile.learning.rule import GRADED, Factor, Product, Rule, Trace
from snncompile.learning.widths import Widths
from snncompile.target import load_target

GUEST = Path(__file__).with_name("lava_engine.py")
TARGET = load_target("loihi2-sim")
WIDTHS = Widths.of(TARGET)


@dataclass(frozen=True)
class Case:
    """A plastic synapse and everything that reaches it."""

    rule: Rule
    sign: str
    weight_bits: int
    exponent: int
    graded: bool
    arrays: dict[str, np.ndarray]


def random_case(seed: int, steps: int) -> Case:
    g = np.random.default_rng(seed)
    post, pre = int(g.integers(1, 7)), int(g.integers(1, 9))
    delivered, epoch = bool(g.random() < 0.7), int(g.choice([1, 1, 1, 2, 3, 5]))
    targets = {key: _products(g) for key in ("dw", "dd", "dt") if key == "dw" or g.random() < 0.25}
    traces = {n: _trace(g) for n in ("x1", "x2", *(() if delivered else ("y1", "y2", "y3")))}
    graded_input = bool(g.random() < 0.4)
    rule = Rule(
        **targets,
        **traces,
        delivered=delivered,
        decimation=int(g.integers(0, 4)),
        epoch=epoch,
        seed=int(g.integers(1, 1000)),
        graded=str(g.choice(GRADED)) if graded_input and g.random() < 0.5 else "regular",
    )
    sign = str(g.choice(["mixed", "mixed", "excitatory", "inhibitory"]))
    low, high = {"mixed": (-256, 256), "excitatory": (0, 256), "inhibitory": (-255, 1)}[sign]
    spikes = (g.random((steps, pre)) < g.uniform(0.05, 0.7)).astype(np.int64)
    if graded_input:
        spikes *= g.integers(1, 250, spikes.shape)
    y = g.integers(-140, 140, (steps, 3, post)) * (g.random((steps, 3, post)) < g.uniform(0.1, 1))
    arrays = {
        "w": g.integers(low, high, (post, pre)),
        "d": g.integers(0, 256, (post, pre)),
        "t": g.integers(-256, 256, (post, pre)),
        "s": spikes,
        "y": y,
        "post": g.random((steps, post)) < 0.3,
    }
    return Case(rule, sign, int(g.integers(5, 9)), int(g.integers(-2, 3)), graded_input, arrays)


def _trace(g: np.random.Generator) -> Trace:
    tau = float(g.choice([0, 1, 1.442695, 5, 20, g.uniform(0.5, 60)]))
    return Trace(float(g.choice([1, 16, 63, 127, g.uniform(0, 127)])), tau)


def _products(g: np.random.Generator) -> tuple[Product, ...]:
    out = []
    for _ in range(int(g.integers(1, 4))):
        condition, count = str(g.choice(["x0", "y0", "u"])), int(g.integers(0, 4))
        factors, bits = [], WIDTHS.mantissa
        for name in g.choice(["x0", "y0", "x1", "x2", "y1", "y2", "y3", "w", "d", "t"], count, replace=False):
            sign = bool(name in "wdt" and g.random() < 0.3)
            constant = int(g.integers(-60, 60)) or None if g.random() < 0.25 and name not in ("x0", "y0") else None
            if bits + WIDTHS.factor(str(name)) <= 32 and name != condition:
                factors.append(Factor(str(name), constant, sign))
                bits += WIDTHS.factor(str(name))
        mantissa = int(g.integers(1, 8)) * int(g.choice([-1, 1]))
        out.append(Product(condition, mantissa, int(g.integers(-7, 3)), tuple(factors)))
    return tuple(out)


def run_engine(case: Case) -> dict[str, np.ndarray]:
    a = case.arrays
    synapse = PlasticDense(
        case.rule,
        WIDTHS,
        a["w"],
        weight_bits=case.weight_bits,
        exponent=case.exponent,
        sign=case.sign,
        graded_input=case.graded,
        delay=a["d"],
        tag=a["t"],
    )
    found: dict[str, list[np.ndarray]] = {"w": [], "d": [], "t": [], "x": [], "out": []}
    for s, y, post in zip(a["s"], a["y"], a["post"], strict=True):
        found["out"].append(synapse.step(s, y if case.rule.delivered else None, post))
        for key in ("w", "d", "t"):
            found[key].append(synapse.variable(key).copy())
        found["x"].append(synapse.x.copy())
    return {k: np.stack(v) for k, v in found.items()}


def run_lava(cases: list[Case], folder: Path, timeout_s: float) -> list[dict[str, np.ndarray]]:
    """What Lava's model did in each case, in one guest process."""
    rows = []
    for k, case in enumerate(cases):
        rule, traces = case.rule, {}
        for name in ("x1", "x2", "y1", "y2", "y3"):
            traces |= {f"{name}_impulse": getattr(rule, name).impulse, f"{name}_tau": getattr(rule, name).tau}
        rows.append(
            {
                **{t: rule.lava(t) for t in ("dw", "dd", "dt")},
                **traces,
                "delivered": rule.delivered,
                "epoch": rule.epoch,
                "seed": rule.seed,
                "graded": GRADED.index(rule.graded),
                "message_bits": 8 if case.graded else 0,
                "sign": case.sign,
                "weight_bits": case.weight_bits,
                "exponent": case.exponent,
            }
        )
        np.savez(folder / f"case{k}.npz", **case.arrays)
    (folder / "cases.json").write_text(json.dumps(rows))
    scratch = folder / "run"
    scratch.mkdir()
    run_guest(find_interpreter().path, [str(GUEST), str(folder)], scratch=scratch, timeout_s=timeout_s)
    return [dict(np.load(folder / f"found{k}.npz")) for k in range(len(cases))]


def differences(case: Case, lava: dict[str, np.ndarray]) -> list[str]:
    """In words, where the engine and Lava part; empty if every bit of every variable at every step is the same."""
    ours, out = run_engine(case), []
    for key, theirs in lava.items():
        mine = ours[key].astype(np.int64)
        if not np.array_equal(mine, theirs):
            at = np.argwhere(mine != theirs)[0]
            out.append(f"{key} at {at.tolist()}: engine {mine[tuple(at)]}, Lava {theirs[tuple(at)]}; rule {case.rule.lava('dw')}")
    return out
