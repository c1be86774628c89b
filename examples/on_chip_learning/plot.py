"""Accuracy over the stream as a small SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP = 560, 300, 50, 20
COLOURS = ("#0b6e4f", "#c1440e", "#5b7db1", "#a0a0a0")


def curves(samples: Sequence[int], lines: Mapping[str, Sequence[float]], title: str) -> str:
    """One line a name, accuracy (0..1) against samples seen."""
    across, down = WIDTH - LEFT - 150, HEIGHT - TOP - 40

    def at(n: float, share: float) -> str:
        return f"{LEFT + across * n / max(samples):.1f},{TOP + down * (1 - share):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">']
    parts.append(f'<text x="{LEFT}" y="13" font-size="12">{title}</text>')
    for k in range(0, 101, 25):
        y = TOP + down * (1 - k / 100)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}h{across}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{k} %</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{TOP + down + 16}">0</text>')
    parts.append(f'<text x="{LEFT + across}" y="{TOP + down + 16}" text-anchor="end">{max(samples):,} samples seen</text>')
    for k, (name, values) in enumerate(lines.items()):
        colour, dash = COLOURS[k // 2 % len(COLOURS)], ' stroke-dasharray="5 3"' if k % 2 else ""
        points = " ".join(at(n, v) for n, v in zip(samples, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        y = TOP + 12 + 16 * k
        parts.append(f'<path d="M{LEFT + across + 10} {y - 4}h22" stroke="{colour}" stroke-width="1.6"{dash}/>')
        parts.append(f'<text x="{LEFT + across + 36}" y="{y}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
