"""Run a step model on ONNX Runtime, step by step, and read back what every population did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto

from snncompile.backends.onnx.model import STEP, step_model
from snncompile.errors import CompileError, InternalError, fail
from snncompile.ir.graph import Array, Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.reference import quantise_input, references

BATCH = 16
Progress = Callable[[int, int], None]


def run_onnx(
    graph: Graph, inputs: Mapping[str, Array], *, steps: int | None = None, batch: int = BATCH, traces: bool = True,
    progress: Progress | None = None,
) -> tuple[dict[str, Array], float]:  # fmt: skip
    """Every output, each (N, T, *shape) int32, with ``traces`` also payload, ``.m`` and ``.v`` of every population; and the seconds.

    inputs  as for the reference: by name (N, T | 1, *shape), real values or payloads
    raises  CompileError SNN520 where ONNX Runtime is not installed
    """
    runtime = import_runtime()
    started = time.monotonic()
    payloads = {n.name: quantise_input(n, inputs[n.name]) for n in graph.of(IntInput)}
    total, samples = graph.steps if steps is None else steps, len(next(iter(payloads.values())))
    wanted = {**({ref: ref for ref in references(graph)} if traces else {}), **graph.outputs}
    found = {key: np.empty((samples, total, *graph.shape(ref)), dtype=np.int32) for key, ref in wanted.items()}
    stepper = Stepper(step_model(graph, traces=traces), runtime)
    for start in range(0, samples, batch):
        chunk = {k: v[start : start + batch] for k, v in payloads.items()}
        state: dict[str, Array] | None = None
        for t in range(total):
            values, state = stepper.step(t, {k: v[:, t if v.shape[1] > 1 else 0] for k, v in chunk.items()}, state)
            for key in wanted:
                found[key][start : start + batch, t] = values[key]
        if progress is not None:
            progress(min(start + batch, samples), samples)
    return found, time.monotonic() - started


class Stepper:
    """A step model in a session of ONNX Runtime, on the CPU with one thread; values go by the names that the program gives them."""

    def __init__(self, model: ModelProto, runtime: Any) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(
                model.SerializeToString(deterministic=True), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:
            raise InternalError(f"ONNX Runtime {runtime.__version__} refuses the model: {e}") from e
        facts = {p.key.removeprefix("snncompile."): json.loads(p.value) for p in model.metadata_props}
        self.states: dict[str, str] = facts["states"]
        self.inputs: dict[str, str] = {name: row["name"] for name, row in facts["inputs"].items()}
        self.outputs: dict[str, str] = {**facts["traces"], **{label: row["name"] for label, row in facts["outputs"].items()}}
        self.shapes = {i.name: tuple(i.shape[1:]) for i in self.session.get_inputs() if i.name in self.states}
        self.names = [o.name for o in self.session.get_outputs()]

    def step(self, t: int, payloads: Mapping[str, Array], state: dict[str, Array] | None) -> tuple[dict[str, Array], dict[str, Array]]:
        """Every output and trace, and the states to pass at the next step; None as a state before step 0."""
        count = len(next(iter(payloads.values())))
        kept = state or {name: np.zeros((count, *shape), dtype=np.int32) for name, shape in self.shapes.items()}
        given = {self.inputs[k]: v.astype(np.int32) for k, v in payloads.items()}
        found = self.session.run(None, {STEP: np.asarray(t, dtype=np.int64), **given, **kept})
        values = dict(zip(self.names, found, strict=True))
        return {key: values[name] for key, name in self.outputs.items()}, {k: values[left] for k, left in self.states.items()}


def import_runtime() -> Any:
    """The module onnxruntime (SNN520 if it is missing or does not load here)."""
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError as e:
        raise missing(e) from e
    return onnxruntime


def missing(e: ImportError) -> CompileError:
    """SNN520."""
    return fail(
        "SNN520", "ONNX Runtime is not installed" if isinstance(e, ModuleNotFoundError) else f"ONNX Runtime does not load: {e}",
        help="install it beside snncompile: uv pip install onnxruntime, or snncompile[onnxruntime]",
    )  # fmt: skip


__all__ = ["Stepper", "import_runtime", "run_onnx"]
