"""One wrong input per code of NIR import and export, with the exact message."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from nir_files import chain, lif, save

import snncompile
from snncompile import import_nir
from snncompile.backends.nir import write_nir
from snncompile.errors import CompileError

CASES: dict[str, tuple[Callable[[Path], object], str]] = {}
ROOMS = ("capture/nir", "backends/nir")


def case(label: str, message: str):
    """Register a wrong input: a function that does the wrong thing in a folder."""

    def register(act):
        CASES[label] = (act, message.strip("\n"))
        return act

    return register


def linear(rows, columns):
    return nir.Linear(weight=np.ones((rows, columns)))


def imported(graph, **kwargs):
    return import_nir(graph, steps=4, **{"dialect": "nir", **kwargs})


@case(
    "SNN160 no file of HDF5",
    """
error[SNN160]: {folder}/net.nir is not a NIR file: it does not start like an HDF5 file
  help: write it again with nir.write
""",
)
def _(folder):
    (folder / "net.nir").write_text("hello")
    import_nir(folder / "net.nir", steps=4)


@case(
    "SNN160 another HDF5 file",
    """
error[SNN160]: {folder}/net.nir is an HDF5 file, but not a NIR file: it has no group 'node'
  note: it has layer
""",
)
def _(folder):
    with h5py.File(folder / "net.nir", "w") as file:
        file.create_group("layer")
    import_nir(folder / "net.nir", steps=4)


@case(
    "SNN160 a link out of the file",
    """
error[SNN160]: '/node/nodes/weights' is a link to another place, which is not followed
  help: write it again with nir.write
""",
)
def _(folder):
    save(chain(linear(4, 4), shape=[4]), folder / "net.nir")
    with h5py.File(folder / "net.nir", "a") as file:
        file["node/nodes/weights"] = h5py.ExternalLink("/etc/passwd", "/")
    import_nir(folder / "net.nir", steps=4)


@case(
    "SNN161 every wrong field at once",
    """
error[SNN161]: node 'n0' (Affine): field 'bias' is missing; it has weight

error[SNN161]: node 'n1' (LIF): field 'tau' must be positive, its lowest value is -1

error[SNN161]: node 'n1' (LIF): field 'v_threshold' holds NaN

error[SNN161]: node 'n1' (LIF): field 'threshold' is no field of a LIF node; those are tau, r, v_leak, v_threshold, v_reset

error[SNN161]: node 'n2' is of the unknown type 'LIFE'
  help: did you mean LIF?
""",
)
def _(folder):
    path = save(chain(nir.Affine(np.ones((4, 4)), np.ones(4)), lif(4), lif(4), shape=[4]), folder / "net.nir")
    with h5py.File(path, "a") as file:
        nodes = file["node/nodes"]
        del nodes["n0/bias"]
        nodes["n1/tau"][...] = -1.0
        nodes["n1/v_threshold"][0] = np.nan
        nodes["n1/threshold"] = np.ones(4)
        del nodes["n2/type"]
        nodes["n2/type"] = "LIFE"
    import_nir(path, steps=4)


@case(
    "SNN161 damaged metadata",
    """
error[SNN161]: node 'n1' (LIF): metadata 'snncompile' is damaged: KeyError 'nothing'
  help: remove it, or write the file again
""",
)
def _(folder):
    node = lif(4)
    node.metadata = {"snncompile": '{"op": "nothing"}'}
    imported(chain(linear(4, 4), node, shape=[4]))


@case(
    "SNN162",
    """
error[SNN162]: edge 'n0' -> 'n9' of the graph: there is no node 'n9'
  help: its nodes are input, n0, n1, output

error[SNN162]: edge 'input' -> 'n0' of the graph is listed twice
  note: readers differ in whether it then counts twice
  help: list it once
""",
)
def _(folder):
    graph = chain(linear(4, 4), lif(4), shape=[4])
    graph.edges += [("n0", "n9"), ("input", "n0")]
    imported(graph)


@case(
    "SNN162 loose ends",
    """
error[SNN162]: the graph has no node of type Output, so nothing comes out
  help: add a nir.Output node

error[SNN162]: node 'n1' (LIF) has no input
  help: give it an edge, or remove it
""",
)
def _(folder):
    graph = chain(linear(4, 4), lif(4), shape=[4])
    del graph.nodes["output"]
    graph.edges = [("input", "n0")]
    imported(graph)


@case(
    "SNN162 a loop of its own",
    """
error[SNN162]: the nodes 'n0', 'n1', 'output' only feed each other
  help: connect the loop to an input
