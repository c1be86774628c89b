"""The random graphs of tests/strategies.py and the networks of tests/unit/capture serve here too."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
for folder in (TESTS, TESTS / "unit" / "capture"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
