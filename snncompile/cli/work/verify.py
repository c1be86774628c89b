"""``verify``: every claim of a bundle, on data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snncompile import files
from snncompile.backends.bundle import Bundle, read_bundle
from snncompile.cli import show
from snncompile.cli.data import Data
from snncompile.cli.progress import Progress
from snncompile.cli.work import model as models
from snncompile.cli.work import netx
from snncompile.cli.work.request import ModelOptions, bundle_data, shape_from
from snncompile.cli.work.verifying import check, report_failures
from snncompile.errors import fail
from snncompile.ir.graph import Graph
from snncompile.ir.integer import IntInput
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.quantize import Options
from snncompile.report.summary import print_verification
from snncompile.verify import Original
from snncompile.verify.weights import other_synapses


@dataclass(frozen=True, kw_only=True)
class Request(ModelOptions):
    """The command line of ``verify``."""

    bundle: Path
    data: Path
    against: Path | None
    backends: tuple[str, ...]
    samples: int | None
    timeout: float
    as_json: bool
    quiet: bool


def verify(request: Request) -> int:
    """Run the command; the exit status."""
    for path in (request.against, request.data):
        if path is not None:
            files.check_file(path)
    with Progress(quiet=request.quiet) as progress:
        progress.phase("reading the bundle")
        bundle = read_bundle(request.bundle)
        data = bundle_data(bundle, request.data)
        judged = None
        if request.against is not None and netx.is_net(request.against):
            progress.phase("importing the file again")
            netx.check_same(bundle, request.against, request)
        elif request.against is not None or request.arch is not None:
            with models.users_output_to_stderr():
                judged = _original(request, bundle, data, progress)
        found = check(
            bundle, data, original=judged, backends=list(dict.fromkeys(request.backends)) or ["reference"], samples=request.samples,
            timeout=request.timeout, readout=bundle.manifest["readout"], progress=progress,
        )  # fmt: skip
    if request.as_json:
        show.json_line(found.to_json())
    else:
        print_verification(found.to_json(), data.source)
    if not found.ok:
        report_failures(found, request.bundle)
    return 0 if found.ok else 1


def _original(request: Request, bundle: Bundle, data: Data, progress: Progress) -> Original:
    """Compile the model again as the bundle's settings say, and run it in PyTorch."""
    progress.phase("loading the model")
    settings: dict[str, Any] = dict(bundle.manifest["settings"])
    options = ModelOptions(
        arch=request.arch, arch_args=request.arch_args, input_shape=request.input_shape or shape_from(settings["input_shape"]),
        steps=request.steps or settings["steps"], layout=request.layout or settings["layout"], trust_pickle=request.trust_pickle,
        states=request.states, nir_dialect=request.nir_dialect, nir_set=request.nir_set,
    )  # fmt: skip
    loaded = options.load(request.against)
    recorded = bundle.manifest["source"].get("sha256")
    if recorded and loaded.source_sha256 and recorded != loaded.source_sha256:
        show.warn(f"{request.against} is not the file that this bundle was made from (its SHA-256 differs)")
    known = settings["input_range"]
    compiled = models.compile_loaded(
        loaded, target=bundle.manifest["target"]["name"], calibration=data.first(models.CALIBRATION_SAMPLES).samples,
        input_range=None if known is None else tuple(known), readout=bundle.manifest["readout"], options=Options(**settings["options"]),
        progress=progress.phase, readout_of=next(iter(bundle.graph.outputs)),
        seca=settings.get("seca", "calibrated"),
    )  # fmt: skip
    difference = _different(bundle.graph, compiled.result.graph) or other_synapses(compiled.float_graph, bundle.graph)
    if difference is not None:
        name = request.against or request.arch
        raise fail(
            "SNN040", f"{request.bundle} was not made from {name}: {difference}", help="name the model that the bundle was exported from"
        )
    return models.original(compiled, loaded, data.samples, progress)


def _different(ours: Graph, theirs: Graph) -> str | None:
    """The first way in which two programs are not of the same network, whatever the weights."""
    if ours.steps != theirs.steps:
        return f"the bundle runs {ours.steps} steps, the model {theirs.steps}"
    mine, other = ({n.name: g.shape(n.name) for n in g.of(IntInput, *INTEGER_POPULATIONS)} for g in (ours, theirs))
    for name in [*mine, *other]:
        if name not in other or name not in mine:
            return f"only the {'bundle' if name in mine else 'model'} has a population '{name}'"
        if mine[name] != other[name]:
            return f"'{name}' has shape {list(mine[name])} in the bundle, {list(other[name])} in the model"
    return None


__all__ = ["Request", "verify"]
