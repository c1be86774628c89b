"""Dialects: what the tools that write and read NIR mean by the same node.

NIR gives differential equations and leaves the discrete network to each tool. A dialect is the set of a tool's conventions, read
from its code. The plain name of a tool stands for the networks that it *writes*, with its constructors' defaults where its writer
drops a setting; ``TOOL-reader`` stands for what the tool makes of a file, where that is not the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snncompile.capture.nir.conventions import UNLIMITED, Conventions


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The conventions of one tool.

    by_type  conventions that differ for some node types
    because  for each convention, where in the tool's code it was read
    drops    settings that the tool's writer leaves out of the file
    nodes    the node types that the tool knows, others being skipped or refused by it; empty if that does not matter
    loops    why the tool cannot be followed through a loop, if it cannot
    refused  ``field`` or ``type.field``: the only value that the tool writes or accepts; another means a file of another dialect
    """

    name: str
    tool: str
    conventions: Conventions
    by_type: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    because: Mapping[str, str] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    loops: str = ""
    refused: Mapping[str, float] = field(default_factory=dict)

    def value(self, key: str, kind: str) -> Any:
        """A convention for nodes of a type."""
        return self.by_type.get(kind, {}).get(key, getattr(self.conventions, key))


def _for(kinds: str, **conventions: Any) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(kinds.split(), conventions)


PLAIN_IF = _for("I IF", input="plain")
SNNTORCH = {
    "dt": "export_nir.py: dt = 1e-4", "decay": "export_nir.py: tau = dt / (1 - beta)", "input": "export_nir.py: r = tau / dt",
    "syn_input": "export_nir.py: w_in = tau_syn / dt", "current": "synaptic.py: mem takes the new syn",
    "compare": "surrogate.py: mem > threshold",
}  # fmt: skip
SINABS = {
    "dt": "lif.py: alpha = exp(-1 / tau), so tau counts steps", "decay": "lif.py: alpha = exp(-1 / tau_mem)",
    "reset": "reset_mechanism.py: MembraneSubtract by default", "compare": "spike_generation.py: trunc(v / threshold)",
    "max_spikes": "spike_generation.py: MultiSpike by default", "r": "nir.py: r = 1",
}  # fmt: skip
NORSE = {
    "dt": "export_nir.py: dt = 0.001", "decay": "lif_box.py: v + dt * tau_inv * (v_leak - v + i)",
    "input": "lif_box.py: dt * tau_inv * i; iaf.py: v + i", "current": "lif.py: i_jump enters v before it decays",
    "compare": "heaviside.py: x > 0", "v_init": "lif_box.py: the state starts at v_leak", "reset": "reset.py: reset_value",
}  # fmt: skip
NIRTORCH = "nirtorch: the edge's value of the step before, zero at first"

