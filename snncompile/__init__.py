"""snncompile takes spiking networks from PyTorch to neuromorphic chips and proves that nothing was lost on the way."""

__version__ = "0.1.0"
