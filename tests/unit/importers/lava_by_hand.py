"""Lava as measured, written down a second time and in hardware steps: what netx builds from a network, process by process.

Nothing of the compiler is used, nothing of it looks alike: layouts are Lava's (X, Y, C), convolutions are true ones with flipped
kernels, every synapse process sends what it computed a step before, delays are ring buffers, a reset clears u and v by the clock.
Source: the project's notes on lava-nc 0.10.0 (fixed-point semantics of LIF, Dense, DelayDense, Conv) and lava-dl netx/hdf5.py.
"""

from __future__ import annotations

from math import floor, log2
from typing import Any

import numpy as np

TOP = 2**23


class Lif:
    """The built-in LIF in fixed point, with LIFReset's clock."""

    def __init__(self, shape, neuron: dict[str, Any] | None, bias, period: int, offset: int) -> None:
        p = neuron or {"iDecay": 0, "vDecay": 4096, "vThMant": 1 << 18 - 1}
        per_channel = [np.asarray(p[k]) for k in ("iDecay", "vDecay")]
        self.du, self.dv = (a - (k == 0) for k, a in enumerate(per_channel))
        self.vth, self.bias = int(p["vThMant"]) * 64, bias * 64
        self.u, self.v = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self.period, self.phase = period, offset % period

    def run(self, time: int, a_in) -> np.ndarray:
        if time % self.period == self.phase:
            self.u[...] = self.v[...] = 0
        u = np.sign(self.u) * ((abs(self.u) * (4096 - (self.du + 1))) >> 12) + a_in * 64
        u = np.where(u > TOP, u - 2 * TOP, np.where(u <= -TOP, u + 2 * TOP, u))
        v = np.sign(self.v) * ((abs(self.v) * (4096 - self.dv)) >> 12) + u + self.bias
        v = np.clip(v, -TOP + 1, TOP - 1)
        s = v > self.vth
        self.u, self.v = u, np.where(s, 0, v)
        return s.astype(np.int64)


class Dense:
    """netx's optimize_weight_bits, then Lava's Dense or DelayDense."""

    def __init__(self, weight, delay=None, beside=None) -> None:
        both = weight if beside is None else np.hstack([weight, beside])
        self.w, self.exp = as_on_chip(weight, both)
        rows, columns = weight.shape
        if delay is None:
            self.delay = np.zeros((rows, columns), dtype=int)
        elif delay.size == rows:
            self.delay = np.repeat(delay.reshape(-1, 1), columns, axis=1)
        else:
            self.delay = np.repeat(delay.reshape(1, -1), rows, axis=0)
        self.ring = np.zeros((rows, int(self.delay.max()) + 1), dtype=np.int64)

    def send(self) -> np.ndarray:
        return self.ring[:, 0].copy()

    def receive(self, s) -> None:
        self.ring[:, 0] = 0
        self.ring = np.roll(self.ring, -1, axis=1)
        for i in range(len(self.w)):
            for d in range(self.ring.shape[1]):
                total = sum(int(self.w[i, j]) * int(s[j]) for j in np.flatnonzero(self.delay[i] == d))
                self.ring[i, d] += total >> -self.exp


