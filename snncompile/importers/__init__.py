"""Files of other tools that hold integers already: they enter the flow behind the quantiser, as integer programs.

Real-valued networks from files (PyTorch, NIR, ONNX) come in through ``snncompile.capture``; what is here was quantised by the tool
that wrote it, and must be run with exactly its integers.
"""
