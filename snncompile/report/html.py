"""report.html: one file without scripts or links, made from the manifest alone; the same manifest gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from snncompile.report import drawings
from snncompile.report.summary import cut_off
from snncompile.report.tables import refusals
from snncompile.report.words import bits, count, percent, rate, size


def render(manifest: Mapping[str, Any]) -> str:
    """The report of a bundle's manifest."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count=count, percent=percent, rate=rate, size=size, bits=bits, short=_short)
    tensors = sum(row["bytes"] for name, row in manifest["files"].items() if name.startswith("tensors/"))
    return environment.get_template("report.html.j2").render(
        m=manifest,
        found=manifest["verification"],
        cut_off=cut_off,
        refusals=refusals(manifest["passes"]),
        tensor_bytes=tensors,
        membranes=Markup(drawings.membranes(manifest)),  # noqa: S704 - our own drawing, texts in it are escaped
        timeline=Markup(drawings.timeline(manifest)),  # noqa: S704
    )


def _short(value: float | None) -> str:
    """A measured number: ``6.7e-16``, ``0``."""
    return "" if value is None else "0" if value == 0 else f"{value:.2g}"


__all__ = ["render"]
