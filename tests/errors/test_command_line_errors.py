# ruff: noqa: E501 - messages as they are printed
"""One wrong input per code of the command line, the loader, the bundle and the report, with the exact message."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from user_project import FOREIGN, snn, user_folder

import snncompile
from snncompile.backends.bundle import files
from snncompile.online import list_networks

NET = FOREIGN[2:]
CASES: dict[str, tuple[Callable[[Path], tuple[object, ...]], str]] = {}
ROOMS = (
    "files.py",
    "capture/load.py",
    "capture/weights.py",
    "capture/factory.py",
    "backends/bundle",
    "cli",
    "report",
    "verify/localise.py",
)


def case(label: str, message: str):
    """Register a wrong input: a function that prepares the folder and returns the command line."""

    def register(prepare):
        CASES[label] = (prepare, message.strip("\n"))
        return prepare

    return register


def data(**arrays):
    """A data file and the command that reads it."""
    np.savez("bad.npz", **arrays)
    return ("run", "net.snn", "--data", "bad.npz")


@case(
    "SNN001",
    """
error[SNN001]: wieghts.pt does not exist
  help: did you mean weights.pt?
""",
)
def _(folder):
    return ("export", "wieghts.pt")


@case(
    "SNN001 folder",
    """
error[SNN001]: models/weights.pt does not exist
  note: there is no folder models
""",
)
def _(folder):
    return ("export", "models/weights.pt")


@case(
    "SNN002",
    """
error[SNN002]: sub is a folder, expected a file
  help: name a file in it: sub/a.pt
""",
)
def _(folder):
    Path("sub").mkdir()
    shutil.copy("weights.pt", "sub/a.pt")
    return ("export", "sub")


@case(
    "SNN003",
    """
error[SNN003]: cannot read {long}: File name too long
""",
)
def _(folder):
    return ("export", "x" * 300)


@case(
    "SNN004 empty",
    """
error[SNN004]: m.pt is not a PyTorch checkpoint: it is empty
  help: copy or save it again
""",
)
def _(folder):
    Path("m.pt").touch()
    return ("export", "m.pt", "--no-lava")


@case(
    "SNN004 truncated",
    """
error[SNN004]: m.pt is not a PyTorch checkpoint: it is truncated or damaged
  help: copy or save it again
""",
)
def _(folder):
    Path("m.pt").write_bytes(Path("weights.pt").read_bytes()[:900])
    return ("export", "m.pt", "--no-lava")


@case(
    "SNN004 text",
    """
error[SNN004]: m.pt is not a PyTorch checkpoint: it is a text file
""",
)
def _(folder):
    Path("m.pt").write_text("hello")
    return ("export", "m.pt", "--no-lava")


@case(
    "SNN004 zip",
    """
error[SNN004]: m.pt is not a PyTorch checkpoint: it is a zip archive of something else (a.txt)
""",
)
def _(folder):
    with zipfile.ZipFile("m.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    return ("export", "m.pt", "--no-lava")


@case(
    "SNN005",
    """
error[SNN005]: m.pt holds a pickled object ('torch.nn.modules.linear.Linear'), and loading it would run code from the file
  note: a pickle can do anything that you can do; plain tensors cannot
  help: save the state dict instead: torch.save(model.state_dict(), ...) and give --arch package.module:factory; or add --trust-pickle if you trust whoever made this file
""",
)
def _(folder):
    torch.save(torch.nn.Linear(2, 2), "m.pt")
    return ("export", "m.pt", "--no-lava")


@case(
    "SNN006",
    """
error[SNN006]: 'weights' does not say the shape of its input and how many time steps to run
  note: only checkpoints of the training kit carry that
  help: add --input-shape 1,28,28 --steps 6
""",
)
def _(folder):
    return ("export", "weights.pt", "--arch", "net.py:Tiny", "--no-lava")


@case(
    "SNN008",
    """
error[SNN008]: --arch-args is not JSON
  note: {'width': 8} <- column 2: Expecting property name enclosed in double quotes
  help: write it like --arch-args '{"width": 8}'
