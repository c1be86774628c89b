"""The training kit: spiking networks trained online in PyTorch, and checkpoints that say how to build what they hold.

It needs torch and imports nothing of the compiler but ``snncompile.errors``.
"""

from snncompile.online.approximation import Approximation
from snncompile.online.asgl import AdaptiveSpike, ASGLNeuron
from snncompile.online.binary import BinaryConv2d, TernaryConv2d, weight_bytes
from snncompile.online.checkpoint import Checkpoint, is_checkpoint, load_checkpoint, save_checkpoint
from snncompile.online.empf import EMPFVGG, EMPFResNet, empf_resnet, empf_vgg
from snncompile.online.glif import GatedLIF, GLIFResNet, TdBatchNorm, glif_resnet
from snncompile.online.glif_ms import GLIFMSResNet, glif_ms_resnet
from snncompile.online.hdlif import HDLIF, ParallelHDLIF
from snncompile.online.layers import ScaledWSConv2d, ScaledWSLinear, TracedConv2d, TracedLinear
from snncompile.online.ltl import LTLStudent, LTLTeacher, ltl_batch, ltl_vgg
from snncompile.online.multistep import LoopedNeuron, OverTime
from snncompile.online.ndot import NDOTLIF, ndot_vgg
from snncompile.online.neuron import OnlineLIF, Scale
from snncompile.online.nf_resnet import NFResNet, nf_resnet
from snncompile.online.osr import OSRNetwork, osr_resnet, osr_sew_resnet, osr_vgg
from snncompile.online.osr_nf import osr_nf_resnet
from snncompile.online.ots import OTSLIF, calibrate_thresholds, online_thresholds
from snncompile.online.registry import build_network, list_networks, register_network
from snncompile.online.renorm import OnlineRenorm
from snncompile.online.seca import SECA, calibrate_gates, live_gates
from snncompile.online.sltt import SLTTVGG, SLTTResNet, sltt_neuron, sltt_resnet, sltt_vgg
from snncompile.online.stages import InputNorm, SpikingConv
from snncompile.online.state import ResettableNetwork
from snncompile.online.surrogate import Boxcar, Dspike, Rectangle, Sigmoid, Spike, Triangle
from snncompile.online.tet import TETVGG, HardLIF, tet_vgg
from snncompile.online.tet_resnet import TETResNet, tet_resnet
from snncompile.online.vgg import OTTTVGG, VGG11, ottt_vgg

__all__ = [
    "EMPFVGG",
    "HDLIF",
    "NDOTLIF",
    "OTSLIF",
    "OTTTVGG",
    "SECA",
    "SLTTVGG",
    "TETVGG",
    "VGG11",
    "ASGLNeuron",
    "AdaptiveSpike",
    "Approximation",
    "BinaryConv2d",
    "Boxcar",
    "Checkpoint",
    "Dspike",
    "EMPFResNet",
    "GLIFMSResNet",
    "GLIFResNet",
    "GatedLIF",
    "HardLIF",
    "InputNorm",
    "LTLStudent",
    "LTLTeacher",
    "LoopedNeuron",
    "NFResNet",
    "OSRNetwork",
    "OnlineLIF",
    "OnlineRenorm",
    "OverTime",
    "ParallelHDLIF",
    "Rectangle",
    "ResettableNetwork",
    "SLTTResNet",
    "Scale",
    "ScaledWSConv2d",
    "ScaledWSLinear",
    "Sigmoid",
    "Spike",
    "SpikingConv",
    "TETResNet",
    "TdBatchNorm",
    "TernaryConv2d",
    "TracedConv2d",
    "TracedLinear",
    "Triangle",
    "build_network",
    "calibrate_gates",
    "calibrate_thresholds",
    "empf_resnet",
    "empf_vgg",
    "glif_ms_resnet",
    "glif_resnet",
    "is_checkpoint",
    "list_networks",
    "live_gates",
    "load_checkpoint",
    "ltl_batch",
    "ltl_vgg",
    "ndot_vgg",
    "nf_resnet",
    "online_thresholds",
    "osr_nf_resnet",
    "osr_resnet",
    "osr_sew_resnet",
    "osr_vgg",
    "ottt_vgg",
    "register_network",
    "save_checkpoint",
    "sltt_neuron",
    "sltt_resnet",
    "sltt_vgg",
    "tet_resnet",
    "tet_vgg",
    "weight_bytes",
]
