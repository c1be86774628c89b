"""docs/learning.md: its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

MANUAL = Path(__file__).parents[3] / "docs" / "learning.md"


def test_the_manuals_code_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(MANUAL), "exec"), {"__name__": "manual"})
    printed = capsys.readouterr().out
    assert "dw = -2*2^-3*x0*y1 + 2*2^-3*y0*x1" in printed
    assert "[[-2  0 -2]" in printed
