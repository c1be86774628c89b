"""Every training method, from checkpoint to chip: measures examples/*/model.pt and writes docs/results.md.

    uv run python benchmarks/methods.py --data FOLDER [--only NAME ...] [--samples N] [--lava-samples N]

FOLDER holds the folders mnist, fashion-mnist (four idx .gz files each) and fsdd (fsdd_8khz_int16.npz). Nothing is trained. What was
measured lies in benchmarks/results/NAME.json and is measured again only where the checkpoint or the compiled program changed; without
--data the table alone is written from those files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from method_rows import ROWS, Row
from method_table import document

RESULTS = Path(__file__).parent / "results"
TABLE = Path(__file__).parents[1] / "docs" / "results.md"


def known(row: Row) -> dict[str, Any]:
    path = RESULTS / f"{row.name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def save(row: Row, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{row.name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(document([(r, known(r)) for r in ROWS]))


def say(name: str, message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}: {message}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the data sets' folders")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="rows to measure (default: all)")
    parser.add_argument("--samples", type=int, help="test samples (default: the whole test set)")
    parser.add_argument("--lava-samples", type=int, default=32, help="of these, how many run on Lava (default: 32)")
    args = parser.parse_args()
    if args.data is not None:
        from method_measure import Work, measure  # noqa: PLC0415 - torch, which the table does without

        for row in ROWS:
            if row.model.is_file() and (args.only is None or row.name in args.only):
                work = Work.of(row, args.data, args.samples, args.lava_samples)
                measure(work, known(row), partial(save, row), partial(say, row.name))
    TABLE.write_text(document([(row, known(row)) for row in ROWS]))


if __name__ == "__main__":
    main()
