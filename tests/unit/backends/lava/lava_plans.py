"""Small random plans: many populations of every kind in one plan, so that one guest run tests a lot."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

LOW, HIGH = -(2**23), 2**23 - 1
FIRES, RESETS = ("step", "relu", "none"), ("subtract", "set", "clamp", "keep", "stateless")


class Builder:
    """Writes plan.json and its tensors; every choice comes from one random generator."""

    def __init__(self, folder: Path, seed: int, *, steps: int = 4, interval: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rng, self.steps, self.interval = folder, np.random.default_rng(seed), steps, interval
        self.inputs, self.populations, self.count = [], [], 0

    def save(self, array, dtype=np.int32):
        self.count += 1
        name = f"t{self.count}.npy"
        np.save(self.folder / name, np.asarray(array, dtype))
        return name

    def integers(self, low, high, shape, dtype=np.int32):
        return self.save(self.rng.integers(low, high, shape, endpoint=True), dtype)

    def input(self, name, shape):
        self.inputs.append({"name": name, "shape": list(shape), "depth": 0})
        return name

    def shape(self, name):
        return tuple(next(x["shape"] for x in self.inputs + self.populations if x["name"] == name))

    def depth(self, name):
        return next(x["depth"] for x in self.inputs + self.populations if x["name"] == name)

    def port(
        self,
        source,
        kind,
        weight,
        *,
        gather=None,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=1,
        exponent=0,
        model_delay=0,
        hop_delay=1,
    ):
        return {
            "source": source, "gather": gather, "kind": kind, "weight": weight, "stride": list(stride), "padding": list(padding),
            "dilation": list(dilation), "groups": groups, "exponent": exponent, "model_delay": model_delay, "hop_delay": hop_delay,
        }  # fmt: skip

    def linear(self, source, n, limit=20, dtype=np.int8, **kw):
        size = int(np.prod(np.load(self.folder / kw["gather"]).shape if kw.get("gather") else self.shape(source)))
        return self.port(source, "linear", self.integers(-limit, limit, (n, size), dtype), **kw)

    def population(self, name, shape, depth, ports, neuron=None, **kw):
        self.populations.append(
            {"name": name, "shape": list(shape), "depth": depth, "ports": ports, "neuron": neuron or self.neuron(shape, **kw)}
        )
        return name

    def parameter(self, low, high, shape):
        """Random scalar, per channel, per neuron, each constant or per step."""
        T = self.rng.choice([1, self.steps])
        inner = self.rng.choice(3)
        channel = (shape[0], *[1] * (len(shape) - 1))
        return self.integers(low, high, (T, *[(), channel, shape][inner]))

    def neuron(self, shape, fire=None, reset=None, *, alpha=None, scale=40):
        pick = self.rng.random
        fire, reset = fire or str(self.rng.choice(FIRES)), reset or str(self.rng.choice(RESETS))
        alpha = pick() < 0.5 if alpha is None else alpha
        channels = (shape[0], *[1] * (len(shape) - 1))
        several = fire == "step" and pick() < 0.3
        adapts = fire != "none" and pick() < 0.3
        gained = pick() < 0.3
        return {
            "fire": fire, "reset": reset,
            "leak": self.parameter(0, 4096, shape) if pick() < 0.8 else None,
            "bias": self.parameter(-scale, scale, shape) if pick() < 0.8 else None,
            "threshold": self.parameter(-scale // 4, scale, shape),
            "reset_amount": self.parameter(0, 2 if fire == "none" else scale, shape), "reset_value": self.parameter(-scale, scale, shape),
            "v_init": self.integers(-scale, scale, shape) if pick() < 0.5 else None,
            "alpha": self.parameter(0, 4096, shape) if alpha else None,
            "gain": self.parameter(-9, 9, shape) if gained else None,
            "gain_shift": self.integers(0, 4, channels) if gained else None,
            "multiplier": self.integers(1, 9, channels) if pick() < 0.7 else None,
            "shift": self.integers(0, 4, channels) if pick() < 0.7 else None, "payload_max": int(self.rng.choice([1, 15, 255])),
            "max_spikes": int(self.rng.integers(2, 6)) if several else 1,
            "spike_step": self.parameter(1, scale // 2, shape) if several else None,
            "reset_keep": self.parameter(0, 4096, shape) if reset == "set" and pick() < 0.5 else None,
            "v_min": self.parameter(-scale, scale, shape) if pick() < 0.3 else None,
            "adapt_decay": self.parameter(0, 4096, shape) if adapts else None,
            "adapt_jump": self.parameter(0, scale // 2, shape) if adapts else None, "adapt_reset": bool(adapts and pick() < 0.5),
        }  # fmt: skip

    def write(self, **changes):
        plan = {
            "schema": 4, "steps": self.steps, "initiation_interval": self.interval, "decay_bits": 12,
            "membrane": {"low": LOW, "high": HIGH}, "payload": {"low": LOW, "high": HIGH},
            "inputs": self.inputs, "populations": self.populations, "outputs": [p["name"] for p in self.populations][-1:],
        }  # fmt: skip
        (self.folder / "plan.json").write_text(json.dumps(plan | changes))
        return self.folder

    def data(self, samples, low=-9, high=9, constant=()):
        return {
            x["name"]: self.rng.integers(
                low, high, (samples, 1 if x["name"] in constant else self.steps, *x["shape"]), endpoint=True
            ).astype(np.int16)
            for x in self.inputs
        }


def every_neuron(folder, seed):
    """Each fire with each reset, on small linear layers, some through the built-in Dense and some fused."""
    b = Builder(folder, seed)
    b.input("x", (7,))
    b.input("c", (5,))
    for k, (fire, reset) in enumerate(itertools.product(FIRES, RESETS)):
        weight = {"limit": 127, "dtype": np.int8} if k % 2 else {"limit": 400, "dtype": np.int16}  # > 8 bits: fused
        b.population(f"n{k}", (4,), 1, [b.linear("x" if k % 3 else "c", 4, **weight)], fire=fire, reset=reset, alpha=bool(k % 2), scale=900)
    return b.write(), b.data(3, constant=("c",))


def convolutions(folder, seed):
    """Convolution with stride, padding, cropping, groups, dilation; gather; diagonal; exponents; skips of 2 and 3 hops."""
    b = Builder(folder, seed, steps=3)
    r = b.rng
    b.input("x", (2, 6, 7))
    b.input("y", (4, 3, 3))
    w = lambda *shape: b.integers(-8, 8, shape, np.int8)  # noqa: E731
    b.population("a", (4, 3, 4), 1, [b.port("x", "conv2d", w(4, 2, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1))])
    b.population("g", (4, 6, 7), 1, [b.port("x", "conv2d", w(4, 1, 3, 2), padding=(1, 1, 0, 1), groups=2, exponent=2)], fire="relu")
    b.population("d", (3, 4, 6), 1, [b.port("x", "conv2d", w(3, 2, 2, 2), dilation=(2, 3), padding=(0, 0, 1, 1))])
    b.population("crop", (3, 3, 3), 1, [b.port("x", "conv2d", w(3, 2, 2, 3), stride=(1, 2), padding=(-1, -1, 1, -1))], fire="none")
    gather = b.save(r.integers(-1, 84, (4, 3, 4)))
    skip = b.port("x", "diagonal", b.integers(-9, 9, (4, 1, 1)), gather=gather, hop_delay=2)
    b.population("b", (4, 3, 4), 2, [b.port("a", "diagonal", b.integers(-9, 9, (4, 3, 4)), exponent=1), skip], fire="relu", reset="clamp")
    pick = b.save(r.integers(-1, 168, (2, 3, 3)))
    ports = [
        b.port("b", "conv2d", w(2, 4, 1, 2)),
        b.port("x", "conv2d", w(2, 2, 4, 5), hop_delay=3, exponent=3),
        b.port("g", "conv2d", w(2, 2, 1, 1), gather=pick, hop_delay=2),
        b.port("y", "diagonal", b.integers(-3, 3, ()), gather=b.save(r.integers(-1, 36, (2, 3, 3))), hop_delay=3),
    ]
    b.population("z", (2, 3, 3), 3, ports, scale=200)
    head = [
        b.linear("z", 6),
        b.linear("b", 6, hop_delay=2, exponent=2),
        b.linear("y", 6, gather=b.save(r.integers(-1, 36, 11)), hop_delay=4),
    ]
    b.population("head", (6,), 4, head, fire="none", reset="keep", alpha=False)
    return b.write(), b.data(3, constant=("y",))


def loop(folder, seed, interval, length):
    """A recurrent loop of ``length`` populations with model delay 1 (interval >= its hops), a self-loop of delay 2, an island."""
    b = Builder(folder, seed, steps=5, interval=interval)
    b.input("x", (3, 2, 2))
    names = [f"r{k}" for k in range(length)]
    shapes = [(3, 2, 2)] * length
    for k, name in enumerate(names):
        source = "x" if k == 0 else names[k - 1]
        kinds = [b.linear(source, 12) if k % 2 else b.port(source, "conv2d", b.integers(-8, 8, (3, 3, 1, 1)))]
        if k == 0:
            back = length - 1
            kinds.append(b.port(names[back], "linear", b.integers(-20, 20, (12, 12)), model_delay=1, hop_delay=interval + 1 - (back + 1)))
            kinds.append(b.port("r0", "diagonal", b.integers(-5, 5, (3, 2, 2)), model_delay=2, hop_delay=2 * interval))
        b.population(name, shapes[k], k + 1, kinds, fire="step" if k % 2 else "relu")
    b.population("island", (4,), 2, [], fire="step", reset="subtract")
    return b.write(), b.data(4)
