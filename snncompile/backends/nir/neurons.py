"""A neuron as the NIR node that comes closest, by NIR's equations and forward Euler with a step of ``DT``."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from snncompile.ir.graph import Array, Shape
from snncompile.ir.neuron import Neuron, Reset, at_step

DT = 1e-4


def neuron_node(n: Neuron, shape: Shape) -> Any:
    """The node. What NIR has no field for (comparison, soft resets, several spikes, floors, values per step) is not in its fields.

    LIF      tau = dt / (1 - leak)   r = gain * tau / dt   v_leak = bias / (1 - leak)
    IF, I    r = gain / dt           where the leak is 1
    CubaLIF  tau_syn = dt / (1 - alpha), w_in = tau_syn / dt
    """

    def full(array: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(at_step(array, 0), shape), dtype=np.float64)

    leak, gain, bias = full(n.leak), full(n.gain), full(n.bias)
    if n.reset is Reset.STATELESS:
        leak = np.zeros(shape)
        if n.spiking and n.alpha is None and np.all(gain > 0):
            return nir.Threshold(threshold=(full(n.theta) - bias) / gain)
    fires = {"v_threshold": full(n.theta), "v_reset": full(n.reset_value)} if n.spiking else {}
    if n.alpha is None and np.all(leak == 1):
        return nir.IF(r=gain / DT, **fires) if n.spiking else nir.I(r=gain / DT)
    kept = np.clip(leak, 0.0, 1.0 - 1e-9)
    tau = DT / (1.0 - kept)
    charge = {"r": gain * tau / DT, "v_leak": bias / (1.0 - kept)}
    if n.alpha is None:
        return nir.LIF(tau=tau, **charge, **fires) if n.spiking else nir.LI(tau=tau, **charge)
    tau_syn = DT / (1.0 - np.clip(full(n.alpha), 0.0, 1.0 - 1e-9))
    synapse = {"tau_syn": tau_syn, "tau_mem": tau, "w_in": tau_syn / DT}
    return nir.CubaLIF(**synapse, **charge, **fires) if n.spiking else nir.CubaLI(**synapse, **charge)


__all__ = ["DT", "neuron_node"]
