"""The shapes of the official networks (METHODS.md section 2), small: which populations and synapses they become."""

import numpy as np
from strategies import Builder, concat, random_input
from test_manager import lif as neuron

from snncompile.ir.graph import Dialect, Graph
from snncompile.ir.linear_ops import Add, Affine, AvgPool2d, Conv2d, Delay, Gather, Input, Linear
from snncompile.ir.neuron import Fire, Neuron, Reset, constant
from snncompile.ir.population import ports
from snncompile.passes import check_population_form, run_passes


class Net(Builder):
    def __init__(self, size, steps=3):
        super().__init__(np.random.default_rng(1), steps)
        self.x = self.add(Input, None, size=size)

    def named(self, op):
        self.nodes.append(op)
        self.shapes[op.name] = op.infer(*(self.shapes[r] for r in op.inputs))
        return op.name

    def conv(self, name, ref, out, k=3, stride=1):
        weight, bias, pad = self.normal(out, self.shapes[ref][0], k, k), self.normal(1, out, 1, 1), (k // 2,) * 4
        return self.named(Conv2d(name=name, inputs=(ref,), weight=weight, bias=bias, stride=(stride,) * 2, padding=pad))

    def fc(self, name, ref, out):
        weight = self.normal(out, int(np.prod(self.shapes[ref])))
        return self.named(Linear(name=name, inputs=(ref,), weight=weight, bias=self.normal(1, out)))

    def scale(self, name, ref, factor, shift=0.0):
        lift = [np.asarray(v, dtype=np.float64)[None] for v in (factor, shift)]
        return self.named(Affine(name=name, inputs=(ref,), factor=lift[0], shift=lift[1]))

    def bn(self, name, ref):
        c = self.shapes[ref][0]
        return self.scale(name, ref, self.normal(c, 1, 1), self.normal(c, 1, 1))

    def lif(self, name, ref, **fields):
        return self.named(neuron(name, ref, **fields))

    def pool(self, name, ref, k, **fields):
        return self.named(AvgPool2d(name=name, inputs=(ref,), kernel=(k, k), stride=(k, k), **fields))

    def compiled(self, out):
        graph = Graph(name="net", dialect=Dialect.FLOAT, nodes=(), outputs={"logits": out}, steps=self.steps).rebuild(self.nodes)
        after, _ = run_passes(graph, probe=random_input(graph, 0))
        check_population_form(after)
        return after


def names(graph):
    return [n.name for n in graph.of(Neuron)]


def test_ottt_vgg_needs_no_relay_and_pooling_becomes_a_six_by_six_kernel():
    n = Net((3, 8, 8))
    x = n.lif("lif1", n.conv("conv1", n.scale("norm", n.x, np.ones((3, 1, 1)) * 0.02, -np.ones((3, 1, 1))), 4))
    x = n.pool("pool1", n.scale("gain1", x, 2.74), 2)
    x = n.pool("gap", n.scale("gain2", n.lif("lif2", n.conv("conv2", x, 5)), 2.74), 4)
    x = n.named(Gather(name="flatten", inputs=(x,), index=np.arange(5)))
    after = n.compiled(n.fc("fc", x, 10))
    assert names(after) == ["lif1", "lif2", "fc_readout"]
    conv1, conv2, fc = (after.by_name[k] for k in ("conv1", "conv2", "fc"))
    assert (conv2.weight.shape, conv2.stride, conv2.padding) == ((5, 4, 6, 6), (2, 2), (2, 2, 2, 2))
    assert fc.weight.shape == (10, 5 * 16)
    assert conv1.inputs == (n.x,)
    assert after.by_name["lif1"].bias.shape == (1, 4, 8, 8)
    assert after.by_name["lif2"].bias.shape == (1, 5, 1, 1)
    assert conv2.origin == ("conv2", "pool1", "gain1")
    assert after.outputs == {"logits": "fc_readout"}


def test_a_residual_of_spikes_becomes_an_identity_synapse_with_the_batch_norm_in_both_branches():
    n = Net((2, 4, 4))
    s = n.lif("lif1", n.bn("bn1", n.conv("stem", n.x, 3)))
    x = n.named(Add(name="sum", inputs=(n.conv("conv2", n.lif("lif2", n.bn("bn2", n.conv("conv1", s, 3))), 3), s)))
    x = n.fc("fc", n.pool("gap", n.lif("lif3", n.bn("bn3", x)), 4), 2)
    after = n.compiled(x)
    assert names(after) == ["lif1", "lif2", "lif3", "fc_readout"]
    first, second = ports(after, after.by_name["lif3"])
    assert (first.synapse.name, first.source.name, second.synapse.kind, second.source.name) == ("conv2", "lif2", "diagonal", "lif1")
    assert second.synapse.weight.shape == (3, 1, 1)


def test_a_real_valued_residual_stream_gets_one_relay_per_join_that_two_read():
    n = Net((2, 4, 4))
    x = n.conv("stem", n.x, 3)
    for k in (1, 2):
        inner = n.scale(f"gain{k}", n.lif(f"lif{k}", n.scale(f"beta{k}", x, 1 / 1.02)), 2.74)
        x = n.named(Add(name=f"sum{k}", inputs=(n.scale(f"skip{k}", n.conv(f"conv{k}", inner, 3), 0.2), x)))
    after = n.compiled(n.fc("fc", n.lif("lif3", x), 2))
    assert names(after) == ["lif1", "sum1_relay", "lif2", "lif3", "fc_readout"]
    assert [p.source.name for p in ports(after, after.by_name["lif2"])] == ["sum1_relay"]
    assert np.array_equal(ports(after, after.by_name["lif2"])[0].synapse.weight.reshape(-1), [1 / 1.02])


def test_sums_of_spikes_that_a_convolution_reads_become_graded_relays():
    n = Net((2, 4, 4))
    s = n.lif("lif1", n.conv("stem", n.x, 3))
    s = n.named(Add(name="sew", inputs=(n.lif("lif2", n.conv("conv1", s, 3)), s)))
    after = n.compiled(n.lif("lif3", n.conv("conv2", s, 3)))
    assert names(after) == ["lif1", "lif2", "sew_relay", "lif3"]


def test_feedback_from_the_step_before_reads_a_delayed_payload_and_its_bias_starts_at_the_second_step():
    n = Net((1, 4, 4))
    late = n.add(Delay, (2, 4, 4), inputs=("fb",), size=(2, 4, 4), initial=np.zeros((1, 1, 1)))
    n.lif("lif1", n.named(Add(name="sum", inputs=(n.conv("conv1", n.x, 2), late))))
    n.pool("pool", "lif1", 2)
    up = np.arange(8).reshape(2, 2, 2).repeat(2, axis=1).repeat(2, axis=2)
    n.named(Gather(name="up", inputs=("pool",), index=up))
    n.conv("fb", "up", 2)
    after = n.compiled("lif1")
    feedback = next(p for p in ports(after, after.by_name["lif1"]) if p.source.name == "pool_relay")
    assert np.array_equal(feedback.wiring, up)
    (pooled,) = ports(after, after.by_name["pool_relay"])
    assert (pooled.source.name, len(pooled.delays)) == ("lif1", 1)
    bias = after.by_name["lif1"].bias
    assert bias.shape == (3, 2, 1, 1)
    assert not np.array_equal(bias[0], bias[1])
    assert np.array_equal(bias[1], bias[2])


def test_a_membrane_batch_norm_keeps_its_gain_per_step_and_loses_a_constant_one():
    n = Net((2,))
    gain = np.array([[1.0, -0.5], [0.0, 2.0], [1.5, 1.0]])
    zero = constant(0.0)
    fields = {"fire": Fire.RELU, "reset": Reset.CLAMP, "reset_amount": zero}
    x = n.lif("act1", n.fc("fc1", n.x, 2), gain=gain, **fields)
    x = n.lif("act2", n.fc("fc2", x, 2), gain=np.array([[2.0, 3.0]]), **fields)
    after = n.compiled(x)
    assert np.array_equal(after.by_name["act1"].gain, gain)
    assert np.array_equal(after.by_name["act2"].gain, [1.0])
    assert names(after) == ["act1", "act2"]


def test_a_concatenation_is_one_port_per_part():
    n = Net((2, 4, 4))
    a, b = n.lif("a", n.conv("c1", n.x, 1)), n.scale("gain", n.lif("b", n.conv("c2", n.x, 2)), 2.74)
    x = n.bn("bn", concat(n, a, b))
    after = n.compiled(n.lif("c", n.conv("c3", x, 4)))
    assert names(after) == ["a", "b", "c"]
    assert [(p.source.name, p.gather, p.synapse.weight.shape) for p in ports(after, after.by_name["c"])] == [
        ("a", None, (4, 1, 3, 3)), ("b", None, (4, 2, 3, 3)),
    ]  # fmt: skip


def test_a_membrane_readout_stays_the_users_population():
    n = Net((3,))
    n.lif("out", n.fc("fc", n.x, 2), fire=Fire.NONE, reset=Reset.KEEP)
    after = n.compiled("out.m")
    assert names(after) == ["out"]
    assert after.outputs == {"logits": "out.m"}
