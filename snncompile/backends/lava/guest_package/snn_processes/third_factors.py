"""The arithmetic of the populations that send third factors: the readout's error, and the modulators of hidden layers.

softmax   o = ((max(z) - z) * multiplier // n) >> shift;   e = table[o & 63] >> (o >> 6), 0 from 15 octaves on
          k = floor(((e - onehot * sum(e)) * levels + r / 2**16 * sum(e)) / sum(e))
mean      the same of the sums of all z so far, n = t + 1; k times (warm + 1) / (t + 1); nothing before step ``warm``
mse       k = floor((z * multiplier - onehot * one + r / 2**16 * 2**shift) / 2**shift)
graded    as k, with ``fine`` in place of ``levels``
feedback  p = psi[|d| * psi_multiplier >> psi_shift];   k = floor((M * p * multiplier + r / 2**16 * 2**shift) / 2**shift)
local     k = floor(levels * multiplier * (warm + 1) * (255 * fired - A * (t + 1)) * p / (255 * 255 * (t + 1)**2 * 2**shift) + r / 2**16),
          from step ``warm`` on
clipped to -levels..levels;  r is 16 bits of a xorshift generator per neuron, advanced at every model step
sent      2 * max(k, 0) on one port, 2 * max(-k, 0) on the other
"""

from __future__ import annotations

from typing import Any

import numpy as np

TABLE = [round(32768 * 2 ** (-k / 64)) for k in range(64)]
WORD = 0xFFFFFFFF


def first_word(seed: int, index: int) -> int:
    """Start value of the generator of neuron ``index``."""
    word = ((index + 1) * 0x9E3779B1 + seed * 0x85EBCA6B) & WORD
    return ((word ^ (word >> 15)) * 0x2C1B3C6D & WORD) | 1


class Randoms:
    """One generator a neuron, 32-bit words that wrap."""

    def __init__(self, seed: int, neurons: int) -> None:
        self.words = np.array([first_word(seed, i) for i in range(neurons)], np.uint32)

    def draw(self) -> np.ndarray:
        """Next 16 bits of every neuron."""
        x = self.words
        x = x ^ np.left_shift(x, 13, dtype=np.uint32)
        x = x ^ np.right_shift(x, 17, dtype=np.uint32)
        x = x ^ np.left_shift(x, 5, dtype=np.uint32)
        self.words = x
        bits: np.ndarray = np.right_shift(x, 16, dtype=np.uint32).astype(np.int64)
        return bits


class ErrorRule:
    """State of the error population: one generator a neuron, sums of the payloads of a sample."""

    def __init__(self, error: dict[str, Any], neurons: int) -> None:
        self.error, self.size, self.randoms = error, neurons, Randoms(error["seed"], neurons)
        self.sums = [0] * neurons

    def step(self, z: np.ndarray, label: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Signed payloads and graded errors for the readout's payloads ``z`` of step t; ``label`` below 0 is no target."""
        p, randoms = self.error, [int(r) for r in self.randoms.draw()]
        self.sums = [int(v) + (s if t else 0) for v, s in zip(z, self.sums)]  # noqa: B905 - one length
        if label < 0 or t < p["warm"]:
            return np.zeros(self.size, np.int32), np.zeros(self.size, np.int32)
        if p["loss"] == "mse":
            found = [self.squared(int(v), i == label, r) for i, (v, r) in enumerate(zip(z, randoms))]  # noqa: B905
        else:
            found = self.softmax([int(v) for v in z], label, randoms, t)
        sent = [min(max(k, -p["levels"]), p["levels"]) for k, _ in found]
        return np.array(sent, np.int32), np.array([g for _, g in found], np.int32)

    def squared(self, v: int, target: bool, r: int) -> tuple[int, int]:
        """k and graded error of one neuron."""
        p = self.error
        dither, error = (r << p["shift"]) >> 16, v * p["multiplier"] - (p["one"] if target else 0)
        graded = (error * (p["fine"] // p["levels"]) + dither) >> p["shift"]
        return (error + dither) >> p["shift"], min(max(graded, -p["fine"]), p["fine"])

    def softmax(self, z: list[int], label: int, randoms: list[int], t: int) -> list[tuple[int, int]]:
        """k and graded error of all neurons."""
        p = self.error
        steps, late = (t + 1, p["warm"] + 1) if p["loss"] == "mean" else (1, 1)
        if p["loss"] == "mean":
            z = self.sums
        parts = []
        for v in z:
            octave = ((max(z) - v) * p["multiplier"] // steps) >> p["shift"]
            parts.append(0 if octave >= 15 * 64 else TABLE[octave % 64] >> (octave // 64))
        total, found = sum(parts), []
        for i, (part, r) in enumerate(zip(parts, randoms)):  # noqa: B905
            error = part - (total if i == label else 0)
            k = ((error * p["levels"] * late << 16) + r * total * steps) // (total * steps << 16)
            found.append((k, ((error * p["fine"] << 16) + r * total) // (total << 16)))
        return found


class ModulatorRule:
    """State of a modulator population: psi of the step heard last, spikes of the sample, generators."""

    def __init__(self, modulator: dict[str, Any], neurons: int) -> None:
        self.modulator, self.randoms = modulator, Randoms(modulator["seed"], neurons)
        self.scale = np.array(modulator["psi_multiplier"], np.int64)
        self.gain = np.array(modulator["multiplier"], np.int64)
        self.psi = np.zeros(neurons, np.int64)
        self.fired = np.zeros(neurons, np.int64)

    def hear(self, t: int, distance: np.ndarray, spikes: np.ndarray) -> None:
        """Distances from the threshold and spikes of the layer at model step t."""
        table = self.modulator["psi"]
        steps = np.right_shift(np.abs(distance.astype(np.int64)) * self.scale, self.modulator["psi_shift"])
        self.psi = np.array([table[k] if k < len(table) else 0 for k in steps.tolist()], np.int64)
        if t == 0:
            self.fired[:] = 0
        self.fired = self.fired + spikes

    def back(self, arrived: np.ndarray) -> np.ndarray:
        """Payloads for what the feedback synapse delivered."""
        p = self.modulator
        dither = np.right_shift(np.left_shift(self.randoms.draw(), p["shift"]), 16)
        return self.limited(np.right_shift(arrived.astype(np.int64) * self.psi * self.gain + dither, p["shift"]))

    def local(self, t: int, activity: np.ndarray | None) -> np.ndarray:
        """Payloads for the teacher's activity at model step t."""
        p, r = self.modulator, self.randoms.draw()
        if activity is None or t < p["warm"]:
            return np.zeros(len(self.psi), np.int32)
        unit = 255 * 255 * (t + 1) * (t + 1) * 2 ** p["shift"]
        wanted = p["levels"] * self.gain * (p["warm"] + 1) * (255 * self.fired - activity.astype(np.int64) * (t + 1)) * self.psi
        return self.limited((65536 * wanted + r * unit) // (65536 * unit))

    def limited(self, k: np.ndarray) -> np.ndarray:
        """Clipped payloads."""
        limited: np.ndarray = np.clip(k, -self.modulator["levels"], self.modulator["levels"]).astype(np.int32)
        return limited
