"""The graph: ops, types, validation, text form, float interpreter and the integer reference."""
