# ruff: noqa: E501 - messages as they are printed
"""One wrong ``.net`` file per kind of mistake: the message names the dataset, and nothing is guessed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import snncompile
from snncompile.errors import CompileError
from snncompile.importers.netx import Wishes, load_net

sys.path.append(str(Path(__file__).parents[1] / "unit" / "importers"))
from net_files import conv, cuba, dense, even, plain, pool, recurrent, write_net

G = np.random.default_rng(0)
CASES: dict[str, tuple[Callable[[Path], object], str]] = {}


def case(label: str, message: str):
    """Register what makes a wrong file (returning what to wish for, if anything) and the exact message."""

    def register(make):
        CASES[label] = (make, message.strip("\n"))
        return make

    return register


def net(*layers, steps: int | None = 4):
    """A case whose file is these layers."""
    return lambda path: write_net(path, layers, steps) and None


def damaged(edit: Callable[[h5py.File], object]):
    """A case whose file is a sound one, edited."""

    def make(path):
        write_net(path, [dense(even(G, 4, 3), cuba())], 4)
        with h5py.File(path, "r+") as file:
            edit(file)

    return make


def replaced(key: str, value):
    def edit(file):
        if key in file:
            del file[key]
        if value is not None:
            file[key] = value

    return damaged(edit)


case("SNN006 steps", """
error[SNN006]: net.net does not say how many time steps to run
  help: add --steps 16
""")(net(dense(even(G, 4, 3), cuba()), steps=None))  # fmt: skip
case("SNN006 shape", """
error[SNN006]: net.net does not say the shape of its input
  help: add --input-shape C,H,W, for example 2,34,34
""")(net(conv(even(G, 2, 1, 3, 3), (2, 4, 4), cuba())))  # fmt: skip
case("SNN150 no HDF5", """
error[SNN150]: net.net is not an HDF5 file
  help: copy or export it again
""")(lambda path: path.write_text("layer: dense") and None)  # fmt: skip
case("SNN150 pointer", """
error[SNN150]: net.net is not an HDF5 file
  help: it is a pointer to a file in Git LFS: git lfs pull
""")(lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n") and None)  # fmt: skip
case("SNN150 no layers", """
error[SNN150]: the file has no group 'layer'
  note: it has simulation there
""")(replaced("layer", None))  # fmt: skip
case("SNN150 a gap", """
error[SNN150]: the layers are called 0, 2, expected 0..1 without a gap
""")(damaged(lambda file: file.copy("layer/0", "layer/2")))  # fmt: skip
case("SNN150 no type", """
error[SNN150]: dataset 'layer/0/type' is missing
""")(replaced("layer/0/type", None))  # fmt: skip
case("SNN150 a number for a type", """
error[SNN150]: dataset 'layer/0/type' holds int64 of shape [], expected a text
""")(replaced("layer/0/type", 3))  # fmt: skip
case("SNN150 no shape", """
error[SNN150]: dataset 'layer/0/shape' is missing
""")(replaced("layer/0/shape", None))  # fmt: skip
case("SNN150 shape of nothing", """
error[SNN150]: dataset 'layer/0/shape' is [0], expected the positive sizes [C, H, W] or [N]
""")(replaced("layer/0/shape", [0]))  # fmt: skip
case("SNN150 no weights", """
error[SNN150]: dataset 'layer/0/weight' is missing
""")(replaced("layer/0/weight", None))  # fmt: skip
case("SNN150 weights of another shape", """
error[SNN150]: dataset 'layer/0/weight' has shape [5, 3], expected [4, inputs] by 'layer/0/shape'
""")(replaced("layer/0/weight", np.ones((5, 3))))  # fmt: skip
case("SNN150 NaN", """
error[SNN150]: dataset 'layer/0/weight' holds NaN or infinity
""")(replaced("layer/0/weight", np.full((4, 3), np.nan)))  # fmt: skip
case("SNN150 a text for weights", """
error[SNN150]: dataset 'layer/0/weight' holds the text 'random', expected numbers
""")(replaced("layer/0/weight", "random"))  # fmt: skip
case("SNN150 features", """
error[SNN150]: dataset 'layer/0/inFeatures' is 7, the weights are of shape [4, 3]
""")(replaced("layer/0/inFeatures", 7))  # fmt: skip
case("SNN150 bias", """
error[SNN150]: dataset 'layer/0/bias' has shape [3], expected 1 or 4 numbers
""")(replaced("layer/0/bias", np.zeros(3)))  # fmt: skip
case("SNN150 delay", """
error[SNN150]: dataset 'layer/0/delay' has shape [5], the weights [4, 3]: expected one per neuron or input
""")(replaced("layer/0/delay", np.ones(5)))  # fmt: skip
case("SNN150 decay", """
error[SNN150]: dataset 'layer/0/neuron/iDecay' reaches 5000..5000, a decay lies in 0..4096
""")(replaced("layer/0/neuron/iDecay", 5000))  # fmt: skip
case("SNN150 decays", """
error[SNN150]: dataset 'layer/0/neuron/vDecay' has 3 numbers, expected 1 or one for each of 4 channels
""")(replaced("layer/0/neuron/vDecay", [1, 2, 3]))  # fmt: skip
case("SNN150 threshold", """
error[SNN150]: dataset 'layer/0/neuron/vThMant' is -1: a neuron would fire without input
""")(replaced("layer/0/neuron/vThMant", -1))  # fmt: skip
case("SNN150 no threshold", """
error[SNN150]: dataset 'layer/0/neuron/vThMant' is missing
""")(replaced("layer/0/neuron/vThMant", None))  # fmt: skip
case("SNN150 link", """
error[SNN150]: 'layer/0/weight' is a link, which is not followed
  help: write a file that holds its own data
