"""NIR files from float graphs: valid for every reader, exact for this one, with a warning for each tool that will misread them."""

from snncompile.backends.nir.readers import Misreading, misreadings
from snncompile.backends.nir.write import to_nir, write_nir

__all__ = ["Misreading", "misreadings", "to_nir", "write_nir"]
