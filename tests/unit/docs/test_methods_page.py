"""The page from a paper's equation to the code: every object exists and states an equation and its source, every test exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from snncompile.online.rule import METHODS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| equation")]
TESTS = sorted(set(re.findall(r"`(\w+/test_\w+\.py::\w+)`", PAGE)))


def documented(name):
    """The object of a dotted name below the package."""
    *path, last = name.split(".")
    return getattr(importlib.import_module(".".join(["snncompile", *path])), last)


def test_every_row_has_an_equation_an_object_and_a_test():
    assert len(ROWS) > 40
    for row in ROWS:
        equation, code, test = row
        assert equation
        assert all(re.fullmatch(r"`[\w.]+`", name) for name in code.split(", ")), code
        assert all(name.strip("`") in TESTS for name in test.split(", ")), test


@pytest.mark.parametrize("name", sorted({name.strip("`") for row in ROWS for name in row[1].split(", ")}))
def test_an_object_states_its_equation_and_where_it_comes_from(name):
    text = inspect.getdoc(documented(name)) or ""
    assert re.search(r"^ *Source  +\S", text, re.MULTILINE), f"{name}: no source"
    assert re.search(r"\w\S* += +\S|<=>|->", text), f"{name}: no equation"
    for other in re.findall(r"Source +as ``(\w+)``", text):
        home = documented(name.rpartition(".")[0] + "." + other) if hasattr(inspect.getmodule(documented(name)), other) else None
        assert home is not None, f"{name}: the source is said to be that of {other}, which its module does not know"
        assert "Source" in (inspect.getdoc(home) or "")


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_a_row_names_exists(name):
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / "unit" / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_training_method_has_a_section_and_the_readme_names_the_page():
    headings = [line for line in PAGE.splitlines() if line.startswith("## ")]
    for method in METHODS:
        assert any(f"`{method}`" in heading for heading in headings), method
    assert "docs/methods.md" in (ROOT / "README.md").read_text(encoding="utf-8")
