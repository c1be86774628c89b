"""Every pass on small graphs, text in and text out. ``UPDATE_GOLDEN=1 pytest`` rewrites the results; review the change."""

import os
from pathlib import Path

import pytest

from snncompile.ir.graph import validate
from snncompile.ir.text import from_text, to_text
from snncompile.passes import DEFAULT, Pass

FOLDER = Path(__file__).parents[2] / "golden" / "passes"
PASSES = {p.name: p for part in DEFAULT for p in (part if isinstance(part, tuple) else (part,))}


def result(name: str, before: str) -> str:
    step: Pass = PASSES[name]
    graph = from_text(before)
    validate(graph)
    outcome = step.apply(graph)
    validate(outcome.graph)
    if outcome.rewrites == 0:
        assert outcome.graph is graph
    text = to_text(outcome.graph, inline=True)[0]
    return text + "".join(f"# refused at {r.node}: {r.reason}\n" for r in outcome.refusals)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda p: p.stem)
def test_a_pass_turns_the_first_text_into_the_second(path):
    name, before, after = path.read_text().split("\n----\n")
    found = result(name.strip(), before)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(f"{name}\n----\n{before}\n----\n{found}")
    else:
        assert found == after


def test_every_pass_has_a_golden_case_and_a_reason_to_refuse_where_it_can():
    cases = {path.read_text().split("\n")[0].strip() for path in FOLDER.glob("*.txt")}
    assert cases == set(PASSES)
