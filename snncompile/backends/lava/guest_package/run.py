"""Run the spiking program in this folder on Lava's CPU simulator: ``python run.py --inputs DIR --out DIR``.

Reads ``DIR/<input>.npy`` [samples, T or 1, *shape] and writes ``<population>.payload.npy`` and ``<population>.membrane.npy``
[samples, T, *shape]. Needs Python 3.10, numpy and lava-nc 0.10.0. Exit status: 0 done, 2 wrong plan or input, 3 failed.
"""

import os
import sys
from pathlib import Path

from snn_processes.runner import main  # type: ignore[import-not-found,unused-ignore]

if __name__ == "__main__":
    code = main(Path(__file__).resolve().parent)
    sys.stderr.flush()
    os._exit(code)  # a Lava runtime that failed would hang at interpreter exit
