"""A matrix factorised once: its factors, which are constants to torch, and who may want derivatives of it."""

from __future__ import annotations

import torch
from array_api_compat import torch as xp
from torch import Tensor
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

from lstsq import _factors
from lstsq._backend import Factors, Solution
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._torch import without_derivative
from lstsq_torch._gradient import _is_differentiated as is_differentiated
from lstsq_torch._gradient import _is_plain as is_plain


def factorize(a: Tensor) -> Factors:
    """The thin SVD of ``a (..., M, N)``. See `Backend.factorize`.

    A program that torch records here may be differentiated long after: the factors then say that they have none.
    """
    a = a.detach() if is_traced(a) else without_derivative(a)
    working = a.dtype if a.device.type == "mps" else torch.promote_types(a.dtype, torch.float64)
    return _factors.factorise(xp, a, working, lambda a: lacking.svd(xp, a))


def is_traced(a: Tensor) -> bool:
    """Whether torch may ask for the derivative of what is computed from `a`: now, or of a program that it compiles."""
    if torch.compiler.is_compiling() or (a.requires_grad and torch.is_grad_enabled()):
        return True
    while functorch.is_functorch_wrapped_tensor(a):
        if functorch.is_gradtrackingtensor(a):
            return True
        a = functorch.get_unwrapped(a)
        if a.requires_grad and torch.is_grad_enabled():
            return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(a).tangent is not None


def solve_ordinary(factors: Factors, b: Tensor, rcond: float) -> Solution | None:
    """Solve on the CPU for one matrix that is not traced and ``b (M, K)`` of ordinary size; None for all else."""
    u = factors.u
    if u.ndim != 2 or not u.is_cpu or not is_plain(u, b) or is_differentiated(b):
        return None
    if b.is_complex() and not u.is_complex():
        return None
    found = _factors.solve_ordinary(factors, b.to(u.dtype), rcond)
    if found is None:
        return None
    return Solution(found.x, found.squares, torch.scalar_tensor(found.rank, dtype=torch.int32), found.s.clone())
