"""From PyTorch to a float graph: capture by execution, and the files of trained models."""
