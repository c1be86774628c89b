"""The version of the compiler, as the package and its bundles state it."""

VERSION = "0.1.0"
