"""The official repositories' networks, small, written from the papers' equations with the modules laid out as theirs, so that their
state dicts have the same keys. Nothing of the training kit is used."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class WSConv(nn.Conv2d):
    def __init__(self, i, o, k, s=1):
        super().__init__(i, o, k, s, k // 2)
        self.gain = nn.Parameter(torch.ones(o, 1, 1, 1))

    def forward(self, x):
        w = self.weight
        mean, var = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), keepdim=True)
        w = self.gain * (w - mean) / (var * w[0].numel() + 1e-4) ** 0.5
        return functional.conv2d(x, w, self.bias, self.stride, self.padding)


class Op(nn.Module):
    """The wrapper that puts ``.op.`` into the keys."""

    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x)


class Lif(nn.Module):
    def __init__(self, leak=0.5):
        super().__init__()
        self.leak, self.v = leak, 0.0

    def forward(self, x):
        u = self.leak * self.v + x
        s = (u >= 1).to(x.dtype)
        self.v = u - s
        return s


class Gain(nn.Module):
    def forward(self, x):
        return 2.74 * x


def ottt_features(config, channels, wrap, first=True):
    layers = []
    for item in config:
        if item == "M":
            layers.append(nn.AvgPool2d(2))
            continue
        conv = WSConv(channels, item, 3)
        layers += [conv if first else wrap(conv), Lif(), Gain()]
        channels, first = item, False
    return layers, channels


class OtttVgg(nn.Module):
    def __init__(self, config=(4, 6, "M", 5), classes=3, side=1, wrap=Op):
        super().__init__()
        layers, width = ottt_features(config, 2, wrap)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(wrap(nn.Linear(width * side**2, classes)))

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


class OtttFeedback(nn.Module):
    def __init__(self, config=(4, 6, "M", 5), classes=3, wrap=Op):
        super().__init__()
        layers, width = ottt_features(config, 2, wrap)
        self.conv1, self.features = layers[0], nn.Sequential(*layers[1:])
        self.up = nn.Upsample(scale_factor=2 ** config.count("M"), mode="nearest")
        self.fb_conv = wrap(nn.Conv2d(width, config[0], 3, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(wrap(nn.Linear(width, classes)))
        self.before = None

    def forward(self, x):
        current = self.conv1(x)
        if self.before is not None:
            current = current + self.fb_conv(self.up(self.before))
        self.before = self.features(current)
        return self.classifier(self.pool(self.before).flatten(1))


def stages(make, widths, depths):
    """``layer1``, ``layer2``... of blocks make(inputs, outputs, stride)."""
    result, inputs = [], widths[0]
    for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = []
        for b in range(depth):
            blocks.append(make(inputs, width, 2 if k and not b else 1))
            inputs = width
        result.append(nn.Sequential(*blocks))
    return result


class Staged(nn.Module):
    def add_stages(self, make, widths, depths):
        for k, stage in enumerate(stages(make, widths, depths), 1):
            setattr(self, f"layer{k}", stage)
        self.count = len(widths)

    def run_stages(self, x):
        for k in range(1, self.count + 1):
            x = getattr(self, f"layer{k}")(x)
        return x


class NfBlock(nn.Module):
    def __init__(self, i, o, s, beta, leak, wrap):
        super().__init__()
        self.conv1, self.conv2 = wrap(WSConv(i, o, 3, s)), wrap(WSConv(o, o, 3))
        self.downsample = wrap(WSConv(i, o, 1, s)) if s != 1 or i != o else None
        self.sn1, self.sn2, self.beta = Lif(leak), Lif(leak), beta
        self.skipinit_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        s = 2.74 * self.sn1(x / self.beta)
        identity = x if self.downsample is None else self.downsample(s)
        return self.conv2(2.74 * self.sn2(self.conv1(s))) * self.skipinit_gain * 0.2 + identity


class NfResNet(Staged):
    def __init__(self, leak=0.5, wrap=Op, classes=3):
        super().__init__()
        self.conv1 = WSConv(2, 4, 7, 2)
        variance = [1.0]

        def block(i, o, s):
            made = NfBlock(i, o, s, math.sqrt(variance[0]), leak, wrap)
            variance[0] = (1.0 if made.downsample is not None else variance[0]) + 0.04
            return made

        self.add_stages(block, (4, 6), (2, 2))
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        x = functional.avg_pool2d(self.conv1(x), 3, 2, 1)
        return self.fc(self.run_stages(x).mean((2, 3)))


class SlttBlock(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, s, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1)
        self.shortcut = nn.Conv2d(i, o, 1, s) if s != 1 or i != o else nn.Sequential()
        self.relu1, self.relu2 = Lif(1 / 11), Lif(1 / 11)

    def forward(self, x):
        s = self.relu1(self.bn1(x))
        return self.conv2(self.relu2(self.bn2(self.conv1(s)))) + self.shortcut(s)


class SlttResNet(Staged):
    def __init__(self, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, 1, 1, bias=False)
        self.add_stages(SlttBlock, (4, 6), (2, 1))
        self.bn1, self.relu1, self.linear = nn.BatchNorm2d(6), Lif(1 / 11), nn.Linear(6, classes)

    def forward(self, x):
        return self.linear(self.relu1(self.bn1(self.run_stages(self.conv1(x)))).mean((2, 3)))


class SlttVgg(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        channels = 2
        for k, widths in enumerate(((4,), (5, 6)), 1):
            layers = []
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.BatchNorm2d(width), Lif(1 / 11), nn.Dropout(0.1)]
                channels = width
            setattr(self, f"layer{k}", nn.Sequential(*layers, nn.AvgPool2d(2)))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(6 * 49, classes))

    def forward(self, x):
        return self.classifier(functional.adaptive_avg_pool2d(self.layer2(self.layer1(x)), 7))


class OsrBn(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))
        self.register_buffer("run_mean", torch.zeros(n))
        self.register_buffer("run_var", torch.ones(n))

    def forward(self, x):
        by = (1, -1) + (1,) * (x.dim() - 2)
        y = (x - self.run_mean.view(by)) / (self.run_var.view(by) + 1e-4).sqrt()
        return y * self.gamma.view(by) + self.beta.view(by)


class SynapseNeuron(nn.Module):
    def __init__(self, i, o, k, s=1):
        super().__init__()
        self.synapse, self.bn, self.neuron = nn.Conv2d(i, o, k, s, k // 2), OsrBn(o), Lif()

    def forward(self, x):
        return self.neuron(self.bn(self.synapse(x)))


class OsrVgg(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.features = nn.Sequential(SynapseNeuron(2, 4, 3), SynapseNeuron(4, 5, 3), nn.AvgPool2d(2), SynapseNeuron(5, 6, 3))
        self.classifier = nn.Sequential(nn.Linear(6, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class OsrBlock(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1, self.bn1, self.sn1 = nn.Conv2d(i, o, 3, s, 1), OsrBn(o), Lif()
        self.conv2, self.bn2, self.sn2 = nn.Conv2d(o, o, 3, 1, 1), OsrBn(o), Lif()
        self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, s), OsrBn(o)) if s != 1 or i != o else None

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        return self.sn2(self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))) + identity))


class OsrResNet(Staged):
    def __init__(self, classes=3):
        super().__init__()
        self.conv1, self.bn1, self.sn1 = nn.Conv2d(2, 4, 3, 1, 1), OsrBn(4), Lif()
        self.add_stages(OsrBlock, (4, 6), (2, 1))
        self.fc1, self.fc2 = nn.Sequential(nn.Linear(6 * 4, 8), OsrBn(8)), nn.Linear(8, classes)

    def forward(self, x):
        x = functional.avg_pool2d(self.run_stages(self.sn1(self.bn1(self.conv1(x)))), 2)
        return self.fc2(self.fc1(x.flatten(1)))


class SewBlock(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.convNeuron1, self.convNeuron2 = SynapseNeuron(i, o, 3, s), SynapseNeuron(o, o, 3)
        self.downsample = SynapseNeuron(i, o, 1, s) if s != 1 or i != o else None

    def forward(self, x):
        return self.convNeuron2(self.convNeuron1(x)) + (x if self.downsample is None else self.downsample(x))


class OsrSew(Staged):
    def __init__(self, classes=3):
        super().__init__()
        self.convNeuron1 = SynapseNeuron(2, 4, 7, 2)
        self.add_stages(SewBlock, (4, 6), (2, 1))
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        x = functional.max_pool2d(self.convNeuron1(x), 3, 2, 1)
        return self.fc(self.run_stages(x).mean((2, 3)))


class BinaryConv(nn.Module):
    """Latent weights; ``ternary`` has the clip's value among its parameters."""

    def __init__(self, i, o, k, s, ternary):
        super().__init__()
        self.weight, self.stride, self.padding = nn.Parameter(torch.randn(o, i, k, k) * 0.3), s, k // 2
        if ternary:
            self.weight_clip_val = nn.Parameter(torch.tensor([1.0]))
        self.ternary = ternary

    def forward(self, x):
        w = self.weight
        if self.ternary:
            w = w.clamp(-1, 1)
            keep = w.abs() > 0.7 * w.abs().mean()
            w = w[keep].abs().mean() * torch.sign(w) * keep
        else:
            w = w.abs().mean((1, 2, 3), keepdim=True) * torch.sign(w)
        return functional.conv2d(x, w, None, self.stride, self.padding)


