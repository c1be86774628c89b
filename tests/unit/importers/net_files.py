"""Networks as plain layer descriptions, and ``.net`` files of them in the layout that lava-dl's ``export_hdf5`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Description = dict[str, Any]


def cuba(threshold: int = 40, i_decay: Any = 1024, v_decay: Any = 128) -> Description:
    return {"type": b"CUBA", "iDecay": i_decay, "vDecay": v_decay, "vThMant": threshold, "refDelay": 1, "gradedSpike": False}


def dense(weight: np.ndarray, neuron: Description | None, **more: Any) -> Description:
    found = {"type": "dense", "shape": [len(weight)], "inFeatures": weight.shape[1], "outFeatures": len(weight), "weight": weight}
    return found | ({} if neuron is None else {"neuron": neuron}) | more


def recurrent(weight: np.ndarray, weight_rec: np.ndarray, neuron: Description) -> Description:
    return dense(weight, neuron) | {"type": "dense_rec", "weight_rec": weight_rec}


def conv(
    weight: np.ndarray, shape: Sequence[int], neuron: Description, stride=1, padding=0, dilation=1, groups=1, **more: Any
) -> Description:
    return {
        "type": "conv", "shape": list(shape), "inChannels": weight.shape[1] * groups, "outChannels": len(weight),
        "kernelSize": weight.shape[2:4], "stride": [stride, stride], "padding": [padding, padding], "dilation": [dilation, dilation],
        "groups": groups, "weight": weight, "neuron": neuron, **more,
    }  # fmt: skip


def pool(weight: np.ndarray, shape: Sequence[int], neuron: Description) -> Description:
    size = weight.shape[2:4]
    return {
        "type": "pool", "shape": list(shape), "kernelSize": size, "stride": size, "padding": [0, 0], "dilation": [1, 1],
        "weight": weight, "neuron": neuron,
    }  # fmt: skip


def plain(kind: str, *shape: int) -> Description:
    return {"type": kind, "shape": list(shape)}


def write_net(path: Path, layers: Sequence[Description], steps: int | None = None) -> Path:
    """``type`` as one fixed-length string, weights and biases as floats, counts as integers: what lava-dl writes."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layer")
        for k, layer in enumerate(layers):
            handle = group.create_group(str(k))
            for key, value in layer.items():
                if key == "neuron":
                    for name, parameter in value.items():
                        handle.create_dataset(f"neuron/{name}", data=parameter)
                elif key == "type":
                    handle.create_dataset("type", (1,), "S10", [value.encode()])
                elif key in ("weight", "weight_rec", "bias", "delay"):
                    handle.create_dataset(key, data=np.asarray(value, dtype=np.float32))
                else:
                    handle.create_dataset(key, data=np.asarray(value))
        if steps is not None:
            file.create_dataset("simulation/Ts", data=1)
            file.create_dataset("simulation/tSample", data=steps)
    return path


def even(generator: np.random.Generator, *shape: int, scale: int = 60) -> np.ndarray:
    """Weights as lava-dl quantises them: even."""
    return 2 * generator.integers(-scale // 2, scale // 2 + 1, shape)


def spikes(generator: np.random.Generator, *shape: int, rate: float = 0.3) -> np.ndarray:
    return (generator.random(shape) < rate).astype(np.int64)
