"""The array-API backend: any other array library, through the functions of the array-API standard alone.

The driver ``auto`` solves through a Gram matrix in double precision and refinement where that is proven to be right
(`_certified`), which is several times faster on a GPU than any decomposition; and by the driver ``svd`` where it is
not, where the library is lazy or traced, and where the device has no double precision. ``cholesky`` is the first way
alone, with NaN for what it cannot prove. ``svd`` is the singular value decomposition of the standard's ``linalg``
extension, after QR where the matrix is tall (or its adjoint, where it is wide), so that nothing M x M is formed.
Batches go to the library as they are. Single precision is solved in double where the device has it.

Gradients are not among the claims: the standard knows none, and differentiating through singular vectors, as torch
does, is NaN where singular values are equal. A torch tensor whose derivatives are asked for is refused, with advice.

References
----------
G. H. Golub and C. F. Van Loan, Matrix Computations (4th ed., 2013), section 5.5, "The rank-deficient least squares
problem". Consortium for Python Data API Standards, Python array API standard 2024.12, "Linear algebra extension".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import array_api_compat
import numpy as np

from lstsq._arithmetic import quiet, working_dtype
from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution

__all__ = ["ArrayApiBackend"]


class ArrayApiBackend(Backend):
    """Least squares for the arrays of any library that implements the array-API standard with ``linalg``.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([[1.0], [3.0], [5.0]])
    >>> np.round(ArrayApiBackend().solve(a, b, rcond=1e-15, driver="svd").x, 12).ravel().tolist()
    [1.0, 2.0]
    """

    name = "array_api"
    #: torch by name as well: it has a backend of its own, beside which this one takes tensors as they are.
    serves = ("*", "torch")
    requires = ("array_api_compat",)
    capabilities = Capabilities(
        drivers=("auto", "cholesky", "svd"),
        default_driver="auto",
        declines=("cholesky",),
        dtypes=("float32", "float64", "complex64", "complex128"),
        devices=("cpu", "gpu"),
        solved_in_double=("float32", "complex64"),
    )

    #: Libraries that it is tested with, by the names that `from_numpy` takes. Others are served, too.
    namespaces: ClassVar[tuple[str, ...]] = ("array_api_strict", "torch", "cupy")

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve by this driver. See `Backend.solve`.

        Raises
        ------
        TypeError
            The library has no ``linalg`` with ``svd`` and ``qr``; or torch would differentiate the result; or the
            driver is ``cholesky`` and the numbers are not known yet, or not in double precision.
        """
        return self._solve(a, b, rcond, driver, singular_values=True)

    def solve_without_s(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve by this driver, without the singular values where it needs none. See `Backend.solve_without_s`."""
        return self._solve(a, b, rcond, driver, singular_values=False)

    def _solve(self, a: Array, b: Array, rcond: float, driver: str, singular_values: bool) -> Solution:
        from lstsq_array_api._solve import solve

        xp = self.namespace(a)
        _require_linalg(xp)
        if array_api_compat.is_torch_array(a):
            from lstsq_array_api._torch import without_derivative

            a, b = without_derivative(a), without_derivative(b)
        with quiet(xp), _on_its_device(a):
            return solve(xp, a, b, rcond, driver, singular_values)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by QR. See `Backend.reduce_rows`.

        Raises
        ------
        TypeError
            The library has no ``linalg`` with ``qr``; or torch would differentiate the reduction.
        """
        _require_linalg(self.namespace(a))
        if array_api_compat.is_torch_array(a):
            from lstsq_array_api._torch import without_derivative

            a, b = without_derivative(a), without_derivative(b)
        return super().reduce_rows(a, b)

    def factorize(self, a: Array) -> Factors:
        """The thin SVD. See `Backend.factorize`.

        Raises
        ------
        TypeError
            The library has no ``linalg`` with ``svd`` and ``qr``; or torch would differentiate the factors.
        """
        from lstsq._factors import factorise
        from lstsq_array_api._lacking import svd

        xp = self.namespace(a)
        _require_linalg(xp)
        if array_api_compat.is_torch_array(a):
            from lstsq_array_api._torch import without_derivative

            a = without_derivative(a)
        return factorise(xp, a, working_dtype(xp, a), lambda a: svd(xp, a))

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: float, penalties: Array | None = None
    ) -> Solution:
        """Solve by products with the factors. See `Backend.solve_factored`.

        Raises
        ------
        TypeError
            torch would differentiate the solution.
        """
        if array_api_compat.is_torch_array(b):
            from lstsq_array_api._torch import without_derivative

            b = without_derivative(b)
        return super().solve_factored(a, factors, b, rcond, penalties)

    def within(self, function: Callable[..., Any], a: Array, b: Array, *others: Array) -> Any:
        """``function(a, b, *others)``, on the device of `a`. See `Backend.within`."""
        with _on_its_device(a):
            return function(a, b, *others)

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Copy a NumPy array to the default device of `namespace`, such as ``"torch"`` or ``"cupy"``.

        Without a namespace NumPy's own array is taken as it is.
        """
        if namespace is None:
            return array
        try:
            xp = importlib.import_module(f"array_api_compat.{namespace}")
        except ImportError:
            xp = importlib.import_module(namespace)
        return xp.asarray(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype, from whatever device.

        Raises
        ------
        TypeError
            A torch tensor whose derivatives or whose trace would be lost.
        """
        if array_api_compat.is_torch_array(array):
            from lstsq_array_api._torch import to_numpy

            return to_numpy(array)
        from lstsq_array_api._lacking import to_host

        return to_host(array)

    def examine(self, array: Array) -> None:
        """Refuse arrays of torch that are not dense.

        Raises
        ------
        TypeError
            The array is one of these.
        """
        require_dense(array)


def require_dense(array: Array) -> None:
    """Refuse tensors of torch that leave numbers out. Arrays of other libraries have no layout."""
    layout = str(getattr(array, "layout", "torch.strided"))
    if layout != "torch.strided":
        raise TypeError(f"got a torch tensor of layout {layout}; expected a dense one. Pass array.to_dense().")


def _on_its_device(array: Array) -> AbstractContextManager[Any]:
    """CuPy computes on the current device, whatever its arrays are on; other libraries on that of their arrays.

    The stream is then the one that the caller has made current for this device.
    """
    device: AbstractContextManager[Any] = array.device if array_api_compat.is_cupy_array(array) else nullcontext()
    return device


def _require_linalg(xp: Any) -> None:
    missing = [name for name in ("svd", "qr") if not hasattr(getattr(xp, "linalg", None), name)]
    if missing:
        raise TypeError(
            f"{xp.__name__} has no {' and no '.join(f'linalg.{name}' for name in missing)}, so that it cannot solve "
            "least squares. Convert the arrays, to NumPy for instance."
        )
