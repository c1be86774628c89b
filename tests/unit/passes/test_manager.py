from dataclasses import dataclass, replace

import numpy as np
import pytest

from snncompile.errors import CompileError, InternalError
from snncompile.ir.graph import Dialect, Graph, validate
from snncompile.ir.linear_ops import Add, Conv2d, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.passes import Outcome, Pass, Refusal, run_passes
from snncompile.passes.fold_affines import FoldAffineBack
from snncompile.passes.pipeline import FOLDS

ZERO = constant(0.0)


def lif(name: str, ref: str, **fields: object) -> Neuron:
    return Neuron(**{
        "name": name, "inputs": (ref,), "fire": Fire.STEP_GE, "reset": Reset.SUBTRACT, "leak": constant(0.5), "gain": constant(1.0),
        "bias": ZERO, "theta": constant(1.0), "reset_amount": constant(1.0), "reset_value": ZERO, "v_init": ZERO, **fields,
    })  # fmt: skip


def two_layers() -> Graph:
    nodes = (
        Input(name="x", size=(3,)), Linear(name="fc1", inputs=("x",), weight=np.eye(3)), lif("a", "fc1"),
        Linear(name="fc2", inputs=("a",), weight=np.eye(3) * 2, bias=np.ones((1, 3))), lif("b", "fc2"),
    )  # fmt: skip
    return Graph(name="two", dialect=Dialect.FLOAT, nodes=nodes, outputs={"out": "b"}, steps=4)


PROBE = {"x": np.random.default_rng(0).normal(size=(1, 4, 3)) + 1}


@dataclass(frozen=True)
class Scale(Pass):
    """A broken pass: scales the weights of one layer."""

    name = "scale"
    layer: str = "fc1"
    factor: float = 1.5

    def apply(self, graph: Graph) -> Outcome:
        change = {self.layer: lambda n: replace(n, weight=n.weight * self.factor)}
        return Outcome(graph.map_nodes(lambda n: change.get(n.name, lambda n: n)(n)), 1, (Refusal("x", "just so"),))


@dataclass(frozen=True)
class Same(Pass):
    """A pass that finds nothing to do."""

    name = "same"

    def apply(self, graph: Graph) -> Outcome:
        return Outcome(graph, 0, (Refusal("fc1", "because"),))


def test_a_pass_that_changes_a_membrane_is_caught_with_the_population_it_changed():
    with pytest.raises(InternalError, match=r"pass 'scale' changed the network: 'b' differs by 0\.\d+ relative"):
        run_passes(two_layers(), probe=PROBE, pipeline=(Scale("fc2"),))


def test_a_difference_just_above_the_bound_is_caught_and_one_below_is_recorded():
    with pytest.raises(InternalError, match="its bound is 1e-09"):
        run_passes(two_layers(), probe=PROBE, pipeline=(Scale("fc1", 1 + 1e-8),))
    _, (record,) = run_passes(two_layers(), probe=PROBE, pipeline=(Scale("fc1", 1 + 1e-11),))
    assert 0 < record.membrane_error < 1e-10
    assert record.worst_population == "a"
    assert record.refusals == (Refusal("x", "just so"),)


def test_a_difference_in_the_first_layer_is_not_blamed_on_the_second():
    with pytest.raises(InternalError, match="'a' differs by"):
        run_passes(two_layers(), probe=PROBE, pipeline=(Scale("fc1"),))


def test_a_pass_that_changes_nothing_is_recorded_but_not_executed():
    graph, (record,) = run_passes(two_layers(), probe=PROBE, pipeline=(Same(),))
    assert (record.name, record.executed, record.rewrites, record.nodes_before, record.nodes_after) == ("same", False, 0, 5, 5)
    assert record.refusals == (Refusal("fc1", "because"),)
    assert [n.name for n in graph.nodes] == ["x", "fc1", "a", "fc2", "b"]


def test_a_pass_that_breaks_the_graph_is_an_internal_error():
    @dataclass(frozen=True)
    class Break(Pass):
        name = "break"

        def apply(self, graph: Graph) -> Outcome:
            return Outcome(graph.map_nodes(lambda n: replace(n, weight=n.weight * np.nan) if n.name == "fc1" else n), 1)

    with pytest.raises(InternalError, match=r"pass 'break' broke the graph: error\[SNN206\]"):
        run_passes(two_layers(), probe=PROBE, pipeline=(Break(),))


