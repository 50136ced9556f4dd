"""What the certified way needs and the array-API standard does not have, from the library where it has it.

Each function has a fall-back in the standard's own functions, slower and right, so that every library runs one
algorithm. None of them is trusted: the certificate measures what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from lstsq._arithmetic import adjoint, device
from lstsq._backend import Array


def is_eager(a: Array) -> bool:
    """Whether a question about the numbers of `a` can be answered now: they are there, and nobody traces them."""
    if array_api_compat.is_torch_array(a):
        from lstsq_array_api._torch import is_traced

        return not is_traced(a)
    return not array_api_compat.is_lazy_array(a)


def is_on_cpu(a: Array) -> bool:
    """Whether the numbers of `a` are the processor's, and not those of a GPU."""
    if array_api_compat.is_torch_array(a):
        return bool(a.is_cpu)
    return "cpu" in str(device(a)).lower()


def to_host(array: Array) -> np.ndarray[Any, Any]:
    """The numbers of a small array as NumPy's: the caller waits for the device."""
    if isinstance(array, np.ndarray):
        return array
    if array_api_compat.is_torch_array(array):
        numbers: np.ndarray[Any, Any] = array.cpu().numpy()
        return numbers
    if array_api_compat.is_cupy_array(array):
        copied: np.ndarray[Any, Any] = array.get()  # CuPy makes no NumPy array of its own without being asked.
        return copied
    return np.asarray(array if is_on_cpu(array) else _on_cpu(array))


def _on_cpu(array: Array) -> Array:
    """The same numbers on the processor, where the library has such a device and says so."""
    devices = array_api_compat.array_namespace(array).__array_namespace_info__().devices()
    cpu = next((device for device in devices if "cpu" in str(device).lower()), None)
    return array if cpu is None else array_api_compat.to_device(array, cpu)


def to_device(xp: Any, array: Array, like: Array) -> Array:
    """NumPy's array as one on the device of `like`; what is there already stays."""
    if not isinstance(array, np.ndarray):
        return array
    return xp.asarray(array, device=device(like))


def contiguous(array: Array) -> Array:
    """The array with its numbers in the order of its rows, a copy if need be. For torch and CuPy."""
    if array_api_compat.is_torch_array(array):
        return array.resolve_neg().contiguous()
    import cupy

    return cupy.ascontiguousarray(array)


def matmul(xp: Any, a: Array, b: Array) -> Array:
    """``a @ b``, for ``a (B, M, N)`` and ``b (B, N, K)``."""
    if array_api_compat.is_torch_array(a):  # `bmm` is what `a @ b` ends in, after as long a time.
        product: Array = b.mT.bmm(a.mT).mT if _is_better_transposed(a, b) else a.bmm(b)
        return product
    if a.shape[0] == 1 and array_api_compat.is_cupy_array(a):
        return xp.matmul(a[0], b[0])[None]  # CuPy copies the adjoint of a batch, even of one matrix, and not this.
    return xp.matmul(a, b)


def minus_product(xp: Any, c: Array, a: Array, b: Array) -> Array:
    """``c - a @ b``, for ``a (B, M, N)``, ``b (B, N, K)``, and ``c (B, M, K)`` or what broadcasts to it."""
    if not array_api_compat.is_torch_array(a):
        return c - matmul(xp, a, b)
    if _is_better_transposed(a, b):
        transposed: Array = c.mT.baddbmm(b.mT, a.mT, alpha=-1)
        return transposed.mT
    difference: Array = c.baddbmm(a, b, alpha=-1)
    return difference


def _is_better_transposed(a: Array, b: Array) -> bool:
    # A tall matrix as the product of the transposes is up to six times as fast on a processor.
    return bool(a.is_cpu) and 2 * b.shape[-1] <= min(a.shape[-2:])


