"""The arithmetic of the populations that send third factors: the readout's error, and the modulators of hidden layers.

softmax   o = ((max(z) - z) * multiplier // n) >> shift;   e = table[o & 63] >> (o >> 6), 0 from 15 octaves on
          k = floor((e - onehot * sum(e)) * levels / sum(e) + r)
mean      the same of the sums of all z so far, n = t + 1; k times (warm + 1) / (t + 1); nothing before step ``warm``
mse       k = floor((z * multiplier - onehot * one) / 2**shift + r)
graded    as k, with ``fine`` in place of ``levels`` and 1/2 in place of r
feedback  p = psi[|d| * psi_multiplier >> psi_shift];   k = floor(M * p * multiplier / 2**shift + r)
local     k = floor(levels * multiplier * (warm + 1) * (255 * fired - A * (t + 1)) * p / (255 * 255 * (t + 1)**2 * 2**shift) + r),
          from step ``warm`` on
clipped to -levels..levels;  r is what the floor left at the last step that learned, cut to 16 bits (feedback: exact); a hash at first
sent      2 * max(k, 0) on one port, 2 * max(-k, 0) on the other
"""

from __future__ import annotations

from typing import Any

import numpy as np

TABLE = [round(32768 * 2 ** (-k / 64)) for k in range(64)]
WORD = 0xFFFFFFFF


def first_rest(seed: int, index: int) -> int:
    """The remainder that neuron ``index`` starts with, 16 bits."""
    word = ((index + 1) * 0x9E3779B1 + seed * 0x85EBCA6B) & WORD
    return ((word ^ (word >> 15)) * 0x2C1B3C6D & WORD) >> 16


class ErrorRule:
    """State of the error population: a remainder a neuron in units of 2**-16, sums of the payloads of a sample."""

    def __init__(self, error: dict[str, Any], neurons: int) -> None:
        self.error, self.size = error, neurons
        self.rests, self.sums = [first_rest(error["seed"], i) for i in range(neurons)], [0] * neurons

    def step(self, z: np.ndarray, label: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Signed payloads and graded errors for the readout's payloads ``z`` of step t; ``label`` below 0 is no target."""
        p = self.error
        self.sums = [int(v) + (s if t else 0) for v, s in zip(z, self.sums)]  # noqa: B905 - one length
        if label < 0 or t < p["warm"]:
            return np.zeros(self.size, np.int32), np.zeros(self.size, np.int32)
        if p["loss"] == "mse":
            found = [self.squared(i, int(v), i == label) for i, v in enumerate(z)]
        else:
            found = self.softmax([int(v) for v in z], label, t)
        sent = [min(max(k, -p["levels"]), p["levels"]) for k, _ in found]
        return np.array(sent, np.int32), np.array([g for _, g in found], np.int32)

    def whole(self, i: int, above: int, below: int) -> int:
        """The whole part of ``above / below`` and the remainder of neuron ``i``, whose fraction is the next remainder."""
        k, rest = divmod(65536 * above + self.rests[i] * below, 65536 * below)
        self.rests[i] = rest // below
        return k

    def squared(self, i: int, v: int, target: bool) -> tuple[int, int]:
        """k and graded error of one neuron."""
        p = self.error
        error, unit = v * p["multiplier"] - (p["one"] if target else 0), 1 << p["shift"]
        graded = (2 * error * (p["fine"] // p["levels"]) + unit) // (2 * unit)
        return self.whole(i, error, unit), min(max(graded, -p["fine"]), p["fine"])

    def softmax(self, z: list[int], label: int, t: int) -> list[tuple[int, int]]:
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
        for i, part in enumerate(parts):
            error = part - (total if i == label else 0)
            k = self.whole(i, error * p["levels"] * late, total * steps)
            found.append((k, (2 * error * p["fine"] + total) // (2 * total)))
        return found


class ModulatorRule:
    """State of a modulator population: psi of the step heard last, spikes of the sample, remainders."""

    def __init__(self, modulator: dict[str, Any], neurons: int) -> None:
        self.modulator = modulator
        bits = modulator["shift"] if modulator["kind"] == "feedback" else 16
        self.rest = np.array([(first_rest(modulator["seed"], i) << bits) >> 16 for i in range(neurons)], np.int64)
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
        k, self.rest = np.divmod(arrived.astype(np.int64) * self.psi * self.gain + self.rest, np.int64(1 << self.modulator["shift"]))
        return self.limited(k)

    def local(self, t: int, activity: np.ndarray | None) -> np.ndarray:
        """Payloads for the teacher's activity at model step t."""
        p = self.modulator
        if activity is None or t < p["warm"]:
            return np.zeros(len(self.psi), np.int32)
        unit = 255 * 255 * (t + 1) * (t + 1) * 2 ** p["shift"]
        wanted = p["levels"] * self.gain * (p["warm"] + 1) * (255 * self.fired - activity.astype(np.int64) * (t + 1)) * self.psi
        k, rest = np.divmod(65536 * wanted + self.rest * unit, np.int64(65536 * unit))
        self.rest = rest // unit
        return self.limited(k)

    def limited(self, k: np.ndarray) -> np.ndarray:
        """Clipped payloads."""
        limited: np.ndarray = np.clip(k, -self.modulator["levels"], self.modulator["levels"]).astype(np.int32)
        return limited
