"""snncompile takes spiking networks from PyTorch to neuromorphic chips and proves that nothing was lost on the way.

import snncompile
compiled = snncompile.compile(model, target="loihi2-sim", input_shape=(1, 28, 28), steps=6)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snncompile.version import VERSION

if TYPE_CHECKING:
    from snncompile.pipeline import Compiled, compile  # noqa: A004 - the verb users look for

__version__ = VERSION
__all__ = ["Compiled", "compile"]


def __getattr__(name: str) -> Any:
    """Load the compiler (and with it torch) only when it is asked for."""
    if name in __all__:
        from snncompile import pipeline  # noqa: PLC0415

        return getattr(pipeline, name)
    raise AttributeError(f"module 'snncompile' has no attribute '{name}'")