def converter(xp: Any, dtype: Any) -> Callable[[Array], Array]:
    """A function that converts an array to `dtype`. On torch each result is gone when the next is there.

    It is then written to the same memory. Memory that is taken anew costs several times as much as to convert.
    """
    memory = None

    def convert(array: Array) -> Array:
        nonlocal memory
        if array.dtype == dtype:
            return array
        if not array_api_compat.is_torch_array(array):
            return xp.astype(array, dtype)
        size = array.numel()
        if memory is None or memory.numel() < size:
            memory = array.new_empty((size,), dtype=dtype)
        return memory[:size].view(array.shape).copy_(array)

    return convert


def by_columns(b: Array) -> Array:
    """The same right-hand sides ``(B, M, K)``, each in one piece of the memory of a processor: sums are along them."""
    if b.shape[-1] > 1 and array_api_compat.is_torch_array(b) and b.is_cpu:
        return b.mT.contiguous().mT
    return b


def adds_in_pieces(a: Array) -> bool:
    """Whether products of pieces of a long matrix are as fast as that of all of it."""
    return not array_api_compat.is_cupy_array(a)


def identity(xp: Any, like: Array) -> Array:
    """The identity ``(1, N, N)`` beside ``like (B, N, N)``."""
    return xp.eye(like.shape[-1], dtype=like.dtype, device=device(like))[None, ...]


def cholesky(xp: Any, g: Array) -> Array:
    """L of ``g = L Lᴴ``, for ``g (B, N, N)``. Where `g` is not positive definite it is any matrix, or NaN."""
    if array_api_compat.is_torch_array(g):
        import torch

        factor: Array = torch.linalg.cholesky_ex(g).L  # Does not wait for the device, as `cholesky` does.
        return factor
    return _each_alone(xp, xp.linalg.cholesky, g)


def extremes(xp: Any, numbers: Array) -> Array:
    """The smallest and the largest of each column: ``(B, N)`` to ``(2, N)``."""
    if array_api_compat.is_torch_array(numbers):
        import torch

        found = numbers.new_empty((2, numbers.shape[1]))
        torch.aminmax(numbers, dim=0, out=(found[0], found[1]))
        return found
    return xp.stack([xp.min(numbers, axis=0), xp.max(numbers, axis=0)])


def one_over_root(xp: Any, v: Array) -> Array:
    """``v ** -0.5``."""
    if array_api_compat.is_torch_array(v):
        root: Array = v.rsqrt()
        return root
    return 1 / xp.sqrt(v)


def divide(xp: Any, a: Array, l: Array) -> Array:
    """``a L⁻ᴴ``, for ``a (B, M, N)`` and a lower triangle ``l (B, N, N)`` without a zero on its diagonal."""
    if array_api_compat.is_torch_array(a):
        import torch

        quotient: Array = torch.linalg.solve_triangular(l.mH, a, upper=True, left=False)
        return quotient
    if array_api_compat.is_cupy_array(a) and a.shape[0] == 1:
        from cupyx.scipy.linalg import solve_triangular

        return adjoint(xp, solve_triangular(l[0], adjoint(xp, a)[0], lower=True)[None])
    return adjoint(xp, xp.linalg.solve(l, adjoint(xp, a)))


def inverse_of_triangle(xp: Any, l: Array, identity: Array) -> Array:
    """``L⁻¹``, for a lower triangle ``l (B, N, N)``. Where it has none it is any matrix, or NaN or inf."""
    if array_api_compat.is_torch_array(l):
        import torch

        inverse: Array = torch.linalg.solve_triangular(l, identity, upper=False)
        return inverse
    if array_api_compat.is_cupy_array(l) and l.shape[0] == 1:
        from cupyx.scipy.linalg import solve_triangular

        # CuPy's own inverse of a batch, even of one, is made for many small matrices.
        return solve_triangular(l[0], identity[0], lower=True)[None]
    return _each_alone(xp, xp.linalg.inv, l)


