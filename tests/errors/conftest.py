"""The same user's folder as the command line's tests, NIR graphs and learners as theirs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit" / "cli"))
sys.path.append(str(Path(__file__).parents[1] / "unit" / "nir"))
sys.path.append(str(Path(__file__).parents[1] / "unit" / "learning"))
