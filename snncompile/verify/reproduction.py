"""A difference as a folder that shows it: the one population of both sides, its inputs up to that step, and a script of a few lines.

reproduction/
  reproduce.py            python reproduce.py: what both sides hold at that step and neuron
  a/ b/                   graph.txt, tensors.npz  the population as text and its arrays
                          inputs.npz              what it received, one sample, up to the step that differs
                          recorded.npz            what the executor gave, where the side is one
  sent.npy                the payloads that float spikes reset by
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from snncompile.errors import fail
from snncompile.ir.text import to_text
from snncompile.verify.findings import Localised, Replayable

SCRIPT = '''"""{title}"""

from pathlib import Path

import numpy as np

from snncompile.ir import reference
from snncompile.ir.interpret import interpret
from snncompile.ir.text import from_text

here, name, neuron, steps = Path(__file__).parent, {name!r}, {neuron!r}, {steps}
for side, label in (("a", {a!r}), ("b", {b!r})):
    graph = from_text((here / side / "graph.txt").read_text(encoding="utf-8"), np.load(here / side / "tensors.npz"))
    inputs, refs = dict(np.load(here / side / "inputs.npz")), [name, f"{{name}}.m", f"{{name}}.v"]
    if graph.dialect == "integer":
        seen = reference.run(graph, inputs, record=refs, steps=steps)
    else:
        seen = interpret(graph, inputs, record=refs, steps=steps, overrides={{name: np.load(here / "sent.npy")}})
    print(label, {{ref: seen[ref][0, -1][neuron].item() for ref in refs}})
    if (here / side / "recorded.npz").exists():
        print(label, "recorded", {{k: v[0, -1][neuron].item() for k, v in np.load(here / side / "recorded.npz").items()}})
'''
OURS = {"reproduce.py", "a", "b", "sent.npy"}


def check_folder(folder: Path) -> None:
    """Raise SNN031 for a folder of something else, SNN030 where none can be made."""
    if folder.is_dir() and {p.name for p in folder.iterdir()} - OURS:
        raise fail("SNN031", f"{folder} is a folder with other things in it; it is left alone", help="choose another place with -o")
    if folder.exists() and not folder.is_dir():
        raise fail("SNN030", f"cannot write {folder}: it is a file", help="choose another place with -o")


def write_reproduction(found: Localised, folder: Path) -> Path | None:
    """Write it; None where there is nothing to reproduce (the inputs alone differ). Errors of ``check_folder``, and SNN030."""
    place, evidence = found.place, found.evidence
    if place is None or evidence is None:
        return None
    check_folder(folder)
    draft = folder.with_name(f".{folder.name}.tmp")
    part = np.s_[place.sample : place.sample + 1, : place.step + 1]
    try:
        shutil.rmtree(draft, ignore_errors=True)
        for side, given in (("a", evidence.a), ("b", evidence.b)):
            (draft / side).mkdir(parents=True)
            _write_side(draft / side, given, part)
        np.save(draft / "sent.npy", evidence.sent[part])
        a, b = found.labels
        title = f"First difference of {a} and {b}: population '{place.population}', step {place.step + 1}."
        fields = {"name": place.population, "neuron": place.neuron, "steps": place.step + 1, "a": a, "b": b}
        script = SCRIPT.format(title=title.replace("\\", "/"), **fields)
        (draft / "reproduce.py").write_text(script, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    except OSError as e:
        shutil.rmtree(draft, ignore_errors=True)
        raise fail("SNN030", f"cannot write {folder}: {e.strerror or e}", help="choose another place with -o") from e
    return folder


def _write_side(folder: Path, given: Replayable, part: tuple[slice, slice]) -> None:
    text, tensors = to_text(given.unit.graph)
    (folder / "graph.txt").write_text(text, encoding="utf-8")
    np.savez(folder / "tensors.npz", **tensors)  # type: ignore[arg-type]
    np.savez(folder / "inputs.npz", **{label: x[part] for label, x in given.values.items()})  # type: ignore[arg-type]
    if given.recorded is not None:
        kept = {k: getattr(given.recorded, k) for k in ("payload", "m", "v")}
        np.savez(folder / "recorded.npz", **{k: x[part] for k, x in kept.items() if x is not None})


__all__ = ["check_folder", "write_reproduction"]
