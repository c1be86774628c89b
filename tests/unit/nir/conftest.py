"""Tools' warnings about themselves are not ours; their files find the helpers beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


def pytest_collection_modifyitems(items):
    for item in items:
        if "unit/nir" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore"))
