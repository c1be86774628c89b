"""A trained network meets new data on the chip and learns from it, one sample after the other, once.

    python stream.py --data FOLDER --task digits --model digits.pt --rate 0.01 --lava 400 --out results

The readout learns by OTTT on the (simulated) chip; PyTorch's online rule learns from the same stream; the third line does not learn.
Tasks   digits    digits 5 to 9 after a training on 0 to 4        rotated   MNIST turned by 30 degrees        noisy   with salt and pepper
        fashion   Fashion-MNIST in the place of digits            speaker   spoken digits of a speaker who was left out
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from chip import Chip, compare, float_accuracy, learn_pytorch, on_lava
from plot import curves
from tasks import SPEAKERS, TASKS, find_task

from snncompile.learning.attach import LearnOptions

CURVE = 1000
"""Test samples for the curves; the accuracies that are printed are of the whole test sets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mnist/, fashion-mnist/ and fsdd/")
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--speaker", type=int, choices=range(SPEAKERS), default=SPEAKERS - 1, help="speaker: who was left out")
    parser.add_argument("--old-share", type=float, default=0.0, help="digits: samples of the classes 0 to 4 in the stream, per new one")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rule", default="ottt")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--rates", type=float, nargs="+", help="only PyTorch's rule, at each of these rates")
    parser.add_argument("--samples", type=int, help="only the first so many of the stream; all of it by default")
    parser.add_argument("--lava", type=int, default=0, help="so many samples also on Lava")
    parser.add_argument("--seed", type=int, default=0, help="order of the stream")
    parser.add_argument("--out", type=Path, help="folder for TASK.json and TASK.svg")
    parser.add_argument("--cache", type=Path, help="folder that keeps what the frozen layers send")
    parser.add_argument("--name", help="in the place of TASK")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", flush=True)

    task = find_task(args.task, args.data, speaker=args.speaker, old_share=args.old_share)
    order = np.random.default_rng(args.seed).permutation(len(task.stream[0]))[: args.samples]
    x, y = task.stream[0][order], task.stream[1][order]
    chip = Chip.load(args.model, task, LearnOptions(layer="readout", rule=args.rule, rate=args.rate))
    taught = chip.seen(x, args.cache)
    tests = {name: (chip.seen(xt, args.cache), yt) for name, (xt, yt) in task.tests.items()}
    tested = sum(len(yt) for _, yt in tests.values())
    say(f"frozen layers: {len(x)} samples of the stream, {tested} to test on, {taught.mean():.3f} spikes a neuron and step")
    for rate in args.rates or ():
        other = Chip(chip.compiled, LearnOptions(layer="readout", rule=args.rule, rate=rate), chip.steps)
        weights, plastic = learn_pytorch(other, taught, y, (0, len(y))), other.plastic()
        row = "  ".join(f"{name} {100 * float_accuracy(plastic, *test, weights[-1]):.2f} %" for name, test in tests.items())
        say(f"PyTorch at {rate:g}: {row}; the largest weight grows {np.abs(weights[-1]).max() / np.abs(weights[0]).max():.2f} times")
    if args.rates:
        return
    both = compare(chip, taught, y)
    (layer,) = both.plastic.program.layers
    update = both.update()
    say(f"dw = {layer.rule.lava('dw')}; x1 += {layer.rule.x1.impulse:.4g}; {both.plastic.program.error.levels} levels of the error")
    say(f"an LSB of what is learned is {layer.lsb[0]:.3g}; {np.mean(np.abs(both.chip[-1]) >= 255):.2%} of the changes at their limit")
    say(f"update: correlation {update['correlation']:.4f}, slope {update['slope']:.4f}")
    accuracies = {}
    for name, test in tests.items():
        ours, floated = both.accuracies(test, -1)
        accuracies[name] = {"samples": len(test[1]), "on the chip": ours, "PyTorch": floated, "no learning": both.accuracies(test, 0)[0]}
        say(f"{name}: " + "  ".join(f"{k} {100 * v:.2f} %" for k, v in accuracies[name].items() if k != "samples"))
    lines: dict[str, list[float]] = {}
    for name, (sent, yt) in tests.items():
        part = np.random.default_rng(0).permutation(len(yt))[:CURVE]
        pairs = [both.accuracies((sent[part], yt[part]), k) for k in range(len(both.at))]
        lines[f"{name}: chip"], lines[f"{name}: PyTorch"] = [a for a, _ in pairs], [b for _, b in pairs]
    found = {
        "task": args.task, "rule": args.rule, "rate": args.rate, "samples": len(y), "old_share": args.old_share, "seed": args.seed,
        "dw": layer.rule.lava("dw"), "lsb": layer.lsb[0], "update": update, "accuracy": accuracies,
        "curves": {"samples": both.at, "test_samples_at_most": CURVE, **lines},
    }  # fmt: skip
    if args.lava:
        bits = on_lava(chip, both, x, y, args.lava)
        say(f"Lava: {bits.differing_bits} of {bits.compared_bits:,} bits differ ({bits.samples} samples, {bits.steps:,} hardware steps)")
        found["lava"] = {
            "differing_bits": bits.differing_bits, "compared_bits": bits.compared_bits, "samples": bits.samples, "steps": bits.steps,
        }  # fmt: skip
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        name = args.name or args.task
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        (args.out / f"{name}.svg").write_text(curves(both.at, lines, f"{name}, {args.rule}, eta = {args.rate:g}"))


if __name__ == "__main__":
    main()
