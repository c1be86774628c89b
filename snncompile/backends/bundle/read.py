"""Reading a bundle back: schema and every hash checked, nothing unpickled, nothing executed."""

from __future__ import annotations

import difflib
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from snncompile.backends.bundle import files, tensors
from snncompile.backends.bundle.manifest import FORMAT, SCHEMA, program_facts, schedule_from_json
from snncompile.errors import CompileError, fail
from snncompile.files import BAD_ZIP
from snncompile.ir.graph import Array, Dialect, Graph, Readout, validate
from snncompile.ir.population import INTEGER_POPULATIONS
from snncompile.ir.text import from_text
from snncompile.learning.program import LearningProgram
from snncompile.learning.state import LearningState
from snncompile.mapping.schedule import Schedule
from snncompile.quantize import Adapted, PopulationReport, QuantResult

STATE, STATE_HASH = "learning_state", "learning_state_sha256"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A program with its evidence. ``folder`` holds its files; that of a zip is temporary and goes with this object."""

    path: Path
    folder: Path
    manifest: Mapping[str, Any]
    graph: Graph
    schedule: Schedule
    populations: tuple[PopulationReport, ...]

    @property
    def result(self) -> QuantResult:
        """Graph and reports as the quantiser gave them."""
        return QuantResult(graph=self.graph, populations=self.populations, notes=tuple(self.manifest["notes"]))

    @property
    def output(self) -> str:
        """The reference of the first output, from which decisions are read."""
        return next(iter(self.graph.outputs.values()))

    @property
    def learning(self) -> LearningProgram | None:
        """What learns on the chip, if anything does."""
        row = self.manifest.get("learning")
        return None if row is None else LearningProgram.from_json(row)

    @property
    def learning_state(self) -> LearningState | None:
        """What learning needs to go on after the samples that it has seen, if it has seen any."""
        row, program = self.manifest.get(STATE), self.learning
        if row is None or program is None:
            return None
        arrays = _tensors(self.folder, self.manifest, row["tensors"])
        return LearningState.of(int(row["samples"]), {k.partition(".")[2]: v for k, v in arrays.items()}, program, self.graph)

    @property
    def plan_folder(self) -> Path:
        """The folder with plan.json and the Lava runner."""
        return self.folder / "lava"


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle of ours, whole or damaged; reads no more than the start of the manifest."""
    try:
        if path.is_dir():
            return files.manifest_of(path, str(path)).get("format") == FORMAT
        with zipfile.ZipFile(path) as archive, archive.open(files.MANIFEST) as file:
            return f'"{FORMAT}"'.encode() in file.read(files.LARGEST_MANIFEST)
    except (CompileError, *BAD_ZIP):
        return False


def read_bundle(path: Path) -> Bundle:
    """Open a bundle, a folder or a zip.

    Errors  SNN001 nothing there; SNN032 not a bundle; SNN033 damaged, with the file's name; SNN034 another schema; SNN035 unsafe archive
    """
    shown = str(path)
    if path.is_dir():
        return _read(path, path, shown)
    if not path.exists():
        raise _missing(path)
    if not zipfile.is_zipfile(path):
        if path.suffix == ".zip":
            raise files.damaged(shown, "the archive", "is truncated or no zip")
        raise fail(
            "SNN032", f"{shown} is not a bundle: it is neither a folder nor a zip", help="write one with snncompile export MODEL -o OUT"
        )
    folder = Path(tempfile.mkdtemp(prefix="snnbundle-"))
    try:
        with zipfile.ZipFile(path) as archive:
            files.extract(archive, shown, folder)
        bundle = _read(path, folder, shown)
    except BAD_ZIP as e:
        shutil.rmtree(folder, ignore_errors=True)
        raise files.damaged(shown, "the archive", f"cannot be read ({e})") from e
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def _missing(path: Path) -> CompileError:
    siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.65)
    way_out = (
        f"did you mean {' or '.join(str(path.parent / n) for n in near)}?" if near else "write one with snncompile export MODEL -o OUT"
    )
    return fail("SNN001", f"{path} does not exist", help=way_out)


def _read(path: Path, folder: Path, shown: str) -> Bundle:
    manifest = files.manifest_of(folder, shown)
    if manifest.get("format") != FORMAT:
        raise fail(
            "SNN032",
            f"{shown} is not a bundle: its {files.MANIFEST} is of another kind",
            help="write one with snncompile export MODEL -o OUT",
        )
    if manifest.get("schema") != SCHEMA:
        tool = manifest.get("tool")
        writer = tool.get("version", "?") if isinstance(tool, dict) else "?"
        message = f"{shown} has schema {manifest.get('schema')!r} (written by snncompile {writer}), this version reads {SCHEMA}"
        raise fail("SNN034", message, help="export the model again with this version")
    _check_hashes(folder, manifest, shown)
    try:
        return open_folder(path, folder, manifest)
    except CompileError as e:
        raise files.damaged(shown, "graph.txt", f"is no program ({e.diagnostics[0].message})") from e
    except UnicodeDecodeError as e:
        raise files.damaged(shown, "graph.txt", "is no UTF-8 text") from e
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise files.damaged(shown, files.MANIFEST, f"does not follow schema {SCHEMA} ({type(e).__name__}: {e})") from e


