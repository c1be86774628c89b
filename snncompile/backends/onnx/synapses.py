"""Synapses as ONNX nodes whose result is exact on every conforming runtime that sums products.

ONNX has no integer convolution that holds 8-bit weights times 24-bit payloads: ``ConvInteger`` reads 8 bits, and kernels that use
the x86 instruction ``vpmaddubsw`` saturate its pair sums at 16 bits. So convolutions run as ``Conv`` on float32 and dense synapses
as ``MatMul`` on float32 or float64. Why that is exact: every product and every partial sum, in any order, with or without fused
multiply-add, is a whole number of magnitude at most

    bound = max over outputs of (sum of |weight|) * max |payload|

and whole numbers below 2**24 (float32) and 2**53 (float64) have no rounding error. The largest payload is known: the range of an
input, one spike, a clamped graded payload, or the membrane format. Where a convolution's bound is not below 2**24, payloads (and,
for wide weights, the weights) are cut into digits,

    x = sum over j of d_j * 2**(b*j),     0 <= d_j < 2**b,  the last digit signed
    y = sum over j of conv(weight, d_j) * 2**(b*j)         added in int64

each of which fits. The argument does not cover kernels that transform convolutions to other numbers (Winograd, FFT) or that compute
float32 in fewer bits (TF32, bfloat16 "fast math"); ONNX Runtime's CPU provider does neither by default, and the tests hold it to that
at the largest values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from snncompile.backends.onnx.writer import Writer
from snncompile.errors import InternalError
from snncompile.ir.graph import Array, Graph, Op, port_of
from snncompile.ir.integer import IntInput, IntNeuron
from snncompile.ir.linear_ops import Add, Conv2d, Delay, Diagonal, Gather, Linear
from snncompile.ir.program import IntProgram
from snncompile.ir.reference import limits

FLOAT32, FLOAT64 = 2**24, 2**53
MOST_PIECES = 5


@dataclass(frozen=True)
class Digits:
    """How to cut a product of weights and payloads: weight pieces (with their shifts), bits of a payload digit, how many digits."""

    weights: tuple[tuple[Array, int], ...]
    bits: int
    count: int


def write_synapse(w: Writer, graph: Graph, n: Op, args: list[str]) -> str:
    """Accumulators (or wired payloads) of a node as an int64 value (N, *shape)."""
    x = args[0]
    if isinstance(n, Gather):
        return _gather(w, graph, n, x)
    if isinstance(n, Conv2d):
        return _convolve(w, graph, n, x)
    if isinstance(n, Linear):
        return _matmul(w, graph, n, x)
    if isinstance(n, Diagonal):
        return w.op("Mul", x, w.whole(n.weight, "weight"), label="accumulator")
    if isinstance(n, Add):
        for k, other in enumerate(args[1:], start=1):
            x = w.op("Add", x, other, label="accumulator" if k == len(args) - 1 else "partial")
        return x
    raise InternalError(f"no ONNX form of '{n.name}' ({n.kind})")


def largest(graph: Graph, ref: str, seen: frozenset[str] = frozenset()) -> int:
    """The largest magnitude that a value can have, for every input: what the reference checks."""
    n = graph.node(ref)
    if isinstance(n, IntInput):
        return max(abs(n.low), abs(n.high))
    if isinstance(n, IntProgram):
        wide = max(abs(k) for k in limits(graph)["membrane"])
        return wide if port_of(ref) else max(abs(n.payload_min), abs(n.payload_max))
    if isinstance(n, IntNeuron):
        if port_of(ref) or n.fire == "none":
            return max(abs(k) for k in limits(graph)["membrane"])
        return n.max_spikes if n.fire == "step" else max(abs(n.payload_min), abs(n.payload_max))
    if isinstance(n, Delay):  # in a loop of delays and wiring alone, only initial values go round
        before = int(np.abs(n.initial).max(initial=0))
        return before if n.name in seen else max(before, largest(graph, n.inputs[0], seen | {n.name}))
    if isinstance(n, Gather):
        return largest(graph, n.inputs[0], seen)
    return max(abs(k) for k in limits(graph)["accumulator"])


def plan_digits(weight: Array, payload: int) -> Digits:
    """The cheapest way to run an exact convolution in float32: one piece and one digit wherever that fits.

    weight (outputs, ...), payload the largest magnitude. The number of convolutions is pieces * digits.
    """
    magnitude, sign = np.abs(weight.astype(np.int64)), np.sign(weight.astype(np.int64))
    wide = max(int(magnitude.max(initial=0)).bit_length(), 1)
    found: list[tuple[int, Digits]] = []
    for pieces in range(1, MOST_PIECES + 1):
        c = -(-wide // pieces)
        parts = [(sign * (magnitude >> (c * k) & ((1 << c) - 1)), c * k) for k in range(pieces)]
        parts = [(part, shift) for part, shift in parts if part.any()] or parts[:1]
        heaviest = max(_weight_sum(part) for part, _ in parts)
        if heaviest * payload < FLOAT32:
            found.append((len(parts), Digits(tuple(parts), 0, 1)))
            continue
        bits = ((FLOAT32 - 1) // heaviest).bit_length() - 1
        if bits >= 1:
            count = -(-payload.bit_length() // bits)
            found.append((len(parts) * count, Digits(tuple(parts), bits, count)))
    if not found:
        raise InternalError(f"a convolution with weights of {wide} bits and payloads up to {payload} has no exact float32 form")
    return min(found, key=lambda pair: pair[0])[1]


def _weight_sum(weight: Array) -> int:
    return int(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max(initial=0))


def _convolve(w: Writer, graph: Graph, n: Conv2d, x: str) -> str:
    top, bottom, left, right = n.padding
    if min(n.padding) < 0:
        _, height, width = graph.shape(n.inputs[0])
        starts, ends = (max(-top, 0), max(-left, 0)), (height - max(-bottom, 0), width - max(-right, 0))
        x = w.op("Slice", x, w.vector(*starts), w.vector(*ends), w.vector(2, 3), label="cropped")
    plan = plan_digits(n.weight, largest(graph, n.inputs[0]))
    total: str | None = None
    for (part, shift), k in ((p, k) for p in plan.weights for k in range(plan.count)):
        digit = w.op("Cast", _digit(w, x, plan, k), label="payload", to=TensorProto.FLOAT)
        real = w.op(
            "Conv", digit, w.real(part, TensorProto.FLOAT, "weight"), label="sum", strides=list(n.stride), dilations=list(n.dilation),
            group=n.groups, pads=[max(side, 0) for side in (top, left, bottom, right)],
        )  # fmt: skip
        y = w.op("Cast", real, label="accumulator", to=TensorProto.INT64)
        if shift + plan.bits * k:
            y = w.op("Mul", y, w.number(2 ** (shift + plan.bits * k)), label="shifted")
        total = y if total is None else w.op("Add", total, y, label="accumulator")
    assert total is not None
    return total


def _digit(w: Writer, x: str, plan: Digits, k: int) -> str:
    """Digit k of a payload: floor(x / 2**(b*k)), and of all but the last digit the remainder by 2**b."""
    for _ in range(k):
        x = w.op("Div", w.op("Sub", x, w.op("Mod", x, w.number(2**plan.bits), label="low"), label="high"), w.number(2**plan.bits))
    return x if k == plan.count - 1 else w.op("Mod", x, w.number(2**plan.bits), label="digit")


def _matmul(w: Writer, graph: Graph, n: Linear, x: str) -> str:
    bound = _weight_sum(n.weight.astype(np.int64)) * largest(graph, n.inputs[0])
    if bound >= FLOAT64:
        raise InternalError(f"'{n.name}': a sum of up to {bound} is not exact in float64")
    kind = TensorProto.FLOAT if bound < FLOAT32 else TensorProto.DOUBLE
    if len(graph.shape(n.inputs[0])) != 1:
        x = w.op("Reshape", x, w.vector(-1, n.weight.shape[1]), label="flat")
    real = w.op("MatMul", w.op("Cast", x, label="payload", to=kind), w.real(n.weight.T, kind, "weight"), label="sum")
    return w.op("Cast", real, label="accumulator", to=TensorProto.INT64)


def _gather(w: Writer, graph: Graph, n: Gather, x: str) -> str:
    shape, source = n.index.shape, graph.shape(n.inputs[0])
    size = math.prod(source)
    if n.is_reshape and n.index.size == size:
        return w.op("Reshape", x, w.vector(-1, *shape), label="wired") if shape != source else x
    flat = x if len(source) == 1 else w.op("Reshape", x, w.vector(-1, size), label="flat")
    y = w.op("Gather", flat, w.whole(np.maximum(n.index, 0), "index"), label="wired", axis=1)
    return y if n.index.min(initial=0) >= 0 else w.op("Mul", y, w.whole((n.index >= 0).astype(np.int64), "wire"), label="masked")


__all__ = ["Digits", "largest", "plan_digits", "write_synapse"]
