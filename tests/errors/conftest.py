"""The same user's folder as the command line's tests, and NIR graphs as theirs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit" / "cli"))
sys.path.append(str(Path(__file__).parents[1] / "unit" / "nir"))
