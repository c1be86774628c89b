"""State dicts of the official repositories: whose layout it is, which network of the kit that is, and which key becomes which.

    OTTT, NDOT   pkuxmq/OTTT-SNN, HaiyanJiang/SNN-DNOT    VGG (``features.3.op.weight``), with feedback (``fb_conv.op.weight``), NF-ResNet
    OSR          zhuyaoyu/SNN-online-normalization        VGG (``features.0.synapse.weight``), ResNet-19, SEW-ResNet (``convNeuron1...``)
    SLTT         qymeng94/SLTT                            pre-activation ResNet, VGG-BN, NF-ResNet (OTTT's without ``.op.``)
    EM-PF        hzc1208/HD_LIF                           ResNet (``layer1.0.act1.v_th``), latent weights

``.op.`` is there only where the code trained with rates; it is optional here. A key that has no place in a layout is left as it is, so
that loading, which is strict, reports it. What a state dict does not say (T, tau, thresholds, normalisation of the images, whether spikes
have 4 bits) is in the arguments of the kit's factories, whose defaults are those of the official scripts.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from snncompile.online.empf import EMPFResNet
from snncompile.online.nf_resnet import NFResNet
from snncompile.online.osr import OSRNetwork
from snncompile.online.registry import factory_of
from snncompile.online.sltt import SLTTVGG, SLTTResNet
from snncompile.online.vgg import OTTTVGG

State = Mapping[str, Tensor]
BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One network of one repository.

    sign     keys that all its state dicts have, as patterns; ``never``: none has one of these
    arch     the kit's network and, by ``arguments``, what the shapes of the weights say about it
    kind     the network's class; ``rename`` gives the kit's keys by official key, for a whole state dict
    fills    the kit's buffers that the official code does not save: they stay as the factory makes them
    """

    name: str
    sign: tuple[str, ...]
    never: tuple[str, ...] = ()
    arch: str
    kind: type[nn.Module]
    rename: Callable[[State], dict[str, str]]
    arguments: Callable[[State], dict[str, Any]]
    fills: re.Pattern[str] = field(default=re.compile(r"(?!)"))

    def matches(self, state: State) -> bool:
        """Whether a state dict looks like this."""

        def some(pattern: str) -> bool:
            return any(re.fullmatch(pattern, key) for key in state)

        return all(map(some, self.sign)) and not any(map(some, self.never))


def recognise(state: State) -> Layout | None:
    """The layout of a state dict (prefixes such as ``module.`` stripped before), or None."""
    return next((layout for layout in LAYOUTS if layout.matches(state)), None)


def translate(state: State, net: nn.Module) -> tuple[Layout, dict[str, Tensor]] | None:
    """The state dict with the kit's keys, for a network of the kit that it was made for; None if it needs no translation or has none."""
    own = net.state_dict()
    if own.keys() == state.keys():
        return None
    layout = next((a for a in LAYOUTS if isinstance(net, a.kind) and a.matches(state)), None)
    if layout is None:
        return None
    names = layout.rename(state)
    found = {names.get(key, key): value for key, value in state.items() if names.get(key) != ""}
    found |= {key: value for key, value in own.items() if layout.fills.search(key) and key not in found}
    return layout, found


def suggestion(state: State) -> tuple[Layout, dict[str, Any]] | None:
    """The layout of a state dict, and the arguments of the kit's factory that its shapes tell and that are not the defaults."""
    layout = recognise(state)
    if layout is None:
        return None
    try:
        known = layout.arguments(state)
    except (KeyError, StopIteration, IndexError, TypeError, ZeroDivisionError):
        return None  # a layout in its signs, but not whole
    defaults = {name: p.default for name, p in inspect.signature(factory_of(layout.arch)).parameters.items()}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return layout, {name: value for name, value in known.items() if plain.get(name) != value}


# ---------------------------------------------------------------- key by key


def _stages(keys: Iterable[str], pattern: str, width: int) -> tuple[dict[int, int], list[int | str]]:
    """Positions of convolutions in an official ``Sequential`` -> stages of the kit; a gap of one place is a pooling.

    ``width`` is how many places one convolution takes (itself, a neuron, a gain...). Also the stages: positions, and "A".
    """
    found = sorted({int(match[1]) for key in keys if (match := re.match(pattern, key))})
    stages: dict[int, int] = {}
    order: list[int | str] = []
    for position, after in zip(found, [*found[1:], -1], strict=True):
        stages[position] = len(order)
        order.append(position)
        if after > position + width:
            order.append("A")
    return stages, order


def _without_op(key: str) -> str:
    return key.replace(".op.", ".")