def test_an_invalid_graph_is_the_users_error():
    graph = two_layers().map_nodes(lambda n: replace(n, bias=np.ones((3, 3))) if n.name == "fc2" else n)
    with pytest.raises(CompileError, match=r"SNN203.*'fc2' has values for 3 steps, the graph runs 4"):
        run_passes(graph, probe=PROBE)


def test_an_output_with_the_name_of_another_population_is_refused():
    graph = two_layers()
    with pytest.raises(CompileError, match=r"SNN218.*output 'a' is 'b', but 'a' is the name of a population"):
        validate(replace(graph, outputs={"a": "b"}))


def test_passes_that_undo_each_other_do_not_run_forever():
    with pytest.raises(InternalError, match="passes scale, scale do not come to rest"):
        run_passes(two_layers(), probe=PROBE, pipeline=((Scale("fc1", 1.0), Scale("fc2", 1.0)),))


def test_a_tie_that_rounding_flips_is_counted_and_does_not_fail():
    nodes = (Input(name="x", size=(1,)), Linear(name="fc", inputs=("x",), weight=np.ones((1, 1))), lif("a", "fc", leak=constant(0.9)))
    graph = Graph(name="tie", dialect=Dialect.FLOAT, nodes=nodes, outputs={"out": "a"}, steps=4)
    _, (record,) = run_passes(graph, probe={"x": np.ones((1, 1, 1))}, pipeline=(Scale("fc", 1 - 1e-15),))
    assert record.differing_spikes == 1
    assert record.membrane_error < 1e-14


def test_fewer_steps_and_one_sample_are_enough_to_run_the_pipeline():
    graph, records = run_passes(two_layers(), probe={"x": PROBE["x"][:, :1]}, steps=2)
    assert isinstance(graph.by_name["fc2"], Linear)
    assert graph.by_name["fc2"].bias is None
    assert max(r.membrane_error for r in records) < 1e-12


def test_only_populations_behind_a_change_are_executed_again(monkeypatch):
    from snncompile.passes import evidence

    seen: list[list[str]] = []
    original = evidence.walk

    def spy(graph, *args, **kwargs):
        seen.append([n.name for n in graph.of(Neuron)])
        return original(graph, *args, **kwargs)

    monkeypatch.setattr(evidence, "walk", spy)
    run_passes(two_layers(), probe=PROBE, pipeline=(Scale("fc2", 1.0),))
    assert seen == [["a", "b"], ["b"]], "the free run, then b alone"


def test_a_fold_on_a_deliberately_wrong_rule_is_caught():
    @dataclass(frozen=True)
    class ForgetsTheBias(FoldAffineBack):
        name = "forgets-the-bias"

        def apply(self, graph: Graph) -> Outcome:
            outcome = super().apply(graph)
            return replace(outcome, graph=outcome.graph.map_nodes(lambda n: replace(n, bias=None) if isinstance(n, Conv2d) else n))

    from snncompile.ir.text import from_text

    text = """graph "g" float steps=4
%x = input() size=(1, 2, 2)
%conv = conv2d(%x) weight=f64<1x1x1x1>[1.0]
%bn = affine(%conv) factor=f64<1>[2.0] shift=f64<1>[0.5]
"""
    graph = from_text(text)
    graph = graph.rebuild([*graph.nodes, lif("a", "bn")], {"out": "a"})
    with pytest.raises(InternalError, match="pass 'forgets-the-bias' changed the network: 'a'"):
        run_passes(graph, probe={"x": np.ones((1, 1, 1, 2, 2))}, pipeline=((ForgetsTheBias(), *FOLDS),))


def test_a_wrong_relay_in_front_of_an_output_is_caught():
    nodes = (Input(name="x", size=(1,)), Linear(name="fc", inputs=("x",), weight=np.ones((1, 1))), Add(name="s", inputs=("fc", "x")))
    graph = Graph(name="g", dialect=Dialect.FLOAT, nodes=nodes, outputs={"out": "s"}, steps=1)

    @dataclass(frozen=True)
    class Misread(Pass):
        name = "misread"

        def apply(self, graph: Graph) -> Outcome:
            return Outcome(graph.rebuild(graph.nodes, {"out": "fc"}), 1)

    with pytest.raises(InternalError, match=r"outputs by 0\.5"):
        run_passes(graph, probe={"x": np.ones((1, 1, 1))}, pipeline=(Misread(),))
