"""Integer graph to chip: the hop schedule and the hop-accurate execution that proves it."""

from snncompile.mapping.hops import run_hops
from snncompile.mapping.schedule import Schedule, Wire, schedule

__all__ = ["Schedule", "Wire", "run_hops", "schedule"]
