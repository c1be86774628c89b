"""Spoken digits of a speaker who was left out, averaged over all six speakers and several orders of the stream.

    for k in 0 1 2 3 4 5; do python train.py --data FOLDER --task speaker --speaker $k --epochs 3 --lr 0.004 -o models/speaker$k.pt; done
    python speakers.py --data FOLDER --models models --rate 0.03 --orders 3 --out results

Every speaker's 450 training recordings are the stream, the 50 others are tested, and the 250 of the five speakers before. Each order of
the stream comes with its own seed of the chip's random numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from chip import Chip, compare, on_lava
from tasks import SPEAKERS, find_task

from snncompile.learning.attach import LearnOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of speaker0.pt to speaker5.pt")
    parser.add_argument("--rule", default="ottt")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--lava", type=int, default=0, help="so many recordings of speaker 0's first stream also on Lava")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    found: dict[str, object] = {"task": "speakers", "rule": args.rule, "rate": args.rate, "orders": args.orders, "runs": rows}
    for speaker in range(SPEAKERS):
        task = find_task("speaker", args.data, speaker=speaker)
        chip = Chip.load(args.models / f"speaker{speaker}.pt", task, LearnOptions(layer="readout", rule=args.rule, rate=args.rate))
        taught, tests = chip.seen(task.stream[0]), {name: (chip.seen(x), y) for name, (x, y) in task.tests.items()}
        for seed in range(args.orders):
            order = np.random.default_rng(seed).permutation(len(taught))
            seeded = Chip(chip.compiled, LearnOptions(layer="readout", rule=args.rule, rate=args.rate, seed=100 * seed + 1), chip.steps)
            both = compare(seeded, taught[order], task.stream[1][order])
            update = both.update()
            row: dict[str, object] = {
                "speaker": speaker, "order": seed, "correlation": update["correlation"], "slope": update["slope"],
                "lsb": both.plastic.program.layers[0].lsb[0],
            }  # fmt: skip
            for name, test in tests.items():
                (ours, floated), (before, _) = both.accuracies(test, -1), both.accuracies(test, 0)
                row[name] = {"on the chip": ours, "PyTorch": floated, "no learning": before}
            rows.append(row)
            print(row, flush=True)
            if args.lava and speaker == seed == 0:
                bits = on_lava(seeded, both, task.stream[0][order], task.stream[1][order], args.lava)
                found["lava"] = {"differing_bits": bits.differing_bits, "compared_bits": bits.compared_bits, "steps": bits.steps}
                print(found["lava"], flush=True)
    means = {
        name: {way: float(np.mean([row[name][way] for row in rows])) for way in ("on the chip", "PyTorch", "no learning")}
        for name in ("new speaker", "old speakers")
    }
    found |= {
        "mean": means,
        "correlation": float(np.mean([r["correlation"] for r in rows])),
        "slope": float(np.mean([r["slope"] for r in rows])),
    }
    print(json.dumps({k: v for k, v in found.items() if k != "runs"}, indent=1))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "speakers.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
