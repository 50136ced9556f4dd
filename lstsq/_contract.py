"""The contract as pure functions of shapes, dtype names and numbers: promotion, cutoff, shape and folding rules.

Nothing here touches an array, so every rule is written once, holds for every library, and can be remembered by its
arguments.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.linalg import LinAlgError

Shape = tuple[int, ...]

#: The spacing of the numbers next to 1, twice the unit roundoff.
EPS = {"float32": 2.0**-23, "complex64": 2.0**-23, "float64": 2.0**-52, "complex128": 2.0**-52}

#: Rounding A to single precision moves each singular value by about eps times the largest, whatever the shape (at
#: most 6.1 eps32 measured), so the cutoff of single precision stops growing with the matrix here.
SINGLE_PRECISION_GROWTH = 16

_INTEGERS = frozenset(["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))])
_FLOATS = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
    "complex64": "complex64",
    "complex128": "complex128",
}


def needs_default_float(dtype: str) -> bool:
    """Whether this dtype is an integer or bool, which the library's default float stands for."""
    return dtype in _INTEGERS


def is_real(dtype: str) -> bool:
    """Whether this dtype is one of real numbers that has a place here."""
    return dtype in _INTEGERS or (dtype in _FLOATS and not dtype.startswith("complex"))


def widen(name: str, dtype: str, default_float: str) -> str:
    """The floating dtype that the operand `name`, of this dtype, is solved in where it is alone.

    >>> widen("a", "float16", "float64"), widen("b", "int8", "float64")
    ('float32', 'float64')
    """
    floating = default_float if needs_default_float(dtype) else _FLOATS.get(dtype)
    if floating is None:
        what = f"{name} has dtype {dtype}, which has no least-squares solution here"
        if dtype == "object":
            what = f"{name} has dtype object: it holds Python objects, which need not be numbers"
        raise TypeError(
            f"{what}; expected a bool, integer, float16, bfloat16, float32, float64, complex64 or complex128 array. "
            f"Convert it first, with {name}.astype(float) for instance."
        )
    return floating


def promote(a: str, b: str, default_float: str) -> str:
    """The one floating dtype in which a problem with these operands is solved and answered.

    >>> promote("float16", "float32", "float64")
    'float32'
    >>> promote("int64", "complex64", "float64")
    'complex128'
    """
    widened = {widen("a", a, default_float), widen("b", b, default_float)}
    if any(dtype.startswith("complex") for dtype in widened):
        return "complex128" if {"float64", "complex128"} & widened else "complex64"
    return "float64" if "float64" in widened else "float32"


def default_cutoff(dtype: str) -> tuple[float, int]:
    """The default cutoff as a rule of the shape: ``eps`` and ``growth`` in ``eps * min(max(M, N), growth)``."""
    eps = EPS[dtype]
    return eps, SINGLE_PRECISION_GROWTH if eps > EPS["float64"] else 2**31 - 1


def join(name: str, plain: str, beside: str, default_float: str) -> str:
    """The dtype of a list beside an array: the precision is the array's, and complex it is if its own numbers are.

    `plain` is the dtype that NumPy gives to the list `name`, `beside` that of the array.

    >>> join("b", "float64", "float32", "float64"), join("b", "complex128", "float32", "float64")
    ('float32', 'complex64')
    """
    single = _FLOATS.get(default_float if needs_default_float(beside) else beside) in ("float32", "complex64")
    if widen(name, plain, "float64").startswith("complex"):
        return "complex64" if single else "complex128"
    return "float32" if single else "float64"


def cutoff(rcond: float | None, dtype: str, m: int, n: int) -> float:
    """The number that singular values are held against: one is zero iff ``s <= cutoff * s_max``.

    >>> cutoff(None, "float64", 100, 3) == 100 * 2.0**-52
    True
    >>> cutoff(None, "float32", 500_000, 3) == 16 * 2.0**-23
    True
    >>> cutoff(-1.0, "float64", 100, 3) == 2.0**-53  # LAPACK's machine precision, by which it rounds
    True
    """
    if rcond is None:
        eps, growth = default_cutoff(dtype)
        return eps * min(max(m, n), growth)
    return EPS[dtype] / 2 if rcond < 0 else rcond


class Plan(NamedTuple):
    """How one problem reaches a backend and how its answer returns: everything that depends on shapes and dtypes."""

    dtype: str
    cast_a: bool
    cast_b: bool
    #: Where its value is not known yet, a 0-d array of the backend's library, which may be negative; or None, which is
    #: the default where M or N is symbolic.
    rcond: Any
    #: What the backend is given: `rcond`, or None where it applies the default rule to the shapes itself.
    backend_rcond: Any
    driver: str
    m: int
    n: int
    k: int
    #: b is (M,), and x is to be a vector.
    vector: bool
    #: The broadcast batch dimensions.
    batch: Shape
    #: Batch axes over which `a` is one matrix: their right-hand sides become columns, factorised once.
    folded: Shape
    kept: Shape
    #: Shape in which `a` goes to the backend.
    a_shape: Shape
    reshape_a: bool
    #: Some batch dimensions are the matrix's alone, and b (as a matrix) is to be repeated over them.
    broadcast_b: bool
    #: Nothing to solve: a dimension of size 0.
    empty: bool
    #: The arrays go to the backend, and its answer to the caller, as they are once they have the dtype.
    as_given: bool
    #: `as_given`, and they have the dtype.
    direct: bool


