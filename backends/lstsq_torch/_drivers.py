"""The drivers ``qr`` and ``gelsd``: what they do with a problem that is finite and scaled.

`lstsq_array_api._svd` scales for them, and takes their results on. Matrices that they have no answer for go to the SVD,
and the others of the batch do not.

References
----------
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), sections 19.3 and 20.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstsq_array_api import _lacking as lacking
from lstsq_array_api._svd import Scaled, solve_scaled_by_svd

#: Up to so many columns gelsd finds singular values by QR iteration, as accurately as the SVD; beyond, it divides.
UNDIVIDED = 25

#: Its singular values are then off by up to 16 eps of the largest: enough to be on the other side of a cutoff as near.
DOUBTFUL = 32 * 2.0**-52

#: A cut is narrow from here on, relative to the largest singular value: gelsd may then be wrong in half of the digits.
NARROW = 2.0**-26


def by_qr(xp: Any, a: Tensor, b: Tensor, rcond: float) -> Scaled:
    """Solve by Householder's QR the problems whose triangle is certainly of full rank."""
    x, r, certain, triangle = _by_triangle(a, b, rcond)
    s = lacking.svdvals(xp, triangle)
    return _others_by_svd(xp, a, b, rcond, ~certain, (x, r, torch.ones_like(s, dtype=torch.bool), s))


def by_qr_without_s(xp: Any, a: Tensor, b: Tensor, rcond: float) -> Scaled:
    """As `by_qr`, with no singular values: of a triangle that is certainly of full rank nobody needs them."""
    x, r, certain, triangle = _by_triangle(a, b, rcond)
    keep = torch.ones(triangle.shape[:-1], dtype=torch.bool, device=a.device)
    solved = _others_by_svd(xp, a, b, rcond, ~certain, (x, r, keep, r.new_empty(keep.shape, dtype=r.dtype.to_real())))
    return (*solved[:3], solved[3][..., :0])


def _by_triangle(a: Tensor, b: Tensor, rcond: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The solution and its residual, which matrices are certainly of full rank, and the triangles."""
    wide = a.shape[-2] < a.shape[-1]
    q, triangle = torch.linalg.qr(a.mH if wide else a)
    certain = _is_certainly_full(triangle, rcond, max(a.shape[-2:]))
    # Not to divide by the zeros of the others.
    triangle = torch.where(certain[..., None, None], triangle, _identity(triangle))

    def apply_pinv(rhs: Tensor) -> Tensor:
        if wide:
            return q @ torch.linalg.solve_triangular(triangle.mH, rhs, upper=False)
        return torch.linalg.solve_triangular(triangle, q.mH @ rhs, upper=True)

    x = apply_pinv(b)
    x = x + apply_pinv(b - a @ x)  # One step of iterative refinement.
    return x, b - a @ x, certain, triangle


def _is_certainly_full(triangle: Tensor, rcond: float, longest: int) -> Tensor:
    """Whether no singular value is near the cutoff: one over the norm of the inverse is at most the smallest.

    The rounding errors of the triangle are far below ``eps * longest`` times its norm, and these of its inverse, where
    it passes, change that by less than half. The factor 4 has room for both.
    """
    inverse = torch.linalg.solve_triangular(triangle, _identity(triangle).expand(triangle.shape), upper=True)
    condition = torch.linalg.matrix_norm(triangle) * torch.linalg.matrix_norm(inverse)
    return 4 * condition * (rcond + torch.finfo(triangle.dtype).eps * longest) < 1


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def by_gelsd(xp: Any, a: Tensor, b: Tensor, rcond: float) -> Scaled:
    """Solve by torch's LAPACK, on the CPU, the problems for which its answer is the contract's.

    That is not so where it kept other singular values, and of more than 25 columns where the cut is narrow or a
    singular value is all but at the cutoff: it finds them by dividing, and errs by up to 25 eps of the largest.
    """
    on_cpu = [tensor.to("cpu", torch.promote_types(tensor.dtype, torch.float64)) for tensor in (a, b)]
    try:
        x, _, rank, s = torch.linalg.lstsq(*on_cpu, rcond=rcond, driver="gelsd")
    except torch.linalg.LinAlgError:  # Divide and conquer did not converge.
        return solve_scaled_by_svd(xp, a, b, rcond)
    largest = s[..., :1]
    keep = s > min(rcond, 1.0) * largest
    # LAPACK takes any rcond outside (0, 1) to mean eps, and compares after scaling by a number that may round.
    unlike = keep.sum(-1) != rank
    if s.shape[-1] > UNDIVIDED:
        doubtful = (s - rcond * largest).abs().amin(-1) <= DOUBTFUL * largest[..., 0]
        # From the smallest singular value that counts to the largest that does not, or to zero.
        least = s.masked_fill(~keep, torch.inf).amin(-1)
        unlike = unlike | doubtful | (least - s.masked_fill(keep, 0).amax(-1) <= NARROW * largest[..., 0])
    x, keep, s, unlike = x.to(a), keep.to(a.device), s.to(a.device, a.dtype.to_real()), unlike.to(a.device)
    return _others_by_svd(xp, a, b, rcond, unlike, (x, b - a @ x, keep, s))


def _others_by_svd(xp: Any, a: Tensor, b: Tensor, rcond: float, others: Tensor, solved: Scaled) -> Scaled:
    """What is solved, with the answers of the SVD in the place of the others'."""
    if not bool(others.any()):
        return solved
    if bool(others.all()):
        return solve_scaled_by_svd(xp, a, b, rcond)
    for mine, part in zip(solved, solve_scaled_by_svd(xp, a[others], b[others], rcond)):
        mine[others] = part
    return solved