def as_on_chip(weight, both):
    """Weights in Lava's memory and their (negative) exponent, as netx chooses them for ``both`` together."""
    biggest, smallest = int(both.max()), int(both.min())
    mixed = not (biggest < 0 or smallest >= 0)
    unsigned = 255 / biggest if biggest > 0 else -256 / smallest
    fill = min(127 / biggest if biggest else np.inf, -128 / smallest) if mixed else unsigned
    left = floor(log2(fill)) + mixed
    common = 8
    while common and (both % 2**common).any():
        common -= 1
    bits = 8 - left - (common - mixed)
    w = weight * 2**left
    if w.min() >= 0:
        w, sign = np.minimum(w, 255), 1
    elif w.max() <= 0:
        w, sign = np.maximum(w, -255), -1
    else:
        w, sign = np.clip(w, -256, 255), 1
    unit = 2 ** max(8 - bits + (w.min() < 0 < w.max()), 0)
    return sign * ((sign * w) // unit * unit), -left


class Conv:
    """Lava's Conv: input (X, Y, C), weight (out, kx, ky, in), a true convolution, no weight processing, 24-bit wrap."""

    def __init__(self, layer: dict[str, Any], shape) -> None:
        w = np.asarray(layer["weight"])[:, :, ::-1, ::-1]
        self.w = w.reshape(w.shape[:4]).transpose(0, 3, 2, 1)
        self.stride, self.padding, self.dilation = (np.asarray(layer[k])[::-1] for k in ("stride", "padding", "dilation"))
        self.groups, self.shape = layer["groups"], tuple(shape)
        self.buffer = np.zeros(self.shape, dtype=np.int64)

    def send(self) -> np.ndarray:
        return self.buffer

    def receive(self, s) -> None:
        (px, py), (sx, sy), (dx, dy) = self.padding, self.stride, self.dilation
        x = np.pad(s, [(px, px), (py, py), (0, 0)])
        out, kx, ky, depth = self.w.shape
        result = np.zeros(self.shape, dtype=np.int64)
        for o in range(out):
            first = o // (out // self.groups) * depth
            for a in range(self.shape[0]):
                for b in range(self.shape[1]):
                    for i in range(kx):
                        for j in range(ky):  # y[n] = sum_k w[k] x[n - k]
                            seen = x[a * sx + (kx - 1 - i) * dx, b * sy + (ky - 1 - j) * dy, first : first + depth]
                            result[a, b, o] += int(self.w[o, i, j] @ seen)
        self.buffer = (result + TOP) % (2 * TOP) - TOP


def replay(layers: list[dict[str, Any]], x: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Spikes and membranes by layer number, (T, *shape of the file), for one sample x (T, *shape of the file).

    An input layer with a neuron takes x as bias mantissas.
    """
    steps = len(x)
    chain, order, flatten, hops = [], [], False, 0
    for k, layer in enumerate(layers):
        shape = tuple(layer["shape"])[::-1]
        if layer["type"] == "flatten":
            flatten = True
            continue
        if layer["type"] == "input" and "neuron" not in layer:
            continue
        bias = np.asarray(layer.get("bias", 0), dtype=np.int64)
        synapse = loop = None
        if layer["type"].startswith("dense"):
            beside = layer.get("weight_rec")
            synapse = Dense(np.asarray(layer["weight"]), None if "delay" not in layer else np.asarray(layer["delay"]), beside)
            if beside is not None:
                loop = Dense(np.asarray(beside), None, layer["weight"])
        elif layer["type"] == "conv":
            synapse = Conv(layer, shape)
        hops += synapse is not None
        if layer["type"] == "input":
            bias = np.zeros(shape, dtype=np.int64)
        neuron = Lif(shape, layer.get("neuron"), bias, steps, 1 + hops)
        chain.append((k, synapse, loop, neuron, flatten, hops))
        order.append(k)
        flatten = False
    found = {k: ([], []) for k in order}
    for time in range(1, steps + hops + 1):
        sample = x[time - 1] if time <= steps else np.zeros_like(x[0])
        sent = sample.T
        for k, synapse, loop, neuron, flat, depth in chain:
            if synapse is None:
                neuron.bias = sent * 64
                s = neuron.run(time, np.zeros_like(sent))
            else:
                a = synapse.send() + (0 if loop is None else loop.send())
                s = neuron.run(time, a)
                if time - 1 < depth:  # a bias may fire before the sample arrives; into the delays of a fresh network nothing was sent
                    s = np.zeros_like(s)
                synapse.receive(sent.transpose(2, 1, 0).reshape(-1) if flat else sent)
                if loop is not None:
                    loop.receive(s)
            if 0 <= time - 1 - depth < steps:
                found[k][0].append(s.T.copy())
                found[k][1].append(neuron.v.T.copy())
            sent = s
    return {k: (np.stack(s), np.stack(v)) for k, (s, v) in found.items()}
