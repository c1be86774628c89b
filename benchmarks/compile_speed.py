"""Time and memory of capture, passes and quantiser on a network of the training kit, with torch.export of the same step beside it.

    uv run python benchmarks/compile_speed.py                          NF-ResNet-34, 3x64x64, T = 4
    uv run python benchmarks/compile_speed.py nf_resnet 224 4

Seconds are processor time of this process (a busy machine does not count); bytes are the peak of its resident memory beyond torch and
the network itself.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from snncompile.capture.capture import capture
from snncompile.online import build_network, calibrate_thresholds
from snncompile.pipeline import describe_input, fold
from snncompile.quantize import quantize
from snncompile.target import load_target

MEGA = 2**20


def peak() -> float:
    """Peak resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def measured(what: str, total: list[float]) -> Iterator[None]:
    before, high = time.process_time(), peak()
    yield
    total.append(time.process_time() - before)
    print(f"{what:12} {total[-1]:8.1f} s    peak +{peak() - high:.0f} MiB", flush=True)


def main(name: str = "nf_resnet", size: int = 64, steps: int = 4) -> None:
    torch.manual_seed(0)
    net = build_network(name, mean=[0.49, 0.48, 0.45], std=[0.2, 0.2, 0.2]).eval()
    x = torch.randint(0, 256, (1, 3, size, size)).float()
    if name.startswith("osr"):
        calibrate_thresholds(net, [x], steps)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    print(f"{name}, {sum(p.numel() for p in net.parameters()):,} parameters ({weights / MEGA:.0f} MiB), 3x{size}x{size}, T = {steps}")
    start, total = peak(), []
    with measured("capture", total):
        captured = capture(net, input_shape=(3, size, size), steps=steps, name=name)
    graph, _ = describe_input(captured.graph, None, (0.0, 255.0, 1.0))
    with measured("passes", total):
        folded, _ = fold(graph, {})
    with measured("quantiser", total):
        quantize(folded, load_target("loihi2-sim"), calibration={graph.nodes[0].name: np.asarray(x)[:, None]})
    print(f"{'all':12} {sum(total):8.1f} s    {(peak() - start) * MEGA / weights:.1f} x the network's bytes")
    peer: list[float] = []
    with measured("torch.export", peer):
        torch.export.export(net, (x,), {"init": True} if name in ("nf_resnet", "ottt_vgg") else {}, strict=False)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(*arguments[:1], *(int(a) for a in arguments[1:]))
