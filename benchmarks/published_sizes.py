"""Every network of tests/conformance/published.py at published size, from PyTorch to a proved program: what it takes and what differs.

    OMP_NUM_THREADS=1 uv run python benchmarks/published_sizes.py [NAME ...] [--size PIXELS]

Each network runs in a process of its own: built with randomised statistics, compiled with two images as calibration data, its bounds held
against the target's formats, then verified on one image: PyTorch against the captured graph, the program's dynamics, the hop-accurate
mode against the reference. What was measured lies in benchmarks/results/published.json; docs/published.md is the table. ``--table`` writes
the table alone.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "published.json"
TABLE = Path(__file__).parents[1] / "docs" / "published.md"
STAGES = {
    "capturing the network by running it": "capture", "comparing with PyTorch": "compare", "folding": "passes",
    "quantising and proving bounds": "quantise", "scheduling": "schedule",
}  # fmt: skip

HEAD = """# Networks of published size

The networks of the papers, with the papers' parameter counts and randomised batch-norm statistics (nothing is what a fresh network has,
nothing is pruned away), for `loihi2-sim`: captured, folded, quantised, proved within bounds, and run. One row per network, written by

    OMP_NUM_THREADS=1 uv run python benchmarks/published_sizes.py

on one thread of a shared two-core machine. `tests/conformance/test_published_networks.py` makes the same claims (`pytest -m slow`).

"""

NOTES = """
**Seconds** of processor time: capture; comparison with PyTorch, on two images and two random inputs (one each for large maps); passes with
their evidence; quantiser with the proof of its bounds; and verification of one image. What else the machine does changes them by some
15 %: NF-ResNet-34 compiles in 26 to 30 s. **Memory**: the most that the process held during
compilation beyond what it holds once the network has been built and run, in MiB and as a multiple of the network's own bytes.
**Differing**: events of the program that differ from the network with the program's own weights and biases beyond ties, each population
fed with the program's own inputs, of all that were compared; in brackets ties. **Exact**: populations that provably never round.
In every row, no spike differs from PyTorch beyond ties, and no bit between the reference and its hop-accurate mode.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all)")
    parser.add_argument("--size", type=int, default=0, help="pixels of the images, where not as published")
    parser.add_argument("--table", action="store_true", help="write docs/published.md from what was measured, and nothing else")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.names[0], args.size)))
        return
    if not args.table:
        for name in args.names or _networks():
            _run(name, args.size)
    TABLE.write_text(document(known()))


def _networks() -> Mapping[str, Any]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))
    from published import NETWORKS  # noqa: PLC0415 - torch, which the table does without

    return NETWORKS


def known() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def _run(name: str, size: int) -> None:
    command = [sys.executable, __file__, name, "--size", str(size), "--alone"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(time.strftime("%H:%M:%S"), name, done.stdout.strip() or "failed", flush=True)
    if done.returncode == 0:
        found = {**known(), name: json.loads(done.stdout.splitlines()[-1])}
        RESULTS.write_text(json.dumps({k: found[k] for k in _networks() if k in found}, indent=1) + "\n")


def measure(name: str, size: int) -> dict[str, Any]:
    """Everything of one network, in this process."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from compile_speed import Stages  # noqa: PLC0415

    import snncompile  # noqa: PLC0415
    from snncompile.ir import reference  # noqa: PLC0415
    from snncompile.ir.integer import IntNeuron  # noqa: PLC0415
    from snncompile.pipeline import original  # noqa: PLC0415
    from snncompile.target import load_target  # noqa: PLC0415
    from snncompile.verify import Program, verify  # noqa: PLC0415

    network = _networks()[name]
    network = replace(network, size=size) if size else network
    net, x = network.build(small=False), network.samples(2, small=False)
    count = sum(p.numel() for p in net.parameters())
    assert network.parameters in (None, count), f"{name} has {count:,} parameters, published are {network.parameters:,}"
    first, per_step = torch.as_tensor(x[0, 0], dtype=torch.float32)[None], network.layout == "step"
    call = {"init": True} if "init" in inspect.signature(net.forward).parameters else {}
    with torch.no_grad():
        copy.deepcopy(net)(
            first if per_step else first[None].expand(network.steps, *first.shape), **call
        )  # torch allocates what it will need again
    size_bytes = sum(p.numel() * p.element_size() for p in net.parameters())
    stages = Stages(size_bytes, to=sys.stderr)
    compiled = snncompile.compile(
        net, input_shape=x.shape[2:], steps=network.steps, layout=network.layout, calibration=x, progress=stages.begin
    )
    stages.begin("verification")
    target = load_target("loihi2-sim")
    for p in compiled.result.populations:
        assert target.accumulator.fits(p.bounds["accumulator"])
        assert all(target.membrane.fits(p.bounds[key]) for key in ("input", "charge", "membrane", "state"))
    program = Program(graph=compiled.result.graph, schedule=compiled.schedule, populations=compiled.result.populations)
    found = verify(program, {"x": x[:1]}, original=original(compiled, net, x[:1]), backends=("reference",))
    names = [n.name for n in compiled.result.graph.of(IntNeuron)]
    seen = reference.run(compiled.result.graph, {"x": x[:1]}, record=names)
    stages.begin("")
    assert found.capture is not None
    assert found.dynamics is not None
    populations = found.dynamics.populations.values()
    rows = {STAGES.get(row.name, row.name): row for row in stages.rows}
    return {
        "parameters": count, "shape": list(x.shape[2:]), "steps": network.steps,
        "seconds": {key: round(row.processor, 1) for key, row in rows.items()},
        "clock": {key: round(row.clock, 1) for key, row in rows.items()},
        "memory": {key: round(row.memory) for key, row in rows.items()}, "megabytes": round(size_bytes / 2**20, 1),
        "neurons": sum(p.neurons for p in compiled.result.populations), "synapses": sum(p.synapses for p in compiled.result.populations),
        "populations": len(compiled.result.populations), "exact": sum(p.exact for p in compiled.result.populations),
        "silent": sum(not np.any(seen[n]) for n in names),
        "capture": found.capture["differing_spikes"], "membrane_error": max(r.membrane_error for r in compiled.passes),
        "compared": sum(p.compared for p in populations), "differing": sum(p.differing for p in populations),
        "differing_exact": found.dynamics.differing_exact, "ties": sum(p.ties for p in populations),
        "bits": [b.differing_bits for b in found.backends], "failures": [f.message for f in found.failures],
    }  # fmt: skip


def document(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/published.md."""
    head = ["network", "parameters", "input", "T", "capture", "compare", "passes", "quantise", "verify", "memory", "exact", "differing"]
    return (
        HEAD + "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *(_row(k, v) for k, v in measured.items()))) + "\n" + NOTES
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(name: str, m: Mapping[str, Any]) -> list[str]:
    seconds = [f"{m['seconds'][key]:.1f} s" for key in ("capture", "compare", "passes", "quantise", "verification")]
    memory = max(v for k, v in m["memory"].items() if k != "verification")
    return [
        name, f"{m['parameters']:,}", "x".join(map(str, m["shape"])), str(m["steps"]), *seconds,
        f"{memory:,} MiB, {memory / m['megabytes']:.1f} x", f"{m['exact']} of {m['populations']}",
        f"{m['differing']:,} of {m['compared']:,} ({m['ties']:,})",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