def solver_of_definite(xp: Any, l: Array) -> Callable[[Array], Array]:
    """A function that applies ``L⁻ᴴ L⁻¹``, for a lower triangle ``l (B, N, N)``."""
    if array_api_compat.is_torch_array(l):
        import torch

        def solve(b: Array) -> Array:
            solution: Array = torch.linalg.solve_triangular(l, b, upper=False)
            return torch.linalg.solve_triangular(l.mH, solution, upper=True)

        return solve
    inverse = inverse_of_triangle(xp, l, identity(xp, l))
    return lambda b: matmul(xp, adjoint(xp, inverse), matmul(xp, inverse, b))


def eigenvalues(xp: Any, g: Array) -> Array:
    """The eigenvalues ``(B, N)``, ascending, of Hermitian ``g (B, N, N)``."""
    if g.shape[0] == 1:  # For one matrix some libraries have a better way than for a batch of one.
        return xp.linalg.eigvalsh(g[0, ...])[None, ...]
    return xp.linalg.eigvalsh(g)


def svd(xp: Any, a: Array) -> tuple[Array, Array, Array]:
    """U, s and Vᴴ, thin, of ``a (..., M, N)``."""
    if _driver(a) is None:
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
    else:
        import torch

        u, s, vh = torch.linalg.svd(a, full_matrices=False, driver=_driver(a))
    return u, s, vh


def svdvals(xp: Any, a: Array) -> Array:
    """The singular values, descending, of ``a (..., M, N)``."""
    if _driver(a) is None:
        return xp.linalg.svdvals(a)
    import torch

    values: Array = torch.linalg.svdvals(a, driver=_driver(a))
    return values


def _driver(a: Array) -> str | None:
    """The name of the algorithm for torch on a GPU, or None for the library's own choice.

    torch's choice there is Jacobi's rotations, which find large singular values the worse the larger the matrix is: by
    1361 eps for 1000 x 1000 on an H200, where QR iteration finds them by 22. Batches of small matrices keep it: QR
    iteration would take a hundred times as long, one after the other.
    """
    if array_api_compat.is_torch_array(a) and a.is_cuda and min(a.shape[-2:]) > 32:
        return "gesvd"
    return None


def factor_square(xp: Any, a: Array, working: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Two functions that apply about ``a⁻¹`` and about its adjoint, for ``a (B, N, N)``, with factors of its precision.

    They are applied in the precision `working`, that of the right-hand sides.
    """
    if array_api_compat.is_torch_array(a):
        import torch

        # Of the adjoint: LAPACK stores matrices by columns, and so there is nothing to transpose.
        lu, pivots, _ = torch.linalg.lu_factor_ex(a.mH)
        lu = lu.to(working)
        return (
            lambda b: torch.linalg.lu_solve(lu, pivots, b, adjoint=True),
            lambda b: torch.linalg.lu_solve(lu, pivots, b),
        )
    if array_api_compat.is_cupy_array(a) and a.shape[0] == 1:
        from cupyx.scipy.linalg import lu_factor, lu_solve

        factored, row = lu_factor(a[0], check_finite=False)
        factors = (factored.astype(working, copy=False), row)
        return (
            lambda b: lu_solve(factors, b[0], check_finite=False)[None],
            lambda b: lu_solve(factors, b[0], trans=2, check_finite=False)[None],
        )
    inverse = xp.astype(_each_alone(xp, xp.linalg.inv, a), working, copy=False)
    return lambda b: xp.matmul(inverse, b), lambda b: xp.matmul(adjoint(xp, inverse), b)


def _each_alone(xp: Any, function: Callable[[Array], Array], matrices: Array) -> Array:
    """``function(matrices)``, of which some libraries raise an error for all where one has no answer: that is zero."""
    try:
        if matrices.shape[0] == 1:  # For one matrix some libraries have a better way than for a batch of one.
            return function(matrices[0, ...])[None, ...]
        return function(matrices)
    except np.linalg.LinAlgError:
        count = matrices.shape[0]
        if count == 1:
            return xp.zeros_like(matrices)
        return xp.concat([_each_alone(xp, function, matrices[i : i + 1, ...]) for i in range(count)])
