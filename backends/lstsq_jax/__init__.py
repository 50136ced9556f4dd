"""The JAX backend: a singular value decomposition in XLA, with a gradient rule of its own.

A tall matrix is reduced by QR and its triangle decomposed by the SVD; a wide one is solved through its adjoint. So
nothing M x M is formed. Everything is JAX, so that it can be compiled, mapped and differentiated, on any device.
jax.numpy's own `lstsq` differentiates through the singular vectors, which is NaN or silently wrong where singular
values are equal, zero or cut off; here the solution has a rule that never mentions single vectors (`_gradient`).

With ``jax_enable_x64`` float32 and complex64 are solved in double and rounded once. Without it JAX has no double
precision: they are solved as they are, and one step of iterative refinement follows. XLA on the CPU takes subnormal
numbers for zero.

That is the driver ``svd``, the default. The driver ``native`` is for arrays on the CPU: the compiled core of
``lstsq-native`` solves, in double precision always, and the derivatives are those of ``svd`` at the rank that it found.

References
----------
G. H. Golub and V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, SIAM J. Numer. Anal. 10 (1973), 413-432, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution

__all__ = ["JaxBackend"]

_ENABLE_X64 = 'switch it on with jax.config.update("jax_enable_x64", True)'


class JaxBackend(Backend):
    """Least squares for JAX arrays, concrete or traced.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), jnp.array([[1.0], [3.0], [5.0]])
    >>> jnp.round(JaxBackend().solve(a, b, rcond=1e-6, driver="svd").x, 4).ravel().tolist()
    [1.0, 2.0]
    """

    name = "jax"
    serves = ("jax", "jaxlib")
    requires = ("jax",)
    capabilities = Capabilities(
        drivers=("native", "svd"),
        default_driver="svd",
        dtypes=("float32", "float64", "complex64", "complex128"),
        devices=("cpu", "gpu"),
        transforms=("jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev", "checkpoint"),
        traced_rcond=True,
    )

    def solve(self, a: Array, b: Array, rcond: float | Array | None, driver: str) -> Solution:
        """Solve by the driver. See `Backend.solve`.

        Raises
        ------
        TypeError
            The driver is native and `a` or `b` lies on another device than the CPU.
        """
        from lstsq_jax._solve import solve

        return solve(a, b, rcond, driver)

    def solve_without_s(self, a: Array, b: Array, rcond: float | Array | None, driver: str) -> Solution:
        """Solve and leave `s` out; the driver native does not compute it then. See `solve`."""
        from lstsq_jax._solve import solve

        return solve(a, b, rcond, driver, singular_values=False)

    def ran(self, a: Array, b: Array, rcond: Any, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell what answered: XLA, or the compiled core and how. See `Backend.ran`."""
        if driver != "native":
            return ("the singular value decomposition of XLA answered",)
        from lstsq_native._backend import ran

        found: tuple[str, ...] = ran(self.to_numpy(a), self.to_numpy(b), rcond, "auto")
        return found

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by QR. See `Backend.reduce_rows`."""
        from lstsq_jax._reduce import reduce_rows

        rows: Rows = reduce_rows(a, b)
        return rows

    def matmul(self, a: Array, b: Array) -> Array:
        """``a @ b``; accelerators would otherwise multiply float32 in TF32 or bfloat16."""
        from lstsq_jax._factor import matmul

        return matmul(a, b)

    def factorize(self, a: Array) -> Factors:
        """The thin SVD, compiled; a constant to JAX. See `Backend.factorize`."""
        from lstsq_jax._factored import factorise

        factors: Factors = factorise(a)
        return factors

    def is_traced(self, a: Array) -> bool:
        """Whether a transformation of JAX traces `a`."""
        import jax

        return isinstance(a, jax.core.Tracer)

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: float | Array, penalties: Array | None = None
    ) -> Solution:
        """Solve by the factors, with derivatives, traced or not. See `Backend.solve_factored`."""
        from lstsq_jax._factored import solve

        return solve(a, factors, b, rcond, penalties)

    def refuse(self, dtype: str, driver: str) -> str | None:
        """Why a problem of this dtype cannot be solved, or None. See `Backend.refuse`."""
        if dtype in ("float64", "complex128") and not _x64():
            return f"JAX has no {dtype} while jax_enable_x64 is off; {_ENABLE_X64}, or convert to single precision"
        if driver == "native":
            from lstsq_jax._native import obstacle

            return obstacle()
        return super().refuse(dtype, driver)

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Copy a NumPy array to JAX's default device, keeping its dtype.

        Raises
        ------
        TypeError
            The dtype has 64-bit numbers and ``jax_enable_x64`` is off: JAX would round them without a word.
        """
        import jax

        import lstsq_jax._factored  # noqa: F401  A reduction or factorisation of the arrays made here is a pytree.

        self._require_exact(array.dtype)
        native = array.astype(array.dtype.newbyteorder("="))
        # The copy is ours, so JAX may keep it; jnp.array would compile a copying function for each shape.
        return jax.device_put(native)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype.

        Raises
        ------
        TypeError
            The array is traced: NumPy has no part in JAX's transformations.
        """
        import jax

        if isinstance(array, jax.core.Tracer):
            raise TypeError(
                "a transformation of JAX (grad, jvp, vmap, jit ...) traces the array, and cannot follow it to another "
                "library; expected an array outside of any transformation. Let the jax backend solve (backend=None), "
                "or solve outside and pass the result in."
            )
        return np.asarray(array)

    def from_numpy_like(self, array: np.ndarray[Any, Any], like: Array) -> Array:
        """Copy a NumPy array to each device of `like`, keeping its dtype.

        Integers of 64 bits become float32 while ``jax_enable_x64`` is off, as JAX would wrap them round.
        """
        import jax

        from lstsq_jax._place import beside

        if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and not _x64():
            array = array.astype(np.float32)
        self._require_exact(array.dtype)
        return jax.device_put(array.astype(array.dtype.newbyteorder("=")), beside(like))

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """Zeros on each device of `like`."""
        import jax

        from lstsq_jax._place import beside

        if isinstance(like, jax.core.Tracer):
            return jax.numpy.zeros(shape, dtype)
        # Explicitly, since the caller may have forbidden JAX all other transfers.
        return jax.device_put(np.zeros(shape, dtype), beside(like))

    def device(self, array: Array) -> Any:
        """The one device that the array was put on; None where JAX traces it, spreads it or may move it.

        An array that nobody has put on a device (which is not "committed") goes to the device of the arrays beside it.
        """
        import jax

        if isinstance(array, jax.core.Tracer) or not array.committed:
            return None
        return array.device if isinstance(array.device, jax.Device) else None

    @contextmanager
    def on_device(self, device: Any) -> Iterator[Callable[[Array], Array]]:
        """A context for work on this device, and the function that puts an array there, traced or not."""
        import jax

        yield lambda array: jax.device_put(array, device)

    def within(self, function: Callable[..., Any], a: Array, b: Array, *others: Array) -> Any:
        """``function(a, b, *others)``, where arrays of explicit sharding may be reshaped. See `Backend.within`."""
        from lstsq_jax._place import in_auto_axes

        return in_auto_axes(function, a, b, *others)

    def transform(self, name: str) -> Callable[..., Any]:
        """JAX's function of this name. See `Backend.transform`."""
        import jax

        if name not in self.capabilities.transforms:
            return super().transform(name)
        transformation: Callable[..., Any] = getattr(jax, name)
        return transformation

    @staticmethod
    def _require_exact(dtype: np.dtype[Any]) -> None:
        from jax.dtypes import canonicalize_dtype

        native = dtype.newbyteorder("=")
        if canonicalize_dtype(native) != native:
            raise TypeError(
                f"the array has dtype {native}, which JAX would turn into {canonicalize_dtype(native)} "
                f"while jax_enable_x64 is off; {_ENABLE_X64}, or convert the array first."
            )


def _x64() -> bool:
    import jax

    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
