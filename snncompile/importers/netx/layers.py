"""What the layers of a ``.net`` file mean, as typed records. Shapes are (C, H, W) or (N,), as in the file.

Everything that netx would ignore, clip or truncate without a word is an error here (SNN151, SNN152), or a note.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from snncompile.errors import CompileError, Diagnostic, fail
from snncompile.importers.netx.file import Section
from snncompile.importers.netx.neuron import NeuronSpec, parse_neuron
from snncompile.ir.graph import Array, Shape

UNSUPPORTED = {
    "convT": "transposed convolution", "unpool": "unpooling", "concat": "concatenation", "dense_comp": "a dense layer of complex weights",
}  # fmt: skip
FARTHEST = 62
KNOWN = frozenset({
    "type", "shape", "neuron", "weight", "weight_rec", "bias", "delay", "inFeatures", "outFeatures", "inChannels", "outChannels",
    "kernelSize", "stride", "padding", "dilation", "groups",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel moves, (height, width) each."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer: ``kind`` input, dense, dense_rec, conv, pool, flatten or average; ``shape`` its output; absent fields are None.

    weight   (O, I), or (O, I / groups, kh, kw); (1, 1, kh, kw) of a pool; whole numbers in units of 2**6 membrane LSBs
    bias     broadcastable to the shape, mantissas in the same units
    delay    steps per synapse, in the weight's shape
    scale    an input's (weight, bias): a value x enters as the current  weight * x + bias
    """

    where: str
    kind: str
    shape: Shape
    neuron: NeuronSpec | None = None
    weight: Array | None = None
    recurrent: Array | None = None
    bias: Array | None = None
    delay: Array | None = None
    scale: tuple[int, int] = (1, 0)
    window: Window = field(default_factory=Window)
    groups: int = 1
    ignored: tuple[str, ...] = ()


def parse_layers(root: Section) -> list[Layer]:
    """All layers in order (SNN150 to SNN152); every layer that is wrong is reported."""
    group = root.group("layer")
    names = list(group.groups)
    if not names:
        raise fail("SNN150", "group 'layer' holds no layers")
    if set(names) != {str(k) for k in range(len(names))}:
        raise fail("SNN150", f"the layers are called {', '.join(sorted(names))}, expected 0..{len(names) - 1} without a gap")
    layers: list[Layer] = []
    problems: list[Diagnostic] = []
    for k in range(len(names)):
        try:
            layers.append(parse_layer(group.groups[str(k)]))
        except CompileError as e:
            problems += e.diagnostics
    if problems:
        raise CompileError(problems)
    return layers


def parse_layer(section: Section) -> Layer:
    """One layer's group."""
    kind = section.text("type")
    if kind in UNSUPPORTED:
        raise fail("SNN151", f"'{section.path('type')}' is {kind} ({UNSUPPORTED[kind]})", help="netx cannot run it either")
    reader = {
        "input": _input, "dense": _dense, "dense_rec": _dense, "conv": _conv, "pool": _pool, "flatten": _plain, "average": _plain,
    }.get(kind)  # fmt: skip
    if reader is None:
        raise fail("SNN151", f"'{section.path('type')}' is '{kind}', no layer of lava-dl's network exchange")
    return reader(section, kind, _shape(section))


def _shape(section: Section) -> Shape:
    values = section.wholes("shape").reshape(-1)
    if values.size not in (1, 2, 3) or np.any(values < 1):
        raise section.wrong("shape", f"is {values.tolist()}, expected the positive sizes [C, H, W] or [N]")
    return tuple(int(n) for n in values)


def _ignored(section: Section) -> tuple[str, ...]:
    return tuple(section.path(k) for k in section.names() if k not in KNOWN)


def _neuron(section: Section, shape: Shape) -> NeuronSpec | None:
    return parse_neuron(section.group("neuron"), shape) if "neuron" in section else None


def _input(section: Section, kind: str, shape: Shape) -> Layer:
    neuron = _neuron(section, shape)
    scale = (section.whole("weight", 64), section.whole("bias", 0)) if neuron is not None else (1, 0)
    if scale[0] == 0:
        raise section.wrong("weight", "is 0: the input would not enter the network")
    return Layer(where=section.where, kind=kind, shape=shape, neuron=neuron, scale=scale, ignored=_ignored(section))


def _plain(section: Section, kind: str, shape: Shape) -> Layer:
    return Layer(where=section.where, kind=kind, shape=shape, ignored=_ignored(section))


def _dense(section: Section, kind: str, shape: Shape) -> Layer:
    size = (prod(shape),)
    weight = _matrix(section, "weight", size[0])
    recurrent = None
    if kind == "dense_rec":
        recurrent = _matrix(section, "weight_rec", size[0])
        if recurrent.shape[1] != size[0]:
            raise section.wrong("weight_rec", f"has shape {list(recurrent.shape)}, expected {[*size, *size]}")
        if "delay" in section:
            message = f"'{section.path('delay')}': delays of a recurrent layer"
            raise fail("SNN151", message, notes=["netx applies one delay matrix to two synapses of different shapes"])
    for key, found in (("inFeatures", weight.shape[1]), ("outFeatures", size[0])):
        if section.whole(key, found) != found:
            raise section.wrong(key, f"is {section.whole(key)}, the weights are of shape {list(weight.shape)}")
    return Layer(
        where=section.where, kind=kind, shape=size, neuron=_neuron(section, size), weight=weight, recurrent=recurrent,
        bias=_bias(section, size), delay=_delays(section, weight), ignored=_ignored(section),
    )  # fmt: skip


