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
from lstsq_torch._drivers import by_gelsd, by_qr, by_qr_without_s


def solve(a: Tensor, b: Tensor, rcond: float, driver: str, singular_values: bool) -> Solution:
    """Solve for each matrix of the batch: ``a (..., M, N)``, ``b (..., M, K)``. See `Backend.solve`.

    `s` is None where `singular_values` is False.
    """
    if torch.is_autocast_enabled(a.device.type):
        # It adds nothing to double precision, but to single on a device without double.
        with torch.autocast(a.device.type, enabled=False):
            return solve(a, b, rcond, driver, singular_values)
    if driver in ("auto", "cholesky") and a.device.type == "cpu" and _native() is not None:
        solution = _by_native(a, b, rcond, driver, singular_values)
        if solution is not None:
            return solution
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
    # `from_numpy` alone leaves them on the CPU, whatever the default device is.
    return Solution(*(None if part is None else torch.from_numpy(np.asarray(part)) for part in answer))


def _in_numpy(tensor: Tensor) -> Any:
    """The numbers as they lie in memory; a copy only of what torch has not yet conjugated or negated."""
    return tensor.resolve_conj().resolve_neg().numpy()
