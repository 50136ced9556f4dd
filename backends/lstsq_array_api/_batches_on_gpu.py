"""The certified way for small matrices in torch on a GPU for which there are no kernels, by few operations.

Each operation is a launch or several, and the processor that launches is what such a batch waits for. So A and b are
one array W = [A b], whose Gram matrix holds G = AᵀA, c = Aᵀb and the squares of the norms of b; one product is
P [G c] = [P G  P c], where P is about the inverse of G, whatever the library returns; and nothing is scaled. With
F = I − P G and t the trace of G, which is ‖A‖_F²,

    ρ = ‖F‖_F + ‖P‖_F t (M + 3 N + 10) u,   ‖A⁺‖² <= ‖P‖_F / (1 − ρ).

The first solution x = P c errs by at most 2 ρ (‖x‖ + ‖r‖ / √t) / (1 − 2 ρ): by ρ for G, and by ρ for what rounding does
to c. In double precision one step of refinement leaves ρ times that. So ρ alone says that all is solved. It is found
for all matrices at once, from the extremes of each entry over the batch, and only if that is not enough for each.

Where the norms of columns are very different, ρ is too large. What is not proven is left to `_certified`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstsq_array_api import _lacking as lacking
from lstsq_array_api._certified import CONTRACTION, Certified
from lstsq_array_api._values import SINGLE, UNIT

#: Columns and right-hand sides, and numbers of a matrix with these, up to which a problem is solved here.
COLUMNS, NUMBERS = 64, 1 << 16
#: Multiplications of a product of two matrices up to which they are better done one by one, matrices from which that
#: pays, and numbers up to which there is memory for it. The library's product takes as long as for 32 x 32.
TINY, MANY, MOST = 256, 8192, 1 << 25
#: The norms of matrices and of right-hand sides of double precision are at most this, and at least one over this.
RANGE_A, RANGE_B = 2.0**200, 2.0**150


def takes(a: Tensor, b: Tensor) -> bool:
    """Whether problems like this, ``a (B, M, N)``, ``b (B, M, K)``, are solved here."""
    (m, n), k = a.shape[-2:], b.shape[-1]
    return not a.is_complex() and n < m and n <= COLUMNS and k <= COLUMNS and m * (n + k) <= NUMBERS


def solve(a: Tensor, b: Tensor, rcond: float) -> Certified:
    """Solve for real ``a (B, M, N)``, ``b (B, M, K)``; the answers are in double precision."""
    (count, m, n), k, single = a.shape, b.shape[2], a.dtype != torch.float64
    both = torch.cat((a, b), 2)
    if single:
        both = both.to(torch.float64)
    columns, right = both.split((n, k), 2)
    # What the proof is about, in one array: the Gram matrix, [P G  P c] and P.
    w = n + k
    facts = both.new_empty((count, w * w + n * w + n * n))
    length = facts.shape[1]
    gram = facts.as_strided((count, w, w), (length, w, 1))
    upper = facts.as_strided((count, n, w), (length, w, 1))
    image = facts.as_strided((count, n, w), (length, w, 1), w * w)
    p = facts.as_strided((count, n, n), (length, n, 1), w * w + n * w)
    _product(both.mT, both, gram)
    p.copy_(torch.linalg.inv_ex(upper.narrow(2, 0, n)).inverse)
    _product(p, upper, image)
    x = image.narrow(2, n, k)
    ends = lacking.extremes(torch, facts)

    r = right.baddbmm(columns, x, alpha=-1)
    if not single:
        x = x + p.bmm(columns.mT.bmm(r))
        r = right.baddbmm(columns, x, alpha=-1)
    residual = torch.linalg.vector_norm(r, dim=1)
    squares = residual * residual
    low, high = lacking.to_host(ends)
    if _is_proven(np, low, high, (m, n, k), rcond, single):
        return Certified(x, squares, None, None)
    return Certified(x, squares, _is_proven(torch, facts, facts, (m, n, k), rcond, single), None)


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """``left @ right``, for ``left (B, N, M)``, ``right (B, M, K)``."""
    (count, n, m), k = left.shape, right.shape[2]
    if n * m * k <= TINY and count >= MANY and count * n * m * k <= MOST:
        torch.sum(left.unsqueeze(3) * right.unsqueeze(1), 2, out=out)
    else:
        torch.bmm(left, right, out=out)


@np.errstate(all="ignore")  # What is not proven may be anything.
def _is_proven(xp: Any, low: Any, high: Any, shape: tuple[int, int, int], rcond: float, single: bool) -> Any:
    """Which matrices are proven by their facts ``(..., L)``, or by what these lie between, in the functions of `xp`."""
    m, n, k = shape
    w, batch = n + k, high.shape[:-1]
    start, stop = w * w, w * w + n * w
    size = xp.maximum(-low, high)
    diagonal = slice(start, stop, w + 1)  # Of P G, of which I − P G is wanted.
    size[..., diagonal] = xp.maximum(1 - low[..., diagonal], high[..., diagonal] - 1)
    image = size[..., start:stop].reshape((*batch, n, w))
    defect, norm_p = _norm(xp, image[..., :n].reshape((*batch, n * n))), _norm(xp, size[..., stop:])
    # The squares of the norms of the columns of A and b.
    squares, least = (ends[..., : start : w + 1] for ends in (high, low))
    trace = squares[..., :n].sum(-1)
    rho = defect + norm_p * trace * ((m + 3 * n + 10) * UNIT)
    proven = (rho < CONTRACTION) & (2 * rcond * xp.sqrt(trace * norm_p / (1 - rho)) < 1)
    if single:
        # What is not finite in b would be in x, and not NaN.
        finite = (image[..., n:] < math.inf).all(-1).all(-1)
        return proven & finite & (2 * rho <= SINGLE * (1 - 2 * rho))
    # The step leaves at most 2 ρ² (‖x‖ + ‖r‖ / √t) / ((1 − 2 ρ) (1 − ρ)), which is to be no more than u times that.
    in_range = (least[..., :n].sum(-1) >= RANGE_A**-2) & (trace <= RANGE_A**2)
    in_range = in_range & ((least[..., n:] >= RANGE_B**-2) & (squares[..., n:] <= RANGE_B**2)).all(-1)
    return proven & in_range & (4 * rho * rho <= UNIT)


def _norm(xp: Any, v: Any) -> Any:
    return xp.sqrt((v * v).sum(-1))
