"""The solution of tensors that hold numbers, by the driver and, on the CPU, by the compiled core where there is one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from array_api_compat import torch as xp
from numpy.linalg import LinAlgError
from torch import Tensor

from lstsq._backend import Solution
from lstsq_array_api import _solve as standard
from lstsq_array_api import _svd
from lstsq_numpy._solve import solve as by_numpy
from lstsq_torch._drivers import by_gelsd, by_qr, by_qr_without_s
from lstsq_torch._small import certify

#: Numbers of a matrix that is solved with NumPy, and numbers times columns. NumPy's BLAS stays on one thread up to
#: there: more threads of it would keep the processor's cores from torch's, for a tenth of a second after each call.
SMALL, SMALL_PRODUCTS = 1 << 13, 1 << 18


def solve(a: Tensor, b: Tensor, rcond: float, driver: str, singular_values: bool) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`.

    `s` is None where `singular_values` is False.
    """
    if driver in ("auto", "cholesky") and a.is_cpu:
        if _native() is not None:
            solution = _by_native(a, b, rcond, driver, singular_values)
        elif driver == "auto" and a.ndim == 2 and a.numel() <= SMALL and a.numel() * a.shape[1] <= SMALL_PRODUCTS:
            solution = _by_numpy(a, b, rcond, singular_values)
        else:
            solution = None
        if solution is not None:
            return solution
    if torch.is_autocast_enabled(a.device.type):
        # It adds nothing to double precision, but to single on a device without double.
        with torch.autocast(a.device.type, enabled=False):
            return _by_torch(a, b, rcond, driver, singular_values)
    return _by_torch(a, b, rcond, driver, singular_values)


def _by_torch(a: Tensor, b: Tensor, rcond: float, driver: str, singular_values: bool) -> Solution:
    if driver in ("auto", "cholesky") and a.device.type != "mps":
        return standard.solve_certified(xp, a, b, rcond, driver, singular_values)
    if driver == "qr":
        return _svd.solve(xp, a, b, rcond, by_qr if singular_values else by_qr_without_s)
    if driver == "gelsd":
        return _svd.solve(xp, a, b, rcond, by_gelsd)
    return standard.solve(xp, a, b, rcond, driver, singular_values)


@cache
def _native() -> Any:
    """The backend of the distribution `lstsq-native`, or None where it is not installed or cannot run."""
    try:
        from lstsq_native import NativeBackend
    except ImportError:
        return None
    backend = NativeBackend()
    return backend if backend.unavailable() is None else None


def ran(a: Tensor, b: Tensor, rcond: float, driver: str) -> tuple[str, ...]:
    """Which way this problem goes, as sentences. See `Backend.ran`."""
    if driver not in ("auto", "cholesky"):
        return (f"{driver} answered",)
    if a.device.type != "cpu" or _native() is None:
        return ()
    from lstsq_native._backend import ran

    found: tuple[str, ...] = ran(_in_numpy(a.detach()), _in_numpy(b.detach()), rcond, driver)
    return found


def _by_numpy(a: Tensor, b: Tensor, rcond: float, singular_values: bool) -> Solution | None:
    """The answer for one small matrix, which NumPy finds in a fraction of the time; or None, where it is not finite."""
    one, right = _in_numpy(a), _in_numpy(b)
    answer = None if singular_values else certify(one, right, rcond)
    if answer is None:
        try:
            answer = by_numpy(one, right, rcond, "gelsd")
        except LinAlgError:
            return None
    return _in_torch(answer)


def _by_native(a: Tensor, b: Tensor, rcond: float, driver: str, singular_values: bool) -> Solution | None:
    """The answer of the compiled core, which reads the tensors' memory; or None, where it does not converge."""
    native = _native()
    solve = native.solve if singular_values else native.solve_without_s
    try:
        answer = solve(_in_numpy(a), _in_numpy(b), rcond, driver)
    except LinAlgError:
        # One matrix that is not finite is enough. Only here is it looked for, and the others are solved without it.
        finite = a.isfinite().all(-1).all(-1)
        if bool(finite.all()):
            return None
        solution = _by_native(a.masked_fill(~finite[..., None, None], 0), b, rcond, driver, singular_values)
        if solution is not None:
            for part in (solution.x, solution.residuals, solution.s):
                if part is not None:
                    part[~finite] = complex("nan+nanj") if part.is_complex() else torch.nan
        return solution
    return _in_torch(answer)


def _in_numpy(tensor: Tensor) -> Any:
    """The numbers as they lie in memory; a copy only of what torch has not yet conjugated or negated."""
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor.numpy()


def _in_torch(answer: Any) -> Solution:
    """The arrays of NumPy as tensors. `from_numpy` alone leaves them on the CPU, whatever the default device is."""
    x, residuals, rank, s = answer
    return Solution(
        torch.from_numpy(x),
        torch.from_numpy(residuals),
        torch.from_numpy(np.asarray(rank)),
        None if s is None else torch.from_numpy(s),
    )
