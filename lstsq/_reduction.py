"""`reduce_rows`, and what it returns: a least-squares problem whose rows came in blocks, reduced to a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _api, _contract, _registry, _rows
from lstsq._backend import Array
from lstsq._registry import Owner
from lstsq._result import LstsqResult
from lstsq._rows import Rows


@dataclass(frozen=True, eq=False, repr=False)
class Reduction:
    """All rows seen so far of one least-squares problem, reduced to at most as many as it has columns.

    It is made by `reduce_rows`, and never changes: ``+`` gives the reduction of the rows of both. Its arrays are of the
    library of the rows and on their device. It can be pickled, and JAX's transformations take it for a pytree.

    Attributes
    ----------
    a : (min(M, N), N) array
        A matrix with the singular values of all rows, in double precision where the library has it.
    b : (min(M, N),) or (min(M, N), K) array
        The right-hand sides beside it.
    left : (1,) or (K,) array, real
        The norm of the part of each right-hand side that no solution reaches.
    rows : int
        M, the number of rows seen.
    dtype : str
        The dtype of the solution: that of all rows, promoted as `lstsq` promotes them.
    backend : str
        The name of the backend that reduces.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import reduce_rows
    >>> t = np.array([0.0, 1.0, 2.0, 3.0])
    >>> a, b = np.stack([t, np.ones(4)], axis=1), np.array([-1, 0.2, 0.9, 2.1])
    >>> total = reduce_rows(a[:1], b[:1]) + reduce_rows(a[1:], b[1:])
    >>> x, residuals, rank, s = total.solve()
    >>> print(x.round(3), residuals.round(3), rank)
    [ 1.   -0.95] [0.05] 2
    """

    a: Array
    b: Array
    left: Array
    rows: Any
    dtype: str
    backend: str

    def __add__(self, other: object) -> Reduction:
        """The reduction of the rows of both.

        Raises
        ------
        TypeError
            If they are of two libraries or on two devices.
        numpy.linalg.LinAlgError
            If they differ in their columns or right-hand sides.
        """
        if not isinstance(other, Reduction):
            return NotImplemented
        owner = _owner(self)
        theirs = _owner(other)
        if owner.library != theirs.library:
            raise TypeError(
                f"the reductions are of arrays of {owner.library} and {theirs.library}; expected one library. Convert "
                f"one of them first, with reduction.to({owner.library!r})."
            )
        devices = owner.backend.device(self.a), owner.backend.device(other.a)
        if None not in devices and devices[0] != devices[1]:
            raise TypeError(
                f"the reductions are on the devices {devices[0]} and {devices[1]}; expected one device. Reduce the "
                "rows on one of them, or convert both reductions, with reduction.to('numpy')."
            )
        if self.a.shape[1] != other.a.shape[1]:
            raise LinAlgError(
                f"the reductions are of rows with {self.a.shape[1]} and {other.a.shape[1]} columns; expected as many "
                "in both. Give every block the same columns, with zeros where it has none."
            )
        if self.b.shape[1:] != other.b.shape[1:]:
            raise LinAlgError(
                f"the right-hand sides of the reductions have shapes {_shown_sides(self)} and {_shown_sides(other)}; "
                "expected one shape. Only a b of one dimension is a vector: write a vector as b[:, None] beside others."
            )
        home, xp = owner.backend, owner.xp

        def merge(*_: Array) -> Reduction:
            a, b = (_stack(xp, *pair) for pair in ((self.a, other.a), (self.b, other.b)))
            merged = home.reduce_rows(*_columns(a, b))
            left = _rows.norms(xp, xp.stack([self.left, other.left]))
            return Reduction(
                merged.a,
                merged.b[:, 0] if self.b.ndim == 1 else merged.b,
                _rows.norms(xp, xp.stack([left, merged.left])),
                self.rows + other.rows,
                _contract.promote(self.dtype, other.dtype, "float64"),
                self.backend,
            )

        with np.errstate(all="ignore"):
            merged: Reduction = home.within(merge, self.a, self.b)
        return merged

    def __radd__(self, other: object) -> Reduction:
        """So that `sum` takes reductions: it begins with 0."""
        return self if type(other) is int and other == 0 else NotImplemented

    def solve(
        self,
        rcond: float | Array | None = None,
        *,
        driver: str | None = None,
        numpy_resid: bool = False,
        singular_values: bool = True,
        backend: str | None = None,
    ) -> LstsqResult:
        """Solve for all rows seen, as `lstsq` would.

        Parameters
        ----------
        rcond, driver, numpy_resid, singular_values, backend
            As for `lstsq`. The default cutoff is that of all rows: ``eps * max(M, N)`` in double precision. By default
            the backend that reduced solves.

        Returns
        -------
        LstsqResult
            ``x (N,)`` or ``(N, K)``, `residuals`, `rank` and ``s (min(M, N),)``, as of `lstsq`.

        Raises
        ------
        TypeError, ValueError, numpy.linalg.LinAlgError
            As of `lstsq`.
        """
        owner = _owner(self)
        home, xp, n = owner.backend, owner.xp, self.a.shape[1]
        result = _api.lstsq(
            self.a,
            self.b,
            self._cutoff(rcond, xp),
            driver=driver,
            singular_values=singular_values,
            backend=backend or self.backend,
        )
        single = self.dtype in ("float32", "complex64")
        dtype, real = getattr(xp, self.dtype), xp.float32 if single else xp.float64

        def restore(*_: Array) -> LstsqResult:
            x, squares, rank, s = result
            squares = squares + self.left**2
            return LstsqResult(
                xp.astype(x, dtype), xp.astype(squares, real), rank, None if s is None else xp.astype(s, real)
            )

        # A number beyond the range becomes inf or 0, as in the backends.
        with np.errstate(all="ignore"):
            result = home.within(restore, self.a, self.b)
        return _api.numpy_residuals(result, (), self.rows, n, home) if numpy_resid else result

    def _cutoff(self, rcond: float | Array | None, xp: Any) -> float | Array:
        """The cutoff for all rows, by the contract."""
        rows, n = self.rows, self.a.shape[1]
        if rcond is not None:
            rcond = _api.number(rcond, _registry.get_backend(self.backend))
            if not isinstance(rcond, float):  # It is traced.
                return xp.where(rcond < 0, _contract.EPS[self.dtype] / 2, rcond)
        elif not isinstance(rows, int):
            # JAX traces the number of rows, or has made an array of it.
            eps, growth = _contract.default_cutoff(self.dtype)
            return eps * xp.minimum(xp.maximum(rows, n), growth)
        return _contract.cutoff(rcond, self.dtype, rows, n)

    def to(self, library: str) -> Reduction:
        """The same reduction over the arrays of another library: rows reduced on a GPU can be solved by NumPy.

        Parameters
        ----------
        library : str
            ``"numpy"``, ``"jax"``, ``"torch"``, ``"mlx"``, ``"cupy"`` or any other array-API library, by the name of
            its module. The arrays are on its default device.

        Raises
        ------
        ValueError
            If no installed backend serves the library.
        TypeError
            If the library does not have the dtype, or a transformation traces the arrays.
        """
        return _of_numpy(library, _registry.backend_for(library).name, self._to_numpy(), self.rows, self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        # By way of NumPy: MLX itself would pickle float64 as float32, and what is on a device need not find it again.
        owner = _owner(self)
        return _of_numpy, (owner.library, self.backend, self._to_numpy(), int(self.rows), self.dtype)

    def _to_numpy(self) -> Rows:
        home = _owner(self).backend
        return Rows(*(home.to_numpy(array) for array in (self.a, self.b, self.left)))

    def __repr__(self) -> str:
        return (
            f"<Reduction of {self.rows} rows: a {(self.rows, self.a.shape[1])}, b {_shown_sides(self)}, {self.dtype}, "
            f"arrays of {_owner(self).library}>"
        )


def reduce_rows(a: Array, b: Array, *, backend: str | None = None) -> Reduction:
    """Reduce a block of the rows of a problem to at most as many as it has columns, for `Reduction.solve`.

    Blocks of rows, of any size and in any order, are reduced one by one and added: memory never holds more than a block
    and three small triangles, however many rows there are. The reduction is orthogonal (QR), or proved to be
    as good for the rows of a block, so that the answer is as accurate as that of `lstsq` for all rows at once, and the
    rank that of all rows.

    Parameters
    ----------
    a : (M, N) array
        Rows of the matrix, of any library. M may be 0, or less than N. Rows with weights are given as
        ``sqrt(weight) * row``, and those of `b` likewise.
    b : (M,) or (M, K) array
        The rows of the right-hand sides.
    backend : str, optional
        The backend that reduces, and later solves; one that serves the arrays' library. By default that which `lstsq`
        would use.

    Returns
    -------
    Reduction
        ``+`` merges it with others, `sum` does so with any number; ``.solve()`` gives the answer for all rows.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the shapes are not those of one least-squares problem; on NumPy's arrays also if `a` is not finite.
        (Elsewhere the answer is NaN and the rank 0. A column of `b` that is not finite has NaN in its own solution and
        residual.)
    TypeError
        If `a` and `b` belong to two libraries or are on two devices, or the backend does not take their dtype, or takes
        other libraries' arrays.

    References
    ----------
    C. L. Lawson and R. J. Hanson, Solving Least Squares Problems (1974), chapter 27.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import reduce_rows
    >>> blocks = ((np.stack([np.ones(1000), t], axis=1), 3 * t + 1) for t in np.arange(5000.0).reshape(5, 1000))
    >>> total = sum(reduce_rows(a, b) for a, b in blocks)
    >>> total
    <Reduction of 5000 rows: a (5000, 2), b (5000,), float64, arrays of numpy>
    >>> print(total.solve().x.round(6))
    [1. 3.]
    """
    a, b, owner = _api.arrays(a, b)
    solver = _api.solver_at_home(backend, owner)
    plan = _api.prepare(solver, owner, a, b, None, None)
    if plan.batch:
        raise LinAlgError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}, which is a batch of problems; expected the rows of "
            "one, a (M, N). Reduce one problem after the other, or map over them where the library can (jax.vmap)."
        )
    if plan.m != plan.m:
        raise LinAlgError(
            f"a has shape {tuple(a.shape)}, and the number of its rows is not known; expected a known one. Find it "
            "first, with Dask by a.compute_chunk_sizes(), or solve in one piece, with lstsq.lstsq."
        )
    xp = owner.xp

    def reduce(a: Array, b: Array) -> Rows:
        if plan.cast_a:
            a = xp.astype(a, getattr(xp, plan.dtype))
        if plan.cast_b:
            b = xp.astype(b, getattr(xp, plan.dtype))
        rows = solver.reduce_rows(*_columns(a, b))
        return rows._replace(b=rows.b[:, 0]) if plan.vector else rows

    with np.errstate(all="ignore"):
        rows: Rows = owner.backend.within(reduce, a, b)
    return Reduction(*rows, plan.m, plan.dtype, solver.name)


def _of_numpy(library: str, backend: str, rows: Rows, count: Any, dtype: str) -> Reduction:
    """The reduction over arrays of this library that has these numbers; b may be a vector."""
    there = _registry.get_backend(backend)
    with there.context():
        a, b, left = (there.from_numpy(array, library) for array in rows)
    return Reduction(a, b, left, count, dtype, backend)


def _columns(a: Array, b: Array) -> tuple[Array, Array]:
    """b as a matrix beside `a`."""
    return a, b[:, None] if b.ndim == 1 else b


def _owner(reduction: Reduction) -> Owner:
    """The library of the arrays, and the backend that reduces."""
    owner = _registry.owner(reduction.a)
    if owner is None:
        raise TypeError(
            f"the reduction holds {type(reduction.a).__name__}, which is no array of a library that is served here; "
            "expected what reduce_rows made."
        )
    return owner._replace(backend=_registry.get_backend(reduction.backend))


def _stack(xp: Any, top: Array, bottom: Array) -> Array:
    """One above the other, in the wider dtype of both."""
    dtype = xp.result_type(top.dtype, bottom.dtype)
    return xp.concat([xp.astype(top, dtype), xp.astype(bottom, dtype)], axis=0)


def _shown_sides(reduction: Reduction) -> tuple[Any, ...]:
    return (reduction.rows, *reduction.b.shape[1:])
