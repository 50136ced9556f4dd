"""`factorize`, and what it returns: a matrix that is factorised once, for all that is asked of it later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _api, _contract, _factors, _precise, _registry, _weighted
from lstsq._api import _columns, _nothing_to_solve, _restore
from lstsq._arithmetic import adjoint, quiet, times_power_of_two
from lstsq._backend import Array, Backend, Solution, dtype_name, not_finite
from lstsq._contract import Plan
from lstsq._factors import Factors
from lstsq._reduction import Reduction, _owner
from lstsq._registry import Owner
from lstsq._result import LstsqResult
from lstsq._weighted import Kept


@dataclass(frozen=True, eq=False, repr=False)
class Factorization:
    """A matrix, or a batch of them, by its thin singular value decomposition.

    It is made by `factorize`, and never changes. Its arrays are of the library of the matrix and on its device. It can
    be pickled, and JAX's transformations take it for a pytree.

    Attributes
    ----------
    a : (..., M, N) array
        The matrix, in the dtype of the solutions.
    factors : Factors
        Its factors, in double precision where the backend computes in it. They have no derivative.
    reduction : Reduction or None
        The rows in blocks that were factorised; `a` is then what is left of them.
    dtype : str
        The dtype of the solutions.
    backend : str
        The name of the backend that factorised.
    weighted : Kept or None
        The rows as they were given, and their weights; `a` is then the rows times the roots of their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import factorize
    >>> t = np.array([0.0, 1.0, 2.0, 3.0])
    >>> f = factorize(np.stack([t, np.ones(4)], axis=1))
    >>> f
    <Factorization of a (4, 2), float64, arrays of numpy>
    >>> [f.solve(b).x.round(3).tolist() for b in (2 * t + 1, np.array([-1, 0.2, 0.9, 2.1]))]
    [[2.0, 1.0], [1.0, -0.95]]
    """

    a: Array
    factors: Factors
    reduction: Reduction | None
    dtype: str
    backend: str
    weighted: Kept | None = None

    def solve(self, b: Array | None = None, rcond: float | Array | None = None) -> LstsqResult:
        """Solve for one more right-hand side, or several: what ``lstsq(a, b, rcond)`` answers.

        Parameters
        ----------
        b : (M,) or (..., M, K) array, optional
            As for `lstsq`. Left out where rows in blocks were factorised: the right-hand sides were reduced with them.
        rcond : float or () array, optional
            As for `lstsq`.

        Returns
        -------
        LstsqResult
            As of `lstsq`.

        Raises
        ------
        TypeError, ValueError, numpy.linalg.LinAlgError
            As of `lstsq`; also TypeError if `b` is given beside rows in blocks, or left out otherwise.
        """
        return self._solve(b, rcond, None)

    def solve_ridge(
        self, b: Array | None, penalties: Array | Sequence[float], rcond: float | Array | None = None
    ) -> LstsqResult:
        """Minimise ``‖b − a x‖² + λ ‖x‖²`` for each of many penalties λ, from the one factorisation.

        For each it is what ``lstsq(a, b, ridge=λ)`` answers.

        Parameters
        ----------
        b : (M,) or (..., M, K) array, or None
            As for `solve`.
        penalties : (L,) array or sequence of float
            Finite and not negative. For 0 the solution is that of `solve`.
        rcond : float or () array, optional
            A direction counts as one without data iff ``sqrt(s**2 + λ) <= rcond * sqrt(s_max**2 + λ)``; by default as
            for `lstsq`.

        Returns
        -------
        LstsqResult
            ``x (L, ..., N)`` or ``(L, ..., N, K)``; ``residuals (L, ..., K)``, the sums of squares of ``b - a x``
            without the penalty; `rank` and `s` are those of `a`, as of `solve`.

        Raises
        ------
        ValueError
            If a penalty is negative, infinite or NaN.
        TypeError
            As of `solve`; also if `penalties` are traced, the derivative with respect to `a` is asked for, or the
            weights of the factorisation are more than 1e4 apart or not known.

        References
        ----------
        G. H. Golub and C. F. Van Loan, Matrix Computations (4th ed., 2013), section 6.1.4.

        Examples
        --------
        >>> import numpy as np
        >>> from lstsq import factorize
        >>> path = factorize(np.diag([2.0, 1.0])).solve_ridge(np.array([2.0, 1.0]), [0, 1, 4])
        >>> path.x.round(3).tolist()
        [[1.0, 1.0], [0.8, 0.5], [0.5, 0.2]]
        """
        return self._solve(b, rcond, _numbers(penalties))

    @property
    def s(self) -> Array:
        """The singular values ``(..., min(M, N))``, descending, in the precision of the solutions."""

        def read(home: Backend, xp: Any) -> Array:
            if home.is_traced(self.a) and 0 not in self.a.shape:
                return home.solve_factored(self.a, self.factors, self._zeros(home), 0.0).s
            return _factors.singular_values(xp, self.factors)

        return self._real(self._within(read))

    @property
    def condition(self) -> Array:
        """The condition number ``(...)``: the largest over the smallest singular value, infinite where that is 0.

        Raises
        ------
        numpy.linalg.LinAlgError
            If M or N is 0.
        """
        self._require_numbers("condition number")
        s = self.s

        def divide(home: Backend, xp: Any) -> Array:
            zero = s[..., -1] == 0
            quotient = s[..., 0] / xp.where(zero, xp.ones_like(s[..., -1]), s[..., -1])
            return xp.where(zero, xp.full_like(quotient, float("inf")), quotient)

        return self._within(divide)

    def rank(self, rcond: float | Array | None = None) -> Array:
        """The number of singular values above the cutoff, ``(...)``, integer."""
        cutoff = self._cutoff(rcond, self.dtype)
        return self._within(lambda _, xp: _factors.count(xp, self._kept(cutoff)))

    def pinv(self, rcond: float | Array | None = None) -> Array:
        """The pseudo-inverse ``(..., N, M)``; see `lstsq.pinv`.

        Raises
        ------
        TypeError
            If rows in blocks were factorised: the rows are gone.
        """
        self._require_rows("the pseudo-inverse")
        cutoff = self._cutoff(rcond, self.dtype)
        return self._rounded(self._within(lambda home, xp: self._pinv(home, xp, cutoff)))

    def covariance(self, rcond: float | Array | None = None, *, residuals: Array | None = None) -> Array:
        """The pseudo-inverse of ``aᴴ a``, or with `residuals` the covariance matrix of an estimate.

        Parameters
        ----------
        rcond : float or () array, optional
            As for `lstsq`.
        residuals : (..., K) array, optional
            The residual sums of the estimates, as of `solve`. The variance of one observation is then taken for
            ``residuals / (M - rank)``. Rows of weight 0 are not counted.

        Returns
        -------
        (..., N, N) array, or (..., K, N, N) with `residuals`
            NaN where `residuals` are given and ``M <= rank``.

        Raises
        ------
        TypeError
            If `residuals` are no real array of the library.
        numpy.linalg.LinAlgError
            If their shape does not go with the batch.

        References
        ----------
        A. Bjorck, Numerical Methods for Least Squares Problems (1996), section 2.8.

        Examples
        --------
        >>> import numpy as np
        >>> from lstsq import factorize
        >>> f = factorize(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]))
        >>> f.covariance(residuals=f.solve(np.array([1.0, 0.0, 2.0])).residuals)[0].round(9)
        array([[ 1.25, -0.75],
               [-0.75,  0.75]])
        """
        cutoff = self._cutoff(rcond, self.dtype)
        if residuals is not None:
            self._require_residuals(residuals)

        def find(home: Backend, xp: Any) -> Array:
            if home.is_traced(self.a):
                inverse = self._pinv(home, xp, cutoff)
                matrix = xp.matmul(inverse, adjoint(xp, inverse))
            else:
                f = self.factors
                root = adjoint(xp, self._inverted(xp, cutoff)[..., None] * f.vh)
                matrix = times_power_of_two(xp, xp.matmul(root, adjoint(xp, root)), -2 * f.power)
            if residuals is None:
                return matrix
            real = self.factors.s.dtype
            rows = self._rows()
            if self.weighted is not None:
                rows = xp.sum(xp.astype(self.weighted.weights.array > 0, real), axis=-1)
            freedom = rows - xp.sum(xp.astype(self._kept(cutoff), real), axis=-1)
            nan = xp.full_like(freedom, float("nan"))
            freedom = xp.where(freedom > 0, freedom, nan)
            variance = xp.astype(residuals, freedom.dtype) / freedom[..., None]
            return xp.astype(variance, matrix.dtype)[..., None, None] * matrix[..., None, :, :]

        return self._rounded(self._within(find))

    def leverage(self, rcond: float | Array | None = None) -> Array:
        """The diagonal ``(..., M)`` of the projection ``a a⁺``: how much each observation decides about its own fit.

        Raises
        ------
        TypeError
            If rows in blocks were factorised: the rows are gone.
        """
        self._require_rows("the leverages")
        cutoff = self._cutoff(rcond, self.dtype)

        def find(home: Backend, xp: Any) -> Array:
            if home.is_traced(self.a):
                inverse = self._pinv(home, xp, cutoff)
                products = xp.astype(self.a, inverse.dtype) * xp.matrix_transpose(inverse)
            else:
                u, s = self.factors.u, self.factors.s
                # Where the matrix is not finite, neither is anything made of it.
                counts = xp.where(xp.isnan(s), s, xp.astype(self._kept(cutoff), s.dtype))
                u = u * xp.astype(counts, u.dtype)[..., None, :]
                products = u * xp.conj(u) if _is_complex(self.dtype) else u * u
            diagonal = xp.sum(products, axis=-1)
            return xp.real(diagonal) if _is_complex(self.dtype) else diagonal

        return self._real(self._within(find))

    def null_space(self, rcond: float | Array | None = None) -> Array:
        """An orthonormal basis ``(..., N, N - rank)`` of what `a` takes to zero, up to the cutoff.

        Its shape depends on a value, so it is for concrete arrays alone, and every matrix of a batch must have the same
        rank. Only the space that it spans is determined. It has no derivative.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrices of a batch differ in their ranks, or one is not finite.
        TypeError
            If a transformation traces the matrix or records its gradients.
        """
        cutoff, owner = self._cutoff(rcond, self.dtype), self._owner()
        home, n = owner.backend, self.a.shape[-1]
        if home.is_traced(self.a):
            raise TypeError(
                "a transformation traces the matrix or records its gradients, and the shape of a null space depends on "
                "the rank; expected a concrete matrix. Ask for the null space outside of the transformation."
            )
        vh = home.to_numpy(self.factors.vh)
        ranks = home.to_numpy(self._within(lambda *_: self._kept(cutoff))).sum(-1)
        if np.isnan(home.to_numpy(self.factors.s)).any():
            raise LinAlgError("a matrix that is not finite has no null space; expected finite numbers.")
        if len(set(ranks.flat)) > 1:
            raise LinAlgError(
                f"the matrices of the batch have the ranks {sorted(set(map(int, ranks.flat)))}; expected one rank, "
                "since it decides about the shape of the null space. Factorise them one by one."
            )
        rank = int(ranks.flat[0]) if ranks.size else 0
        row_space = np.conj(np.swapaxes(vh[..., :rank, :], -1, -2))
        basis = (
            np.linalg.qr(row_space, mode="complete").Q[..., rank:]
            if rank
            else np.broadcast_to(np.eye(n), (*vh.shape[:-2], n, n))
        )
        with home.context():
            return home.from_numpy_like(np.array(basis.astype(self.dtype)), self.a)

    def to(self, library: str) -> Factorization:
        """The same factorisation over the arrays of another library.

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
        reduction = None if self.reduction is None else self.reduction.to(library)
        name = _registry.backend_for(library).name
        return _of_numpy(library, name, self._to_numpy(), reduction, self.dtype, self._kept_in_numpy())

    def __reduce__(self) -> tuple[Any, ...]:
        # By way of NumPy, as a reduction is.
        arrays, kept = self._to_numpy(), self._kept_in_numpy()
        return _of_numpy, (self._owner().library, self.backend, arrays, self.reduction, self.dtype, kept)

    def _to_numpy(self) -> tuple[np.ndarray[Any, Any], ...]:
        home = self._owner().backend
        return tuple(home.to_numpy(array) for array in (self.a, *self.factors))

    def _kept_in_numpy(self) -> Kept | None:
        if self.weighted is None:
            return None
        home, (a, weights) = self._owner().backend, self.weighted
        return Kept(home.to_numpy(a), weights._replace(array=home.to_numpy(weights.array)))

    def __repr__(self) -> str:
        shape = (*self.a.shape[:-2], self._rows(), self.a.shape[-1])
        what = "rows in blocks: a" if self.reduction is not None else "a with weights" if self.weighted else "a"
        return f"<Factorization of {what} {shape}, {self.dtype}, arrays of {self._owner().library}>"

    # What the methods share.

    def _owner(self) -> Owner:
        """The library of the arrays, and the backend that factorised."""
        owner = _registry.owner(self.a)
        if owner is None:
            raise TypeError(
                f"the factorisation holds {type(self.a).__name__}, which is no array of a library that is served here; "
                "expected what factorize made."
            )
        return self._with_backend(owner)

    def _with_backend(self, owner: Owner) -> Owner:
        if owner.backend.name == self.backend:
            return owner
        return owner._replace(backend=_registry.get_backend(self.backend))

    def _within(self, function: Callable[[Backend, Any], Any]) -> Any:
        """``function(backend, namespace)``, where the backend computes."""
        owner = self._owner()
        # A number beyond the range becomes inf or 0, as in the backends.
        with quiet(owner.xp):
            return owner.backend.within(lambda *_: function(owner.backend, owner.xp), self.a, self.a)

    def _rows(self) -> Any:
        """M: of rows in blocks, how many there were."""
        return self.a.shape[-2] if self.reduction is None else self.reduction.rows

    def _cutoff(self, rcond: float | Array | None, dtype: str) -> Any:
        """The cutoff by the contract, for a solution of this dtype."""
        if isinstance(rcond, float) and rcond != rcond:
            raise ValueError("rcond is NaN; expected a number or None (the default cutoff).")
        if self.reduction is not None:
            return self.reduction._cutoff(rcond, self._owner().xp)
        if rcond is not None:
            rcond = _api.number(rcond, self._owner().backend)
            if not isinstance(rcond, float):  # It is traced.
                return self._canonical(rcond, dtype)
            if rcond != rcond:
                raise ValueError("rcond is NaN; expected a number or None (the default cutoff).")
        return _contract.cutoff(rcond, dtype, *self.a.shape[-2:])

    def _canonical(self, cutoff: Any, dtype: str) -> Any:
        """A cutoff that is not negative, also where it is traced."""
        if isinstance(cutoff, float):
            return cutoff
        if cutoff is None:
            raise TypeError(
                f"a has shape {tuple(self.a.shape)}, with sizes that are not known, on which the default cutoff "
                "depends; expected a cutoff. Give one, with rcond=..., or solve with lstsq.lstsq."
            )
        return self._owner().xp.where(cutoff < 0, _contract.EPS[dtype] / 2, cutoff)

    def _kept(self, cutoff: Any) -> Array:
        return _factors.kept(self.factors, min(cutoff, 1.0) if isinstance(cutoff, float) else cutoff)

    def _inverted(self, xp: Any, cutoff: Any) -> Array:
        """One over each singular value that counts and 0 for the others, in the dtype of the matrix."""
        s, keep = self.factors.s, self._kept(cutoff)
        one = xp.ones_like(s)
        inverse = xp.where(keep, 1 / xp.where(keep, s, one), xp.zeros_like(s))
        # Where the matrix is not finite, neither is anything made of it.
        return xp.astype(xp.where(xp.isnan(s), s, inverse), self.factors.u.dtype)

    def _pinv(self, home: Backend, xp: Any, cutoff: Any) -> Array:
        f = self.factors
        if not home.is_traced(self.a):
            inverse = xp.matmul(adjoint(xp, f.vh) * self._inverted(xp, cutoff)[..., None, :], adjoint(xp, f.u))
            return times_power_of_two(xp, inverse, -f.power)
        m, n = self.a.shape[-2:]
        # With rules for derivatives: as the solution for an identity, that of the shorter dimension.
        tall = m > n
        a, f = (adjoint(xp, self.a), _factors.adjoint_of(xp, f)) if tall else (self.a, f)
        identity = home.from_numpy_like(np.eye(min(m, n), dtype=dtype_name(a.dtype)), a)
        identity = xp.broadcast_to(identity, (*a.shape[:-2], *identity.shape))
        inverse = home.solve_factored(a, f, identity, cutoff).x
        return adjoint(xp, inverse) if tall else inverse

    def _zeros(self, home: Backend) -> Array:
        """One right-hand side, of zeros."""
        return home.zeros((*self.a.shape[:-1], 1), dtype_name(self.a.dtype), self.a)

    def _rounded(self, array: Array) -> Array:
        return self._within(lambda _, xp: xp.astype(array, getattr(xp, self.dtype)))

    def _real(self, array: Array) -> Array:
        single = self.dtype in ("float32", "complex64")
        return self._within(lambda _, xp: xp.astype(array, xp.float32 if single else xp.float64))

    def _require_rows(self, what: str) -> None:
        if self.reduction is not None:
            raise TypeError(
                f"rows in blocks were factorised, of which {what} would need each row; expected a matrix. Factorise it "
                "in one piece, if it fits into memory."
            )

    def _require_residuals(self, residuals: Array) -> None:
        owner, ours = _registry.owner(residuals), self._owner().library
        if owner is None or owner.library != ours or not _contract.is_real(dtype_name(residuals.dtype)):
            raise TypeError(
                f"residuals are of {type(residuals).__name__}; expected a real array of {ours} (..., K), the residual "
                "sums that solve gives."
            )
        batch, given = tuple(self.a.shape[:-2]), tuple(residuals.shape)
        if not given or given[:-1] != batch:
            raise LinAlgError(
                f"residuals have shape {given}; expected {(*batch, 'K')}, the residual sums that solve gives."
            )

    def _require_numbers(self, what: str) -> None:
        if 0 in self.a.shape[-2:]:
            raise LinAlgError(f"a matrix of shape {tuple(self.a.shape)} has no {what}; expected no dimension of 0.")

    def _solve(
        self, b: Array | None, rcond: float | Array | None, penalties: np.ndarray[Any, Any] | None
    ) -> LstsqResult:
        if self.weighted is not None and b is not None:
            return self._solve_weighted(self.weighted, b, rcond, penalties)
        reduction = self.reduction
        if (b is None) == (reduction is None):
            raise TypeError(
                "b was left out; expected the right-hand sides (M,) or (..., M, K)."
                if b is None
                else "rows in blocks were factorised, whose right-hand sides were reduced with them; expected no b. "
                "Leave it out, and give reduce_rows all right-hand sides side by side."
            )
        if reduction is not None:
            b = reduction.b
        a, b, owner = _api.arrays(self.a, b)
        owner = self._with_backend(owner)
        solver = owner.backend
        if reduction is None:
            plan = _api.prepare(solver, owner, a, b, rcond, None)
            dtype, cutoff = plan.dtype, self._canonical(plan.rcond, plan.dtype)
        else:
            plan = _api.prepare(solver, owner, a, b, None, None)
            dtype, cutoff = self.dtype, self._cutoff(rcond, self.dtype)

        def solve(a: Array, b: Array) -> LstsqResult:
            results = _solve(self, b, plan, owner, cutoff, penalties)
            if reduction is not None:
                results = [result._replace(residuals=result.residuals + reduction.left**2) for result in results]
                results = [LstsqResult(*_cast(Solution(*result), dtype, owner.xp)) for result in results]
            if penalties is None:
                return results[0]
            x, residuals = (owner.xp.stack(parts) for parts in list(zip(*results))[:2])
            return results[0]._replace(x=x, residuals=residuals)

        with quiet(owner.xp):
            found: LstsqResult = solver.within(solve, a, b)
        return found

    def _solve_weighted(
        self, kept: Kept, b: Array, rcond: float | Array | None, penalties: np.ndarray[Any, Any] | None
    ) -> LstsqResult:
        a, b, owner = _api.arrays(kept.a, b)
        owner = self._with_backend(owner)
        home, xp = owner.backend, owner.xp
        plan = _api.prepare(home, owner, a, b, None, None)
        given = dtype_name(b.dtype)
        default = home.default_float(b) if _contract.needs_default_float(given) else "float64"
        plan = plan._replace(dtype=_contract.promote(self.dtype, given, default))
        cutoff = self._cutoff(rcond, plan.dtype)
        # The rows times the roots of their weights, solved for in the precision that is computed in.
        plain = replace(self, weighted=None, dtype=dtype_name(self.a.dtype))
        if penalties is None:
            mirrored = self._within(
                lambda _, xp: replace(plain, a=adjoint(xp, self.a), factors=_factors.adjoint_of(xp, self.factors))
            )
            return _weighted.solve_factored(
                kept, b, plan, owner, lambda b: plain.solve(b, cutoff), lambda b: mirrored.solve(b, cutoff)
            )
        if _weighted.is_refined(kept):
            raise TypeError(
                "the weights are more than 1e4 apart, or their numbers are not known, and a path of penalties is not "
                "refined; expected weights that are closer. Solve for each penalty, with lstsq.lstsq(a, b, "
                "weights=..., ridge=penalty)."
            )

        def scaled(w: Array, b: Array) -> Array:
            root = xp.sqrt(w)
            if not plan.vector:
                root = root[..., None]
            return xp.where(root == 0, xp.zeros_like(b), b) * root

        with quiet(xp):
            right = home.within(scaled, kept.weights.array, b)
        path = plain.solve_ridge(right, penalties, cutoff)
        real = xp.float32 if plan.dtype in ("float32", "complex64") else xp.float64
        result: LstsqResult = self._within(
            lambda *_: LstsqResult(
                xp.astype(path.x, getattr(xp, plan.dtype)),
                xp.astype(path.residuals, real),
                path.rank,
                xp.astype(path.s, real),
            )
        )
        return result


