"""The bundle: one directory (or zip) with the integer program, its evidence and a runner; reproducible byte for byte."""

from snncompile.backends.bundle.draft import Draft, check_destination, open_draft, write_bundle
from snncompile.backends.bundle.manifest import SCHEMA, CompiledLike
from snncompile.backends.bundle.read import Bundle, is_bundle, read_bundle
from snncompile.backends.bundle.workshop import discard

__all__ = [
    "SCHEMA", "Bundle", "CompiledLike", "Draft", "check_destination", "discard", "is_bundle", "open_draft", "read_bundle", "write_bundle",
]  # fmt: skip
