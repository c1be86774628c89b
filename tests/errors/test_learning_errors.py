# ruff: noqa: E501 - messages as they are printed
"""One wrong input per code of on-chip learning, with the exact message."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_learner import deep_learner, learner, tiny

import snncompile
from snncompile.errors import CompileError
from snncompile.ir.linear_ops import Linear
from snncompile.learning.attach import LearnOptions, make_plastic
from snncompile.learning.program import no_labels, no_teacher, nothing_learns
from snncompile.learning.rule import Factor, Product, Rule
from snncompile.learning.scaling import scale_traced
from snncompile.learning.state import no_middle, nothing_left
from snncompile.learning.widths import Widths
from snncompile.target import load_target
from snncompile.verify.learning import BitRecord

TARGET = load_target("loihi2-sim")


def checked(*products: Product) -> None:
    Rule(dw=products).check(TARGET)


def raised(error: CompileError) -> None:
    raise error


def uneven_gain() -> None:
    c = tiny()
    layer = c.float_graph.by_name["out"]
    assert isinstance(layer, Linear)
    uneven = replace(layer, weight=layer.weight * np.linspace(1, 2, 16))
    make_plastic(
        c.result, c.float_graph.map_nodes(lambda n: uneven if n.name == "out" else n), c.source_graph, TARGET, LearnOptions(layer="out")
    )


def overflow() -> None:
    narrow = replace(TARGET, membrane=type(TARGET.membrane)(True, 12))
    c = tiny()
    make_plastic(c.result, c.float_graph, c.source_graph, narrow, LearnOptions(layer="out"))


def diverged() -> None:
    record = BitRecord(
        samples=3, steps=99, differing_bits=2, compared_bits=4800, seconds=1.0,
        first="first difference in hardware step 41, during sample 1; after it synapse 4 -> 0 holds 12 on Lava, 14 in the engine",
    )  # fmt: skip
    assert record.failure is not None
    raise CompileError(record.failure)


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "SNN606": (diverged, """
error[SNN606]: Lava learned other weights than the integer engine: 2 bits differ
  note: first difference in hardware step 41, during sample 1; after it synapse 4 -> 0 holds 12 on Lava, 14 in the engine
"""),
    "SNN801": (lambda: Widths.of(load_target("reference")), """
error[SNN801]: target 'reference' has no learning engine: targets/reference.toml lacks learning.weight
  help: choose a target that learns: --target loihi2-sim
"""),
    "SNN802": (lambda: checked(Product("u", 1, 0, (Factor("z1"),))), """
error[SNN802]: '1*2^0*u0*z1' needs the factor 'z1', which the learning engine lacks
  note: it has x1, x2, y1, y2, y3, w, d, t, x0, y0
  note: limit is targets/loihi2-sim.toml: learning.trace = 7 bit (measured: lava-nc 0.10.0, core/learning/constants.py: W_TRACE; Davies et al., IEEE Micro 2018)
  help: deliver the quantity as a third factor (y1, y2 or y3) from a population of its own
"""),
    "SNN803": (lambda: checked(Product("u", 9, 0, (Factor("x1"),))), """
error[SNN803]: '9*2^0*u0*x1' is scaled by 9 * 2**0; a scale is 1..7 times 2**-7 to 2**8
  note: limit is targets/loihi2-sim.toml: learning.mantissa = 4 bit (measured: lava-nc 0.10.0, core/learning/constants.py: W_S_MANT; product_series.py halves -8)
  note: limit is targets/loihi2-sim.toml: learning.exponent_low = -7 power of two (measured: lava-nc 0.10.0, core/learning/product_series.py:731)
  help: change the impulse of the trace or the gain of the third factor instead
"""),
    "SNN804": (lambda: checked(Product("u", 1, 0, tuple(Factor(v) for v in ("x1", "x2", "y1", "y2", "w")))), """
error[SNN804]: '1*2^0*u0*x1*x2*y1*y2*w' is a product of 41 bits, the engine multiplies in 32
  note: limit is targets/loihi2-sim.toml: learning.accumulator = 15 bit, and a sign (measured: lava-nc 0.10.0, core/learning/constants.py: W_ACCUMULATOR_U)
  help: use fewer factors in a product
"""),
    "SNN805": (lambda: learner(layer="conv9"), """
error[SNN805]: the network has no layer 'conv9'
  help: its layers are: hidden, out