def plan(
    a_shape: Shape,
    b_shape: Shape,
    a_dtype: str,
    b_dtype: str,
    default_float: str,
    rcond: float | None,
    driver: str,
    follows_shapes: bool = False,
    traced_rcond: bool = False,
    takes_vectors: bool = False,
) -> Plan:
    """Apply the dtype, shape and cutoff rules. The last three are the backend's claims.

    Raises
    ------
    TypeError
        If a dtype has no floating equivalent.
    LinAlgError
        If the shapes are not those of a least-squares problem.
    """
    dtype = promote(a_dtype, b_dtype, default_float)
    cast_a, cast_b = a_dtype != dtype, b_dtype != dtype
    m, n, k, vector, batch_a, batch_b = split(a_shape, b_shape, follows_shapes)
    batch = broadcast(batch_a, batch_b, a_shape, b_shape)
    batch_a = (1,) * (len(batch) - len(batch_a)) + batch_a
    folded = tuple(i for i, size in enumerate(batch_a) if size == 1 and batch[i] != 1)
    kept = tuple(i for i in range(len(batch)) if i not in folded)
    a_kept = (*(batch[i] for i in kept), m, n)
    empty = m == 0 or n == 0 or 0 in batch
    symbolic = not (isinstance(m, int) and isinstance(n, int))
    unknown = rcond is None and symbolic and (traced_rcond or m != m)
    number = None if unknown else cutoff(rcond, dtype, m, n)
    as_given = not (empty or k == 0) and (
        follows_shapes
        or (takes_vectors and vector and not batch)
        or not (vector or folded or a_kept != a_shape or batch != batch_b)
    )
    return Plan(
        dtype=dtype,
        cast_a=cast_a,
        cast_b=cast_b,
        rcond=number,
        backend_rcond=None if rcond is None and follows_shapes else number,
        driver=driver,
        m=m,
        n=n,
        k=k,
        vector=vector,
        batch=batch,
        folded=folded,
        kept=kept,
        a_shape=a_kept,
        reshape_a=a_kept != a_shape,
        broadcast_b=batch != batch_b,
        empty=empty,
        as_given=as_given,
        direct=as_given and not (cast_a or cast_b),
    )


def split(a_shape: Shape, b_shape: Shape, unknown_rows: bool) -> tuple[int, int, int, bool, Shape, Shape]:
    """M, N, K, whether b is a vector, and the batch dimensions of both, or the error of a bad shape."""
    for name, shape in (("a", a_shape), ("b", b_shape)):
        # The standard's word for a size that is not known yet is None, Dask's is NaN.
        rows = len(shape) - 2 if len(shape) > 1 else 0
        unknown = [i for i, size in enumerate(shape) if size is None or size != size]
        if unknown and not (unknown_rows and unknown == [rows]):
            raise LinAlgError(
                f"{name} has shape {shape}, with a size that is not known before it is computed; expected known sizes. "
                f"Find them first: with Dask, {name}.compute_chunk_sizes()."
            )
    if len(a_shape) < 2:
        raise LinAlgError(
            f"a has shape {a_shape}; expected a matrix (M, N) or a batch of them (..., M, N). "
            "Reshape it, with a[:, None] for a single column."
        )
    if len(b_shape) < 1:
        raise LinAlgError("b has shape (); expected (M,), (M, K) or a batch (..., M, K).")
    m, n = a_shape[-2:]
    vector = len(b_shape) == 1
    rows, k = (b_shape[0], 1) if vector else b_shape[-2:]
    # A number of rows that is not known, which is NaN, is compared when it is.
    if rows != m and rows == rows and m == m:
        hint = ""
        if not vector and b_shape[-1] == m:
            hint = " Only a b of one dimension is a vector: write a batch of vectors (..., M) as b[..., None]."
        raise LinAlgError(
            f"a has {m} rows (shape {a_shape}) and b has {rows} (shape {b_shape}); expected as many in b as in a.{hint}"
        )
    return m, n, k, vector, a_shape[:-2], () if vector else b_shape[:-2]


def broadcast(batch_a: Shape, batch_b: Shape, a_shape: Shape, b_shape: Shape) -> Shape:
    """The batch dimensions of both, or the error where they do not fit."""
    length = max(len(batch_a), len(batch_b))
    padded_a = (1,) * (length - len(batch_a)) + batch_a
    padded_b = (1,) * (length - len(batch_b)) + batch_b
    if any(p != q and 1 not in (p, q) for p, q in zip(padded_a, padded_b)):
        raise LinAlgError(
            f"the batch dimensions {batch_a} of a (shape {a_shape}) and {batch_b} of b (shape {b_shape}) do not "
            "broadcast; expected each pair, from the right, to be equal or to contain a 1."
        )
    return tuple(q if p == 1 else p for p, q in zip(padded_a, padded_b))


def fold_axes(p: Plan) -> Shape:
    """The permutation that takes b from ``(*batch, M, K)`` to ``(*kept, M, *folded, K)``.

    The same permutation takes x from ``(*batch, N, K)`` to ``(*kept, N, *folded, K)``.
    """
    d = len(p.batch)
    return (*p.kept, d, *p.folded, d + 1)


def inverse(axes: Shape) -> Shape:
    """The permutation that undoes `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def sizes(p: Plan, axes: Shape) -> Shape:
    """The sizes of these batch axes."""
    return tuple(p.batch[i] for i in axes)


def columns(p: Plan) -> int:
    """How many right-hand sides the backend is given for each matrix."""
    return math.prod(sizes(p, p.folded)) * p.k
