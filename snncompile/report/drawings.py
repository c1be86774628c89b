"""Drawings of the report as inline SVG, computed from the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, LABEL, ROW = 720, 190, 22
SHADES = ("#4477aa", "#88bbdd", "#cc6677", "#ddcc77")


def _svg(height: int, body: Sequence[str], title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, *body, "</svg>"])


def _label(y: int, text: str) -> str:
    shown = text if len(text) <= 26 else text[:25] + "…"
    return f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end"><title>{escape(text)}</title>{escape(shown)}</text>'


def _used(bounds: Sequence[int]) -> float:
    """Bits that hold a range, with the sign: log2 of the larger magnitude, plus one."""
    largest = max(abs(int(bounds[0])), abs(int(bounds[1])))
    return float(largest.bit_length() + 1)


def membranes(manifest: Mapping[str, Any]) -> str:
    """Bits of the membrane that the proved bound uses, the share of guard bits in them, and what the format has."""
    rows = manifest["populations"]
    width = next((q["value"] for q in manifest["target"]["quantities"] if q["key"] == "formats.membrane"), "s24")
    available = int(str(width).lstrip("su"))
    scale = (WIDTH - LABEL - 60) / available
    body = []
    for k, p in enumerate(rows):
        y = k * ROW
        used = min(_used(p["bounds"]["membrane"]), available)
        guard = min(float(p["guard_bits"]), used)
        body.append(_label(y, p["name"]))
        body.append(f'<rect x="{LABEL}" y="{y + 4}" width="{available * scale:.1f}" height="14" fill="#eee"/>')
        body.append(f'<rect x="{LABEL}" y="{y + 4}" width="{(used - guard) * scale:.1f}" height="14" fill="{SHADES[0]}"/>')
        body.append(
            f'<rect x="{LABEL + (used - guard) * scale:.1f}" y="{y + 4}" width="{guard * scale:.1f}" height="14" fill="{SHADES[1]}"/>'
        )
        body.append(f'<text x="{LABEL + available * scale + 6:.1f}" y="{y + 15}">{used:.0f}/{available}</text>')
    return _svg(len(rows) * ROW + 4, body, "bits of the membrane in use")


def timeline(manifest: Mapping[str, Any]) -> str:
    """Which population works on which model step at each hardware step, for the first sample."""
    schedule = manifest["schedule"]
    depth: Mapping[str, int] = schedule["depth"]
    interval, steps = schedule["initiation_interval"], min(schedule["steps"], 16)
    names = sorted(depth, key=lambda n: (depth[n], n))
    total = interval * (steps - 1) + max(depth.values(), default=0) + 1
    cell = min(30.0, (WIDTH - LABEL - 10) / total)
    body = []
    for k, name in enumerate(names):
        body.append(_label(k * ROW, name))
        for t in range(steps):
            x = LABEL + (interval * t + depth[name]) * cell
            body.append(f'<rect x="{x:.1f}" y="{k * ROW + 3}" width="{max(cell - 1, 0.5):.1f}" height="17" fill="{SHADES[t % 2]}"/>')
            if cell >= 12:
                body.append(f'<text x="{x + cell / 2 - 0.5:.1f}" y="{k * ROW + 15}" text-anchor="middle" class="in">{t + 1}</text>')
    axis = len(names) * ROW + 14
    body.append(f'<text x="{LABEL}" y="{axis}" class="dim">hardware step 0</text>')
    body.append(f'<text x="{LABEL + total * cell:.1f}" y="{axis}" text-anchor="end" class="dim">{total - 1}</text>')
    return _svg(axis + 6, body, "model steps over hardware steps")


__all__ = ["membranes", "timeline"]
