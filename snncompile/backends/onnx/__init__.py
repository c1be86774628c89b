"""ONNX: an integer program as a step model with explicit state, and its run on ONNX Runtime."""
