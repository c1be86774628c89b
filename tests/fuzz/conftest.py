"""The command line of tests/unit/cli, and one network in all forms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit" / "cli"))


@pytest.fixture(scope="session")
def forms(tmp_path_factory):
    """A folder with one network as a PyTorch file, NIR, ONNX, .net and bundle."""
    from one_network import write_all

    folder = tmp_path_factory.mktemp("forms")
    write_all(folder)
    return folder