class HdLif(nn.Module):
    def __init__(self, steps, channels, mem_bn, parallel):
        super().__init__()
        self.v_th = nn.Parameter(torch.randn(steps) * 0.5)
        if not parallel:
            self.alpha = nn.Parameter(torch.randn(steps))
        if mem_bn and not parallel:
            self.bn_ratio, self.mem_ratio = nn.Parameter(torch.randn(steps)), nn.Parameter(torch.randn(steps))
            self.bn = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(steps))
        self.mem_bn, self.parallel, self.t, self.v = mem_bn, parallel, 0, 0.0

    def forward(self, x):
        if self.parallel:
            return self.graded(torch.relu(x - torch.sigmoid(self.v_th[0])))
        t, theta = self.t, torch.sigmoid(self.v_th[self.t])
        m = torch.sigmoid(self.alpha[t]) * self.v + x
        if self.mem_bn:
            m = torch.sigmoid(self.bn_ratio[t]) * self.bn[t](m) + torch.sigmoid(self.mem_ratio[t]) * m
        self.v, self.t = torch.minimum(m, theta), t + 1
        return self.graded(torch.relu(m - theta))

    @staticmethod
    def graded(s):
        return (s * 4).round().clamp(0, 15) / 4


class EmpfBlock(nn.Module):
    def __init__(self, i, o, s, steps, mem_bn, parallel, ternary):
        super().__init__()
        self.act1, self.act2 = HdLif(steps, i, mem_bn, False), HdLif(steps, o, mem_bn, parallel)
        self.conv1 = nn.Sequential(BinaryConv(i, o, 3, s, ternary), nn.BatchNorm2d(o))
        self.conv2 = nn.Sequential(BinaryConv(o, o, 3, 1, ternary), nn.BatchNorm2d(o))
        self.downsample = nn.Sequential(BinaryConv(i, o, 1, s, ternary), nn.BatchNorm2d(o)) if s != 1 or i != o else None

    def forward(self, x):
        y = self.conv2(self.act2(self.conv1(self.act1(x))))
        return y + (x if self.downsample is None else self.downsample(x))


class EmpfResNet(Staged):
    def __init__(self, steps=4, mem_bn=False, parallel=True, ternary=False, classes=3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.add_stages(lambda i, o, s: EmpfBlock(i, o, s, steps, mem_bn, parallel, ternary), (4, 6), (2, 1))
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.run_stages(self.bn1(self.conv1(x))).mean((2, 3)))


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random values wherever training would have left some, so that no key may be mistaken for another; eval mode."""
    g = torch.Generator().manual_seed(seed)

    def noise(like):
        return torch.randn(like.shape, generator=g)

    with torch.no_grad():
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith(("bias", "beta", "run_mean", "running_mean")):
                value.copy_(0.3 * noise(value))
            elif name.endswith(("run_var", "running_var", "gamma", "gain")) or (value.dim() == 1 and name.endswith("weight")):
                value.copy_(0.7 + noise(value).abs())
            elif name.endswith("weight"):
                value.mul_(2.0)
    return net.double().eval()
