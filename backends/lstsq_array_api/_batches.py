"""The certified way for a batch of small matrices in torch on a processor, with as little memory as it can do with.

Memory that is taken anew for a result costs as much there as to compute it. So a part of the batch at a time, which
stays in the cache, goes through the same few arrays as the parts before it; right-hand sides are rows, whose products
with A are several times as fast; and nothing is scaled. In the notation of `_certified`, with t = ‖A‖_F², the trace of
G = AᵀA, P = TᵀT for about the inverse T of the Cholesky triangle, and F = I − P G,

    ρ = ‖F‖_F + ‖P‖_F t (M + 3 N + 10) u,   ‖A⁺‖² <= ‖P‖_F / (1 − ρ).

Where the norms of columns are very different, ρ is too large. What is not proven is left to `_certified`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstsq_array_api._certified import Bounds, Certified, has_full_rank, judge
from lstsq_array_api._values import SINGLE, UNIT

#: Matrices from which a batch is quicker solved here than in the general way, and columns up to which.
LEAST, COLUMNS = 4, 64
#: Numbers of a part of the batch.
CACHED = 1 << 18


def takes(a: Tensor) -> bool:
    """Whether matrices like these ``a (..., M, N)`` are solved here."""
    *batch, m, n = a.shape
    return not a.is_complex() and math.prod(batch) >= LEAST and n <= min(m, COLUMNS)


def solve(a: Tensor, b: Tensor, rcond: float) -> Certified:
    """Solve for real ``a (B, M, N)``, ``b (B, M, K)`` on the processor; the answers are in double precision."""
    (count, m, n), k = a.shape, b.shape[2]
    x, squares = a.new_empty((count, k, n), dtype=torch.float64), a.new_empty((count, k), dtype=torch.float64)
    good = np.empty(count, bool)
    size = max(1, CACHED // (m * (n + k)))
    memory = _Memory(min(size, count), m, n, k)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        good[part] = _solve_part(a[part], b[part], rcond, memory, x[part], squares[part])
    return Certified(x.mT.contiguous(), squares, None if good.all() else good, None)


class _Memory:
    """Arrays for a part of the batch."""

    def __init__(self, count: int, m: int, n: int, k: int) -> None:
        self.columns, self.b = (torch.empty(count, rows, m, **_DOUBLE) for rows in (n, k))
        self.gram, self.triangle, self.inverse, self.p = (torch.empty(count, n, n, **_DOUBLE) for _ in range(4))
        self.identity = torch.eye(n, **_DOUBLE).expand(count, n, n)
        self.info = torch.empty(count, dtype=torch.int32, device="cpu")


_DOUBLE: Any = {"dtype": torch.float64, "device": "cpu"}


@np.errstate(all="ignore")  # What is not certified may be anything.
def _solve_part(a: Tensor, b: Tensor, rcond: float, memory: _Memory, x: Tensor, squares: Tensor) -> Any:
    """Write ``x (B, K, N)`` and the sums of squares ``(B, K)``, and return which matrices ``(B,)`` are proven."""
    (count, m, n), single = a.shape, a.dtype != torch.float64
    # By columns, which suits the products; in double precision that would be a copy more.
    columns = memory.columns[:count].copy_(a.mT) if single else a.mT
    right = memory.b[:count].copy_(b.mT)
    gram, triangle, inverse, p = (array[:count] for array in (memory.gram, memory.triangle, memory.inverse, memory.p))
    torch.bmm(columns, columns.mT, out=gram)
    torch.linalg.cholesky_ex(gram, out=(triangle, memory.info[:count]))
    torch.linalg.solve_triangular(triangle, memory.identity[:count], upper=False, out=inverse)
    torch.bmm(inverse.mT, inverse, out=p)
    defect = torch.bmm(p, gram, out=inverse)  # The inverse is needed no more.
    defect.diagonal(dim1=1, dim2=2).sub_(1)
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    norms = [torch.linalg.vector_norm(array, dim=(1, 2)) for array in (defect, p)]
    of_defect, of_p, trace = torch.stack([*norms, trace]).numpy()[:, :, None]
    rho = of_defect + of_p * trace * ((m + 3 * n + 10) * UNIT)
    norm = np.sqrt(trace)
    bounds = Bounds(rho, norm, np.sqrt(of_p / (1 - rho)), np.ones_like(rho), norm, norm, False)

    cross = torch.bmm(right, columns.mT)
    torch.bmm(cross, p, out=x)
    if single:
        # ρ once for G, and once for what rounding does to Aᵀ b.
        at_once = has_full_rank(bounds, rcond) & (2 * rho <= SINGLE * (1 - 2 * rho))
        squares_b = torch.linalg.vector_norm(right, dim=2).square_()
        torch.sub(squares_b, (x * (2 * cross - torch.bmm(x, gram))).sum(2), out=squares)
        exact = at_once & (4 * rho * squares_b.numpy() <= SINGLE * squares.numpy())
        if not exact.all():
            r = right - torch.bmm(x, columns)
            squares.copy_(torch.where(torch.from_numpy(exact), squares, r.square_().sum(2)))
        return (at_once & np.isfinite(squares_b.numpy())).all(1)  # What is infinite would leave x so, and not NaN.

    r = right - torch.bmm(x, columns)
    cross = torch.bmm(r, columns.mT)
    step = torch.bmm(cross, p)
    x.add_(step)
    moved = (step * cross).sum(2)
    size_b = right.abs().amax(2)
    sizes = [torch.linalg.vector_norm(array, dim=2) for array in (step, x)]
    residual = torch.linalg.vector_norm(r, dim=2)
    at_hand = [array.numpy() for array in (*sizes, residual, moved, size_b)]
    certain, done = judge(bounds, at_hand, at_hand, (m, n), rcond, single)
    kept = done & (at_hand[3] <= UNIT / 2 * at_hand[2] ** 2) & (m > n)
    if not kept.all():
        r = right - torch.bmm(x, columns)
        residual = torch.where(torch.from_numpy(kept), residual, torch.linalg.vector_norm(r, dim=2))
        at_hand[2] = residual.numpy()
        done = kept | judge(bounds, at_hand, at_hand, (m, n), rcond, single)[1]
    torch.mul(residual, residual, out=squares)
    return (certain & done).all(1)
