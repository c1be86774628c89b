"""The compartment of a layer: lava-dl's CUBA neuron, which old files call LOIHI. Every other neuron is refused by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snncompile.errors import fail
from snncompile.importers.netx.file import Section
from snncompile.ir.graph import Array, Shape

UNITY = 4096
REFUSED = {
    "SDNN": "a sigma-delta neuron, which sends differences of its activation",
    "RF": "a resonate-and-fire neuron", "RF_IZ": "a resonate-and-fire neuron", "RF_PHASE": "a resonate-and-fire neuron",
    "ALIF": "a neuron with an adaptive threshold and refractory states", "ADRF": "an adaptive resonate-and-fire neuron",
    "ADRF_IZ": "an adaptive resonate-and-fire neuron",
}  # fmt: skip
HARMLESS = frozenset({"type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike", "messageBits", "scaleRho", "tauRho", "theta"})
NEVER = 2**17 - 1
"""The largest threshold mantissa of 17 bits: lava-dl's and netx's way to say that a layer is read by its membrane."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronSpec:
    """u = decay(u, 4096 - i_decay) + (a << 6),  v = decay(v, 4096 - v_decay) + u + (bias << 6),  fires at v > threshold << 6.

    Decays are in units of 1/4096, (1,) or one per channel, shaped to broadcast.
    """

    i_decay: Array
    v_decay: Array
    threshold: int
    ignored: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether the threshold says that it never fires."""
        return self.threshold >= NEVER


def integrator() -> NeuronSpec:
    """A dense layer without a neuron: netx integrates its input for ever and never fires."""
    return NeuronSpec(i_decay=np.zeros(1, dtype=np.int64), v_decay=np.full(1, UNITY), threshold=2**17)


def parse_neuron(section: Section, shape: Shape) -> NeuronSpec:
    """The neuron of a population of this shape (SNN150 to SNN152)."""
    kind = section.text("type")
    if kind not in ("CUBA", "LOIHI"):
        what = REFUSED.get(kind, "no neuron of lava-dl that is known here")
        raise fail("SNN151", f"'{section.path('type')}' is {kind}: {what}", help="networks of CUBA (LIF) neurons are taken")
    odd = {
        "gradedSpike": (0, "graded spikes, which Lava's LIF does not send"),
        "refDelay": (1, "a refractory period, which Lava's fixed-point LIF does not have"),
        "wgtExp": (0, "a weight exponent, which netx ignores"),
        "weight_exp": (0, "a weight exponent of its normalisation, which netx ignores"),
    }
    for key, (normal, what) in odd.items():
        if section.whole(key, normal) != normal:
            raise fail("SNN151", f"'{section.path(key)}' is {section.whole(key)}: {what}", notes=[f"only {normal} has one meaning"])
    threshold = section.whole("vThMant")
    if threshold < 0:
        raise section.wrong("vThMant", f"is {threshold}: a neuron would fire without input")
    ignored = tuple(section.path(k) for k in section.names() if k not in HARMLESS | odd.keys())
    return NeuronSpec(
        i_decay=_decay(section, "iDecay", shape), v_decay=_decay(section, "vDecay", shape), threshold=threshold, ignored=ignored
    )


def _decay(section: Section, key: str, shape: Shape) -> Array:
    values = section.wholes(key).reshape(-1)
    if values.size not in (1, shape[0]):
        raise section.wrong(key, f"has {values.size} numbers, expected 1 or one for each of {shape[0]} channels")
    if np.any(values < 0) or np.any(values > UNITY):
        raise section.wrong(key, f"reaches {values.min()}..{values.max()}, a decay lies in 0..{UNITY}")
    return values if values.size == 1 else values.reshape((-1,) + (1,) * (len(shape) - 1))


__all__ = ["NEVER", "UNITY", "NeuronSpec", "integrator", "parse_neuron"]
