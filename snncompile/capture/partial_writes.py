"""Updates of a part of a tensor in place, ``buffer[t] = s``, that something reads afterwards: a recorded run cannot follow them."""

from __future__ import annotations

import torch

from snncompile.capture.trace import Raw, Ref, Trace, walk
from snncompile.errors import fail

VIEWS = (
    "select.",
    "slice.",
    "narrow.",
    "view.",
    "reshape.",
    "transpose.",
    "permute.",
    "unsqueeze.",
    "squeeze.",
    "t.",
    "expand.",
    "diagonal.",
)


def refuse_partial_writes(trace: Trace) -> None:
    """Raise SNN115, with the line of the update, where a tensor is read after one of its views was written to."""
    root: dict[str, str] = {}
    written: dict[str, Raw] = {}
    for raw in trace.nodes.values():
        for leaf in walk((raw.args, tuple(raw.kwargs.values()))):
            update = written.get(_key(leaf, root))
            if update is not None:
                raise fail(
                    "SNN115", f"the network updates a part of a tensor in place ('{update.op}') and reads the tensor afterwards",
                    loc=update.loc or raw.loc,
                    help="collect steps in a list and use torch.stack; shift a buffer with torch.cat instead of writing into it",
                )  # fmt: skip
        name = raw.op.partition(".")[0]
        target = raw.args[0] if raw.args else None
        if raw.op.startswith(VIEWS):
            root[raw.name] = _key(target, root)
        elif name.endswith("_") and not name.startswith("_") and isinstance(target, Ref) and target.name in root:
            written[root[target.name]] = raw


def _key(leaf: object, root: dict[str, str]) -> str:
    """What names the memory of a value."""
    if isinstance(leaf, Ref):
        return root.get(leaf.name, leaf.name)
    return f"constant {id(leaf)}" if isinstance(leaf, torch.Tensor) else ""