def _blocks(state: State) -> dict[tuple[int, int], int]:
    """(layer, block) -> the block's number in the kit, which counts through."""
    found = sorted({(int(m[1]), int(m[2])) for key in state if (m := BLOCK.match(key))})
    return {pair: k for k, pair in enumerate(found)}


def _residual(state: State, within: Callable[[str], str], other: Callable[[str], str]) -> dict[str, str]:
    """``layerL.B.rest`` -> ``blocks.k.within(rest)``; every other key by ``other``."""
    number = _blocks(state)
    names = {}
    for key in state:
        match = BLOCK.match(key)
        names[key] = f"blocks.{number[int(match[1]), int(match[2])]}.{within(match[3])}" if match else other(key)
    return names


def _depths(state: State) -> list[int]:
    layers = [layer for layer, _ in _blocks(state)]
    return [layers.count(k) for k in sorted(set(layers))]


def _first(state: State, pattern: str) -> Tensor:
    return next(value for key, value in state.items() if re.fullmatch(pattern, key))


def _ottt_vgg(state: State) -> dict[str, str]:
    stages, _ = _ottt_stages(state)
    names = {}
    for key in state:
        plain = _without_op(key)
        match = re.fullmatch(r"features\.(\d+)\.(weight|bias|gain)", plain)
        if match and int(match[1]) in stages:
            names[key] = f"features.{stages[int(match[1])]}.conv.{match[2]}"
        elif plain.startswith("conv1."):  # the variant with feedback keeps its first convolution apart
            names[key] = f"features.0.conv.{plain.removeprefix('conv1.')}"
        else:
            names[key] = plain.replace("fb_conv.", "feedback.").replace("classifier.0.", "classifier.")
    return names


def _ottt_stages(state: State) -> tuple[dict[int, int], list[int | str]]:
    """Three places a convolution (it, neuron, gain); with feedback the first convolution is not among them: its two others are 0 and 1."""
    pattern = r"features\.(\d+)\.(?:op\.)?weight"
    stages, order = _stages(state, pattern, 3)
    if any(key.startswith("fb_conv.") for key in state):
        shifted, order = _stages([*(f"features.{k + 1}.weight" for k in stages), "features.0.weight"], pattern, 3)
        return {k: shifted[k + 1] for k in stages}, order
    return stages, order


def _ottt_arguments(state: State) -> dict[str, Any]:
    _, order = _ottt_stages(state)
    feedback = any(key.startswith("fb_conv.") for key in state)
    widths = {k: len(v) for key, v in state.items() if (k := _position(key)) is not None}
    if feedback:
        widths = {0: len(_first(state, r"conv1\.(op\.)?weight"))} | {k + 1: n for k, n in widths.items()}
    config = [item if item == "A" else widths[int(item)] for item in order]
    first = _first(state, r"conv1\.(op\.)?weight" if feedback else r"features\.0\.(op\.)?weight")
    found = _head(config, _first(state, r"classifier\.0\.(op\.)?weight"))
    return {"config": config, "in_channels": first.shape[1], **found} | ({"feedback": True} if feedback else {})


def _position(key: str) -> int | None:
    match = re.fullmatch(r"features\.(\d+)\.(?:op\.|synapse\.)?weight", key)
    return int(match[1]) if match else None


def _head(config: list[Any], weight: Tensor) -> dict[str, Any]:
    """Classes, and the pooling before the classifier: the whole map, or n x n."""
    channels = next(item for item in reversed(config) if item != "A")
    side = round((weight.shape[1] / channels) ** 0.5)
    return {"num_classes": len(weight), "classifier": "gap" if side == 1 else side}


def _nf_resnet(state: State) -> dict[str, str]:
    return _residual(state, _without_op, _without_op)


def _resnet_arguments(stem: str, last: str) -> Callable[[State], dict[str, Any]]:
    def arguments(state: State) -> dict[str, Any]:
        blocks = _blocks(state)
        conv = r"(conv\d|convNeuron\d)(\.op|\.synapse|\.0)?\.weight"
        widths = [len(_first(state, rf"layer{layer}\.0\.{conv}")) for layer in sorted({layer for layer, _ in blocks})]
        known = {"widths": widths, "depths": _depths(state), "num_classes": len(_first(state, last))}
        return known | {"in_channels": _first(state, stem).shape[1]}

    return arguments


def _sltt_resnet(state: State) -> dict[str, str]:
    def other(key: str) -> str:
        return re.sub(r"\Alinear\.", "classifier.", re.sub(r"\Abn1\.", "bn.", key))

    return _residual(state, lambda rest: rest, other)


