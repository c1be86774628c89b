"""The planted network is found from every test of this folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
