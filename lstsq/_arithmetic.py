"""Numbers in the functions of the array-API standard: complex ones by their parts, and powers of two."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat
import numpy as np

#: Any array of any library.
Array = Any


def dtype_name(dtype: Any) -> str:
    """The bare name of a dtype of any library: numpy's, 'torch.float32', 'mlx.core.float32' ..."""
    name = getattr(dtype, "name", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]


def quiet(xp: Any) -> AbstractContextManager[Any]:
    """Where a number beyond the range of its dtype becomes inf or 0, as everywhere; NumPy would warn besides."""
    computes_with_numpy = xp.__name__.rpartition(".")[2] in ("numpy", "array_api_strict")
    return np.errstate(all="ignore") if computes_with_numpy else nullcontext()


def adjoint(xp: Any, a: Array) -> Array:
    """The conjugate transpose."""
    transposed = xp.matrix_transpose(a)
    return xp.conj(transposed) if is_complex(a) else transposed


def exponent(xp: Any, a: Array, axis: int | tuple[int, ...]) -> Array:
    """The power of two just below the largest number along these axes, which are kept; 0 for zeros."""
    size = xp.max(largest(xp, a), axis=axis, keepdims=True)
    return xp.floor(xp.log2(xp.where(size > 0, size, xp.ones_like(size))))


def largest(xp: Any, a: Array) -> Array:
    """The size of each number, that of its larger part if it is complex, which cannot overflow."""
    return xp.maximum(xp.abs(xp.real(a)), xp.abs(xp.imag(a))) if is_complex(a) else xp.abs(a)


def times_power_of_two(xp: Any, a: Array, exponent: Array) -> Array:
    if is_complex(a):
        # Each part for itself: a complex product would make NaN of an infinite part.
        real, imaginary = (times_power_of_two(xp, part, exponent) for part in (xp.real(a), xp.imag(a)))
        return join(xp, real, imaginary, a.dtype)
    # In three steps, as the factor may be beyond the dtype where the product is not.
    limit = largest_exponent(xp, exponent.dtype)
    third = xp.floor(exponent / 3)
    for part in (third, third, exponent - 2 * third):
        a = a * xp.full_like(part, 2.0) ** xp.clip(part, -limit, limit)
    return a


def join(xp: Any, real: Array, imaginary: Array, dtype: Any) -> Array:
    """The complex numbers of these parts, infinite ones too: infinity times i would be NaN, and a sum is not."""
    limit = float(xp.finfo(imaginary.dtype).max)
    bounded = xp.clip(imaginary, -limit, limit)
    beyond = xp.where(xp.isinf(imaginary), bounded, xp.zeros_like(bounded))  # Twice the largest number is infinite.
    return xp.astype(real, dtype) + 1j * xp.astype(bounded, dtype) + 1j * xp.astype(beyond, dtype)


def nan(xp: Any, like: Array) -> Array:
    """NaN, in both parts of a complex number."""
    nan = xp.full_like(xp.real(like) if is_complex(like) else like, math.nan)
    return join(xp, nan, nan, like.dtype) if is_complex(like) else nan


def largest_exponent(xp: Any, dtype: Any) -> int:
    """Two to plus and minus this many are normal numbers of this dtype."""
    return math.floor(math.log2(float(xp.finfo(dtype).max))) - 2


def headroom(xp: Any, dtype: Any) -> float:
    """By how many powers of two the smallest subnormal number is farther from 1 than the largest number, and more."""
    return largest_exponent(xp, dtype) // 5


def working_dtype(xp: Any, a: Array) -> Any:
    """Double precision where the device has it."""
    where = device(a)
    key = (xp.__name__, a.dtype, str(where))
    found = _working_dtypes.get(key)
    if found is None:
        double = "complex128" if is_complex(a) else "float64"
        found = _working_dtypes[key] = xp.__array_namespace_info__().dtypes(device=where).get(double, a.dtype)
    return found


_working_dtypes: dict[Any, Any] = {}


def is_complex(a: Array) -> bool:
    return dtype_name(a.dtype).startswith("complex")  # `xp.isdtype` takes ten times as long.


def device(a: Array) -> Any:
    # The general function asks for many libraries first, which takes longer than a small problem may.
    return a.device if array_api_compat.is_torch_array(a) else array_api_compat.device(a)
