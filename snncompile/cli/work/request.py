"""What commands are asked for, and the samples of a bundle: without torch, which running a bundle does not need."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from snncompile.backends.bundle import Bundle
from snncompile.cli.data import Data, check_labels, load_data
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.linear_ops import Input

if TYPE_CHECKING:
    from snncompile.capture.load import LoadedGraph, LoadedModel

CODE = frozenset({"arch", "arch_args", "layout", "trust_pickle"})
MEANT_FOR = {
    ".nir": frozenset({"nir_dialect", "nir_set"}), ".onnx": frozenset({"layout", "states"}), ".net": frozenset[str](), "": CODE,
}  # fmt: skip
"""Options that say something about files of a suffix, beside those that concern every file (shape, steps); "" are all others."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the command line says about a model."""

    arch: str | None = None
    arch_args: str | None = None
    input_shape: Any = None
    steps: int | None = None
    layout: Literal["step", "TB", "BT"] | None = None
    trust_pickle: bool = False
    states: tuple[str, ...] = ()
    nir_dialect: str | None = None
    nir_set: tuple[str, ...] = ()

    def given(self) -> frozenset[str]:
        """The options on the command line that concern some kinds of files only."""
        return frozenset(f.name for f in fields(ModelOptions) if getattr(self, f.name) != f.default) - {"input_shape", "steps"}

    def reading(self) -> list[str]:
        """Everything on the command line that says how a model is read, as the user writes it."""
        names = [f.name for f in fields(ModelOptions) if getattr(self, f.name) != f.default]
        return [f"--{'state' if name == 'states' else name.replace('_', '-')}" for name in names]

    def without(self, names: frozenset[str]) -> ModelOptions:
        """As if these options were not on the command line."""
        plain: dict[str, Any] = {f.name: f.default for f in fields(ModelOptions) if f.name in names}
        return replace(self, **plain)

    def load(self, path: Path | None) -> LoadedModel | LoadedGraph:
        """Load it; errors of ``capture.load``."""
        from snncompile.capture.factory import parse_arch_args  # noqa: PLC0415
        from snncompile.capture.load import load_model  # noqa: PLC0415 - torch, which bundles do without

        return load_model(
            path, arch=self.arch, arch_args=parse_arch_args(self.arch_args), trust_pickle=self.trust_pickle, input_shape=self.input_shape,
            steps=self.steps, layout=self.layout, states=self.states, nir_dialect=self.nir_dialect, nir_set=self.nir_set,
        )  # fmt: skip


def meant_for(path: Path | None) -> frozenset[str]:
    """The options that say something about a file."""
    suffix = "" if path is None else path.suffix
    return MEANT_FOR.get(suffix, CODE)


def sample_shapes(graph: Graph) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """The shape of one sample at one step; by input where there are several."""
    shapes = {n.name: graph.shape(n.name) for n in graph.of(Input, IntInput)}
    return shapes if len(shapes) > 1 else next(iter(shapes.values()))


def shape_from(settings: Any) -> Any:
    """An input's shape, or several inputs', from a bundle's plain data."""
    if isinstance(settings, dict):
        return {name: tuple(shape) for name, shape in settings.items()}
    return [tuple(shape) for shape in settings] if settings and isinstance(settings[0], list) else tuple(settings)


def bundle_data(bundle: Bundle, path: Path) -> Data:
    """Samples for a program, with labels that it has outputs for."""
    data = load_data(path, sample_shapes(bundle.graph), bundle.graph.steps)
    check_labels(data, math.prod(bundle.graph.shape(bundle.output)))
    return data


__all__ = ["ModelOptions", "bundle_data", "meant_for", "sample_shapes", "shape_from"]
