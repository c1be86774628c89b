"""Time and memory of a compile, stage by stage, beside PyTorch's own forward pass and torch.export of one step of the same network.

    OMP_NUM_THREADS=2 uv run python benchmarks/compile_speed.py                              NF-ResNet-34, 3x224x224, T = 4
    OMP_NUM_THREADS=2 uv run python benchmarks/compile_speed.py "EM-PF ResNet-18" 32         any network of tests/conformance/published.py

The network has randomised statistics and gains, so that nothing of it is pruned. The whole of ``snncompile.compile`` is measured, with
two images as calibration data: capture, comparison with PyTorch on an image and a random input, passes with their evidence, quantiser
and schedule. Seconds are processor time of all threads (a busy machine does not count) and time on the clock. Memory is
resident memory beyond what the process holds once the network has been built and run, as a multiple of the network's bytes.

Measured for NF-ResNet-34 at 224x224 on one thread of a shared machine, in seconds of processor time: capture 6.9, comparison 6.7,
passes 6.4, quantiser 6.0, together 26.1; memory up to 10.2 times the network's 83 MiB. Of that, 2.4 are the float64 weights of the dense
layer behind the global pooling (49 synapses for each of its parameters), 2.1 the other folded weights in float64.
"""

from __future__ import annotations

import copy
import inspect
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import torch

import snncompile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))
from published import NETWORKS

MEGA = 2**20


def resident() -> float:
    """Resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MEGA


def peak() -> float:
    """The highest resident memory since ``forget_peak``, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@dataclass(frozen=True)
class Stage:
    """Seconds of processor time and on the clock, and the most memory beyond the start's, in MiB."""

    name: str
    processor: float
    clock: float
    memory: float


class Stages:
    """Prints a line whenever a stage ends, and keeps it."""

    def __init__(self, network_bytes: int, to: TextIO = sys.stdout) -> None:
        self.size, self.base, self.to = network_bytes / MEGA, resident(), to
        self.name = ""
        self.rows: list[Stage] = []
        self.begin("")

    def begin(self, name: str) -> None:
        """The stage before ends, the one of this name begins."""
        if self.name:
            high = max(peak() - self.base, 0)
            self.rows.append(Stage(self.name, time.process_time() - self.cpu, time.perf_counter() - self.wall, high))
            self.say(self.rows[-1])
        forget_peak()
        self.name, self.cpu, self.wall = name, time.process_time(), time.perf_counter()

    def total(self) -> Stage:
        """All stages so far."""
        rows = self.rows
        return Stage("the whole compile", sum(r.processor for r in rows), sum(r.clock for r in rows), max(r.memory for r in rows))

    def say(self, row: Stage) -> None:
        """One line."""
        print(
            f"{row.name:36} {row.processor:8.1f} s {row.clock:8.1f} s {row.memory:8.0f} MiB {row.memory / self.size:6.1f} x",
            file=self.to, flush=True,
        )  # fmt: skip


def main(name: str = "OTTT NF-ResNet-34", size: int = 0) -> None:
    network = NETWORKS[name] if not size else replace(NETWORKS[name], size=size)
    net, x = network.build(small=False), network.samples(2, small=False)
    first, steps = torch.as_tensor(x[0, 0], dtype=torch.float32)[None], network.steps
    call = {"init": True} if "init" in inspect.signature(net.forward).parameters else {}
    whole = first[None].expand(steps, *first.shape)
    arguments = (first,) if network.layout == "step" else (whole,)
    with torch.no_grad():
        copy.deepcopy(net)(*arguments, **call)  # torch allocates what it will need again
    size_bytes = sum(p.numel() * p.element_size() for p in net.parameters())
    shape = "x".join(map(str, x.shape[2:]))
    print(f"{name}: {sum(p.numel() for p in net.parameters()):,} parameters, {size_bytes / MEGA:.0f} MiB, {shape}, T = {steps}")
    print(f"{'':36} {'processor':>10} {'clock':>10} {'memory':>12}")
    stages = Stages(size_bytes)
    snncompile.compile(net, input_shape=x.shape[2:], steps=steps, layout=network.layout, calibration=x, progress=stages.begin)
    stages.begin("")
    stages.say(stages.total())
    stages = Stages(size_bytes)
    stages.begin(f"PyTorch, one sample, {steps} steps")
    with torch.no_grad():
        for t in range(steps if network.layout == "step" else 1):
            net(*arguments, **(call if t == 0 else {}))
    stages.begin("torch.export, one call")
    torch.export.export(net, arguments, call, strict=False)
    stages.begin("")


if __name__ == "__main__":
    main(*sys.argv[1:2], *(int(a) for a in sys.argv[2:3]))
