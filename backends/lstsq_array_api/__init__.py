"""The array-API backend: any other array library, through the functions of the array-API standard alone.

The singular value decomposition of the standard's ``linalg`` extension solves, after QR where the matrix is tall (or
its adjoint, where it is wide), so that nothing M x M is formed. Batches go to the library as they are. Single precision
is solved in double where the device has it.

Gradients are not among the claims: the standard knows none, and differentiating through singular vectors, as torch
does, is NaN where singular values are equal. A torch tensor that records gradients is refused, with advice.

References
----------
G. H. Golub and C. F. Van Loan, Matrix Computations (4th ed., 2013), section 5.5, "The rank-deficient least squares
problem". Consortium for Python Data API Standards, Python array API standard 2024.12, "Linear algebra extension".
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import array_api_compat
import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Solution

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
    serves = ("*",)
    requires = ("array_api_compat",)
    capabilities = Capabilities(
        drivers=("svd",),
        default_driver="svd",
        dtypes=("float32", "float64", "complex64", "complex128"),
        solved_in_double=("float32", "complex64"),
    )

    #: Libraries that it is tested with, by the names that `from_numpy` takes. Others are served, too.
    namespaces: ClassVar[tuple[str, ...]] = ("array_api_strict", "torch")

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve with the SVD. See `Backend.solve`.

        Raises
        ------
        TypeError
            The library has no ``linalg`` with ``svd`` and ``qr``; or the arrays record gradients.
        """
        from lstsq_array_api._svd import solve

        xp = self.namespace(a)
        _require_linalg(xp)
        _require_no_gradient(a, b)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # For libraries that compute with NumPy.
            return solve(xp, a, b, rcond)

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Copy a NumPy array to `namespace`, such as ``"torch"``; without one, NumPy's own array is taken as it is."""
        if namespace is None:
            return array
        try:
            xp = importlib.import_module(f"array_api_compat.{namespace}")
        except ImportError:
            xp = importlib.import_module(namespace)
        return xp.asarray(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype, from whatever device."""
        if array_api_compat.is_torch_array(array):
            array = array.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray(array)


def _require_linalg(xp: Any) -> None:
    missing = [name for name in ("svd", "qr") if not hasattr(getattr(xp, "linalg", None), name)]
    if missing:
        raise TypeError(
            f"{xp.__name__} has no {' and no '.join(f'linalg.{name}' for name in missing)}, so that it cannot solve "
            "least squares. Convert the arrays, to NumPy for instance."
        )


def _require_no_gradient(*arrays: Array) -> None:
    if not any(getattr(array, "requires_grad", False) for array in arrays):
        return
    import torch  # Nothing but its tensors has the attribute.

    if torch.is_grad_enabled():
        raise TypeError(
            "a or b is a torch tensor that requires grad, and gradients of least squares are not supported for torch: "
            "its own are NaN at equal singular values. Pass a.detach() and b.detach(), or call under torch.no_grad()."
        )
