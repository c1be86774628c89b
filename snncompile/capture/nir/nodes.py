"""What a NIR file says, as plain values: nodes with their fields, edges, metadata; nothing interpreted yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Edge = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class RawNode:
    """One node: its NIR type, its fields (arrays, or text for a padding mode) and its metadata.

    ``path`` says where it stands in the file, through subgraphs: ``encoder/lif1``.
    """

    name: str
    path: str
    type: str
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How messages name it: ``'lif1' (LIF)``."""
        return f"'{self.path}' ({self.type})"


@dataclass(frozen=True, kw_only=True)
class RawGraph:
    """A graph of nodes and subgraphs, in the order of the file."""

    name: str
    path: str
    nodes: Mapping[str, RawNode | RawGraph]
    edges: tuple[Edge, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    type: str = "NIRGraph"
    version: str = ""

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"'{self.path}' (NIRGraph)" if self.path else "the graph"


__all__ = ["Edge", "RawGraph", "RawNode"]
