"""ONNX files as networks: the graph is read, and run with PyTorch's operations, so that the capture sees it like any other model."""

from snncompile.capture.onnx.load import OnnxModel, load_onnx, refuse_code, refuse_states, state_options

__all__ = ["OnnxModel", "load_onnx", "refuse_code", "refuse_states", "state_options"]
