"""LTL: every layer of a spiking student learns by itself to fire at the rate at which its teacher's layer is active."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from snncompile.errors import fail
from snncompile.online.registry import register_network
from snncompile.online.stack import check_classes, plane
from snncompile.online.stages import InputNorm, input_norm
from snncompile.online.state import Stateful, forget_all, initial_state
from snncompile.online.surrogate import Boxcar, Spike, fire

LTL_LEAK = math.exp(-1 / 10)
TEACHER_TOP = 2.0


class LTLStage(Stateful):
    """One layer of the student: synapses, and neurons that in training also know their mean rate so far.

        u[t] = e^(-1/10) v[t-1] + W x[t] + b;   s[t] = 1 if u[t] > 0.6 (strictly) else 0;   v[t] = (1 - s[t]) u[t]
        r[t] = (s[0] + ... + s[t]) / (t + 1)
        dW_ij = C (2/N) e_i[t] / (t+1) 1[|u_i[t] - 0.6| < 0.2] x_j[t],    e = r - A, A the teacher's normalised activity, N elements of it

    x is cut from the graph: no error leaves the layer, no weight is transported. The error of earlier spikes in r is cut too.
    Source   Yang et al., "Training Spiking Neural Networks with Local Tandem Learning" (NeurIPS 2022), online rule
    Shapes   x [B,in] or [B,C,H,W]; u, v, s, r, A all as the synapses' output; N = B times the layer's neurons
    Ranges   r and A in 0..1; C > 0
    State    ``v``; in training also ``fired``, the spike counts, and ``rate``, r with the graph of this step only
    """

    v: Tensor | None
    fired: Tensor | None
    rate: Tensor | None

    def __init__(self, synapses: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.synapses = synapses
        self.surrogate = Boxcar(0.2)
        self.threshold = 0.6
        self.forget()

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        current = self.synapses(x.detach() if self.training else x)
        u = LTL_LEAK * initial_state(current, self.v) + current
        if not self.training:
            s = fire(u, self.threshold, strict=True)
            self.v = (1 - s) * u
            return s
        spikes: Tensor = Spike.apply(u, self.threshold, self.surrogate, True)
        self.v = ((1 - spikes) * u).detach()
        fired = initial_state(spikes, self.fired) + spikes
        self.t += 1
        self.rate, self.fired = fired / self.t, fired.detach()
        return spikes

    def forget(self) -> None:
        """Start from v = 0, without spikes."""
        self.v = self.fired = self.rate = None
        self.t = 0


class LTLStudent(nn.Module):
    """Spiking convolutions (strided instead of pooled) and linear maps with bias, without normalisation; the last map has no neurons.

    Source   as ``LTLStage``
    Calling  ``net(x, init=True)`` on the first step of a sample, then ``net(x)``; each returns the step's logits; the decision is the
             argmax of their mean (the official offline class adds the rate of ten output neurons to that, through an aliased variable)
    Shapes   x [B,in_channels,H,W]; y [B,num_classes]
    """

    def __init__(self, stages: Sequence[LTLStage], flatten_after: int, classifier: nn.Linear, norm: InputNorm | None) -> None:
        super().__init__()
        self.norm, self.stages, self.flatten_after, self.classifier = norm, nn.ModuleList(stages), flatten_after, classifier

    def forward(self, x: Tensor, init: bool = False) -> Tensor:
        """Advance one step and return its logits."""
        if init:
            forget_all(self)
        x = x if self.norm is None else self.norm(x)
        for k, stage in enumerate(self.stages):
            x = stage(torch.flatten(x, 1) if k == self.flatten_after else x)
        x = torch.flatten(x, 1)
        y: Tensor = self.classifier(x.detach() if self.training else x)
        return y


class LTLTeacher(nn.Module):
    """The same layers with batch normalisation (eps 1e-4) and activations clipped to 0..2; trained as any network, then only watched.

        h_l = clamp(BN(W_l h_(l-1) + b_l), 0, 2)

    Source   as ``LTLStage``; its code's CNN_ReluX
    Shapes   x [B,in_channels,H,W]; returns the activations of every layer and the logits [B,num_classes]
    """

    def __init__(self, student: LTLStudent) -> None:
        super().__init__()
        self.norm, self.flatten_after = student.norm, student.flatten_after
        self.layers = nn.ModuleList()
        for stage in student.stages:
            if not isinstance(stage, LTLStage):
                continue
            old = stage.synapses
            if isinstance(old, nn.Conv2d):
                new: nn.Module = nn.Conv2d(old.in_channels, old.out_channels, 3, old.stride[0], 1)
                self.layers.append(nn.Sequential(new, nn.BatchNorm2d(old.out_channels, eps=1e-4, momentum=0.9)))
            else:
                new = nn.Linear(old.in_features, old.out_features)
                self.layers.append(nn.Sequential(new, nn.BatchNorm1d(old.out_features, eps=1e-4, momentum=0.9)))
        self.classifier = nn.Linear(student.classifier.in_features, student.classifier.out_features)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what every layer does, and the logits."""
        x = x if self.norm is None else self.norm(x)
        activities = []
        for k, layer in enumerate(self.layers):
            x = layer(torch.flatten(x, 1) if k == self.flatten_after else x).clamp(0, TEACHER_TOP)
            activities.append(x)
        return activities, self.classifier(torch.flatten(x, 1))