def _sltt_order(state: State) -> tuple[dict[tuple[int, int], int], list[int | str]]:
    """``layerL.i`` of the convolutions (every fourth place) -> stage; every ``layerL`` ends with a pooling."""
    convolutions = [key for key, value in state.items() if value.dim() == 4]
    found = sorted({(int(m[1]), int(m[2])) for key in convolutions if (m := re.match(r"layer(\d)\.(\d+)\.weight", key))})
    stages: dict[tuple[int, int], int] = {}
    config: list[int | str] = []
    for (layer, place), after in zip(found, [*found[1:], (0, 0)], strict=True):
        stages[layer, place] = len(config)
        config.append(len(state[f"layer{layer}.{place}.weight"]))
        if after[0] != layer:
            config.append("A")
    return stages, config


def _sltt_vgg(state: State) -> dict[str, str]:
    stages, _ = _sltt_order(state)
    names = {}
    for key in state:
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", key)
        if match:
            layer, place = int(match[1]), int(match[2])
            conv = (layer, place) if (layer, place) in stages else (layer, place - 1)
            names[key] = f"features.{stages[conv]}.{place - conv[1]}.{match[3]}" if conv in stages else key
        else:
            names[key] = key.replace("classifier.1.", "classifier.")
    return names


def _sltt_vgg_arguments(state: State) -> dict[str, Any]:
    _, config = _sltt_order(state)
    return {"config": config, "in_channels": state["layer1.0.weight"].shape[1], **_head(config, state["classifier.1.weight"])}


def _synapse_neuron(rest: str) -> str:
    """``x.synapse.weight``, ``x.bn.gamma`` -> ``x.0.weight``, ``x.1.gamma``."""
    return re.sub(r"\b(synapse|bn)\.", lambda m: "0." if m[1] == "synapse" else "1.", rest)


def _osr_vgg(state: State) -> dict[str, str]:
    stages, _ = _stages(state, r"features\.(\d+)\.synapse\.weight", 1)
    names = {}
    for key in state:
        match = re.fullmatch(r"features\.(\d+)\.((?:synapse|bn)\..+)", key)
        if match and int(match[1]) in stages:
            names[key] = f"body.{stages[int(match[1])]}.{_synapse_neuron(match[2])}"
        else:
            names[key] = key.replace("classifier.0.", "classifier.")
    return names


def _osr_vgg_arguments(state: State) -> dict[str, Any]:
    _, order = _stages(state, r"features\.(\d+)\.synapse\.weight", 1)
    config = [item if item == "A" else len(state[f"features.{item}.synapse.weight"]) for item in order]
    first = state["features.0.synapse.weight"]
    return {"config": config, "in_channels": first.shape[1], **_head(config, state["classifier.0.weight"])}


def _osr_resnet(state: State) -> dict[str, str]:
    """Stem and blocks are ``body.0``, ``body.1``...; conv1 and bn1 of a block are its ``first``."""
    heads = {"conv1.": "body.0.0.", "bn1.": "body.0.1.", "fc1.": "classifier.", "fc2.": "classifier.2."}

    def within(rest: str) -> str:
        return re.sub(r"\Abn1\.", "first.1.", re.sub(r"\Aconv1\.", "first.0.", rest))

    return _behind_stem(_residual(state, within, lambda key: _replaced(key, heads)), 1)


def _osr_sew(state: State) -> dict[str, str]:
    places = {"convNeuron1.": "first.", "convNeuron2.": "second."}

    def within(rest: str) -> str:
        return _synapse_neuron(_replaced(rest, places))

    def other(key: str) -> str:
        return _synapse_neuron(_replaced(key, {"convNeuron1.": "body.0.", "fc.": "classifier."}))

    return _behind_stem(_residual(state, within, other), 2)


def _behind_stem(names: dict[str, str], offset: int) -> dict[str, str]:
    return {key: re.sub(r"\Ablocks\.(\d+)", lambda m: f"body.{int(m[1]) + offset}", name) for key, name in names.items()}


def _replaced(key: str, heads: Mapping[str, str]) -> str:
    head = next((h for h in heads if key.startswith(h)), None)
    return key if head is None else heads[head] + key[len(head) :]


def _empf_resnet(state: State) -> dict[str, str]:
    """The kit's names but for the blocks. ``weight_clip_val`` of ternary weights is the 1 of their clip to [-1, 1], which is built in."""
    names = _residual(state, lambda rest: rest, lambda key: key)
    clips = [key for key, value in state.items() if key.endswith("weight_clip_val") and bool((value.abs() == 1).all())]
    return names | dict.fromkeys(clips, "")


