"""A naive reading of the plan: plain loops over samples, model steps and neurons, Python integers, no hardware time, no Lava."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np


def interpret(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return payload and post-reset membrane [N, T, *shape] per population, as int64."""
    plan = json.loads((folder / "plan.json").read_text())
    T = plan["steps"]
    N = next(iter(inputs.values())).shape[0] if inputs else 1
    pops = {p["name"]: p for p in plan["populations"]}
    out = {k: (np.zeros((N, T, *p["shape"]), np.int64), np.zeros((N, T, *p["shape"]), np.int64)) for k, p in pops.items()}
    load = lambda name: np.load(folder / name).astype(object)  # noqa: E731
    for s in range(N):
        state = {}
        for k, p in pops.items():
            zero = np.full(p["shape"], 0, object)
            v_init = p["neuron"]["v_init"]
            state[k] = [np.broadcast_to(load(v_init), p["shape"]) if v_init else zero, zero, zero]
        for t in range(T):
            now = {x["name"]: inputs[x["name"]][s, t if inputs[x["name"]].shape[1] > 1 else 0].astype(object) for x in plan["inputs"]}
            for name in order(pops):
                p = pops[name]
                a = np.full(p["shape"], 0, object)
                for port in p["ports"]:
                    k = port["model_delay"]
                    if t < k:
                        continue
                    source = now[port["source"]] if k == 0 else past(out, inputs, port["source"], s, t - k)
                    a = a + synapse(port, np.asarray(source, object), tuple(p["shape"]), load) * 2 ** port["exponent"]
                n, *state[name] = neuron(p["neuron"], plan["decay_bits"], *state[name], a, t, tuple(p["shape"]), load)
                now[name] = n
                out[name][0][s, t], out[name][1][s, t] = n, state[name][0]
    return out


def order(pops):
    """Populations such that every source without model delay comes first."""
    done, names = [], list(pops)
    while len(done) < len(names):
        ready = [
            n
            for n in names
            if n not in done and all(q["model_delay"] or q["source"] not in pops or q["source"] in done for q in pops[n]["ports"])
        ]
        assert ready, "loop without model delay"
        done += ready
    return done


def past(out, inputs, source, s, t):
    if source in out:
        return out[source][0][s, t]
    return inputs[source][s, t if inputs[source].shape[1] > 1 else 0]


def synapse(port, x, shape, load):
    if port["gather"]:
        index, flat = load(port["gather"]), x.reshape(-1)
        x = np.array([flat[j] if j >= 0 else 0 for j in index.reshape(-1)], object).reshape(index.shape)
    w = load(port["weight"])
    if port["kind"] == "linear":
        return np.array([sum(a * b for a, b in zip(row, x.reshape(-1), strict=True)) for row in w], object).reshape(shape)
    if port["kind"] == "diagonal":
        return np.broadcast_to(w, shape) * x.reshape(shape)
    n_out, per, kh, kw = w.shape
    (top, bottom, left, right), (sh, sw), (dh, dw), g = port["padding"], port["stride"], port["dilation"], port["groups"]
    _, H, W = x.shape
    oh = (H + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (W + left + right - dw * (kw - 1) - 1) // sw + 1
    y = np.full((n_out, oh, ow), 0, object)
    for o, r, c, ci, a, b in itertools.product(range(n_out), range(oh), range(ow), range(per), range(kh), range(kw)):
        row, col = r * sh + a * dh - top, c * sw + b * dw - left
        if 0 <= row < H and 0 <= col < W:  # a negative padding crops: the windows never reach the cropped rows
            y[o, r, c] += w[o, ci, a, b] * x[(o // (n_out // g)) * per + ci, row, col]
    return y.reshape(shape)


def neuron(spec, bits, v, i, w, a, t, shape, load):
    def row(key, default):
        if not spec.get(key):
            return np.full(shape, default, object)
        array = load(spec[key])
        return np.broadcast_to(array[t % array.shape[0]], shape)

    def whole(key, default):
        return np.broadcast_to(load(spec[key]) if spec.get(key) else np.array(default, object), shape)

    one = 2**bits
    if spec["alpha"]:
        i = a = decay(i, row("alpha", one), one) + a
    if spec.get("gain"):
        a = scaled(a, row("gain", 1), whole("gain_shift", 0))
    m = decay(v, row("leak", one), one) + a + row("bias", 0)
    theta = row("threshold", 0) + w
    if spec["fire"] == "step" and spec.get("spike_step"):
        step = row("spike_step", 0) + w
        n = sum(np.where(m >= theta + k * step, 1, 0).astype(object) for k in range(spec["max_spikes"]))
    elif spec["fire"] == "step":
        n = np.where(m >= theta, 1, 0).astype(object)
    elif spec["fire"] == "none":
        n = m
    else:
        n = np.minimum(np.maximum(scaled(m - theta, whole("multiplier", 1), whole("shift", 0)), 0), spec["payload_max"])
    if spec["reset"] == "subtract":
        v = m - (row("reset_amount", 0) + (w if spec.get("adapt_reset") else 0)) * n
    elif spec["reset"] == "set":
        v = np.where(n > 0, decay(m, row("reset_keep", 0), one) + row("reset_value", 0), m)
    elif spec["reset"] == "clamp":
        v = np.where(m < theta, m, theta)
    else:
        v = m if spec["reset"] == "keep" else m * 0
    if spec.get("v_min"):
        v = np.maximum(v, row("v_min", 0))
    if spec.get("adapt_jump"):
        w = decay(w, row("adapt_decay", 0), one) + row("adapt_jump", 0) * n
    return n, v, i, w


def scaled(x, q, k):
    """x * q / 2**k, nearest, ties to even: what Python's round() of a fraction does."""
    parts = zip(x.reshape(-1), q.reshape(-1), k.reshape(-1), strict=True)
    return np.array([round(Fraction(int(a) * int(b), 2 ** int(c))) for a, b, c in parts], object).reshape(x.shape)


def decay(x, q, one):
    """Python's int() of a fraction truncates toward zero."""
    return np.array([int(Fraction(int(b) * int(c), one)) for b, c in zip(x.reshape(-1), q.reshape(-1), strict=True)], object).reshape(
        x.shape
    )