"""),
    "SNN806": (lambda: learner(layer="hidden"), """
error[SNN806]: 'hidden' cannot learn on the chip: 'x' does not send binary spikes
  --> {here}
  note: a presynaptic trace counts spikes
  note: source: lava-nc 0.10.0, proc/dense
  help: choose a dense layer that reads spikes, and from which dense layers lead to the readout
"""),
    "SNN807": (lambda: learner(rule="EMPF"), """
error[SNN807]: the rule 'EMPF' cannot run on the chip: EM-PF updates latent float weights, of which the chip holds only the signs: an update smaller than a sign is lost
  help: learn on the host and export again, or train the readout with --rule sltt
"""),
    "SNN808": (lambda: scale_traced(1e9, 1.0, 0.5, 3, 1, TARGET), """
error[SNN808]: the learning rate asks for steps of 1.59e+09 LSBs of what is learned, the engine makes 6.1e-05 to 2.54e+05
  note: limit is targets/loihi2-sim.toml: learning.exponent_low = -7 power of two (measured: lava-nc 0.10.0, core/learning/product_series.py:731)
  note: limit is targets/loihi2-sim.toml: learning.trace = 7 bit (measured: lava-nc 0.10.0, core/learning/constants.py: W_TRACE; Davies et al., IEEE Micro 2018)
  help: divide the rate by 8,192
"""),
    "SNN809": (overflow, """
error[SNN809]: 'out_readout' can overflow once its weights have learned: 16 synapses of 8 bits and a sign
  --> {here}
  note: limit is targets/loihi2-sim.toml: formats.membrane = s24 membrane LSB (measured: lava-nc 0.10.0, proc/lif/models.py: clip to +-(2**23 - 1))
  note: limit is targets/loihi2-sim.toml: learning.weight = 8 bit, and a sign (measured: lava-nc 0.10.0, core/learning/constants.py: W_WEIGHTS_U)
  help: give what is learned a smaller range, --headroom, or make the layer before it narrower
"""),
    "SNN810": (lambda: learner(loss="hinge"), """
error[SNN810]: learning has no loss 'hinge'
  help: choose from softmax, mse
"""),
    "SNN811": (uneven_gain, """
error[SNN811]: the inputs of 'out' have gains from 1 to 2; one learning rate serves all
  --> {here}
"""),
    "SNN812": (lambda: raised(nothing_learns("net.snn")), """
error[SNN812]: nothing in net.snn learns
  help: export it with --learn LAYER --rule ottt
"""),
    "SNN813": (lambda: raised(no_labels("data.npz")), """
error[SNN813]: data.npz has no labels to learn from
  help: add an array y with one class number per sample
"""),
    "SNN814": (lambda: deep_learner(feedback="transpose"), """
error[SNN814]: 'lif1' is not read by the readout: none of its weights lead back there
  --> {here}
  help: use random feedback for layers further back: --feedback random
"""),
    "SNN815": (lambda: raised(no_teacher("data.npz", "teacher.fc1", [120, 20])), """
error[SNN815]: data.npz has no array 'teacher.fc1' of shape [120, 20], values 0..1, to learn from
  help: add the teacher's activity of every neuron, divided by its 99th percentile and cut to 0..1
"""),
    "SNN816": (lambda: raised(no_middle("learned.snn", 1234)), """
error[SNN816]: Lava cannot go on where learned.snn stopped, after 1,234 samples: it begins with fresh traces and random numbers
  help: choose --backend reference, which computes the same bits, or begin anew from the saved weights with --reload
"""),
    "SNN817": (lambda: raised(nothing_left("learned.snn", "did not stop within stream.npz")), """
error[SNN817]: there is nothing to go on with: learned.snn did not stop within stream.npz
  help: leave out --continue to learn from the file
"""),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_a_wrong_wish_to_learn_gets_exactly_this_message(code):
    act, message = CASES[code]
    with pytest.raises(CompileError) as caught:
        act()
    found = re.sub(r"(?m)^  --> .*$", "  --> {here}", str(caught.value))
    assert found == message.strip("\n")


def test_every_code_of_on_chip_learning_has_its_case():
    root = Path(snncompile.__file__).parent
    sources = [*(root / "learning").rglob("*.py"), root / "verify" / "learning.py"]
    used = {code for p in sources for code in re.findall(r'"(SNN\d{3})"', p.read_text())}
    assert used == CASES.keys()
