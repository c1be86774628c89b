"""The default order of the passes."""

from __future__ import annotations

from snncompile.passes.absorb_gain import AbsorbGain
from snncompile.passes.base import Pass
from snncompile.passes.fold_affines import FoldAffineBack, FoldAffineForward, FoldAffineIntoNeuron
from snncompile.passes.fold_gathers import FoldGathers
from snncompile.passes.fold_synapses import FoldSynapses
from snncompile.passes.fold_threshold import FoldThreshold
from snncompile.passes.fuse_filters import FuseFilters
from snncompile.passes.insert_relays import InsertRelays
from snncompile.passes.lift import DiagonalToAffine, PoolToConv
from snncompile.passes.linear_loops import BreakLinearLoops
from snncompile.passes.lower import LowerNeurons
from snncompile.passes.max_pool import LowerMaxPool
from snncompile.passes.move_delays import MoveDelays
from snncompile.passes.prune import Prune
from snncompile.passes.share_sums import ShareSums
from snncompile.passes.simplify import Simplify
from snncompile.passes.split_concat import SplitConcat

Pipeline = tuple["Pass | tuple[Pass, ...]", ...]

FOLDS: tuple[Pass, ...] = (
    Simplify(), MoveDelays(), FoldGathers(), FoldAffineBack(), FoldAffineForward(), FoldAffineIntoNeuron(), SplitConcat(), FoldSynapses(),
)  # fmt: skip

DEFAULT: Pipeline = (
    Prune(), LowerMaxPool(), BreakLinearLoops(), FuseFilters(), AbsorbGain(), DiagonalToAffine(), PoolToConv(), ShareSums(), FOLDS,
    InsertRelays(), FOLDS, InsertRelays(), LowerNeurons(), FoldThreshold(), Prune(),
)  # fmt: skip
"""What ``run_passes`` runs: a tuple inside the tuple is repeated until none of its passes changes anything."""
