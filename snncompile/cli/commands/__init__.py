"""One click command a file: names, options and help, nothing heavy."""