def open_folder(path: Path, folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """The program in a folder whose files are known to be whole."""
    graph = from_text((folder / "graph.txt").read_text(encoding="utf-8"), _tensors(folder, manifest, manifest["tensors"]))
    validate(graph)
    if graph.dialect is not Dialect.INTEGER:
        raise ValueError(f"graph.txt is of the {graph.dialect.value} dialect")
    for key, value in program_facts(graph).items():
        if manifest[key] != value:
            raise ValueError(f"its {key} are not those of graph.txt")
    if manifest["readout"] not in get_args(Readout):
        raise ValueError(f"readout is {manifest['readout']!r}, not one of {', '.join(get_args(Readout))}")
    populations = tuple(_report(row) for row in manifest["populations"])
    if [p.name for p in populations] != [n.name for n in graph.nodes if isinstance(n, INTEGER_POPULATIONS)]:
        raise ValueError("its populations are not those of graph.txt")
    bundle = Bundle(path, folder, manifest, graph, schedule_from_json(manifest["schedule"]), populations)
    if "learning" in manifest and files.digest_of(manifest["learning"]) != manifest["learning_sha256"]:
        raise ValueError("its learning is not what was written: its SHA-256 differs")
    learning = bundle.learning
    layers = () if learning is None else learning.layers
    names = {n for x in layers for n in (x.synapse, x.change, x.population, x.source)} | ({learning.readout} if learning else set())
    if not names <= graph.by_name.keys():
        raise ValueError("its learning names a layer that graph.txt does not have")
    if STATE in manifest and files.digest_of(manifest[STATE]) != manifest[STATE_HASH]:
        raise ValueError("its state of learning is not what was written: its SHA-256 differs")
    _ = bundle.learning_state  # raises where it does not fit
    return bundle


def _check_hashes(folder: Path, manifest: Mapping[str, Any], shown: str) -> None:
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not listed:
        raise files.damaged(shown, files.MANIFEST, "lists no files")
    present = files.contents(folder)
    for name in sorted(set(listed) - set(present)):
        raise files.damaged(shown, name, "is missing")
    for name in sorted(set(present) - set(listed)):
        raise files.damaged(shown, name, "is not listed in the manifest")
    for name in present:
        if (folder / name).is_symlink():
            raise files.damaged(shown, name, "is a link")
        found = files.digest(folder / name)
        if found != listed[name]:
            raise files.damaged(shown, name, "is not what was written (its SHA-256 differs from the manifest's)")


def _tensors(folder: Path, manifest: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Array]:
    out, present = {}, {Path(n).name for n in manifest["files"] if n.startswith("tensors/")}
    for key, row in rows.items():
        if row["file"].partition("#")[0] not in present:
            raise ValueError(f"tensor '{key}' names the unknown file '{row['file']}'")
        array = tensors.load(folder / "tensors", row["file"])
        if list(array.shape) != row["shape"]:
            raise ValueError(f"tensor '{key}' has shape {list(array.shape)}, not {row['shape']}")
        out[key] = array.astype(row["dtype"])
        if not np.array_equal(out[key], array, equal_nan=array.dtype.kind == "f"):
            raise ValueError(f"tensor '{key}' holds values that are no {row['dtype']}")
    return out


def _report(row: Mapping[str, Any]) -> PopulationReport:
    def pair(value: Any) -> tuple[float, float]:
        low, high = value
        return float(low), float(high)

    return PopulationReport(
        name=str(row["name"]), neurons=int(row["neurons"]), synapses=int(row["synapses"]), weight_bits=int(row["weight_bits"]),
        sigma=pair(row["sigma"]), steps_per_threshold=None if row["steps_per_threshold"] is None else pair(row["steps_per_threshold"]),
        guard_bits=int(row["guard_bits"]), exact=bool(row["exact"]), reason=str(row["reason"]),
        payload_lsb=None if row["payload_lsb"] is None else float(row["payload_lsb"]),
        bounds={str(k): (int(v[0]), int(v[1])) for k, v in row["bounds"].items()}, weight_error=float(row["weight_error"]),
        ceiling=str(row["ceiling"]), adapted=_adapted(row.get("adapted")),
    )  # fmt: skip


def _adapted(row: Mapping[str, Any] | None) -> Adapted | None:
    return None if row is None else Adapted(samples=int(row["samples"]), before=float(row["before"]), after=float(row["after"]))


__all__ = ["Bundle", "is_bundle", "open_folder", "read_bundle"]
