"""The online rules on a stream of single samples, for dense layers in a row: OTTT and SLTT with back-propagation or feedback
alignment, and LTL's local errors. What the chip does in integers is done here in float, by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from snncompile.online.surrogate import Boxcar, Rectangle, Sigmoid, Surrogate, Triangle

Array = npt.NDArray[Any]
SURROGATES: dict[str, Callable[[float], Surrogate]] = {"sigmoid": Sigmoid, "triangle": Triangle, "rectangle": Rectangle, "boxcar": Boxcar}


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A dense layer and its neurons; constants have a leading axis of length T or 1.

        m[t] = leak v[t-1] + W s[t] + bias;   n[t] = 1 if m >= threshold, or m ("none")
        v[t] = m - reset n ("subtract"), reset where n else m ("set"), or m ("none")
        a[t] = trace a[t-1] + s[t];           W -= step * share * modulator (outer) a       where ``step`` is not 0

    Source     as ``learn_chain``
    shapes     weight [out,in]; bias, leak, threshold, reset [1 or T, 1 or out]; start [1 or out]; feedback [out,classes]
    share      [out] or [1], 1 if not given
    modulator  of the readout: g;  of a hidden layer: M psi(unit (m - threshold)), M = feedback @ g, or W^T of the layer behind times its
               modulator where there is no ``feedback``; ``local``: (r - A) / (t + 1) psi, r the mean of the spikes so far
    """

    weight: Array
    kind: str
    bias: Array
    leak: Array
    threshold: Array
    reset: Array
    start: Array
    step: float = 0.0
    share: Array | None = None
    trace: float = 0.0
    surrogate: tuple[str, float] = ("sigmoid", 4.0)
    unit: float = 1.0
    feedback: Array | None = None
    local: bool = False


def learn_chain(
    stages: Sequence[Stage], spikes: Array, labels: Array, *, loss: str, warm: int = 0, activity: Sequence[Array | None] | None = None,
    keep: Collection[int] | None = None, transport: bool = False, progress: Callable[[int, int], None] | None = None,
) -> list[Array]:  # fmt: skip
    """Weights of the stages that learn, float32 [K, out, in] each, in the order of ``stages``: before the stream and after samples.

    spikes  [N,T,in]       labels  [N], negative: the sample is seen, not learned       loss  softmax, mse, or mean (LTL: from ``warm`` on)
    activity  per stage [N,n] in 0..1 for local errors      keep  after how many samples to keep weights (all)
    transport  use back-propagation, W^T of this moment, in the place of feedback
    Source  OTTT (Xiao et al., NeurIPS 2022); SLTT (Meng et al., ICCV 2023); feedback alignment (Lillicrap et al., 2016;
            direct: Nokland, NeurIPS 2016); LTL (Yang et al., NeurIPS 2022)
    """
    nets = [_Layer(s, transport) for s in stages]
    plastic = [n for n in nets if n.stage.step]
    wanted = set(range(len(spikes) + 1) if keep is None else keep)
    out = [[n.weight.numpy().copy()] if 0 in wanted else [] for n in plastic]
    frames = torch.from_numpy(np.asarray(spikes, dtype=np.float32))
    for n, label in enumerate(labels):
        if progress is not None:
            progress(n, len(spikes))
        sums = torch.zeros(len(nets[-1].weight))
        for net in nets:
            net.forget()
        for t in range(frames.shape[1]):
            sent = frames[n, t]
            for net in nets:
                sent = net.forward(t, sent)
            sums = sums + sent
            if label >= 0 and t >= warm:
                g = gradient(loss, sums / (t + 1) if loss == "mean" else sent, int(label)) / (t + 1 if loss == "mean" else 1)
                _update(nets, g, t, [None if a is None else torch.from_numpy(np.asarray(a[n], dtype=np.float32)) for a in activity or ()])
        if n + 1 in wanted:
            for net, rows in zip(plastic, out, strict=True):
                rows.append(net.weight.numpy().copy())
    return [np.stack(rows) for rows in out]


