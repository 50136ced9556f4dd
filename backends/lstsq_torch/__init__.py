"""The torch backend: every device, every transformation of torch, and derivatives of any order.

Matrices that are certainly of full rank are solved by Cholesky and refined, all others by orthogonal factorisations. On
the CPU the compiled core of ``lstsq-native`` does that where it is installed, and reads the tensors' own memory. Where
it is not, NumPy solves single problems that are small (`_small`). To torch a solution is one operation (`_operations`),
with a rule for derivatives that never mentions single singular vectors (`_gradient`): torch's own derivative of the
singular value decomposition is NaN where values are equal.

References
----------
G. H. Golub and V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, SIAM J. Numer. Anal. 10 (1973), 413-432, section 4.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution

__all__ = ["TorchBackend"]


class TorchBackend(Backend):
    """Least squares for torch tensors, concrete or traced.

    The default driver, ``auto``, is Cholesky with a certificate and, for what that does not certify, orthogonal
    factorisations. ``cholesky`` is the certified way alone: NaN and rank 0 where there is no certificate. ``qr`` is
    Householder's QR, and the SVD where full rank is in doubt. ``gelsd`` is torch's own LAPACK, on the CPU wherever the
    tensors are.

    Everything is solved in double precision where the device has it, and so are derivatives: neither autocast nor TF32
    touches them. There is an example at `lstsq_torch._gradient.solve`.
    """

    name = "torch"
    serves = ("torch",)
    requires = ("torch",)
    capabilities = Capabilities(
        drivers=("cholesky", "gelsd", "qr", "svd"),
        default_driver="auto",
        dtypes=("float32", "float64", "complex64", "complex128"),
        devices=("cpu", "gpu"),
        transforms=("jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev", "checkpoint"),
        solved_in_double=("float32", "complex64"),
        declines=("cholesky",),
    )

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve by the driver. See `Backend.solve`."""
        import lstsq_torch._gradient as operations

        return Solution(*operations.solve(a, b, rcond, driver, True))

    def solve_without_s(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve and leave `s` None. See `Backend.solve_without_s`."""
        import lstsq_torch._gradient as operations

        x, residuals, rank, _ = operations.solve(a, b, rcond, driver, False)
        return Solution(x, residuals, rank, None)

    def ran(self, a: Array, b: Array, rcond: float, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell which way the compiled core went, where it is what answers. See `Backend.ran`."""
        from lstsq_torch._solve import ran

        return ran(a, b, rcond, driver)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by QR. See `Backend.reduce_rows`.

        Raises
        ------
        TypeError
            torch would differentiate the reduction, which is NaN where columns depend on each other.
        """
        from lstsq_array_api._torch import without_derivative

        return super().reduce_rows(without_derivative(a), without_derivative(b))

    def matmul(self, a: Array, b: Array) -> Array:
        """``a @ b``; under autocast torch would otherwise multiply single precision in half."""
        import torch

        if a.is_meta:  # Nothing is computed there, and torch knows no autocast for it.
            return torch.matmul(a, b)
        with torch.autocast(a.device.type, enabled=False):
            return torch.matmul(a, b)

    def factorize(self, a: Array) -> Factors:
        """The thin SVD, without a derivative. See `Backend.factorize`."""
        from lstsq_torch._factored import factorize

        return factorize(a)

    def is_traced(self, a: Array) -> bool:
        """Whether torch may ask for the derivative of what is computed from `a`. See `Backend.is_traced`."""
        from lstsq_torch._factored import is_traced

        return is_traced(a)

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: float, penalties: Array | None = None
    ) -> Solution:
        """Solve by products with the factors, or by `solve` where torch records `a`. See `Backend.solve_factored`."""
        from lstsq_torch._factored import is_traced, solve_ordinary

        if penalties is None and not is_traced(a):
            answer = solve_ordinary(factors, b, rcond)
            if answer is not None:
                return answer
        return super().solve_factored(a, factors, b, rcond, penalties)

    def unavailable(self) -> str | None:
        """Why this backend cannot run here, as a sentence that says what to install, or None."""
        missing = super().unavailable()
        if missing is not None:
            return missing
        try:
            importlib.import_module("lstsq_torch._gradient")
        except (ImportError, AttributeError) as error:
            return (
                f"the torch backend needs what torch {metadata.version('torch')} does not have ({error}); "
                "it was made for torch 2.13. Run `pip install --upgrade torch`"
            )
        return None

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Copy a NumPy array, keeping its dtype."""
        import torch

        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype, from whatever device.

        Raises
        ------
        TypeError
            The derivative or the trace of the tensor would be lost.
        """
        from lstsq_array_api._torch import to_numpy

        return to_numpy(array)

    def known(self, array: Array) -> np.ndarray[Any, Any] | None:
        """The numbers of the tensor, or None. See `Backend.known`."""
        from lstsq_array_api._torch import is_traced

        return None if is_traced(array) else super().known(array)

    def examine(self, array: Array) -> None:
        """Refuse tensors that are not dense.

        Raises
        ------
        TypeError
            The tensor is one of these.
        """
        if str(array.layout) != "torch.strided":
            from lstsq_array_api import require_dense

            require_dense(array)

    def transform(self, name: str) -> Callable[..., Any]:
        """torch's function transformation, with the signature of its namesake in JAX; see `lstsq_torch._transforms`."""
        from lstsq_torch import _transforms

        return _transforms.TRANSFORMS[name]
