"""Float graph to float graph, meaning preserved, one pass a file; the result is the population form."""

from snncompile.passes.base import Change, Outcome, Pass, Refusal, RewritePass
from snncompile.passes.form import check_population_form
from snncompile.passes.manager import PassRecord, run_passes
from snncompile.passes.pipeline import DEFAULT

__all__ = ["DEFAULT", "Change", "Outcome", "Pass", "PassRecord", "Refusal", "RewritePass", "check_population_form", "run_passes"]