""",
)
def _(folder):
    return ("export", "weights.pt", *FOREIGN, "--arch-args", "{'width': 8}", "--no-lava")


@case(
    "SNN020",
    """
error[SNN020]: bad.npz is not an .npz file
  help: write it with numpy.savez('data.npz', x=images, y=labels)
""",
)
def _(folder):
    Path("bad.npz").write_text("1 2 3")
    return ("run", "net.snn", "--data", "bad.npz")


@case(
    "SNN021",
    """
error[SNN021]: bad.npz has no array 'x'
  note: it holds images [8, 1, 4, 4]
  help: write it with numpy.savez('data.npz', x=images, y=labels)
""",
)
def _(folder):
    return data(images=np.zeros((8, 1, 4, 4)))


@case(
    "SNN022",
    """
error[SNN022]: x in bad.npz has shape [8, 4, 4], this network wants [N, 1, 4, 4] or [N, 4, 1, 4, 4]
  note: [N, ...] shows each sample at every step, [N, T, ...] gives each step its own input
  help: add the channel axis: x[:, None]
""",
)
def _(folder):
    return data(x=np.zeros((8, 4, 4)))


@case(
    "SNN023",
    """
error[SNN023]: x in bad.npz holds complex128, not real numbers
  help: save arrays of numbers
""",
)
def _(folder):
    return data(x=np.zeros((8, 1, 4, 4), complex))


@case(
    "SNN023 pickled",
    """
error[SNN023]: bad.npz holds pickled objects, which could run code when loaded
  help: save arrays of numbers
""",
)
def _(folder):
    return data(x=np.array([{}], dtype=object))


@case(
    "SNN024",
    """
error[SNN024]: x in bad.npz holds NaN or infinity, first in sample 3
  help: clean the data; nothing is guessed here
""",
)
def _(folder):
    x = np.zeros((8, 1, 4, 4))
    x[3, 0, 1, 1] = np.nan
    return data(x=x)


@case(
    "SNN025",
    """
error[SNN025]: bad.npz holds no samples: x has shape [0, 1, 4, 4]
  help: write it with numpy.savez('data.npz', x=images, y=labels)
""",
)
def _(folder):
    return data(x=np.zeros((0, 1, 4, 4)))


@case(
    "SNN026",
    """
error[SNN026]: labels y in bad.npz have shape [5], x has 8 samples
  help: give one class number per sample
""",
)
def _(folder):
    return data(x=np.zeros((8, 1, 4, 4)), y=np.zeros(5, int))


@case(
    "SNN026 classes",
    """
error[SNN026]: labels y in bad.npz reach 3, the network has 3 outputs
  help: classes count from 0
""",
)
def _(folder):
    return data(x=np.zeros((8, 1, 4, 4)), y=np.full(8, 3))


@case(
    "SNN027",
    """
error[SNN027]: x in bad.npz holds 0..9, the network's input lies in 0..1
  help: give the values that the network was trained on, before any normalisation of its own
""",
)
def _(folder):
    np.savez("bad.npz", x=np.linspace(0, 9, 16).reshape(1, 1, 4, 4))
    return ("export", "weights.pt", *FOREIGN, "--input-range", "0,1", "--data", "bad.npz", "--no-lava")


@case(
    "SNN030",
    """
error[SNN030]: cannot write data.npz/out.snn: {folder}/data.npz is not a folder
  help: choose another place with -o
""",
)
def _(folder):
    return ("export", "weights.pt", *FOREIGN, "--no-lava", "-o", "data.npz/out.snn")


@case(
    "SNN031",
    """
error[SNN031]: mine is a folder with other things in it; it is left alone
  help: choose another place with -o
""",
)
def _(folder):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("precious")
    return ("export", "weights.pt", *FOREIGN, "--no-lava", "-o", "mine")


@case(
    "SNN032",
    """
error[SNN032]: mine is not a bundle: it has no manifest.json
  help: write one with snncompile export MODEL -o OUT
