"""Networks of other tools, from NIR files: read, interpreted under an explicit dialect, and every choice written down."""

from snncompile.capture.nir.build import Imported, import_nir
from snncompile.capture.nir.conventions import KEYS, Conventions
from snncompile.capture.nir.dialects import DIALECTS
from snncompile.capture.nir.dialects import Dialect as NirDialect

__all__ = ["DIALECTS", "KEYS", "Conventions", "Imported", "NirDialect", "import_nir"]
