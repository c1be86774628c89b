"""A trained network meets new data on the chip and learns from it, one sample after the other, once.

    python stream.py --data FOLDER --task digits --model digits_0_to_4.pt --rate 0.03 --samples 4000 --lava 400

The readout learns by OTTT on the (simulated) chip; PyTorch's online rule learns from the same stream; the third line does not learn.
Tasks   digits    digits 5 to 9 after a training on 0 to 4        rotated   MNIST turned by 30 degrees        noisy   with salt and pepper
        fashion   Fashion-MNIST in the place of digits            speaker   spoken digits of a speaker who was left out
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from net import make
from plot import curves
from tasks import TASKS, find_task

import snncompile
from snncompile.backends.lava.learning_plan import add_learning
from snncompile.backends.lava.plan import write_plan
from snncompile.ir import reference
from snncompile.learning.attach import LearnOptions, Plastic, make_plastic
from snncompile.learning.float_rule import float_stages
from snncompile.learning.stream import learn
from snncompile.learning.widths import Widths
from snncompile.online.chain import Stage, learn_chain, run_chain
from snncompile.verify.dynamics import input_values
from snncompile.verify.learning import checkpoints, chip_accuracy, compare_lava, compare_updates
from snncompile.verify.readout import accuracy, decide

CURVE = 1000
"""Test samples for the curves; the accuracies that are printed are of the whole test sets."""


def stages(plastic: Plastic) -> list[Stage]:
    """The readout for PyTorch."""
    return [Stage(**given) for given in float_stages(plastic.program, plastic.result.graph)]


def float_accuracy(readout: list[Stage], spikes: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Accuracy of a float readout on the same spikes."""
    return float(accuracy(decide(run_chain(readout, spikes, [weight]), "sum"), y) or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mnist/, fashion-mnist/ and fsdd/")
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rule", default="ottt")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--test-samples", type=int, help="test on the first so many of each test set only")
    parser.add_argument("--lava", type=int, default=0, help="so many samples also on Lava")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for results.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    task = find_task(args.task, args.data)
    model = make(**task.shape)
    model.load_state_dict(torch.load(args.model, weights_only=True))
    order = np.random.default_rng(args.seed).permutation(len(task.stream[0]))[: args.samples]
    x, y = task.stream[0][order], task.stream[1][order]
    calibration = x[:32].astype(np.float64)
    compiled = snncompile.compile(
        model.eval(), input_shape=x.shape[-3:], steps=task.steps, input_range=(0, task.top, 1), calibration=calibration
    )

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", flush=True)

    options = LearnOptions(layer="readout", rule=args.rule, rate=args.rate)
    plastic = make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)
    (source,) = (n.name for n in plastic.result.graph.nodes if n.kind == "int_input")

    def payloads(values: np.ndarray) -> dict[str, np.ndarray]:
        return input_values(plastic.result.graph, {source: values if values.ndim == 5 else values[:, None]})

    def seen(values: np.ndarray) -> np.ndarray:
        out = []
        for start in range(0, len(values), 200):
            sent = reference.run(plastic.result.graph, payloads(values[start : start + 200]), record=[plastic.program.source], batch=200)
            out.append(sent[plastic.program.source].reshape(-1, task.steps, sent[plastic.program.source][0, 0].size).astype(np.uint8))
        return np.concatenate(out)

    taught = seen(x)
    tests = {name: (seen(xt[: args.test_samples]), yt[: args.test_samples]) for name, (xt, yt) in task.tests.items()}
    tested = sum(len(yt) for _, yt in tests.values())
    say(f"frozen layers: {len(x)} samples of the stream, {tested} to test on, {taught.mean():.3f} spikes a neuron and step")
    (reached,) = learn_chain(stages(plastic), taught[:512], y[:512], loss="softmax", keep=(0, len(y[:512])))
    growth = np.abs(reached[-1]).max() / max(np.abs(reached[0]).max(), 1e-30)
    options = replace(options, headroom=max(1.0, 1.25 * float(growth)))
    plastic = make_plastic(compiled.result, compiled.float_graph, compiled.source_graph, compiled.target, options)
    program, graph = plastic.program, plastic.result.graph
    (layer,) = program.layers
    impulse, levels = layer.rule.x1.impulse, program.error.levels
    say(f"dw = {layer.rule.lava('dw')}; x1 += {impulse:.4g}; {levels} levels; headroom {options.headroom:.2f}")
    ours = learn(program, graph, plastic.schedule, Widths.of(compiled.target), taught, y)
    (mine,), at = ours.layers, checkpoints(len(y))
    say(f"learned on the chip's integers; {np.mean(np.abs(mine.final) >= 255):.2%} of the weights at their limit")
    (floated,) = learn_chain(stages(plastic), taught, y, loss=program.error.loss, keep=(0, *at))
    chip = mine.weights[[ours.at.index(n) for n in (0, *at)]]
    update = compare_updates(layer, at, chip, floated)
    say(f"update: correlation {update.correlation:.4f}, slope {update.slope:.4f}")
    accuracies: dict[str, dict[str, float]] = {}
    found: dict[str, object] = {
        "task": args.task, "rule": args.rule, "rate": args.rate, "samples": len(y), "dw": layer.rule.lava("dw"),
        "headroom": options.headroom, "update_correlation": update.correlation, "update_slope": update.slope,
        "drift": [dict(r) for r in update.drift], "accuracy": accuracies,
    }  # fmt: skip
    for name, (sent, yt) in tests.items():
        row = {
            "on the chip": chip_accuracy(program, graph, sent, yt, [chip[-1]], "sum"),
            "PyTorch": float_accuracy(stages(plastic), sent, yt, floated[-1]),
            "no learning": chip_accuracy(program, graph, sent, yt, [chip[0]], "sum"),
        }
        accuracies[name] = row
        say(f"{name:18} {len(yt):6,} samples  " + "  ".join(f"{k} {100 * v:.2f} %" for k, v in row.items()))
    seen_at = [0, *at]
    lines: dict[str, list[float]] = {}
    for name, (sent, yt) in tests.items():
        part = np.random.default_rng(0).permutation(len(yt))[:CURVE]
        cut, labels = sent[part], yt[part]
        lines[f"{name}: chip"] = [chip_accuracy(program, graph, cut, labels, [w], "sum") for w in chip]
        lines[f"{name}: PyTorch"] = [float_accuracy(stages(plastic), cut, labels, w) for w in floated]
    found["curves"] = {"samples": seen_at, "test_samples_at_most": CURVE, **lines}
    if args.lava:
        with tempfile.TemporaryDirectory() as folder:
            write_plan(Path(folder), graph, plastic.schedule)
            add_learning(Path(folder), program)
            bits = compare_lava(
                program, graph, plastic.schedule, Path(folder), {k: v[: args.lava] for k, v in payloads(x[: args.lava]).items()},
                y[: args.lava], ours, timeout_s=3600,
            )  # fmt: skip
        say(f"Lava: {bits.differing_bits} of {bits.compared_bits:,} bits differ ({bits.samples} samples, {bits.steps:,} hardware steps)")
        found["lava_bits"] = {
            "differing": bits.differing_bits,
            "compared": bits.compared_bits,
            "samples": bits.samples,
            "steps": bits.steps,
        }
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{args.task}.json").write_text(json.dumps(found, indent=1) + "\n")
        (args.out / f"{args.task}.svg").write_text(curves(seen_at, lines, f"{args.task}, {args.rule}, eta = {args.rate:g}"))


if __name__ == "__main__":
    main()
