"""The backend ``mlx``: its claims, and the way from `lstsq.lstsq` to the native operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Factors, Rows, Solution, dtype_name
from lstsq._contract import default_cutoff
from lstsq._factors import factorise


class MlxBackend(Backend):
    """Least squares on MLX arrays, in double precision, as a lazy MLX operation.

    The default driver, ``auto``, is certified kernels and, for what they do not certify, ``qr``. ``cholesky`` is the
    kernels alone: NaN and rank 0 where they decline. ``qr`` is an orthogonal reduction,
    ``gelsd`` and ``svd`` are LAPACK's.

    All of this runs on the CPU, but for one thing: where the default device is a GPU for CUDA, ``auto`` solves problems
    in single precision by kernels there, and their arrays stay there. `s`, if it is read, and all
    derivatives are found on the CPU. ``with mx.stream(mx.cpu):`` around the call has the CPU solve. The page on GPUs
    says which problems.

    The environment variable ``LSTSQ_NUM_THREADS`` bounds the threads of the kernels (by default every core that the
    process may run on, on Apple's processors every fast one; read once, at the first solve). LAPACK's are bounded by
    its own: ``OPENBLAS_NUM_THREADS``, and ``VECLIB_MAXIMUM_THREADS`` for Apple's Accelerate; the two do not compute at
    the same time.
    ``LSTSQ_SINGLE_GRAM`` says whether Gram matrices in single precision are formed by the ``kernels`` or by ``blas``,
    which is the default for Accelerate.

    Where the default device is a GPU, which has no float64, problems in float64 are solved all the same. Derivatives
    of them need ``with mx.stream(mx.cpu):`` around the transformation, which makes arrays on the default device.
    """

    name = "mlx"
    serves = ("mlx",)
    requires = ("mlx", "scipy")
    capabilities = Capabilities(
        drivers=("cholesky", "gelsd", "qr", "svd"),
        default_driver="auto",
        dtypes=("float32", "float64", "complex64"),
        devices=("cpu", "gpu"),
        transforms=("jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev", "checkpoint"),
        nonfinite="nan",
        solved_in_double=("float32", "complex64"),
        follows_shapes=True,
        declines=("cholesky",),
        # It has no complex128, in which complex64 would be factorised.
        factorizes=("float32", "float64"),
    )

    def solve(self, a: Array, b: Array, rcond: float | None, driver: str) -> Solution:
        """Solve for batches that broadcast; see `lstsq._backend.Backend.solve`.

        All four arrays are lazy: nothing is computed before they are read. `s`, and of the certified drivers the
        residuals, are nodes of their own, and cost nothing if they are never read.
        """
        from lstsq_mlx._native import native

        if rcond is None:
            # As a rule, since a function compiled for any shape meets other shapes than those of the trace.
            eps, growth = default_cutoff(dtype_name(a.dtype))
            return Solution(*native().lstsq(a, b, eps, driver, growth))
        return Solution(*native().lstsq(a, b, rcond, driver))

    def ran(self, a: Array, b: Array, rcond: float, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell which way the compiled core went, or that the kernels on the GPU did. See `Backend.ran`."""
        from lstsq_mlx._native import native
        from lstsq_native._backend import ran

        if native().runs_on_gpu(a, b, driver):
            columns = a.shape[-1] * (2 if dtype_name(a.dtype).startswith("complex") else 1)
            told = _ran_on_gpu(self.to_numpy(solution.rank), a.shape[-1], columns)
            if told is not None:
                return (told,)
        return ran(self.to_numpy(a), self.to_numpy(b), rcond, driver)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce by the core, at once; see `lstsq._backend.Backend.reduce_rows`.

        MLX has no complex128: complex rows are reduced in it, and the few that are left are rounded to complex64.

        Raises
        ------
        TypeError
            If a transformation of MLX is recording what is done with the rows.
        """
        from lstsq_native._backend import reduce_rows

        rows = reduce_rows(self.to_numpy(a), self.to_numpy(b))
        if rows.a.dtype.kind == "c":
            with np.errstate(over="ignore"):
                rows = Rows(rows.a.astype(np.complex64), rows.b.astype(np.complex64), rows.left)
        return Rows(*map(self.from_numpy, rows))

    def factorize(self, a: Array) -> Factors:
        """The thin SVD in double precision, at once; lazily where MLX traces. See `Backend.factorize`.

        By NumPy's LAPACK, which takes a quarter of the time that MLX's takes for 5000 x 100 (Linux, OpenBLAS).
        """
        if not self.is_traced(a):
            factors = factorise(np, self.to_numpy(a), np.float64, lambda a: np.linalg.svd(a, full_matrices=False))
            return Factors(*map(self.from_numpy, factors))
        mx = _mlx()
        with mx.stream(mx.cpu):
            return factorise(mx, mx.stop_gradient(a), mx.float64, _thin)

    def is_traced(self, a: Array) -> bool:
        """Whether a transformation of MLX is recording what is done with `a`."""
        from lstsq_mlx._native import native

        traced: bool = native().is_tracer(a)
        return traced

    def unavailable(self) -> str | None:
        """Why this backend cannot run here, as a sentence that says what to install, or None."""
        try:
            from lstsq_mlx._native import native

            native()
        except ImportError as error:
            return str(error)
        return None

    def refuse(self, dtype: str, driver: str) -> str | None:
        """Why a problem of this dtype cannot be solved with this driver, as a sentence, or None."""
        if dtype == "complex128":
            return (
                "MLX has no complex128; convert to complex64, which is solved in double precision and rounded once, "
                "or name another backend with backend=..."
            )
        return super().refuse(dtype, driver)

    def namespace(self, array: Array) -> ModuleType:
        """``mlx.core``, which follows the array-API standard."""
        mx: ModuleType = _mlx()
        return mx

    def default_float(self, array: Array) -> str:
        """The name of the dtype that integers and bools become."""
        return "float32"

    def context(self) -> AbstractContextManager[Any]:
        """The CPU, which alone has float64, for what is done around a problem before and after it is solved."""
        mx = _mlx()
        context: AbstractContextManager[Any] = mx.stream(mx.cpu)
        return context

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Convert a NumPy array, keeping its dtype: MLX's own conversion would make float64 float32."""
        mx = _mlx()
        dtype = getattr(mx, "bool_" if array.dtype == np.bool_ else array.dtype.name, None)
        if dtype is None:
            raise TypeError(f"MLX has no {array.dtype.name}; convert the array to a dtype that it has first.")
        # MLX refuses negative strides and the other byte order, and copies anyway.
        return mx.array(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"), dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype.

        Raises
        ------
        TypeError
            If a transformation of MLX is recording what is done with the array. In a gradient MLX itself would convert
            it, and take the numbers for constants: the derivative would be 0 without a word.
        """
        from lstsq_mlx._native import native

        if native().is_tracer(array):
            raise TypeError(
                "a transformation of MLX (grad, vjp, jvp, vmap, compile ...) records what is done with the array, and "
                "cannot follow it to another library; expected an array outside of any transformation. Let the mlx "
                "backend solve (backend=None), or solve outside and pass the result in."
            )
        return np.array(array)

    def from_numpy_like(self, array: np.ndarray[Any, Any], like: Array) -> Array:
        """Convert a NumPy array. MLX arrays have no device: operations do."""
        return self.from_numpy(array)

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """Zeros, on the CPU as everything here.

        Raises
        ------
        ValueError
            If ``mx.compile(shapeless=True)`` traces. Zeros are the answer to a problem of size 0, and would stay that
            when the function is called with other shapes.
        """
        from lstsq_mlx._native import native

        if native().in_shapeless_trace():
            raise ValueError(
                "mx.compile(shapeless=True) traces a problem whose answer is a constant, since a dimension is 0 or "
                "numpy_resid=True leaves the residuals out, and would return that for all other shapes too; expected "
                "no dimension of 0, and no numpy_resid. Compile it with shapeless=False."
            )
        mx = _mlx()
        return mx.zeros(shape, dtype=getattr(mx, dtype), stream=mx.cpu)

    @contextmanager
    def on_device(self, device: Any) -> Iterator[Callable[[Array], Array]]:
        """A context in which this is the default device: MLX's arrays have none, operations do."""
        with _mlx().stream(device):
            yield lambda array: array

    def transform(self, name: str) -> Callable[..., Any]:
        """MLX's function transformation, with the signature of its namesake in JAX; see `lstsq_mlx._transforms`."""
        from lstsq_mlx import _transforms

        return _transforms.TRANSFORMS[name]


def _thin(a: Array) -> tuple[Array, Array, Array]:
    """MLX's SVD, which makes square factors, without what is orthogonal to the matrix."""
    mx, k = _mlx(), min(a.shape[-2:])
    u, s, vh = mx.linalg.svd(a)
    return u[..., :, :k], s, vh[..., :k, :]


#: Columns of a real matrix up to which the kernels reveal a rank (lstsq.cpp, in src/mlx/gpu).
_REVEALED = 64


def _ran_on_gpu(ranks: np.ndarray[Any, Any], full: int, columns: int) -> str | None:
    """What is known of it without asking again: the kernels do not tell whether a Gram matrix proved a full rank.

    None where the processor solved in the end.
    """
    lower = int(np.count_nonzero(ranks < full))
    if columns > _REVEALED:
        if lower:
            return None
        return (
            "solved on the GPU, by CUDA kernels: by a Gram matrix, or by the processor where it did not prove the rank"
        )
    if lower == ranks.size:
        return "solved on the GPU, by CUDA kernels: reflections and rotations, since the rank is not full"
    rest = f", as for {lower} of {ranks.size} matrices, whose rank is not full" if lower else ""
    by_both = "by a Gram matrix where it proved that the rank is full, and else by reflections and rotations"
    return f"solved on the GPU, by CUDA kernels: {by_both}{rest}"


def _mlx() -> Any:
    import mlx.core as mx

    return mx
