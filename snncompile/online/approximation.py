"""What a module computes in place of something that depends on the data: declared by the module, listed by the compiler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEVIATION = "relative root mean square over the calibration samples"


@dataclass(frozen=True, slots=True)
class Approximation:
    """One stand-in.

    what   the sentence for the manifest        size  how far it was off, measured where it was calibrated, in ``unit``

    Any module of a network may have a method ``approximation()`` that returns one, or None; the compiler asks all of them.
    """

    what: str
    size: float
    unit: str


def relative_deviation(total: Tensor, square: Tensor, count: int) -> Tensor:
    """Root mean square of x - mean(x) over ``count`` samples, relative to the root mean square of mean(x), from sums of x and x^2.

    Shapes   total, square equal, any; a scalar
    """
    mean = total / count
    variance = torch.clamp(square / count - mean**2, min=0)
    return torch.sqrt(variance.mean() / (mean**2).mean())