""",
)
def _(folder):
    Path("mine").mkdir()
    return ("inspect", "mine")


@case(
    "SNN033",
    """
error[SNN033]: the bundle net.snn is damaged: tensors/small.npz is not what was written (its SHA-256 differs from the manifest's)
  help: export it again, or copy it again from where it came
""",
)
def _(folder):
    path = Path("net.snn/tensors/small.npz")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    return ("inspect", "net.snn")


@case(
    "SNN034",
    """
error[SNN034]: net.snn has schema 99 (written by snncompile {version}), this version reads 3
  help: export the model again with this version
""",
)
def _(folder):
    path = Path("net.snn/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    return ("inspect", "net.snn")


@case(
    "SNN035",
    """
error[SNN035]: evil.zip is not safe to unpack: it holds '../evil.py', which would be written outside of it
  help: do not unpack this archive; get the bundle from its maker again
""",
)
def _(folder):
    files.write_zip(Path("net.snn"), Path("evil.zip"))
    with zipfile.ZipFile("evil.zip", "a") as archive:
        archive.writestr("../evil.py", "print('gotcha')")
    return ("inspect", "evil.zip")


@case(
    "SNN037",
    """
error[SNN037]: net.snn is a bundle, which holds the integer program only, not the stage 'captured'
  help: inspect the model: snncompile inspect MODEL --stage captured
""",
)
def _(folder):
    return ("inspect", "net.snn", "--stage", "captured")


@case(
    "SNN037 options of a model",
    """
error[SNN037]: net.snn is a bundle, which needs no word on how a model is read: --steps, --nir-dialect
  help: leave that out, or give the model that the bundle was made of
""",
)
def _(folder):
    return ("inspect", "net.snn", "--nir-dialect", "sinabs", "--steps", "9")


@case(
    "SNN040",
    """
error[SNN040]: net.snn was not made from net.py:Tiny: 'lif' has shape [6] in the bundle, [5] in the model
  help: name the model that the bundle was exported from
""",
)
def _(folder):
    return ("verify", "net.snn", "--data", "data.npz", "--arch", "net.py:Tiny", "--arch-args", '{"width": 5}')


@case(
    "SNN130",
    """
error[SNN130]: --arch is 'net.py'
  note: networks of the training kit: {networks}
  help: write --arch package.module:factory or --arch path/to/file.py:factory
""",
)
def _(folder):
    return ("export", "--arch", "net.py", *NET, "--no-lava")


@case(
    "SNN131",
    """
error[SNN131]: cannot import 'nett': there is no module 'nett'
  note: looked in {folder} and in this Python's packages
  help: run from the folder that holds it, or give the file: --arch path/to/file.py:factory
""",
)
def _(folder):
    return ("export", "--arch", "nett:make", *NET, "--no-lava")


@case(
    "SNN131 raises",
    """
error[SNN131]: importing 'bad.py' failed: ZeroDivisionError: division by zero
  --> bad.py:2
""",
)
def _(folder):
    Path("bad.py").write_text("x = 0\nprint(1 / x)\n")
    return ("export", "--arch", "bad.py:make", *NET, "--no-lava")


@case(
    "SNN132",
    """
error[SNN132]: 'net.py' has no 'mak'
  note: it defines LIF, Tiny, Sorting, make, crash, number
  help: did you mean make?
""",
)
def _(folder):
    return ("export", "--arch", "net.py:mak", *NET, "--no-lava")


@case(
    "SNN133",
    """
error[SNN133]: 'net.py:VALUE' is an int, not callable
  help: name a function or class that returns the network
""",
)
def _(folder):
    return ("export", "--arch", "net.py:VALUE", *NET, "--no-lava")


@case(
    "SNN134",
    """
error[SNN134]: 'net.py:make' cannot be called with --arch-args {"depth": 3}: got an unexpected keyword argument 'depth'
  --> net.py:33
  note: its arguments are (width=6)
""",
)
def _(folder):
    return ("export", "--arch", "net.py:make", "--arch-args", '{"depth": 3}', *NET, "--no-lava")


@case(
    "SNN134 raises",
    """
error[SNN134]: 'net.py:crash' failed: RuntimeError: no such dataset
  --> net.py:39 in crash
""",
)
def _(folder):
    return ("export", "--arch", "net.py:crash", *NET, "--no-lava")


@case(
    "SNN135",
    """
error[SNN135]: 'net.py:number' returned an int, not a torch.nn.Module
  --> net.py:42
  help: return the network itself
""",
)
def _(folder):
    return ("export", "--arch", "net.py:number", *NET, "--no-lava")


@case(
    "SNN136",
    """
error[SNN136]: the weights in m.pt do not fit 'net.py:Tiny': 1 missing, 1 unexpected, 1 of another shape
  note: missing: fc2.bias [3] (like fc3.bias?)
  note: unexpected: fc3.bias [3] (like fc2.bias?)
  note: wrong shape: fc1.weight is [6, 9], the network needs [6, 16]
  help: check --arch and --arch-args against the network that was trained
""",
)
def _(folder):
    state = {k.removeprefix("module."): v for k, v in torch.load("weights.pt", weights_only=True)["net"].items()}
    state["fc1.weight"] = torch.zeros(6, 9)
    state["fc3.bias"] = state.pop("fc2.bias")
    torch.save(state, "m.pt")
    return ("export", "m.pt", *FOREIGN, "--no-lava")


@case(
    "SNN137",
    """
error[SNN137]: m.pt holds no state dict
  note: its entries are epoch (int), history (list)
  help: store the weights under one of best_net, best_model, best_state_dict, state_dict, model_state_dict, net...
""",
)
def _(folder):
    torch.save({"epoch": 3, "history": [1.0]}, "m.pt")
    return ("export", "m.pt", *FOREIGN, "--no-lava")


@case(
    "SNN138",
    """
error[SNN138]: weights.pt holds weights, but not how to build the network
  note: it has fc1.weight [6, 16], fc1.bias [6], fc2.weight [3, 6], fc2.bias [3]...
  help: a state dict needs the network's own code: --arch package.module:factory
""",
)
def _(folder):
    return ("export", "weights.pt", *NET, "--no-lava")


@case(
    "SNN139",
    """
error[SNN139]: there is nothing to compile
  help: name a checkpoint, or a factory: --arch package.module:factory
""",
)
def _(folder):
    return ("export",)


@case(
    "SNN042",
    """
error[SNN042]: net.tflite is no name of an ONNX file
  help: choose a name that ends in .onnx with -o
""",
)
def _(folder):
    return ("convert", "net.snn", "-o", "net.tflite")


@case(
    "SNN154",
    """
error[SNN154]: net.net holds integers, for which --weight-bits, --input-bits or --exact means nothing
  help: leave --weight-bits, --input-bits or --exact out
""",
)
def _(folder):
    (folder / "net.net").write_bytes(b"")
    return ("export", "net.net", "--weight-bits", "4", "--no-lava", "-o", "other.snn")


@case(
    "SNN168",
    """
error[SNN168]: --nir-dialect and --nir-set are for NIR files, not for weights.pt
  help: leave them out
""",
)
def _(folder):
    return ("export", "weights.pt", "--nir-dialect", "sinabs", "--steps", "4", "--no-lava", "-o", "other.snn")


@case(
    "SNN031 reproduction",
    """
error[SNN031]: reproduction is a folder with other things in it; it is left alone
  help: choose another place with -o
""",
)
def _(folder):
    Path("reproduction").mkdir()
    Path("reproduction/thesis.tex").write_text("precious")
    return ("diff", "net.snn", "net.snn", "--data", "data.npz")


@case(
    "SNN044",
    """
error[SNN044]: net.snn holds integers only, it has no stage 'folded'
  help: choose from integer, hops, lava, onnx; the stages before are those of the model
""",
)
def _(folder):
    return ("diff", "net.snn:folded", "net.snn", "--data", "data.npz")


@case(
    "SNN045",
    """
error[SNN045]: net.snn runs 4 steps, weights.pt 3
  help: give both the same --steps
""",
)
def _(folder):
    return ("diff", "net.snn", "weights.pt", "--data", "data.npz", "--arch", "net.py:Tiny", "--input-shape", "1,4,4", "--steps", "3")


@case(
    "SNN607",
    """
error[SNN607]: net.snn:integer and two.py:Two:captured share no population
  note: net.snn:integer has lif, fc2_readout
  note: two.py:Two:captured has a, b
  help: give two sides of one network: names decide which populations belong together
""",
)
def _(folder):
    text = Path("net.py").read_text().split("class Tiny")[0]
    Path("two.py").write_text(
        text
        + "class Two(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc, self.a, self.b = nn.Linear(16, 3), LIF(), LIF()\n"
        "    def forward(self, x):\n        return self.b(self.a(self.fc(x.flatten(1))))\n"
    )
    return ("diff", "net.snn", ":captured", "--data", "data.npz", "--arch", "two.py:Two", *NET)


ELSEWHERE = {
    "SNN009": "test_too_little_memory_is_said_plainly",
    "SNN041": "test_lava_cannot_give_a_membrane_before_reset",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's folder with a bundle."""
    folder = user_folder(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        answer = snn("export", "weights.pt", *FOREIGN, "--data", "data.npz", "--no-lava", "-o", "net.snn")
        assert answer.status == 0, answer.err
    return folder


@pytest.mark.parametrize("label", CASES)
def test_a_wrong_input_gets_exactly_this_message(label, project, tmp_path, monkeypatch):
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    prepare, message = CASES[label]
    arguments = prepare(folder)
    before = sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    answer = snn("-q", *arguments)
    expected = message.replace("{folder}", str(folder)).replace("{version}", snncompile.__version__).replace("{long}", "x" * 300)
    expected = expected.replace("{networks}", ", ".join(list_networks()))
    assert answer.err.removeprefix("a user's own print\n").rstrip("\n") == expected
    assert answer.status == 1
    assert answer.out == ""
    assert sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts) == before, "a failed command left something behind"


def test_too_little_memory_is_said_plainly(monkeypatch):
    def greedy(*_, **__):
        raise MemoryError

    monkeypatch.setattr("snncompile.cli.work.targets.targets", greedy)
    answer = snn("targets")
    assert answer.status == 1
    assert answer.err == "error[SNN009]: the machine has too little memory for this\n  help: give fewer samples, or a smaller network\n"


def test_lava_cannot_give_a_membrane_before_reset(project, monkeypatch):
    from snncompile.backends.bundle import Bundle

    monkeypatch.chdir(project)
    monkeypatch.setattr(Bundle, "output", property(lambda self: "fc2_readout.m"), raising=False)
    answer = snn("-q", "run", "net.snn", "--data", "data.npz", "--backend", "lava")
    assert answer.status == 1
    assert answer.err == (
        "error[SNN041]: the output is 'fc2_readout.m', and Lava records payloads and membranes after reset only\n"
        "  help: use --backend reference\n"
    )


def test_every_code_of_these_rooms_has_a_case():
    root = Path(snncompile.__file__).parent
    sources = [p for room in ROOMS for p in ([root / room] if room.endswith(".py") else sorted((root / room).rglob("*.py")))]
    named = {code for p in sources for code in re.findall(r'"(SNN\d{3})"', p.read_text())}
    siblings = [p.read_text() for p in Path(__file__).parent.glob("test_*_errors.py") if p.name != Path(__file__).name]
    used = named - {code for text in siblings for code in re.findall(r"SNN\d{3}", text)} - {"SNN403"}  # found, not raised, here
    covered = {label.split()[0] for label in CASES} | ELSEWHERE.keys()
    assert used - covered == set()
    assert covered - named == set()
    assert all(name in globals() for name in ELSEWHERE.values())