def factorize(
    a: Array | Reduction, *, driver: str | None = None, weights: Array | None = None, backend: str | None = None
) -> Factorization:
    """Factorise a matrix once, for all that is asked of it later.

    What is kept is the thin singular value decomposition. Each further right-hand side then costs two products with the
    factors, and so do a path of penalties (`Factorization.solve_ridge`) and the rest.

    Parameters
    ----------
    a : (..., M, N) array, or Reduction
        One matrix or a batch of them, of any shape and rank; dtypes as for `lstsq`. Or rows in blocks, which
        `reduce_rows` reduced: the right-hand sides are then those that were reduced with the rows.
    driver : str, optional
        ``"svd"``, which every backend has, and which is meant by None.
    weights : (..., M) array, optional
        One for each row, as for `lstsq`. What is factorised is ``sqrt(weights)[:, None] * a``, of which all but the
        solutions speak: rank, singular values, covariance, pseudo-inverse, leverages, null space. `Factorization.solve`
        takes `b` without weights. Where weights are more than 1e4 apart, each call of it also solves once anew.
    backend : str, optional
        The backend that factorises, one that serves the arrays' library. By default that which `lstsq` would use.

    Returns
    -------
    Factorization
        With the methods `solve`, `solve_ridge`, `rank`, `pinv`, `covariance`, `leverage`, `null_space` and `to`, and
        the properties `s` and `condition`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If `a` has less than two dimensions; on NumPy's arrays also if it is not finite. (Elsewhere everything made of
        that batch element is NaN and its rank 0.)
    TypeError
        If the backend does not take the dtype, takes other libraries' arrays, or does not factorise; or if `weights`
        are not real, of another library than `a`, or given beside rows in blocks.
    ValueError
        If the driver is another one, or a weight is negative or not finite.

    Notes
    -----
    Where the backend differentiates, solutions, singular values, pseudo-inverses, covariances and leverages have
    derivatives with respect to `a` and `b`, at full and at deficient rank and at equal singular values: never those of
    the decomposition (Golub and Pereyra 1973). A path of penalties has one with respect to `b` alone. Where it
    traces `a`, MLX and torch solve anew instead of using the factors; JAX uses them.

    References
    ----------
    G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate", SIAM J. Numer. Anal. 10 (1973), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import factorize
    >>> f = factorize(np.array([[1.0, 1.0], [1.0, 1.0]]))
    >>> int(f.rank()), f.leverage().round(9).tolist(), abs(f.null_space()).round(3).ravel().tolist()
    (1, [0.5, 0.5], [0.707, 0.707])
    """
    if driver not in (None, "svd"):
        raise ValueError(f"unknown driver {driver!r} for a factorisation; expected 'svd' or None, which is the same.")
    reduction = a if isinstance(a, Reduction) else None
    if reduction is not None:
        a, dtype, owner = reduction.a, reduction.dtype, _owner(reduction)
    else:
        a, _, owner = _api.arrays(a, a)
        given = dtype_name(a.dtype)
        dtype = _contract.widen(
            "a", given, owner.backend.default_float(a) if _contract.needs_default_float(given) else "float64"
        )
    _api.require_matrix(a)
    solver = _api.solver_at_home(backend, owner)
    reason = solver.refuse(dtype, solver.capabilities.default_driver)
    if reason is not None:
        raise TypeError(reason)
    factorised = solver.capabilities.factorizes
    if factorised is not None and dtype not in factorised:
        raise TypeError(
            f"the {solver.name} backend factorises {', '.join(factorised) or 'no dtype'}, and a is of {dtype}; "
            "expected one that it factorises. Solve with lstsq.lstsq, or factorise arrays of another library: convert "
            'a, or reduce its rows first and convert what is left, with lstsq.reduce_rows(a, b).to("numpy").'
        )
    kept = None
    if weights is not None:
        if reduction is not None:
            raise TypeError(
                "rows in blocks were given with weights, and their rows are gone; expected a matrix. Reduce the rows "
                "with their weights: reduce_rows(sqrt(w)[:, None] * a, sqrt(w) * b)."
            )
        working = _precise.working_dtype(owner.backend, owner.xp, a, dtype)
        if solver.refuse(working, solver.capabilities.default_driver) is not None:
            working = dtype
        kept, a = _weighted.keep(a, weights, working, owner)
    xp, held = owner.xp, dtype if reduction is None and kept is None else dtype_name(a.dtype)

    def factorise(a: Array, _: Array) -> tuple[Array, Factors]:
        # A new array where there are derivatives: what the caller later writes to his own does not change it.
        if solver.capabilities.transforms or dtype_name(a.dtype) != held:
            a = xp.astype(a, getattr(xp, held))
        if 0 in a.shape:
            return a, _no_factors(solver, a, held)
        if solver.capabilities.nonfinite == "raises" and not bool(xp.all(xp.isfinite(a))):
            raise not_finite(solver.to_numpy(a))
        return a, solver.factorize(a)

    with quiet(xp):
        a, factors = solver.within(factorise, a, a)
    return Factorization(a, factors, reduction, dtype, solver.name, kept)