def _empf_arguments(state: State) -> dict[str, Any]:
    thresholds = _first(state, r"layer1\.0\.act1\.v_th")
    attention = any(".attn" in key for key in state)
    second = any(re.fullmatch(r"layer\d\.\d+\.act2\.alpha", key) for key in state)
    found = _resnet_arguments(r"conv1\.weight", r"fc\.weight")(state)
    found |= {"steps": thresholds.numel(), "parallel": not second, "mem_bn": any(key.endswith("bn_ratio") for key in state)}
    found |= {"weights": "ternary"} if any(key.endswith("weight_clip_val") for key in state) else {}
    everywhere = all(f"layer{a}.{b}.attn1.conv.weight" in state for a, b in _blocks(state))
    return found | ({"seca": 1 if everywhere else 2} if attention else {})


THRESHOLDS = re.compile(r"\.(theta|spread)\Z")
GATES = re.compile(r"\.attn\d\.(gates|spread)\Z")
LAYOUTS = (
    Layout(
        name="OTTT's VGG with feedback", sign=(r"fb_conv\.(op\.)?weight", r"conv1\.(op\.)?gain"), arch="ottt_vgg", kind=OTTTVGG,
        rename=_ottt_vgg, arguments=_ottt_arguments,
    ),
    Layout(
        name="OTTT's and NDOT's VGG", sign=(r"features\.0\.(op\.)?gain", r"classifier\.0\.(op\.)?weight"),
        never=(r"features\.\d+\.running_var", r"classifier\.0\.(op\.)?gain"), arch="ottt_vgg", kind=OTTTVGG, rename=_ottt_vgg,
        arguments=_ottt_arguments,
    ),
    Layout(
        name="the NF-ResNet of OTTT, NDOT and SLTT", sign=(r"conv1\.gain", r"layer1\.0\.skipinit_gain"),
        never=(r"layer1\.0\.conv3\..*",), arch="nf_resnet", kind=NFResNet, rename=_nf_resnet,
        arguments=_resnet_arguments(r"conv1\.weight", r"fc\.weight"),
    ),
    Layout(
        name="SLTT's ResNet", sign=(r"layer1\.0\.bn2\.running_var", r"linear\.weight"), never=(r"layer1\.0\.bn3\..*",),
        arch="sltt_resnet", kind=SLTTResNet, rename=_sltt_resnet, arguments=_resnet_arguments(r"conv1\.weight", r"linear\.weight"),
    ),
    Layout(
        name="SLTT's VGG", sign=(r"layer1\.0\.weight", r"layer1\.1\.running_var", r"classifier\.1\.weight"), arch="sltt_vgg", kind=SLTTVGG,
        rename=_sltt_vgg, arguments=_sltt_vgg_arguments,
    ),
    Layout(
        name="OSR's VGG", sign=(r"features\.0\.synapse\.weight", r"features\.0\.bn\.run_var", r"classifier\.0\.weight"), arch="osr_vgg",
        kind=OSRNetwork, rename=_osr_vgg, arguments=_osr_vgg_arguments, fills=THRESHOLDS,
    ),
    Layout(
        name="OSR's ResNet-19", sign=(r"layer1\.0\.bn2\.run_var", r"fc1\.1\.gamma"), never=(r"layer1\.0\.downsample\..*",),
        arch="osr_resnet", kind=OSRNetwork, rename=_osr_resnet,
        arguments=lambda s: _resnet_arguments(r"conv1\.weight", r"fc2\.weight")(s) | {"hidden": len(s["fc1.0.weight"])}, fills=THRESHOLDS,
    ),
    Layout(
        name="OSR's SEW-ResNet", sign=(r"layer1\.0\.convNeuron2\.synapse\.weight", r"convNeuron1\.bn\.run_var"), arch="osr_sew_resnet",
        never=(r"layer1\.0\.convNeuron3\..*",), kind=OSRNetwork, rename=_osr_sew, fills=THRESHOLDS,
        arguments=_resnet_arguments(r"convNeuron1\.synapse\.weight", r"fc\.weight"),
    ),
    Layout(
        name="EM-PF's ResNet", sign=(r"layer1\.0\.act1\.v_th", r"layer1\.0\.conv1\.0\.weight"), arch="empf_resnet", kind=EMPFResNet,
        rename=_empf_resnet, arguments=_empf_arguments, fills=GATES,
    ),
)  # fmt: skip

__all__ = ["LAYOUTS", "Layout", "recognise", "suggestion", "translate"]