def normalised(activity: Tensor, percent: float = 99.0) -> Tensor:
    """A = clamp(activity / p, 0, 1), p the percentile over the whole batch and layer: the rate that the student is to reach.

    Source   as ``LTLStage``, its 99th percentile      Shapes   any      Ranges   0 <= percent <= 100; activity >= 0; 0 <= A <= 1
    """
    flat = activity.flatten()
    rank = 1 + round(0.01 * percent * (flat.numel() - 1))
    return (activity / flat.kthvalue(rank).values.clamp(min=1e-12)).clamp(0, 1)


def ltl_batch(
    student: LTLStudent,
    teacher: LTLTeacher,
    x: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int = 16,
    warm: int = 12,
    coefficient: float = 1.0,
) -> Tensor:
    """One batch: from t = ``warm`` on every step's local and output losses are differentiated at once; one optimiser step at the end.

        L[t] = CE(mean of the logits up to t, label) + C sum_layers mean (r[t] - A)^2

    Memory does not grow with T. Returns the cumulated scores summed from ``warm`` on, [B,classes].
    Source   as ``LTLStage``; T = 16 and ``warm`` = 12 in its code
    Shapes   x [B,in_channels,H,W], shown at every step; labels [B]
    Ranges   0 <= warm < steps; C >= 0
    Errors   SNN731 no step learns: warm >= steps
    """
    if warm >= steps:
        raise fail("SNN731", f"no step learns: T = {steps} and learning starts at step {warm}")
    with torch.no_grad():
        targets = [normalised(activity) for activity in teacher.eval()(x)[0]]
    stages = [stage for stage in student.stages if isinstance(stage, LTLStage)]
    optimiser.zero_grad(set_to_none=True)
    scores, decision = torch.zeros(()), torch.zeros(())
    for t in range(steps):
        with torch.set_grad_enabled(t >= warm):
            cumulated = scores.to(x.device) + student(x, init=t == 0)
            if t >= warm:
                local = [functional.mse_loss(s.rate, target) for s, target in zip(stages, targets, strict=True) if s.rate is not None]
                loss = functional.cross_entropy(cumulated / (t + 1), labels) + coefficient * torch.stack(local).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                decision = decision.to(x.device) + cumulated.detach()
        scores = cumulated.detach()
    for stage in stages:
        stage.rate = None
    optimiser.step()
    return decision


@register_network("ltl_vgg")
def ltl_vgg(
    *,
    config: Sequence[Sequence[int]] = ((64, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2), (512, 1), (512, 2)),
    hidden: Sequence[int] = (512, 512),
    in_channels: int = 3,
    num_classes: int = 10,
    input_size: Sequence[int] = (32, 32),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixel_scale: float = 1 / 255,
) -> LTLStudent:
    """LTL's student: 3x3 convolutions of (width, stride), then linear layers; the defaults are its VGG-11 (10,537,354 parameters)."""
    (height, width), channels = plane(input_size), in_channels
    stages = []
    for item in config:
        if len(item) != 2 or item[0] < 1 or item[1] not in (1, 2):
            raise fail("SNN703", f"{list(item)} is no layer", help="a config lists pairs of width and stride, the stride 1 or 2")
        stages.append(LTLStage(nn.Conv2d(channels, item[0], 3, item[1], 1)))
        channels, height, width = item[0], -(-height // item[1]), -(-width // item[1])
    features = channels * height * width
    for size in hidden:
        stages.append(LTLStage(nn.Linear(features, size)))
        features = size
    last = nn.Linear(features, check_classes(num_classes))
    return LTLStudent(stages, len(config), last, input_norm(mean, std, pixel_scale, in_channels))
