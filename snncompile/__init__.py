"""snncompile takes spiking networks from PyTorch to neuromorphic chips and proves that nothing was lost on the way.

import snncompile
compiled = snncompile.compile(model, target="loihi2-sim", input_shape=(1, 28, 28), steps=6)
imported = snncompile.import_nir("net.nir", steps=6, dialect="sinabs")
compiled = snncompile.compile_graph(imported.graph, decisions=imported.decisions)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from snncompile.version import VERSION

if TYPE_CHECKING:
    from snncompile.capture.nir import import_nir
    from snncompile.checking import check
    from snncompile.pipeline import Compiled, compile, compile_graph  # noqa: A004 - the verb users look for

__version__ = VERSION
__all__ = ["Compiled", "check", "compile", "compile_graph", "import_nir"]
HOMES = {"check": "snncompile.checking", "import_nir": "snncompile.capture.nir"}


def __getattr__(name: str) -> Any:
    """Load the compiler (and with it torch) only when it is asked for."""
    if name in __all__:
        return getattr(import_module(HOMES.get(name, "snncompile.pipeline")), name)
    raise AttributeError(f"module 'snncompile' has no attribute '{name}'")
