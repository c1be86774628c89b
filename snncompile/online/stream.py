"""The online rule on a stream of single samples: one layer learns from recorded spikes, as ``TracedLinear`` and plain SGD do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from snncompile.online.layers import TracedLinear

Array = npt.NDArray[Any]


def learn_stream(
    spikes: Array, labels: Array, weight: Array, bias: Array, *, gain: float, leak: float, rate: float, loss: str,
    progress: Callable[[int, int], None] | None = None,
) -> Array:  # fmt: skip
    """Weights before the stream and after every sample, float32 [N + 1, out, in].

        y[t] = W (gain * s[t]) + b,     W <- W - rate * d(L[t] / T)/dW     at every step, by the trace of gain * s (leak > 0) or itself

    spikes  [N,T,in]        labels  [N], negative: the sample is seen, not learned        loss  "softmax" (cross-entropy) or "mse"
    weight  [out,in]        bias  [out], which does not learn
    Source  OTTT (Xiao et al., NeurIPS 2022), algorithm 2; SLTT (Meng et al., ICCV 2023) without a trace
    """
    layer = TracedLinear(weight.shape[1], weight.shape[0], trace_leak=leak or None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))
    layer.bias.requires_grad_(False)
    layer.train()
    steps, targets = spikes.shape[1], torch.from_numpy(np.asarray(labels, dtype=np.int64))
    hot = functional.one_hot(targets.clamp(min=0), len(weight)).to(layer.weight.dtype)
    out = np.empty((len(spikes) + 1, *weight.shape), dtype=np.float32)
    out[0] = layer.weight.detach().numpy()
    for n, (sample, label) in enumerate(zip(spikes, labels, strict=True)):
        if progress is not None:
            progress(n, len(spikes))
        target, wanted = targets[n : n + 1], hot[n : n + 1]
        frames = gain * torch.from_numpy(np.asarray(sample, dtype=np.float32))
        for t in range(steps):
            y = layer(frames[t : t + 1], init=t == 0)
            if label < 0:
                continue
            error = functional.cross_entropy(y, target) if loss == "softmax" else functional.mse_loss(y, wanted)
            (gradient,) = torch.autograd.grad(error / steps, layer.weight)
            with torch.no_grad():
                layer.weight.sub_(gradient, alpha=rate)  # plain SGD
        out[n + 1] = layer.weight.detach().numpy()
    return out


__all__ = ["learn_stream"]
