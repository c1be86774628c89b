"""A spiking program as Lava processes, in integer arithmetic. Needs only numpy and lava-nc 0.10.0."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # one thread per population; must be set before numpy is imported