def run_chain(stages: Sequence[Stage], spikes: Array, weights: Sequence[Array], batch: int = 500) -> Array:
    """Logits [N, T, classes] with other weights for the stages that learn."""
    nets, given = [_Layer(s) for s in stages], iter(weights)
    for net in nets:
        if net.stage.step:
            net.weight = torch.from_numpy(np.asarray(next(given), dtype=np.float32))
    parts = []
    for k in range(0, len(spikes), batch):
        frames = torch.from_numpy(np.asarray(spikes[k : k + batch], dtype=np.float32))
        for net in nets:
            net.forget()
        steps = []
        for t in range(frames.shape[1]):
            sent = frames[:, t]
            for net in nets:
                sent = net.forward(t, sent)
            steps.append(sent)
        parts.append(torch.stack(steps, 1).numpy())
    return np.concatenate(parts)


def gradient(loss: str, y: Tensor, label: int) -> Tensor:
    """dL/dy: softmax(y) - onehot for cross-entropy, 2 (y - onehot) / n for the mean-square error."""
    onehot = functional.one_hot(torch.tensor(label), len(y)).to(y.dtype)
    return 2 * (y - onehot) / len(y) if loss == "mse" else torch.softmax(y, 0) - onehot


def _update(nets: Sequence[_Layer], g: Tensor, t: int, activity: Sequence[Tensor | None]) -> None:
    """One step of plain SGD on all stages that learn, the errors with the weights before it."""
    first = min(k for k, net in enumerate(nets) if net.stage.step)
    modulators: list[Tensor] = [g]
    for k in range(len(nets) - 2, first - 1, -1):
        net, behind = nets[k], nets[k + 1]
        if net.stage.local:
            given = activity[k]
            error = torch.zeros_like(net.fired) if given is None else (net.fired / (t + 1) - given) / (t + 1)
        elif net.feedback is None:
            error = behind.weight.T @ modulators[0]
        else:
            error = net.feedback @ g
        modulators.insert(0, error * net.psi())
    for net, m in zip(nets[first:], modulators, strict=True):
        if net.stage.step:
            net.weight -= net.stage.step * torch.outer(m * net.share, net.a)


class _Layer:
    """A stage with its state, in float32."""

    def __init__(self, stage: Stage, transport: bool = False) -> None:
        def tensor(a: Array) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32))

        self.stage, self.weight = stage, tensor(stage.weight).clone()
        self.bias, self.leak, self.threshold, self.reset = (tensor(a) for a in (stage.bias, stage.leak, stage.threshold, stage.reset))
        self.share = torch.ones(1) if stage.share is None else tensor(stage.share)
        self.start = tensor(stage.start)
        self.feedback = None if transport or stage.feedback is None else tensor(stage.feedback)
        self.surrogate = SURROGATES[stage.surrogate[0]](stage.surrogate[1])
        self.forget()

    def forget(self) -> None:
        """A new sample."""
        self.v, self.a, self.fired, self.m = self.start, torch.zeros(()), torch.zeros(()), torch.zeros(())

    def forward(self, t: int, s: Tensor) -> Tensor:
        """One model step; s [in] or [B,in]."""
        self.a = self.stage.trace * self.a + s
        self.m = _at(self.leak, t) * self.v + s @ self.weight.T + _at(self.bias, t)
        self.t = t
        if self.stage.kind == "none":
            self.v = self.m
            return self.m
        n = (self.m >= _at(self.threshold, t)).to(s.dtype)
        self.v = self.m - _at(self.reset, t) * n if self.stage.kind == "subtract" else torch.where(n > 0, _at(self.reset, t), self.m)
        self.fired = self.fired + n
        return n

    def psi(self) -> Tensor:
        """The surrogate derivative at the membrane of this step."""
        return self.surrogate(self.stage.unit * (self.m - _at(self.threshold, self.t)))


def _at(array: Tensor, t: int) -> Tensor:
    return array[t if len(array) > 1 else 0]


__all__ = ["Stage", "gradient", "learn_chain", "run_chain"]
