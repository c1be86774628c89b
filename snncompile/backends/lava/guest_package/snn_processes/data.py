"""Input and output arrays of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .plan import InputError, Plan, Population


def load_inputs(plan: Plan, folder: Path) -> dict[str, np.ndarray]:
    """Memory-map ``<name>.npy`` [N, T or 1, *shape] for every input and check shape, type and range."""
    arrays: dict[str, np.ndarray] = {}
    for name, shape in plan.inputs.items():
        path = folder / f"{name}.npy"
        try:
            data = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"cannot read input {path.name}: {error}") from error
        if data.dtype.kind not in "iub":
            raise InputError(f"input '{name}' holds {data.dtype}, not integers")
        if data.ndim != 2 + len(shape) or data.shape[0] < 1 or data.shape[1] not in (1, plan.steps) or data.shape[2:] != shape:
            raise InputError(f"input '{name}' has shape {data.shape}, needs [samples, 1 or {plan.steps}, {', '.join(map(str, shape))}]")
        low, high = int(data.min()), int(data.max())
        if low < plan.payload.low or high > plan.payload.high:
            raise InputError(f"input '{name}' holds {low}..{high}, payloads end at {plan.payload.low}..{plan.payload.high}")
        arrays[name] = data
    counts = {name: data.shape[0] for name, data in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"inputs have different numbers of samples: {counts}")
    return arrays


def payload_dtype(population: Population) -> np.dtype:
    """Smallest integer type that holds every payload the population can send."""
    low, high = population.payload.low, population.payload.high
    kinds = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
    return np.dtype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def prepare_records(plan: Plan, samples: int, out: Path) -> None:
    """Create the files that the populations fill in place: payload and post-reset membrane, [N, T, *shape]."""
    for population in plan.populations:
        shape = (samples, plan.steps, *population.shape)
        for kind, dtype in (("payload", payload_dtype(population)), ("membrane", np.dtype(np.int32))):
            np.lib.format.open_memmap(out / f"{population.name}.{kind}.npy", mode="w+", dtype=dtype, shape=shape).flush()
