"""The small VGG again in NumPy alone: forward, and the gradient sum_t M_i psi_i a_j with traces as explicit sums over the past."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LEAK, GAIN, MSE = 0.5, 2.74, 0.05


def patches(x):  # [B,C,H,W] -> [B,C,H,W,3,3], zero padding 1
    return sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))


def conv(x, w):
    return np.einsum("bchwkl,ockl->bohw", patches(x), w)


def conv_weight_gradient(x, error):
    return np.einsum("bohw,bchwkl->ockl", error, patches(x))


def conv_input_gradient(error, w):
    b, _, height, width = error.shape
    dx = np.zeros((b, w.shape[1], height + 2, width + 2))
    for k in range(3):
        for m in range(3):
            dx[:, :, k : k + height, m : m + width] += np.einsum("bohw,oc->bchw", error, w[:, :, k, m])
    return dx[:, :, 1:-1, 1:-1]


def psi(u):
    sg = 1 / (1 + np.exp(-4 * (u - 1)))
    return 4 * sg * (1 - sg)


def constant_trace(spikes, membranes):  # OTTT: a[t] = sum_tau leak^(t - tau) s[tau], the closed form
    t = len(spikes) - 1
    return sum(LEAK ** (t - tau) * s for tau, s in enumerate(spikes))


def dynamics_trace(spikes, membranes):  # NDOT: a[t] = sum_tau s[tau] prod_{k = tau}^{t - 1} e[k], e[k] = v[k] / v[k - 1] within +-leak
    total = 0.0
    for tau, s in enumerate(spikes):
        factor = np.ones_like(s)
        for k in range(tau, len(spikes) - 1):
            before = membranes[k - 1] if k else np.zeros_like(s)
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = factor * np.where(before == 0, LEAK, np.clip(membranes[k] / before, -LEAK, LEAK))
        total = total + factor * s
    return total


def lif(v, current):
    u = LEAK * v + current
    s = (u >= 1).astype(u.dtype)
    return u, s, u - s


def loss_gradient(y, labels, steps):
    onehot = np.eye(y.shape[1])[labels]
    softmax = np.exp(y - y.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    return ((1 - MSE) * (softmax - onehot) / len(y) + MSE * 2 * (y - onehot) / y.size) / steps


def standardised(w, gain):
    n = w[0].size
    c = w - w.mean((1, 2, 3), keepdims=True)
    r = (w.var((1, 2, 3), ddof=1, keepdims=True) * n + 1e-4) ** -0.5
    return gain * c * r, c, r, n


def through_standardisation(grad, w, gain):  # exact derivative of W~ with respect to W and gain
    _, c, r, n = standardised(w, gain)
    along = (grad * c).sum((1, 2, 3), keepdims=True)
    dc = gain * (r * grad - r**3 * n / (n - 1) * c * along)
    return dc - dc.mean((1, 2, 3), keepdims=True), along * r


class ReferenceNet:
    """x -> conv1 (+ feedback of t-1) -> LIF -> 2.74 -> pool -> conv2 -> LIF -> 2.74 -> flatten -> linear, learning by traces."""

    def __init__(self, net, trace=constant_trace):
        self.trace = trace
        self.p = {name: tensor.detach().numpy().copy() for name, tensor in net.named_parameters()}
        self.spikes = 0.0

    def gradients(self, x, labels, steps):
        """Yield the gradient of every step, {name: array}; whoever iterates may change ``self.p`` between steps."""
        v1 = v2 = 0.0
        spikes, membranes = ([], []), ([], [])
        for _ in range(steps):
            p, g = self.p, {}
            w1, w2 = (standardised(p[f"features.{i}.conv.weight"], p[f"features.{i}.conv.gain"])[0] for i in (0, 2))
            current = conv(x, w1) + p["features.0.conv.bias"][:, None, None]
            recurrent = "feedback.weight" in p and len(spikes[1]) > 0
            if recurrent:
                fed_back = self.trace(spikes[1], membranes[1])
                current = current + conv(self._upsample(spikes[1][-1]), p["feedback.weight"]) + p["feedback.bias"][:, None, None]
            u1, s1, v1 = lif(v1, current)
            u2, s2, v2 = lif(v2, conv(self._pool(s1), w2) + p["features.2.conv.bias"][:, None, None])
            for layer, (s, v) in enumerate(((s1, v1), (s2, v2))):
                spikes[layer].append(s)
                membranes[layer].append(v)
            a1, a2 = (self.trace(*history) for history in zip(spikes, membranes, strict=True))
            self.spikes += s1.mean() * s2.mean()

            error = loss_gradient(GAIN * s2.reshape(len(x), -1) @ p["classifier.weight"].T + p["classifier.bias"], labels, steps)
            g["classifier.weight"], g["classifier.bias"] = GAIN * error.T @ a2.reshape(len(x), -1), error.sum(0)
            error = GAIN * (error @ p["classifier.weight"]).reshape(s2.shape) * psi(u2)
            self._conv(g, "features.2.conv", self._pool(a1), error)
            error = conv_input_gradient(error, w2).repeat(2, 2).repeat(2, 3) / 4
            error = GAIN * error * psi(u1)
            self._conv(g, "features.0.conv", x, error)  # pixels: no trace
            if recurrent:
                g["feedback.weight"], g["feedback.bias"] = conv_weight_gradient(self._upsample(fed_back), error), error.sum((0, 2, 3))
            yield g

    @staticmethod
    def _pool(s):
        b, c, height, width = s.shape
        return GAIN * s.reshape(b, c, height // 2, 2, width // 2, 2).mean((3, 5))

    @staticmethod
    def _upsample(s):
        return GAIN * s.repeat(2, 2).repeat(2, 3)

    def _conv(self, g, name, a, error):
        w, gain = self.p[f"{name}.weight"], self.p[f"{name}.gain"]
        g[f"{name}.weight"], g[f"{name}.gain"] = through_standardisation(conv_weight_gradient(a, error), w, gain)
        g[f"{name}.bias"] = error.sum((0, 2, 3))
