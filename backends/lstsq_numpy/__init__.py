"""The NumPy backend: LAPACK's gelsd through `numpy.linalg.lstsq`, one matrix of the batch at a time.

gelsd reduces the matrix to bidiagonal form and finds the minimum-norm solution from its singular value decomposition
by divide and conquer. The driver ``svd`` solves with `numpy.linalg.svd`, and so does ``gelsd`` where its own answer
would not be the contract's. Single precision is solved in double and rounded once. The matrix and each right-hand side
are scaled where they are very large or very small. Whatever else this library has is checked against this backend, so
it leans on NumPy for everything and keeps the contract around it.

References
----------
E. Anderson et al., LAPACK Users' Guide (3rd ed., 1999), section 2.3.2, "Linear least squares problems".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution
from lstsq_numpy._factored import solve as solve_by_factors
from lstsq_numpy._reduce import reduce_rows
from lstsq_numpy._solve import solve, way

__all__ = ["NumpyBackend"]


class NumpyBackend(Backend):
    """Least squares for NumPy arrays, on the CPU and at once.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([[1.0], [3.0], [5.0]])
    >>> np.round(NumpyBackend().solve(a, b, rcond=1e-15, driver="gelsd").x, 12).ravel().tolist()
    [1.0, 2.0]
    """

    name = "numpy"
    serves = ("numpy",)
    requires = ("numpy",)
    capabilities = Capabilities(
        drivers=("gelsd", "svd"),
        default_driver="gelsd",
        dtypes=("float32", "float64", "complex64", "complex128"),
        nonfinite="raises",
        solved_in_double=("float32", "complex64"),
    )

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve with gelsd or the SVD. See `Backend.solve`.

        Raises
        ------
        numpy.linalg.LinAlgError
            `a` holds NaN or inf; or no decomposition converged.
        """
        return solve(a, b, rcond, driver)

    def ran(self, a: Array, b: Array, rcond: float, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell whether gelsd or the SVD answered. See `Backend.ran`."""
        return (way(a, b, rcond, driver),)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by QR, chunk by chunk. See `Backend.reduce_rows`.

        Raises
        ------
        numpy.linalg.LinAlgError
            `a` holds NaN or inf.
        """
        return reduce_rows(a, b)

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: float, penalties: Array | None = None
    ) -> Solution:
        """Solve by products with the factors. See `Backend.solve_factored`."""
        answer = solve_by_factors(factors, b, rcond) if penalties is None else None
        return super().solve_factored(a, factors, b, rcond, penalties) if answer is None else answer

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Return the array as it is."""
        return array