DIALECTS: Mapping[str, Dialect] = {d.name: d for d in (
    Dialect(
        name="nir", tool="the NIR specification (forward Euler)", conventions=Conventions(),
        because={
            "dt": "the specification has no step; most tools use 1e-4 s", "decay": "the specification has no discretisation",
            "compare": "nir/ir/neuron.py: v > v_threshold", "reset": "nir/ir/neuron.py: v = v_reset",
            "delay_unit": "nir/ir/delay.py: y(t) = x(t - delay)", "current": "the specification has no order; every tool has this one",
        },
    ),
    Dialect(
        name="sinabs", tool="sinabs 3.1",
        conventions=Conventions(dt=1.0, decay="exponential", reset="subtract", compare="ge", max_spikes=UNLIMITED),
        by_type=PLAIN_IF | _for("LI", input="plain"),
        because=SINABS | {
            "input": "lif.py: norm_input=True by default; exp_leak.py: norm_input=False by default",
            "min_v": "lif.py, iaf.py: min_v_mem=None by default",
        },
        drops=("min_v_mem", "spike_fn", "reset_fn", "norm_input", "tau_syn"), refused={"v_leak": 0.0, "r": 1.0},
    ),
    Dialect(
        name="sinabs-reader", tool="sinabs 3.1 (from_nir)",
        conventions=Conventions(
            dt=1.0, decay="exponential", input="plain", r="ignored", reset="subtract", compare="ge", max_spikes=UNLIMITED
        ),
        by_type=_for("IF", min_v="-threshold"),
        because=SINABS | {
            "input": "nir.py: norm_input=False", "r": "nir.py: r is not read",
            "min_v": "nir.py: min_v_mem=-v_threshold for IF, None for LIF",
        },
        refused={"v_leak": 0.0, "LI.r": 1.0},
        nodes=("Affine", "Conv1d", "Conv2d", "SumPool2d", "Flatten", "LI", "IF", "LIF"),
    ),
    Dialect(
        name="norse", tool="Norse 1.1",
        conventions=Conventions(dt=1e-3, tau_unit=1e3, syn_input="plain", v_init="v_leak", feedback="spike"),
        by_type=_for("I IF", input="plain", v_init="zero"),
        because=NORSE | {
            "tau_unit": "export_nir.py: tau = dt / tau_inv, the time constant in seconds times dt",
            "feedback": "lif.py: z of the step before",
            "syn_input": "lif.py: i_jump = i + input",
        },
        drops=("v_reset", "reset_method"), refused={"r": 1.0},
    ),
    Dialect(
        name="norse-reader", tool="Norse 1.1 (from_nir)", conventions=Conventions(dt=1e-3, v_init="v_leak", reset="zero"),
        by_type=_for("I IF", input="plain", v_init="zero", r="ignored") | _for("LIF LI", r="ignored"),
        because=NORSE | {
            "tau_unit": "import_nir.py: tau_inv = 1 / tau", "r": "import_nir.py: r of IF and LIF is not read",
            "syn_input": "import_nir.py: LIBoxCell", "reset": "import_nir.py: v_reset is not read", "feedback": NIRTORCH,
        },
        refused={"CubaLIF.v_leak": 0.0}, nodes=("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF"),
    ),
    Dialect(
        name="snntorch", tool="snnTorch 1.0", conventions=Conventions(reset="subtract", reset_delay=True, feedback="spike"),
        because=SNNTORCH | {
            "reset": "leaky.py: reset_mechanism='subtract' by default", "reset_delay": "leaky.py: reset_delay=True by default",
            "feedback": "rleaky.py: recurrent(spk) from the first step on",
        },
        drops=("reset_mechanism", "reset_delay", "graded_spikes_factor", "inhibition", "padding of AvgPool2d", "layers without a NIR node"),
        refused={"v_leak": 0.0},
    ),
    Dialect(
        name="snntorch-reader", tool="snnTorch 1.0 (import_from_nir)", conventions=Conventions(reset="zero"),
        by_type=_for("IF", leak=0.9, input="plain", reset="subtract"),
        because=SNNTORCH | {
            "reset": "import_nir.py: reset_mechanism='zero' for LIF and CubaLIF, 'subtract' for IF",
            "reset_delay": "import_nir.py: reset_delay=False", "leak": "import_nir.py: IF becomes Leaky(beta=0.9)",
        },
        refused={"v_leak": 0.0, "IF.r": 1.0}, nodes=("Affine", "Linear", "Conv2d", "AvgPool2d", "Flatten", "IF", "LIF", "CubaLIF"),
        loops="it sends the input of a recurrent layer through the recurrent weights (import_nir.py: _create_rnn_subgraph)",
    ),
    Dialect(
        name="spikingjelly", tool="SpikingJelly 2.0", conventions=Conventions(compare="ge", v_init="v_reset"),
        because={
            "dt": "nir_exchange: dt = 1e-4", "decay": "functional/neuron.py: v + (x - (v - v_reset)) / tau",
            "input": "to_nir.py: r = 1 for decay_input, else tau / dt; 1 / dt for IF", "syn_input": "to_nir.py: w_in = tau_syn / dt",
            "current": "functional/neuron.py: v takes the new current", "compare": "surrogate.py: heaviside(x >= 0)",
            "v_init": "base_node.py: v starts at v_reset", "feedback": NIRTORCH,
            "reset": "to_nir.py: networks with a soft reset are refused",
        },
        nodes=("Affine", "Linear", "Conv1d", "Conv2d", "AvgPool2d", "Flatten", "IF", "LIF", "CubaLIF"),
    ),
    Dialect(
        name="rockpool", tool="Rockpool 3.1",
        conventions=Conventions(
            dt="from-r", decay="exponential", input="plain", syn_input="decayed", r="ignored", reset="subtract", compare="ge",
            max_spikes=UNLIMITED, feedback="spike",
        ),
        by_type=_for("LI", input="decayed"),
        because={
            "dt": "nir.py: r = tau * exp(-dt / tau) / dt", "decay": "lif_torch.py: exp(-dt / tau)",
            "input": "lif_torch.py: v += isyn; exp_syn_torch.py: isyn = beta * (isyn + input)", "r": "nir.py: r only carries dt",
            "syn_input": "lif_torch.py: isyn = beta * (isyn + input)", "reset": "lif_torch.py: v -= spikes * threshold",
            "compare": "lif_torch.py: floor(v / threshold)", "max_spikes": "lif_torch.py: max_spikes_per_dt = 65536 by default",
            "bias": "nir.py: the bias is not written", "feedback": "lif_torch.py: w_rec reads the spikes of the step before",
        },
        drops=("bias", "noise_std", "max_spikes_per_dt", "w_rec"), refused={"v_leak": 0.0},
    ),
    Dialect(
        name="lava", tool="Lava 0.10 (the NIR project's lava_to_nir)",
        conventions=Conventions(reset="zero", delay_unit="steps"),
        because={
            "dt": "lava_to_nir.py: dt = 1e-4", "decay": "lava_to_nir.py: tau = dt / decay", "input": "lava_to_nir.py: r = tau / dt",
            "syn_input": "lava_to_nir.py: w_in = tau_syn / dt",
            "current": "lif/models.py: v takes the new u", "compare": "lif/models.py: v > vth", "reset": "lif/models.py: v = 0",
            "delay_unit": "lava-dl delays count steps",
        },
        drops=("refDelay", "delays", "graded spikes"), refused={"v_leak": 0.0},
        nodes=("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF", "Delay"),
    ),
)}  # fmt: skip

__all__ = ["DIALECTS", "Dialect"]
