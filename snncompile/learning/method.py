"""From a training method to the three factors that the chip multiplies: what is exact, what is approximated, what is impossible."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.errors import fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A rule for a readout  y[t] = W x[t] + b:   dW_ij[t] = -(eta / T) * modulator_i[t] * pre_j[t], applied at every step.

    trace     the presynaptic factor is a leaky trace of the spikes, else the spikes themselves
    equation  the float rule in words and symbols        source  where it is from
    exact, approximated   statements that hold for every layer
    """

    name: str
    trace: bool
    equation: str
    source: str
    exact: tuple[str, ...]
    approximated: tuple[str, ...]


_TRACED = "dW_ij[t] = -(eta / T) g_i[t] a_j[t],   a_j[t] = lambda a_j[t-1] + x_j[t],   g = dL[t]/dy"
_PLAIN = "dW_ij[t] = -(eta / T) g_i[t] x_j[t],   g = dL[t]/dy"
_ALWAYS_EXACT = (
    "the postsynaptic factor of a readout is 1, its modulator is local: nothing is transported backwards",
    "the third factor meets the presynaptic factor of its own model step (the schedule leaves room for the way through the error)",
    "the products of the learning engine lose no bit: third factors are even, the scale is 4 * 2**e",
)
_BARE_SPIKE = "the presynaptic factor is the spike itself (condition x0 of the epoch)"
_ALWAYS_APPROXIMATED = (
    "weights are integers of 9 bits, rounded stochastically with one random number a step for the whole matrix (unbiased)",
    "the third factor is an integer, rounded stochastically with a random number a neuron and step (unbiased)",
    "the loss is the plain one: no mixture of cross-entropy and mean-square error",
    "biases do not learn: the chip has plastic synapses only",
    "plain SGD on single samples: no momentum, no batch",
)
_TRACE_APPROXIMATED = (
    "the trace is an integer of 7 bits whose decay is rounded stochastically, one random number a step for all neurons (unbiased)",
    "the trace is not cleared between samples: idle steps let it fade",
)

METHODS = {
    m.name: m
    for m in (
        Method(
            name="ottt", trace=True, equation=_TRACED, source="Xiao et al., NeurIPS 2022 (OTTT_O: the update is applied at every step)",
            exact=_ALWAYS_EXACT, approximated=(*_TRACE_APPROXIMATED, *_ALWAYS_APPROXIMATED),
        ),
        Method(
            name="sltt", trace=False, equation=_PLAIN, source="Meng et al., ICCV 2023",
            exact=(*_ALWAYS_EXACT, _BARE_SPIKE), approximated=_ALWAYS_APPROXIMATED,
        ),
        Method(
            name="osr", trace=False, equation=_PLAIN, source="Jiang et al., ICLR 2024",
            exact=(*_ALWAYS_EXACT, _BARE_SPIKE),
            approximated=("the norm is frozen and folded into the weights: its statistics do not follow the data", *_ALWAYS_APPROXIMATED),
        ),
        Method(
            name="ndot", trace=True, equation=_TRACED,
            source="NDOT (Jiang et al., ICML 2024) with its documented fallback e[t] = lambda, which is OTTT",
            exact=_ALWAYS_EXACT,
            approximated=(
                "the trace's decay e[t] = v[t]/v[t-1] per neuron and step is replaced by lambda: a trace on the chip has one decay",
                *_TRACE_APPROXIMATED, *_ALWAYS_APPROXIMATED,
            ),
        ),
    )
}  # fmt: skip

_REFUSED = {
    "em-pf": (
        "EM-PF updates latent float weights, of which the chip holds only the signs: an update smaller than a sign is lost",
        "learn on the host and export again, or train the readout with --rule sltt",
    ),
    "ltl": (
        "LTL's readout learns from the mean of its logits so far, which the error population does not form",
        "use --rule sltt, which has the same presynaptic factor and the step's own error",
    ),
    "bptt": (
        "training through time needs errors that travel backwards in time; the learning engine has only what a synapse saw until now",
        "use --rule ottt, its online form",
    ),
}


def find_method(name: str) -> Method:
    """The method called ``name``; SNN807 for one that cannot run on the chip or is not known, with the reason."""
    plain = name.lower().replace("_", "-")
    key = "em-pf" if plain.startswith(("empf", "em-pf")) else plain.removesuffix("-o").removesuffix("-a").removesuffix("-k")
    if key in METHODS:
        return METHODS[key]
    if key in _REFUSED:
        why, way = _REFUSED[key]
        raise fail("SNN807", f"the rule '{name}' cannot run on the chip: {why}", help=way)
    raise fail("SNN807", f"no learning rule is called '{name}'", help=f"choose from {', '.join(METHODS)}")


__all__ = ["METHODS", "Method", "find_method"]
