"""Backends: each turns a mapped program into files, or runs it."""
