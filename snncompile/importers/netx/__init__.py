"""lava-dl's network exchange files (``.net``, HDF5), with the integer semantics that netx and Lava's fixed-point models give them.

file.py     the HDF5 file as plain arrays, every access checked and named by its dataset
layers.py   what each layer means, as typed records
weights.py  integer weights as 8-bit synapses
build.py    layers to an integer graph, proved population by population
load.py     the door: file, target and options to a program
"""

from snncompile.importers.netx.file import is_net
from snncompile.importers.netx.load import Wishes, load_net

__all__ = ["Wishes", "is_net", "load_net"]
