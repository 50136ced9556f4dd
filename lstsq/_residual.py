"""`residual`: what a solution leaves of the right-hand sides."""

from __future__ import annotations

from typing import Any

from numpy.linalg import LinAlgError

from lstsq import _api, _contract, _precise
from lstsq._arithmetic import quiet
from lstsq._backend import Array, dtype_name


def residual(a: Array, x: Array, b: Array, *, backend: str | None = None) -> Array:
    """The residual ``b - a x``, in double precision inside, on the arrays of any library.

    `LstsqResult` has the sums of its squares. Written by hand, ``b - a @ x`` loses in single precision the digits in
    which `b` and ``a x`` agree, which is most of them where the fit is good.

    Parameters
    ----------
    a : (..., M, N) array
        As for `lstsq`.
    x : (..., N) or (..., N, K) array
        A solution, as `lstsq` returns it, or any other: ``(..., N)`` beside a vector `b`, else ``(..., N, K)``.
    b : (M,) or (..., M, K) array
        Right-hand sides, as for `lstsq`.
    backend : str, optional
        The backend whose product is used; one that serves the arrays' library. By default that which `lstsq` would use.

    Returns
    -------
    (..., M) or (..., M, K) array
        ``(..., M)`` for a vector `b`. Its dtype is the one that `a`, `x` and `b` are promoted to by the rules of
        `lstsq`. It is computed in double precision where the library has that on its device, and rounded once. Products
        beyond the range do no harm where the residual is within it.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the shapes do not fit.
    TypeError
        If the arrays belong to two libraries or are on two devices, have a dtype that `lstsq` does not take, or the
        backend takes other libraries' arrays.

    Notes
    -----
    It has derivatives with respect to all three, where the library differentiates. Its error is at most that of
    rounding `a`, `x` and `b` to the precision that is computed in (Higham 2002, section 3.5).

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), section 3.5.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import lstsq, residual
    >>> a, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0, 6.0])
    >>> print(residual(a, lstsq(a, b).x, b).round(3))
    [ 0.5 -1.   0.5]
    """
    a, b, owner = _api.arrays(a, b)
    x = _api.beside("x", x, a, owner)
    home, xp = _api.solver_at_home(backend, owner), owner.xp
    vector = len(b.shape) == 1
    batch = _require_fitting(tuple(a.shape), tuple(x.shape), tuple(b.shape))
    dtypes = [dtype_name(array.dtype) for array in (a, x, b)]
    default_float = home.default_float(a) if any(map(_contract.needs_default_float, dtypes)) else "float64"
    of_a, of_x, of_b = (_contract.widen(name, dtype, default_float) for name, dtype in zip("axb", dtypes))
    dtype = _contract.promote(_contract.promote(of_a, of_x, default_float), of_b, default_float)

    shape = (*batch, *b.shape[-1 if vector else -2 :])
    if 0 in shape:
        # Not every library computes with arrays without numbers: MLX's build for CUDA ends the process.
        return home.zeros(shape, dtype, a)

    def compute(a: Array, b: Array, x: Array) -> Array:
        columns = (x[..., None], b[:, None]) if vector else (x, b)
        left = _precise.residual(home, xp, a, *columns, dtype)
        left = xp.astype(left, getattr(xp, dtype))
        return left[..., 0] if vector else left

    with quiet(xp):
        found: Any = home.within(compute, a, b, x)
    return found


def _require_fitting(a: tuple[Any, ...], x: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """The batch of the residual; an error where the shapes do not fit."""
    _, n, k, vector, batch_a, batch_b = _contract.split(a, b, True)
    wanted = (n,) if vector else (n, k)
    if x[len(x) - len(wanted) :] != wanted or len(x) < len(wanted):
        raise LinAlgError(
            f"x has shape {x} beside a {a} and b {b}; expected {'(..., N)' if vector else '(..., N, K)'}, whose last "
            f"sizes are {wanted}. Pass the x that lstsq(a, b) returns."
        )
    batch = _contract.broadcast(batch_a, batch_b, a, b)
    of_x = x[: len(x) - len(wanted)]
    if any(p != q and 1 not in (p, q) for p, q in zip(reversed(batch), reversed(of_x))):
        raise LinAlgError(
            f"the batch dimensions of x (shape {x}) do not broadcast against those of a {a} and b {b}; expected each "
            "pair, from the right, to be equal or to contain a 1."
        )
    return _contract.broadcast(batch, of_x, b, x)
