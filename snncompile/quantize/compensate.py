"""Rounding that follows the inputs: each weight's error is made good by weights that are not rounded yet.

With y the inputs of a row of weights w and H = E[y y^T], rounding w to q changes the current by (q - w) y, whose mean square is

    (q - w) H (q - w)^T                                                                                              (1)

Where inputs are correlated, errors can cancel. With H = U D U^T, U unit upper triangular, the rounding

    q[k] = round(w[k] + sum over j < k of (w[j] - q[j]) * U[j,k])                                                    (2)

leaves  sum over k of D[k] * e[k]^2  of (1), |e| <= 1/2 (unless q[k] is held back, see REACH, or at the end of its range): D[k] is what
the inputs that come after k cannot tell of input k, at most H[k,k], which rounding to the nearest would leave. That is optimal brain
quantisation (Frantar & Alistarh, 2022, arXiv:2208.11580) in the order of GPTQ (Frantar et al., 2022, arXiv:2210.17323), in the form of
LDLQ (Chee et al., 2023, arXiv:2307.13304).

Sums run in a fixed order and without BLAS, whose order follows the number of threads: the same weights and inputs give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from snncompile.ir.graph import Array

REACH = 1.5
"""Steps by which a rounded weight may lie off the trained one."""
ON_GRID = 1e-6
"""Steps by which weights that were trained on a grid may miss it."""
DAMPING = 0.01
"""What is added to every input's mean square, relative to all inputs': calibration data is a sample."""
_PANEL = 64


@dataclass(frozen=True, eq=False)
class Feedback:
    """What rounding needs to know of inputs with these second moments (K, K): computed once, for any number of scales.

        H = U D U^T,  U unit upper triangular, of the moments, the largest H[k,k] first, over the mean of H[k,k], plus 0.01 I

    Inputs that are always 0 leave nothing to make good.
    Shapes   moments, H, U (K, K), of K inputs of a row of weights, in units of their payload LSBs
    Source   optimal brain quantisation (Frantar and Alistarh, arXiv 2208.11580); GPTQ (Frantar et al., arXiv 2210.17323) has the order and
             the damping; LDLQ (Chee et al., arXiv 2307.13304) the form with U
    """

    moments: Array

    @cached_property
    def heard(self) -> bool:
        """Whether any input is ever another."""
        return bool(0 < float(np.trace(self.moments)) < np.inf)

    @cached_property
    def order(self) -> Array:
        """What is largest is rounded first, when most can still make it good."""
        return np.argsort(-np.diag(self.moments), kind="stable")

    @cached_property
    def upper(self) -> Array:
        """U of (2), in that order."""
        h = self.moments[np.ix_(self.order, self.order)]
        return _unit_upper(h / float(np.diag(h).mean()) + DAMPING * np.eye(len(h)))

    def size(self, rows: Array) -> Array:
        """(1) of every row."""
        heard = np.einsum("kr,kj->jr", np.ascontiguousarray(rows.T), self.moments)
        return np.asarray((np.ascontiguousarray(heard.T) * rows).sum(axis=1))

    def rounded(self, w: Array, codes: int) -> Array:
        """Rows ``w`` (R, K), in steps, as integers within +-codes by (2); rows that lie on their grid already stay.

            q[k] = clip(rint(w[k] + sum over j < k of (w[j] - q[j]) U[j,k]), ceil(w[k] - 1.5), floor(w[k] + 1.5))

        Source   as ``Feedback``
        Shapes   w and the result (R, K); K as the moments
        Units    steps: real weights divided by their row's weight LSB
        """
        nearest = np.rint(w)
        np.clip(nearest, -codes, codes, out=nearest)
        rows = np.abs(w - nearest).max(axis=1, initial=0.0) > ON_GRID
        if not self.heard or not rows.any():
            return nearest.astype(np.int64)
        trained = np.ascontiguousarray(w[np.ix_(rows, self.order)].T)  # one weight of all rows after the other
        left, q, upper = trained.copy(), np.empty_like(trained), self.upper
        low, high = (np.clip(x, -codes, codes) for x in (np.ceil(trained - REACH), np.floor(trained + REACH)))
        for start in range(0, len(upper), _PANEL):
            stop = min(start + _PANEL, len(upper))
            errors = np.empty((stop - start, left.shape[1]))
            for k in range(start, stop):
                np.rint(left[k], out=q[k])
                np.minimum(np.maximum(q[k], low[k], out=q[k]), high[k], out=q[k])
                np.subtract(trained[k], q[k], out=errors[k - start])
                left[k + 1 : stop] += upper[k, k + 1 : stop, None] * errors[k - start]
            if stop < len(upper):
                left[stop:] += np.einsum("kr,kj->jr", errors, upper[start:stop, stop:])
        back = np.empty((left.shape[1], len(left)))
        back[:, self.order] = q.T
        found = nearest.copy()
        found[rows] = back
        return found.astype(np.int64)


def _unit_upper(h: Array) -> Array:
    """U of H = U D U^T, for a positive definite H: the Cholesky factor of the reversed matrix, by panels."""
    a = np.ascontiguousarray(h[::-1, ::-1])
    n = len(a)
    for start in range(0, n, _PANEL):
        stop = min(start + _PANEL, n)
        for k in range(start, stop):
            a[k, k] = np.sqrt(max(a[k, k], 1e-12))
            a[k + 1 :, k] /= a[k, k]
            a[k + 1 :, k + 1 : stop] -= a[k + 1 :, k, None] * a[k + 1 : stop, k]
        for j in range(stop, n, _PANEL):  # the lower half is enough
            end = min(j + _PANEL, n)
            a[j:, j:end] -= np.einsum("ik,jk->ij", a[j:, start:stop], a[j:end, start:stop])
    lower = np.tril(a)
    return np.asarray((lower / np.diag(lower))[::-1, ::-1])


__all__ = ["REACH", "Feedback"]
