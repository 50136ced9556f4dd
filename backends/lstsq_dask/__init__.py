"""The Dask backend: arrays in chunks, on Dask's schedulers, and lazy to the end.

The rows of a tall matrix are reduced chunk by chunk (`lstsq.reduce_rows`), what is left is added in a tree, and its
root is solved, where the rank is found. A wide matrix is the mirror image: its adjoint is factorised by QR, chunk by
chunk, and the solution goes back down the tree. Nothing is computed before ``.compute()``. Of a matrix no chunk ever
travels: only triangles do, and their number is that of the chunks.

References
----------
J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
factorizations", SIAM J. Sci. Comput. 34 (2012), section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq._backend import Array, Backend, Capabilities, Rows, Solution

__all__ = ["DaskBackend"]


class DaskBackend(Backend):
    """Least squares for Dask's arrays, whose chunks are arrays of NumPy or CuPy.

    The chunks are reduced and the rest is solved by the backend that `lstsq` has for them. Drivers are ``auto``, which
    is that backend's own choice, and ``svd``. The number of rows need not be known. Batches are refused.

    `x`, the residuals, the rank and `s` are computed from one graph: ``dask.compute(*result)`` reads the chunks once,
    and computing one after the other reads them as often.
    """

    name = "dask"
    serves = ("dask",)
    requires = ("dask",)
    capabilities = Capabilities(
        drivers=("svd",),
        default_driver="auto",
        dtypes=("float32", "float64", "complex64", "complex128"),
        devices=("cpu", "gpu"),
        nonfinite="raises",
        solved_in_double=("float32", "complex64"),
        follows_shapes=True,
        batches=False,
        factorizes=(),
    )

    def solve(self, a: Array, b: Array, rcond: float | None, driver: str) -> Solution:
        """Solve lazily. See `Backend.solve`.

        Raises
        ------
        TypeError
            `a` is a batch, or the chunks of `a` and `b` do not meet and their sizes are not known.
        numpy.linalg.LinAlgError
            When it is computed: `a` holds NaN or inf.
        """
        from lstsq_dask._solve import solve

        return solve(a, b, rcond, driver, singular_values=True)

    def solve_without_s(self, a: Array, b: Array, rcond: float | None, driver: str) -> Solution:
        """Solve lazily, without the singular values where the chunks' backend needs none. See `solve`."""
        from lstsq_dask._solve import solve

        return solve(a, b, rcond, driver, singular_values=False)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce lazily, chunk by chunk. See `Backend.reduce_rows`."""
        from lstsq_dask._solve import reduce_rows

        return reduce_rows(a, b)

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """The array as one of Dask's, in chunks of its usual size; the shorter dimension of a matrix whole."""
        import dask.array as da

        # Dask finds no sizes for the chunks of an empty array.
        chunks: Any = "auto" if array.size else -1
        if array.ndim > 1:
            tall = array.shape[-2] >= array.shape[-1]
            chunks = (*[1] * (array.ndim - 2), *((chunks, -1) if tall else (-1, chunks)))
        return da.from_array(array, chunks=chunks)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Compute the array, and convert its chunks if they are not NumPy's."""
        computed = array.compute()
        return np.asarray(computed.get() if hasattr(computed, "get") else computed)

    def from_numpy_like(self, array: np.ndarray[Any, Any], like: Array) -> Array:
        """The array as one of Dask's, with chunks of the kind of `like`."""
        return _in_chunks_like(self.from_numpy(array), like)

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """Zeros, with chunks of the kind of `like`."""
        import dask.array as da

        return _in_chunks_like(da.zeros(shape, dtype=dtype), like)


def _in_chunks_like(array: Array, like: Array) -> Array:
    if type(like._meta).__module__.partition(".")[0] != "cupy":
        return array
    import cupy

    return array.map_blocks(cupy.asarray)