""")(replaced("layer/0/weight", h5py.ExternalLink("other.h5", "/w")))  # fmt: skip
case("SNN150 too large", """
error[SNN150]: dataset 'layer/0/bias' claims 1,099,511,627,776 elements, more than the file can hold
""")(damaged(lambda file: file.create_dataset("layer/0/bias", (2**40,), "i1", chunks=(1024,))))  # fmt: skip
case("SNN150 shapes that do not meet", """
error[SNN150]: dataset 'layer/1/weight' reads 5 neurons, 'layer0' has 4 of shape [4]
""")(net(dense(even(G, 4, 3), cuba()), dense(even(G, 2, 5), cuba())))  # fmt: skip
case("SNN150 convolution's shape", """
error[SNN150]: dataset 'layer/1/shape' is [2, 5, 5], the layer makes [2, 4, 4] of [1, 6, 6]
""")(net(plain("input", 1, 6, 6), conv(even(G, 2, 1, 3, 3), (2, 5, 5), cuba())))  # fmt: skip
case("SNN150 no flatten", """
error[SNN150]: 'layer/1' is dense and reads [2, 2, 2] without a flatten layer
  note: the order of its inputs is not defined
""")(net(plain("input", 2, 2, 2), dense(even(G, 3, 8), cuba())))  # fmt: skip
case("SNN150 flatten", """
error[SNN150]: dataset 'layer/1/shape' is [9, 1, 1], what it flattens is [2, 2, 2]
""")(net(plain("input", 2, 2, 2), plain("flatten", 9, 1, 1), dense(even(G, 3, 8), cuba())))  # fmt: skip
case("SNN150 groups", """
error[SNN150]: dataset 'layer/1/groups' is 3, the layer has 4 channels
""")(net(plain("input", 2, 3, 3), conv(even(G, 4, 2, 3, 3), (4, 1, 1), cuba(), groups=3)))  # fmt: skip
case("SNN150 no neurons", """
error[SNN150]: the file holds no layer with neurons
""")(net(plain("input", 3)))  # fmt: skip
case("SNN151 sigma-delta", """
error[SNN151]: 'layer/0/neuron/type' is SDNN: a sigma-delta neuron, which sends differences of its activation
  help: networks of CUBA (LIF) neurons are taken
""")(replaced("layer/0/neuron/type", b"SDNN"))  # fmt: skip
case("SNN151 two layers at once", """
error[SNN151]: 'layer/0/neuron/type' is RF: a resonate-and-fire neuron
  help: networks of CUBA (LIF) neurons are taken

error[SNN151]: 'layer/1/type' is convT (transposed convolution)
  help: netx cannot run it either
""")(net(dense(even(G, 4, 3), cuba() | {"type": b"RF"}), plain("convT", 4)))  # fmt: skip
case("SNN151 no such layer", """
error[SNN151]: 'layer/0/type' is 'attention', no layer of lava-dl's network exchange
""")(net(plain("attention", 4)))  # fmt: skip
case("SNN151 complex", """
error[SNN151]: 'layer/0/weight' holds complex weights (real and imag)
  help: only real weights are taken
