"""Writing a bundle: built beside its destination, published whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snncompile.backends.bundle import files, tensors
from snncompile.backends.bundle.ledger import measured
from snncompile.backends.bundle.manifest import CompiledLike, describe, plain
from snncompile.backends.bundle.read import STATE, STATE_HASH, Bundle, is_bundle, open_folder
from snncompile.backends.bundle.workshop import put, workshop
from snncompile.backends.lava.emit import write_runner
from snncompile.backends.lava.learning_plan import add_learning
from snncompile.backends.lava.plan import write_plan
from snncompile.errors import InternalError, fail
from snncompile.ir.graph import Array, Graph
from snncompile.ir.text import to_text
from snncompile.learning.program import LearningProgram
from snncompile.learning.state import LearningState
from snncompile.mapping.schedule import Schedule

LEARNING_UNIT = "see verify --learning"


class Draft:
    """A bundle under construction: ``fill`` it, run what is in it, then ``publish`` it with what was found."""

    def __init__(self, destination: Path, folder: Path) -> None:
        self.destination, self.folder = destination, folder
        self._manifest: dict[str, Any] = {}

    def fill(self, compiled: CompiledLike, source: Mapping[str, Any] | None = None, learning: LearningProgram | None = None) -> Bundle:
        """Write program, tensors and runner; the bundle as a reader will see it, its folder being the draft's."""
        facts = plain(describe(compiled, source))
        return self._write(facts, compiled.result.graph, compiled.schedule, learning)

    def refill(self, bundle: Bundle, graph: Graph, state: LearningState | None = None) -> Bundle:
        """Write ``bundle`` again with another graph of the same populations, learned weights, and with what learning needs to go on."""
        facts = {k: v for k, v in bundle.manifest.items() if k not in (STATE, STATE_HASH)}
        return self._write({**facts, "verification": None}, graph, bundle.schedule, bundle.learning, state)

    def _write(
        self, facts: dict[str, Any], graph: Graph, schedule: Schedule, learning: LearningProgram | None, state: LearningState | None = None
    ) -> Bundle:
        store = tensors.Folder(self.folder / "tensors")
        store.folder.mkdir()
        text, arrays = to_text(graph)
        (self.folder / "graph.txt").write_text(text, encoding="utf-8", newline="\n")
        self._manifest = facts
        if learning is not None:
            self._manifest["learning"] = row = plain(learning.to_json())
            self._manifest["learning_sha256"] = files.digest_of(row)
            rows = [r for r in self._manifest["approximations"] if r["unit"] != LEARNING_UNIT]
            name = ", ".join(x.population for x in learning.layers)
            rows += [{"population": name, "what": w, "size": None, "unit": LEARNING_UNIT} for w in learning.approximated]
            self._manifest["approximations"] = rows
        self._manifest["tensors"] = store.keep_all(arrays)
        if state is not None:
            kept = store.keep_all({f"learning.{name}": array for name, array in state.arrays().items()})
            self._manifest[STATE] = row = {"samples": state.samples, "tensors": kept}
            self._manifest[STATE_HASH] = files.digest_of(row)
        self._lava(graph, schedule, store, learning)
        store.close()
        self._manifest["files"] = {name: {} for name in files.contents(self.folder)}
        return open_folder(self.destination, self.folder, self._manifest)

    def _lava(self, graph: Graph, schedule: Schedule, store: tensors.Folder, learning: LearningProgram | None) -> None:
        lava = self.folder / "lava"
        lava.mkdir()
        write_runner(lava, learning=learning is not None)

        def keep(key: str, array: Array) -> str:
            return f"../tensors/{store.keep(key, array)}"

        write_plan(lava, graph, schedule, keep)
        if learning is not None:
            add_learning(lava, learning)

    def seal(self, verification: Mapping[str, Any] | None = None, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Write the manifest and texts beside it (such as the report); returns the manifest."""
        if not self._manifest:
            raise InternalError("an empty draft was sealed")
        for name, text in (extra or {}).items():
            (self.folder / name).write_text(text, encoding="utf-8", newline="\n")
        self._manifest["verification"] = None if verification is None else plain(verification)
        self._manifest["ledger"] = [
            *(row for row in self._manifest["ledger"] if row["stage"] != "verify"),
            *(d.to_json() for d in measured(self._manifest["verification"])),
        ]
        self._manifest["files"] = {name: files.digest(self.folder / name) for name in files.contents(self.folder)}
        (self.folder / files.MANIFEST).write_text(files.to_json(self._manifest), encoding="utf-8", newline="\n")
        return self._manifest

    def note(self, **facts: Any) -> None:
        """Add facts about this compile to the manifest's settings."""
        self._manifest["settings"] = {**self._manifest["settings"], **plain(facts)}

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest so far."""
        return self._manifest

    def publish(self) -> Path:
        """Put the sealed draft at its destination, replacing an older bundle (SNN030, SNN031)."""
        if not (self.folder / files.MANIFEST).is_file():
            raise InternalError("a draft was published before it was sealed")
        check_destination(self.destination)
        try:
            shutil.rmtree(self.folder / "lava" / "snn_processes" / "__pycache__", ignore_errors=True)
            finished = self.folder
            if self.destination.suffix == ".zip":
                finished = self.folder.with_suffix(".zip")
                files.write_zip(self.folder, finished)
            put(finished, self.destination)
        except OSError as e:
            raise files.unwritable(self.destination, e) from e
        return self.destination


def check_destination(path: Path) -> None:
    """Raise SNN031 if something else than a bundle (or an empty folder) is there, SNN030 if it cannot be written."""
    if path.is_symlink():
        raise fail("SNN031", f"{path} is a link; a bundle would replace it", help="name the place itself with -o")
    if path.is_dir():
        if any(path.iterdir()) and not is_bundle(path):
            raise fail("SNN031", f"{path} is a folder with other things in it; it is left alone", help="choose another place with -o")
    elif path.exists() and not is_bundle(path):
        raise fail("SNN031", f"{path} is a file that is no bundle; it is left alone", help="choose another place with -o")
    if path.exists() and path.is_dir() == (path.suffix == ".zip"):
        raise fail(
            "SNN031", f"{path} is {'a folder' if path.is_dir() else 'a file'}, this bundle is not", help="choose another place with -o"
        )
    nearest = next(p for p in path.absolute().parents if p.exists())
    if not nearest.is_dir():
        raise fail("SNN030", f"cannot write {path}: {nearest} is not a folder", help="choose another place with -o")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise fail("SNN030", f"cannot write {path}: no permission to write into {nearest}", help="choose another place with -o")


@contextmanager
def open_draft(destination: Path) -> Iterator[Draft]:
    """A draft beside ``destination``; whatever happens, nothing but a published bundle stays behind."""
    check_destination(destination)
    room: Path | None = None
    try:
        with workshop(destination) as room:
            folder = room / "bundle"
            folder.mkdir()
            yield Draft(destination, folder)
    except OSError as e:
        if room is None or (e.filename is not None and str(room) in str(e.filename)):
            raise files.unwritable(destination, e) from e
        raise


def write_bundle(
    path: Path,
    compiled: CompiledLike,
    *,
    source: Mapping[str, Any] | None = None,
    verification: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write a bundle in one go; ``extra`` are texts by file name."""
    with open_draft(path) as draft:
        draft.fill(compiled, source)
        draft.seal(verification, extra)
        return draft.publish()


__all__ = ["Draft", "check_destination", "open_draft", "write_bundle"]
