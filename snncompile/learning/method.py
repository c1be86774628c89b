"""From a training method to the three factors that the chip multiplies: what is exact, what is approximated, what is impossible."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.errors import fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A rule:   dW_ij[t] = -eta' * modulator_i[t] * pre_j[t], applied at every step.

    trace     the presynaptic factor is a leaky trace of the spikes, else the spikes themselves
    psi       the surrogate of hidden layers, kind:size           local  hidden layers learn from an error of their own, without feedback
    equation, hidden  the float rule of a readout and of a hidden layer in symbols          source  where it is from
    exact, approximated   statements that hold for every layer
    """

    name: str
    trace: bool
    psi: str
    equation: str
    hidden: str
    source: str
    local: bool = False
    exact: tuple[str, ...] = ()
    approximated: tuple[str, ...] = ()

    def equation_of(self, *, hidden: bool) -> str:
        """The rule of a program with or without hidden layers that learn."""
        return f"{self.equation};   hidden layers: {self.hidden}" if hidden else self.equation

    def exact_of(self, feedback: bool) -> tuple[str, ...]:
        """What is as in the float rule; ``feedback``: hidden layers hear the readout's error."""
        return (*self.exact, *_ALWAYS_EXACT, *(_FEEDBACK_EXACT if feedback else (_NO_TRANSPORT,)))

    def approximated_of(self, feedback: bool) -> tuple[str, ...]:
        """What is not."""
        return (*self.approximated, *(_TRACE_APPROXIMATED if self.trace else ()), *(_FEEDBACK if feedback else ()), *_ALWAYS_APPROXIMATED)


_TRACED = "dW_ij[t] = -(eta / T) g_i[t] a_j[t],   a_j[t] = lambda a_j[t-1] + x_j[t],   g = dL[t]/dy"
_PLAIN = "dW_ij[t] = -(eta / T) g_i[t] x_j[t],   g = dL[t]/dy"
_TRACED_HIDDEN = "dW_ij[t] = -(eta / T) M_i[t] psi_i[t] a_j[t],   M_i = sum_k B_ik g_k"
_PLAIN_HIDDEN = "dW_ij[t] = -(eta / T) M_i[t] psi_i[t] x_j[t],   M_i = sum_k B_ik g_k"
_ALWAYS_EXACT = (
    "the third factor meets the presynaptic factor of its own model step (the schedule leaves room for the way through the error)",
    "the products of the learning engine lose no bit: third factors are even, and a scale of 4 * 2**e where there is a trace",
    "the trained weights stay as they were quantised: what is learned has a synapse of its own, of the same size, beside theirs",
)
_NO_TRANSPORT = "all modulators are local: nothing is transported backwards"
_FEEDBACK_EXACT = ("a hidden layer's modulator is the product of its own psi and the readout's error of the same model step",)
_BARE_SPIKE = "the presynaptic factor is the spike itself (condition x0 of the epoch)"
_ALWAYS_APPROXIMATED = (
    "changes of weights are integers of 9 bits, rounded stochastically with one random number a step for the whole matrix (unbiased)",
    "the third factor is an integer; what its rounding leaves is added at the next step",
    "the loss is the plain one: no mixture of cross-entropy and mean-square error",
    "biases do not learn: the chip has plastic synapses only",
    "plain SGD on single samples: no momentum, no batch",
)
_TRACE_APPROXIMATED = (
    "the trace is an integer of 7 bits whose decay is rounded stochastically, one random number a step for all neurons (unbiased)",
    "the trace is not cleared between samples: idle steps let it fade",
)
_FEEDBACK = (
    "the readout's error reaches hidden layers directly through fixed weights B, not back through the layers between (feedback alignment)",
    "psi is a table of 256 values of 8 bits",
)

METHODS = {
    m.name: m
    for m in (
        Method(
            name="ottt", trace=True, psi="sigmoid:4", equation=_TRACED, hidden=_TRACED_HIDDEN,
            source="Xiao et al., NeurIPS 2022 (OTTT_O: the update is applied at every step)",
        ),
        Method(
            name="sltt", trace=False, psi="triangle:1", equation=_PLAIN, hidden=_PLAIN_HIDDEN, source="Meng et al., ICCV 2023",
            exact=(_BARE_SPIKE,),
        ),
        Method(
            name="osr", trace=False, psi="sigmoid:4", equation=_PLAIN, hidden=_PLAIN_HIDDEN, source="Zhu et al., ICLR 2024",
            exact=(_BARE_SPIKE,),
            approximated=("the norm is frozen and folded into the weights: its statistics do not follow the data",),
        ),
        Method(
            name="ndot", trace=True, psi="sigmoid:4", equation=_TRACED, hidden=_TRACED_HIDDEN,
            source="NDOT (Jiang et al., ICML 2024) with its documented fallback e[t] = lambda, which is OTTT",
            approximated=(
                "the trace's decay e[t] = v[t]/v[t-1] per neuron and step is replaced by lambda: a trace on the chip has one decay",
            ),
        ),
        Method(
            name="ltl", trace=False, psi="boxcar:0.2", local=True,
            equation="dW_ij[t] = -eta g_i[t] / (t+1) x_j[t],   g = softmax(mean of y[0..t]) - onehot,   t >= warm",
            hidden="dW_ij[t] = -eta C (2/N) (r_i[t] - A_i) / (t+1) psi_i[t] x_j[t],   r_i = mean of s_i[0..t],   A the teacher's activity",
            source="Yang et al., NeurIPS 2022 (online rule, the update applied at every step from warm on)", exact=(_BARE_SPIKE,),
            approximated=(
                "a teacher's activity is a graded input of 8 bits, 0..255 for 0..1",
                "psi is a table of 256 values of 8 bits",
            ),
        ),
    )
}  # fmt: skip

_REFUSED = {
    "em-pf": (
        "EM-PF updates latent float weights, of which the chip holds only the signs: an update smaller than a sign is lost",
        "learn on the host and export again, or train the readout with --rule sltt",
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
