"""Loops: which edges carry the value of the step before."""

from __future__ import annotations

from collections import deque

from snncompile.capture.nir.flat import Flat
from snncompile.capture.nir.nodes import Edge
from snncompile.errors import fail


def order(flat: Flat, cut: set[str]) -> tuple[list[str], list[Edge]]:
    """An order of execution, and the edges that then point backwards; these carry the value of the step before.

    ``cut`` are delays of at least one step: a loop through one of them has its step already.
    NIR says nothing of the order in a loop. This is nirtorch's: inputs first; then the nodes in the order of the file, each put off
    until everything outside its own loops has been computed, and what is missing then comes from the step before.
    Raises CompileError SNN162 where nodes only feed each other.
    """
    flat = Flat(flat.nodes, tuple(e for e in flat.edges if e[0] not in cut))
    reach = _reachable(flat)
    done: dict[str, None] = {name: None for name, node in flat.nodes.items() if node.type == "Input"}
    back: list[Edge] = []
    queue = deque(name for name in flat.nodes if name not in done)
    patience = len(queue)
    while queue:
        name = queue.popleft()
        sources = flat.sources(name)
        missing = list(dict.fromkeys(s for s in sources if s not in done))
        in_loop = all(s in reach[name] for s in missing)
        if missing and not (in_loop and len(missing) < len(set(sources))):
            queue.append(name)
            patience -= 1
            if patience == 0:
                raise fail(
                    "SNN162", f"the nodes {', '.join(repr(n) for n in sorted(queue)[:6])} only feed each other",
                    help="connect the loop to an input",
                )  # fmt: skip
            continue
        done[name] = None
        back += [(s, name) for s in missing]
        patience = len(queue)
    return list(done), back


def _reachable(flat: Flat) -> dict[str, set[str]]:
    """For each node, what its value travels to (itself, if it stands in a loop)."""
    readers = {name: flat.readers(name) for name in flat.nodes}
    found: dict[str, set[str]] = {}
    for start in flat.nodes:
        seen: set[str] = set()
        stack = list(readers[start])
        while stack:
            name = stack.pop()
            if name not in seen:
                seen.add(name)
                stack += readers[name]
        found[start] = seen
    return found


__all__ = ["order"]