def _no_factors(solver: Backend, a: Array, dtype: str) -> Factors:
    """The factors of a matrix with a dimension of 0."""
    (*batch, m, n), real = a.shape, {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    k = min(m, n)
    shapes = ((*batch, m, k), dtype), ((*batch, k), real), ((*batch, k, n), dtype), ((*batch, 1, 1), real)
    return Factors(*(solver.zeros(shape, kind, a) for shape, kind in shapes))


def _solve(
    f: Factorization, b: Array, plan: Plan, owner: Owner, cutoff: Any, penalties: np.ndarray[Any, Any] | None
) -> list[LstsqResult]:
    """The result for each penalty, or the one without."""
    home, xp = owner.backend, owner.xp
    count = 1 if penalties is None else len(penalties)
    if plan.cast_b:
        b = xp.astype(b, getattr(xp, plan.dtype))
    if plan.vector:
        b = b[:, None]
    if plan.empty:
        return [_nothing_to_solve(b, plan, home, xp)] * count
    kept = _contract.sizes(plan, plan.kept)
    if plan.k == 0:
        right = home.zeros((*kept, plan.m, 1), plan.dtype, b)
    else:
        if plan.broadcast_b:
            b = xp.broadcast_to(b, (*plan.batch, plan.m, plan.k))
        right = _columns(b, plan, xp) if plan.folded else b
    a, factors = f.a, f.factors
    if plan.reshape_a:
        a = xp.reshape(a, plan.a_shape)
        factors = Factors(*(xp.reshape(part, (*kept, *tail)) for part, tail in _tails(factors)))
    path = None if penalties is None else home.from_numpy_like(penalties.astype(dtype_name(factors.s.dtype)), a)
    found = _cast(home.solve_factored(a, factors, right, cutoff, path), plan.dtype, xp)
    if count == 1 and not plan.folded and plan.k:
        return [LstsqResult(xp.squeeze(found.x, axis=-1) if plan.vector else found.x, *found[1:])]
    parts = [slice(i * right.shape[-1], (i + 1) * right.shape[-1]) for i in range(count)]
    return [
        _restore(found._replace(x=found.x[..., part], residuals=found.residuals[..., part]), plan, home, xp)
        for part in parts
    ]


def _tails(factors: Factors) -> list[tuple[Array, tuple[int, ...]]]:
    """Each factor, with its shape apart from the batch."""
    return [(part, tuple(part.shape[-(1 if part is factors.s else 2) :])) for part in factors]


def _cast(found: Solution, dtype: str, xp: Any) -> Solution:
    """The solution in this precision."""
    if dtype_name(found.x.dtype) == dtype:
        return found
    real = xp.float32 if dtype in ("float32", "complex64") else xp.float64
    s = None if found.s is None else xp.astype(found.s, real)
    return Solution(xp.astype(found.x, getattr(xp, dtype)), xp.astype(found.residuals, real), found.rank, s)


def _numbers(penalties: Array | Sequence[float]) -> np.ndarray[Any, Any]:
    """The penalties as NumPy's array."""
    owner = _registry.owner(penalties)
    numbers = _api.numbers("penalties", penalties) if owner is None else owner.backend.to_numpy(penalties)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "biuf":
        raise TypeError(
            f"penalties have shape {numbers.shape} and dtype {numbers.dtype}; expected a sequence of real numbers "
            "(L,). Write a single one as [penalty]."
        )
    bad = numbers[~(np.isfinite(numbers) & (numbers >= 0))]
    if bad.size:
        raise ValueError(f"penalties contain {bad[0]}; expected finite numbers from 0 up.")
    return numbers.astype(np.float64)


def _is_complex(dtype: str) -> bool:
    return dtype.startswith("complex")


def _of_numpy(
    library: str,
    backend: str,
    arrays: tuple[np.ndarray[Any, Any], ...],
    reduction: Reduction | None,
    dtype: str,
    kept: Kept | None,
) -> Factorization:
    """The factorisation over arrays of this library that has these numbers."""
    there = _registry.get_backend(backend)
    with there.context():
        a, *factors = (there.from_numpy(array, library) for array in arrays)
        if kept is not None:
            rows, weights = (there.from_numpy(array, library) for array in (kept.a, kept.weights.array))
            kept = Kept(rows, kept.weights._replace(array=weights))
    return Factorization(a, Factors(*factors), reduction, dtype, backend, kept)
