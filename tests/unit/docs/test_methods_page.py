"""The page from a paper's equation to the code: every object exists and states an equation and its source, every test exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import snncompile.online
from snncompile.online.rule import METHODS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| equation")]
TESTS = sorted(set(re.findall(r"`(\w+/test_\w+\.py::\w+)`", PAGE)))


EQUATION = re.compile(r"\w\S* += +\S|<=>|->")
CITED = {
    "Xiao": "NeurIPS 2022", "Jiang": "ICML 2024", "Meng": "ICCV 2023", "Zhu": "ICLR 2024", "Yang": "NeurIPS 2022", "Deng": "ICLR 2022",
    "Yao": "NeurIPS 2022", "Wang": "ICML 2023", "Guo": "NeurIPS 2024", "Zheng": "AAAI 2021", "Brock": "ICLR 2021", "Liu": "ICML 2021",
}  # fmt: skip
"""OTTT, NDOT, SLTT, OSR, LTL, TET, GLIF, ASGL, Shortcut, tdBN, weight standardisation, binary weights; Li is two papers."""


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
    assert EQUATION.search(text), f"{name}: no equation"
    assert re.search(r"^ *Shapes|   Shapes|^ *shapes", text, re.MULTILINE) or name == "online.rule.Rule", f"{name}: no shapes"
    for other in re.findall(r"Source +as ``(\w+)``", text):
        home = documented(name.rpartition(".")[0] + "." + other) if hasattr(inspect.getmodule(documented(name)), other) else None
        assert home is not None, f"{name}: the source is said to be that of {other}, which its module does not know"
        assert "Source" in (inspect.getdoc(home) or "")


def test_no_layer_neuron_or_network_of_the_kit_states_an_equation_without_its_source():
    for module in pkgutil.iter_modules(snncompile.online.__path__):
        for item in vars(importlib.import_module(f"snncompile.online.{module.name}")).values():
            if inspect.isclass(item) and issubclass(item, nn.Module | torch.autograd.Function) and item.__module__.startswith("snncompile"):
                text = inspect.getdoc(item) or ""
                assert "Source" in text or not EQUATION.search(text), item


def test_a_paper_is_cited_with_one_venue_everywhere():
    found = set()
    for path in [*ROOT.glob("snncompile/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md"), ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        for author, venue in re.findall(r"([A-Z]\w+) et al\.[^()\n;]{0,3}\(?((?:[A-Z][A-Za-z]{3,}) 20\d\d)", text):
            found.add(author)
            assert CITED.get(author, venue) == venue, (path, author, venue)
    assert {"Xiao", "Jiang", "Meng", "Zhu", "Yang", "Deng"} <= found


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
