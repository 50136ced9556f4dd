"""The backend ``native``: its claims, and the way from `lstsq.lstsq` to the compiled core."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _rows
from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution, not_finite, require_finite
from lstsq_numpy._factored import solve as solve_by_factors


class NativeBackend(Backend):
    """Least squares on NumPy's arrays, by the kernels and the drivers that MLX's arrays have too.

    The default driver, ``auto``, is certified kernels and, for what they do not certify, ``qr``. ``cholesky`` is the
    kernels alone: NaN and rank 0 where they decline. ``qr`` is an orthogonal reduction,
    ``gelsd`` and ``svd`` are LAPACK's, which SciPy brings.
    Arrays are read where they lie, whatever their strides; other threads of Python run meanwhile.

    The environment variable ``LSTSQ_NUM_THREADS`` bounds the threads of the kernels (by default every core that the
    process may run on, on Apple's processors every fast one; read once, at the first solve). LAPACK's are bounded by
    its own: ``OPENBLAS_NUM_THREADS``, and ``VECLIB_MAXIMUM_THREADS`` for Apple's Accelerate.
    ``LSTSQ_SINGLE_GRAM`` says whether Gram matrices in single precision are formed by the ``kernels`` or by ``blas``,
    which is the default for Accelerate.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([[1.0], [3.0], [5.0]])
    >>> np.round(NativeBackend().solve(a, b, rcond=1e-15, driver="auto").x, 12).ravel().tolist()
    [1.0, 2.0]
    """

    name = "native"
    serves = ("numpy",)
    #: Before the NumPy backend: it is installed to be used.
    precedence = 10
    requires = ("numpy", "scipy")
    capabilities = Capabilities(
        drivers=("cholesky", "gelsd", "qr", "svd"),
        default_driver="auto",
        dtypes=("float32", "float64", "complex64", "complex128"),
        nonfinite="raises",
        solved_in_double=("float32", "complex64"),
        takes_vectors=True,
        declines=("cholesky",),
    )

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve by the driver. See `Backend.solve`.

        Raises
        ------
        numpy.linalg.LinAlgError
            `a` holds NaN or inf; or no decomposition converged.
        """
        return _solve(a, b, rcond, driver, True)

    def solve_without_s(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve and leave `s` None: of a square matrix it costs more than the solution. See `solve`."""
        return _solve(a, b, rcond, driver, False)

    def ran(self, a: Array, b: Array, rcond: float, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell whether the certified kernels answered, in how many steps, and what did where they declined."""
        return ran(a, b, rcond, driver)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by Householder reflections, without a copy of the rows. See `Backend.reduce_rows`.

        Float32 rows that are well-conditioned are reduced through a Gram matrix in double precision, which is proved to
        lose none of their digits: docs/certificate.md, "Rows in blocks".

        Raises
        ------
        numpy.linalg.LinAlgError
            `a` holds NaN or inf.
        """
        rows = reduce_rows(a, b)
        require_finite(rows, a)
        return rows

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: float, penalties: Array | None = None
    ) -> Solution:
        """Solve by products with the factors. See `Backend.solve_factored`."""
        answer = solve_by_factors(factors, b, rcond) if penalties is None else None
        return super().solve_factored(a, factors, b, rcond, penalties) if answer is None else answer

    def unavailable(self) -> str | None:
        """Why this backend cannot run here, as a sentence that says what to install, or None."""
        try:
            core()
        except ImportError as error:
            return str(error)
        return None

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Return the array as it is."""
        return array


@cache
def core() -> ModuleType:
    """The extension module, with LAPACK loaded.

    Raises
    ------
    ImportError
        If it was not built for this Python, or SciPy is missing.
    """
    from lstsq_native._lapack import load_lapack

    try:
        module = import_module("lstsq_native._core")
    except ImportError as error:
        raise ImportError(
            f"the compiled core of lstsq-native cannot be loaded ({error}); from a clone of the project, run "
            "`pip install --force-reinstall . ./backends/native`"
        ) from error
    load_lapack(module)
    return module


#: What the kernels formed and factorised, and why they gave no answer, by the numbers of the core.
_TIERS = ("", "a Gram matrix in single precision", "a Gram matrix in double precision", "an LU factorisation")
_DECLINED = {
    1: "the singular values are not provably above the cutoff",
    2: "the numbers are beyond the range that the certificate is proved for",
    3: "there is no kernel for this shape",
}


def ran(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], rcond: float, driver: str) -> tuple[str, ...]:
    """Which way the core goes with this problem. See `Backend.ran`."""
    if driver not in ("auto", "cholesky"):
        return (f"{driver} answered",)
    instead = "nothing answered" if driver == "cholesky" else "qr answered: orthogonal reduction, and behind it gelsd"
    b = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(array, (*batch, *array.shape[-2:])) for array in (a, b))
    count = int(np.prod(batch))
    answer = core().solve(a, b, rcond, "cholesky", False)
    if type(answer) is str:
        return (f"nothing answered: {answer}",)
    certified = int(np.count_nonzero(answer[2]))
    if count > 1:
        rest = f"; where not, {instead}" if certified < count else ""
        return (f"the certified kernels answered for {certified} of {count} matrices{rest}",)
    matrix, sides = a.reshape(a.shape[-2:]), b.reshape(b.shape[-2:])
    status, tier, condition, contraction, steps = core().report(matrix, sides, rcond)
    if not certified:
        return (f"the certified kernels declined: {_DECLINED.get(status, _DECLINED[1])}", instead)
    if status != 0:  # The kernel for batches, which small problems go to, takes some that the other does not.
        return ("the certified kernels answered",)
    bound = f", condition at most {condition:.3g} after scaling" if condition > 0 else ""
    counted = f"{steps} refinement step{'' if steps == 1 else 's'}" if steps else "no refinement was needed"
    which = "which" if steps == 1 else "each of which"
    proof = f", {which} leaves at most {contraction:.1g} of the error" if steps and contraction > 0 else ""
    return (f"the certified kernels answered by {_TIERS[tier]}{bound}; {counted}{proof}",)


def reduce_rows(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Rows:
    """Reduce ``a (M, N)`` and ``b (M, K)`` by the core; by LAPACK, in a copy, what the core does not take.

    That is: complex numbers, and numbers whose squares leave the range. What is not finite becomes NaN.
    """
    if a.dtype.kind == "f" and len(a) > a.shape[1] > 0:
        reduced = core().reduce(a, b)
        if reduced is not None:
            return Rows(*reduced)
    double = np.result_type(a.dtype.newbyteorder("="), np.float64)
    with np.errstate(all="ignore"):
        return _rows.reduce_rows(np, np.asarray(a, double), np.asarray(b, double))


def _solve(a: Array, b: Array, rcond: float, driver: str, singular_values: bool) -> Solution:
    answer = core().solve(a, b, rcond, driver, singular_values)
    if type(answer) is str:
        raise _no_answer(a, answer)
    return Solution(*answer)


def _no_answer(a: np.ndarray[Any, Any], why: str) -> LinAlgError:
    if why == "not converged":
        return LinAlgError(
            "no decomposition of a converged, by divide and conquer or by QR iteration. Try the driver auto or qr, or "
            'backend="numpy".'
        )
    return not_finite(a)
