"""Float and integer accuracy, and the dynamics error, of examples/mnist_ottt on the whole MNIST test set.

    uv run python benchmarks/mnist_full.py --data FOLDER [--samples N]

FOLDER holds t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import snncompile
from snncompile.online.checkpoint import load_checkpoint
from snncompile.online.data import load_mnist
from snncompile.pipeline import original
from snncompile.verify import Program, verify

MODEL = Path(__file__).parents[1] / "examples" / "mnist_ottt" / "model.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's idx .gz files")
    parser.add_argument("--samples", type=int, default=10_000, help="how many of the 10,000 test images (default: all)")
    args = parser.parse_args()
    images, labels = load_mnist(args.data, "test")
    x, y = images[: args.samples, None].float().numpy(), labels[: args.samples].numpy()
    checkpoint = load_checkpoint(MODEL)
    model = checkpoint.build()
    started = time.perf_counter()
    compiled = snncompile.compile(
        model, input_shape=(1, 28, 28), steps=checkpoint.steps, calibration=x[:64], input_range=(0.0, 255.0, 1.0), name="mnist_ottt"
    )
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x}, y=y, original=original(compiled, model, x), backends=()).to_json()
    found["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