def _matrix(section: Section, key: str, rows: int) -> Array:
    if key in section.groups:
        raise fail("SNN151", f"'{section.path(key)}' holds complex weights (real and imag)", help="only real weights are taken")
    weight = section.wholes(key)
    if weight.ndim == 1 and weight.size % rows == 0 and weight.size:
        weight = weight.reshape(rows, -1)
    if weight.ndim != 2 or len(weight) != rows or not weight.size:
        raise section.wrong(key, f"has shape {list(weight.shape)}, expected [{rows}, inputs] by '{section.path('shape')}'")
    return weight


def _conv(section: Section, kind: str, shape: Shape) -> Layer:
    shape = _spatial(section, shape)
    weight = _kernel(section)
    groups = section.whole("groups", 1)
    if groups < 1 or len(weight) % groups:
        raise section.wrong("groups", f"is {groups}, the layer has {len(weight)} channels")
    if len(weight) != shape[0]:
        raise section.wrong("weight", f"has shape {list(weight.shape)}, expected {shape[0]} channels by '{section.path('shape')}'")
    expected = (("inChannels", weight.shape[1] * groups), ("outChannels", len(weight)))
    for key, found in expected:
        if section.whole(key, found) != found:
            raise section.wrong(key, f"is {section.whole(key)}, the weights are of shape {list(weight.shape)}")
    delay, bias = _delays(section, weight), _bias(section, shape)
    if delay is not None and bias is not None and np.any(bias):
        notes = ["netx drops these delays; delaying the inputs instead equals lava-dl's delayed outputs only without a bias"]
        raise fail("SNN151", f"'{section.path('delay')}': delays of a convolution that has a bias", notes=notes)
    return Layer(
        where=section.where, kind=kind, shape=shape, neuron=_needed(section, shape), weight=weight, bias=bias, delay=delay,
        window=_window(section), groups=groups, ignored=_ignored(section),
    )  # fmt: skip


def _pool(section: Section, kind: str, shape: Shape) -> Layer:
    """lava-dl's pooling: the weighted sum over the window of each channel, then a neuron."""
    shape = _spatial(section, shape)
    weight = _kernel(section)
    if weight.shape[:2] != (1, 1):
        raise section.wrong("weight", f"has shape {list(weight.shape)}, expected [1, 1, height, width]")
    if "delay" in section and np.any(section.wholes("delay")):
        raise fail("SNN151", f"'{section.path('delay')}': delays of a pooling layer", notes=["netx runs no pooling layers at all"])
    window = _window(section)
    if "stride" not in section:
        window = replace(window, stride=(int(weight.shape[2]), int(weight.shape[3])))
    return Layer(
        where=section.where, kind=kind, shape=shape, neuron=_needed(section, shape), weight=weight, bias=_bias(section, shape),
        window=window, groups=shape[0], ignored=_ignored(section),
    )  # fmt: skip


def _needed(section: Section, shape: Shape) -> NeuronSpec:
    return parse_neuron(section.group("neuron"), shape)


def _spatial(section: Section, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise section.wrong("shape", f"is {list(shape)}, expected [C, H, W]")
    return shape


def _kernel(section: Section) -> Array:
    if "weight" in section.groups:
        raise fail("SNN151", f"'{section.path('weight')}' holds complex weights (real and imag)", help="only real weights are taken")
    weight = section.wholes("weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4 or not weight.size:
        raise section.wrong("weight", f"has shape {list(weight.shape)}, expected [out, in, height, width]")
    if "kernelSize" in section and section.pair("kernelSize") != weight.shape[2:]:
        raise section.wrong("kernelSize", f"is {list(section.pair('kernelSize'))}, the weights are of shape {list(weight.shape)}")
    return weight


def _window(section: Section) -> Window:
    found = {"stride": section.pair("stride", 1), "padding": section.pair("padding", 0), "dilation": section.pair("dilation", 1)}
    for key, pair in found.items():
        if min(pair) < (0 if key == "padding" else 1):
            raise section.wrong(key, f"is {list(pair)}")
    return Window(**found)


def _bias(section: Section, shape: Shape) -> Array | None:
    """One number, one per channel or one per neuron."""
    if "bias" not in section:
        return None
    bias = section.wholes("bias")
    if bias.shape == shape:
        return bias
    if bias.size in (1, shape[0]):
        return bias.reshape((-1,) + (1,) * (len(shape) - 1))
    raise section.wrong("bias", f"has shape {list(bias.shape)}, expected 1 or {shape[0]} numbers")


def _delays(section: Section, weight: Array) -> Array | None:
    """Steps per synapse: one number, one per neuron (as lava-dl exports them), one per input, or one per synapse."""
    if "delay" not in section:
        return None
    delay = section.wholes("delay")
    if delay.size and (delay.min() < 0 or delay.max() > FARTHEST):
        found = f"{delay.min()}..{delay.max()}"
        notes = ["netx would clip them without a word"]
        way_out = f"train with max_delay={FARTHEST}"
        raise fail("SNN152", f"'{section.path('delay')}' holds {found}, delays lie in 0..{FARTHEST}", notes=notes, help=way_out)
    column = (-1,) + (1,) * (weight.ndim - 1)
    if delay.size == 1:
        return np.broadcast_to(delay.reshape((1,) * weight.ndim), weight.shape)
    if delay.ndim == 1 and delay.size == len(weight):
        return np.broadcast_to(delay.reshape(column), weight.shape)
    if weight.ndim == 2 and delay.ndim == 1 and delay.size == weight.shape[1]:
        return np.broadcast_to(delay[None], weight.shape)
    if delay.shape == weight.shape:
        return delay
    raise section.wrong("delay", f"has shape {list(delay.shape)}, the weights {list(weight.shape)}: expected one per neuron or input")


__all__ = ["Layer", "parse_layer", "parse_layers"]