""",
)
def _(folder):
    graph = chain(linear(4, 4), lif(4), shape=[4])
    graph.edges = [("n0", "n1"), ("n1", "n0"), ("n1", "output")]
    imported(graph)


@case(
    "SNN163",
    """
error[SNN163]: node 'n0' (Linear): its weight [5, 4] reads 4 values, its input has shape [3]

error[SNN163]: node 'other' (Output): field 'shape' says [7], what reaches it has shape [3]
""",
)
def _(folder):
    graph = chain(linear(5, 4), shape=[3], out=[5])
    graph.nodes["other"] = nir.Output(np.array([7]))
    graph.edges.append(("input", "other"))
    imported(graph)


@case(
    "SNN164",
    """
error[SNN164]: the file does not say which tool wrote it, and the tools do not mean the same by its nodes
  note: it looks like sinabs: r is 1 and tau at least 1, so perhaps in steps
  help: say it: --nir-dialect nir|sinabs|sinabs-reader|norse|norse-reader|snntorch|snntorch-reader|spikingjelly|rockpool|lava
""",
)
def _(folder):
    import_nir(chain(linear(4, 4), lif(4, tau=20.0), shape=[4]), steps=4)


@case(
    "SNN165",
    """
error[SNN165]: no NIR dialect is called 'sinab'
  help: did you mean sinabs?

error[SNN165]: 'comparison' is no convention of NIR nodes
  help: did you mean compare?

error[SNN165]: 'n7.reset': there is no node 'n7'
  help: choose from input, n0, n1, output

error[SNN165]: 'compare' is '>='
  help: choose gt or ge

error[SNN165]: 'dt' is '-1'
  help: write a positive number, or from-r
""",
)
def _(folder):
    settings = {"comparison": "ge", "n7.reset": "zero", "compare": ">=", "dt": "-1"}
    imported(chain(linear(4, 4), lif(4), shape=[4]), dialect="sinab", settings=settings)


@case(
    "SNN166",
    """
error[SNN166]: node 'n1' (LIF): field 'v_leak' is 0.3; sinabs 3.1 has only 0
  help: choose the dialect of the tool that wrote the file, or nir for the specification
""",
)
def _(folder):
    imported(chain(linear(4, 4), lif(4, v_leak=0.3), shape=[4]), dialect="sinabs")


@case(
    "SNN167 a time constant below the step",
    """
error[SNN167]: node 'n1' (LIF): tau is 1e-05 s, shorter than a step of 0.0001 s
  note: forward Euler then turns the decay into an oscillation
  help: set the step with --nir-set dt=SECONDS, or choose --nir-set decay=exponential
""",
)
def _(folder):
    imported(chain(linear(4, 4), lif(4, tau=1e-5), shape=[4]))


@case(
    "SNN167 a delay between steps",
    """
error[SNN167]: node 'n0' (Delay): a delay of 0.00025 seconds is no whole number of steps from 0 to 1024
  note: a step is 0.0001 s
  help: set the step with --nir-set dt=SECONDS, or say that delays count steps: --nir-set delay_unit=steps
""",
)
def _(folder):
    imported(chain(nir.Delay(np.array([1e-4, 2.5e-4])), linear(2, 2), shape=[2]))


@case(
    "SNN169",
    """
error[SNN169]: 'n0' (linear) cannot be written as NIR: its bias differs between steps
  help: compile the network from its own file; NIR cannot carry all of it

error[SNN169]: output 'output' is 'n1.v', and NIR's nodes give only their spikes
  help: compile the network from its own file; NIR cannot carry all of it
""",
)
def _(folder):
    graph = imported(chain(linear(4, 4), lif(4), shape=[4])).graph
    first = replace(graph.by_name["n0"], bias=np.ones((4, 4)))
    write_nir(replace(graph.map_nodes(lambda n: first if n.name == "n0" else n), outputs={"output": "n1.v"}), folder / "out.nir")


@pytest.mark.parametrize("label", CASES)
def test_a_wrong_graph_gets_exactly_this_message(label, tmp_path):
    act, message = CASES[label]
    with pytest.raises(CompileError) as raised:
        act(tmp_path)
    assert str(raised.value) == message.replace("{folder}", str(tmp_path))


def test_every_code_of_these_rooms_has_a_case():
    root = Path(snncompile.__file__).parent
    used = {code for room in ROOMS for p in (root / room).rglob("*.py") for code in re.findall(r'"(SNN\d{3})"', p.read_text())}
    assert used - {"SNN030"} == {label.split()[0] for label in CASES}
