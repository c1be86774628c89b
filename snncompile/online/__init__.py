"""The training kit: spiking networks trained online in PyTorch, and checkpoints that say how to build what they hold.

It needs torch and imports nothing of the compiler but ``snncompile.errors``.
"""

from snncompile.online.checkpoint import Checkpoint, is_checkpoint, load_checkpoint, save_checkpoint
from snncompile.online.layers import ScaledWSConv2d, ScaledWSLinear, TracedConv2d, TracedLinear
from snncompile.online.neuron import OnlineLIF, Scale
from snncompile.online.registry import build_network, list_networks, register_network
from snncompile.online.sltt import SLTTVGG, SLTTResNet, sltt_neuron, sltt_resnet, sltt_vgg
from snncompile.online.stages import InputNorm, SpikingConv
from snncompile.online.state import ResettableNetwork
from snncompile.online.vgg import OTTTVGG, VGG11, ottt_vgg

__all__ = [
    "OTTTVGG",
    "SLTTVGG",
    "VGG11",
    "Checkpoint",
    "InputNorm",
    "OnlineLIF",
    "ResettableNetwork",
    "SLTTResNet",
    "Scale",
    "ScaledWSConv2d",
    "ScaledWSLinear",
    "SpikingConv",
    "TracedConv2d",
    "TracedLinear",
    "build_network",
    "is_checkpoint",
    "list_networks",
    "load_checkpoint",
    "ottt_vgg",
    "register_network",
    "save_checkpoint",
    "sltt_neuron",
    "sltt_resnet",
    "sltt_vgg",
]