""")(damaged(lambda file: (file.pop("layer/0/weight"), file.create_dataset("layer/0/weight/real", data=np.ones((4, 3))))))  # fmt: skip
case("SNN151 graded", """
error[SNN151]: 'layer/0/neuron/gradedSpike' is 1: graded spikes, which Lava's LIF does not send
  note: only 0 has one meaning
""")(replaced("layer/0/neuron/gradedSpike", True))  # fmt: skip
case("SNN151 refractory", """
error[SNN151]: 'layer/0/neuron/refDelay' is 3: a refractory period, which Lava's fixed-point LIF does not have
  note: only 1 has one meaning
""")(replaced("layer/0/neuron/refDelay", 3))  # fmt: skip
case("SNN151 recurrent delays", """
error[SNN151]: 'layer/0/delay': delays of a recurrent layer
  note: netx applies one delay matrix to two synapses of different shapes
""")(net(recurrent(even(G, 4, 3), even(G, 4, 4), cuba()) | {"delay": np.ones(4)}))  # fmt: skip
case("SNN151 delayed convolution with bias", """
error[SNN151]: 'layer/1/delay': delays of a convolution that has a bias
  note: netx drops these delays; delaying the inputs instead equals lava-dl's delayed outputs only without a bias
""")(net(plain("input", 1, 3, 3), conv(even(G, 2, 1, 3, 3), (2, 1, 1), cuba(), bias=np.full(2, 4), delay=np.ones(2))))  # fmt: skip
case("SNN151 silent layer", """
error[SNN151]: 'layer/0' never fires (no neuron, or the largest threshold), yet 'layer/1' reads it
""")(net(dense(even(G, 4, 3), None), dense(even(G, 2, 4), cuba())))  # fmt: skip
case("SNN151 average in the middle", """
error[SNN151]: the average 'layer/1' is not the last layer
  help: only averages of the output's spikes are taken
""")(net(dense(even(G, 4, 3), cuba()), plain("average", 2), dense(even(G, 2, 2), cuba())))  # fmt: skip
case("SNN151 delayed pool", """
error[SNN151]: 'layer/1/delay': delays of a pooling layer
  note: netx runs no pooling layers at all
""")(net(plain("input", 2, 4, 4), pool(np.full((1, 1, 2, 2), 16), (2, 2, 2), cuba()) | {"delay": np.ones(2)}))  # fmt: skip
case("SNN152 fractions", """
error[SNN152]: dataset 'layer/0/weight' holds 0.5, which is no whole number
  note: lava-dl's netx would cut off the fraction without a word
  help: export the network with quantised weights
""")(replaced("layer/0/weight", np.full((4, 3), 0.5)))  # fmt: skip
case("SNN152 long delays", """
error[SNN152]: 'layer/0/delay' holds 0..63, delays lie in 0..62
  note: netx would clip them without a word
  help: train with max_delay=62
""")(replaced("layer/0/delay", [0, 1, 2, 63]))  # fmt: skip
case("SNN153 the current wraps", """
error[SNN153]: the current of 'layer/0' can reach -10354688..9753600 within 4 steps, Lava wraps it beyond +-8388607
  note: limit is targets/loihi2-sim.toml: formats.membrane = s24 membrane LSB (measured: lava-nc 0.10.0, proc/lif/models.py: clip to +-(2**23 - 1))
  note: proved for every input that the network can get, not only for the likely ones
  help: run fewer steps, or declare a smaller input with --input-range
""")(net(dense(np.array([[254] * 150 + [-256] * 158]), cuba(40, 0))))  # fmt: skip


@case("SNN152 input range", """
error[SNN152]: the input range 0..1 with grid 0.3 is no range of whole multiples of the grid
  help: the first layer reads whole numbers: --input-range 0,1,1 for spikes
""")  # fmt: skip
def _(path):
    write_net(path, [dense(even(G, 4, 3), cuba())], 4)
    return Wishes(input_range=(0.0, 1.0, 0.3))


@pytest.mark.parametrize("label", CASES)
def test_a_wrong_file_gets_exactly_this_message(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, message = CASES[label]
    wishes = make(Path("net.net"))
    with pytest.raises(CompileError) as error:
        load_net(Path("net.net"), wishes=wishes if isinstance(wishes, Wishes) else None)
    assert str(error.value) == message


def test_every_code_of_the_importers_has_a_case():
    sources = (Path(snncompile.__file__).parent / "importers").rglob("*.py")
    used = {code for path in sources for code in re.findall(r'"(SNN\d{3})"', path.read_text())}
    assert used == {label.split()[0] for label in CASES}
