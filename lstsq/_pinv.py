"""`pinv`: the pseudo-inverse, as the solution for the columns of an identity.

    A⁺ = lstsq(A, I_M).x = lstsq(Aᴴ, I_N).xᴴ

The identity is that of the shorter dimension, so that nothing M x M is formed for a tall matrix. A solution has the
contract's cutoff, dtypes and derivatives in every backend, and so has the pseudo-inverse.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _api, _contract
from lstsq._api import _require_finite
from lstsq._arithmetic import adjoint
from lstsq._backend import Array, dtype_name
from lstsq._registry import Owner


def pinv(
    a: Array,
    rcond: float | Array | None = None,
    *,
    driver: str | None = None,
    backend: str | None = None,
) -> Array:
    """Pseudo-inverse of Moore and Penrose, on the arrays of any library.

    ``pinv(a) @ b`` is ``lstsq(a, b).x``, which is faster and more accurate where the right-hand sides are known.

    Parameters
    ----------
    a : (..., M, N) array
        One matrix or a batch of them, of any shape and rank. Dtypes as for `lstsq`.
    rcond : float or () array, optional
        As for `lstsq`: a singular value counts as zero iff ``s <= rcond * s_max``, by default
        ``eps * max(M, N)`` in double precision and ``eps * min(max(M, N), 16)`` in single.
    driver, backend : str, optional
        As for `lstsq`.

    Returns
    -------
    (..., N, M) array
        Of the library, on the device and in the floating dtype of `a`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If `a` has less than two dimensions; on NumPy's arrays also if `a` is not finite, and on Dask's when they are
        computed. (Elsewhere the pseudo-inverse of that batch element is NaN.)
    TypeError, ValueError
        As of `lstsq`.

    Notes
    -----
    Where the backend differentiates, the derivative is that at constant rank, also where singular values are equal or
    the rank is deficient (Golub and Pereyra 1973).

    References
    ----------
    G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate", SIAM J. Numer. Anal. 10 (1973), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import pinv
    >>> print((pinv(np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 4.0]])).round(9) + 0.0))
    [[0.5  0.   0.  ]
     [0.   0.   0.25]]
    """
    a, _, owner = _api.arrays(a, a)
    _api.require_matrix(a)
    home, tall = owner.backend, _is_tall(*a.shape[-2:])
    with home.context():
        matrix = adjoint(owner.xp, a) if tall else a
        identity = _identity(matrix, owner)
    try:
        found = _api.lstsq(matrix, identity, rcond, driver=driver, singular_values=False, backend=backend).x
    except LinAlgError:
        if tall:
            # The backend has named a place in the adjoint, which the caller has never seen.
            _require_finite(a, home)
        raise
    with home.context():
        return adjoint(owner.xp, found) if tall else found


def _is_tall(m: Any, n: Any) -> bool:
    """Whether the columns are fewer than the rows. Where a compiler keeps the sizes open, that need not be known."""
    try:
        return not m <= n
    except Exception:  # JAX's InconclusiveDimensionOperation, whose place differs between its releases.
        return False


def _identity(matrix: Array, owner: Owner) -> Array:
    """The identity beside ``matrix (..., P, Q)`` that has as many rows, real and of its precision."""
    size, dtype = matrix.shape[-2], dtype_name(matrix.dtype)
    default_float = owner.backend.default_float(matrix) if _contract.needs_default_float(dtype) else "float64"
    single = _contract.widen("a", dtype, default_float) in ("float32", "complex64")
    real = "float32" if single else "float64"
    if isinstance(size, int):
        return owner.backend.from_numpy_like(np.eye(size, dtype=real), matrix)
    # A size that a compiler keeps open.
    return owner.xp.eye(size, dtype=getattr(owner.xp, real), device=array_api_compat.device(matrix))
