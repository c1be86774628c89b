"""Numbers in words that people read."""

from __future__ import annotations


def count(n: float) -> str:
    """``12,544``."""
    return f"{n:,.0f}"


def percent(share: float) -> str:
    """``99.22 %``."""
    return f"{100 * share:.2f} %"


def rate(share: float) -> str:
    """``0``, or ``1 in 12,345``."""
    return "none" if share == 0 else f"1 in {1 / share:,.0f}"


def size(n: float) -> str:
    """Bytes: ``78.5 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


def bits(n: float) -> str:
    """``83.2 million bits``."""
    for factor, word in ((1e9, "billion"), (1e6, "million")):
        if n >= factor:
            return f"{n / factor:.1f} {word} bits"
    return f"{count(n)} bits"


__all__ = ["bits", "count", "percent", "rate", "size"]
