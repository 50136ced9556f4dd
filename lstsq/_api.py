"""The public functions: find whose arrays these are, apply the contract, hand the problem to a backend."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _contract, _deficient, _registry
from lstsq._backend import Array, Backend, Solution, dtype_name, not_finite
from lstsq._contract import Plan
from lstsq._registry import Owner
from lstsq._result import LstsqResult

#: What a list may hold that NumPy knows, arrays of its own apart.
_NUMBERS = (bool, int, float, complex, np.generic)


def lstsq(
    a: Array,
    b: Array,
    rcond: float | Array | None = None,
    *,
    weights: Array | None = None,
    ridge: float | Array | None = None,
    driver: str | None = None,
    numpy_resid: bool = False,
    singular_values: bool = True,
    on_deficient: str = "ignore",
    backend: str | None = None,
) -> LstsqResult:
    """Least-squares solution of minimum norm, on the arrays of any library.

    Parameters
    ----------
    a : (..., M, N) array
        One matrix or a batch of them, of any shape and rank. Bools and integers become the library's default float;
        float16 and bfloat16 become float32; float32, float64, complex64 and complex128 stay.
    b : (M,) or (..., M, K) array
        Right-hand sides. One dimension is a vector; otherwise the last is the right-hand sides' and the batch
        dimensions broadcast against those of `a`. `a` and `b` are promoted to one dtype; what is no array (a list, a
        table of pandas) takes the precision of the array beside it.
    rcond : float or () array, optional
        A singular value counts as zero iff ``s <= rcond * s_max``. By default ``eps * max(M, N)`` in double precision,
        which is NumPy's, and ``eps * min(max(M, N), 16)`` in single precision, so that it does not grow with the
        rows. Negative means ``eps / 2``, which is LAPACK's machine precision. It may be traced where the backend
        claims so.
    weights : (M,) or (..., M) array, optional
        What the square of each row's residual is multiplied by, from 0 up: 1 / variance, say, or a mask. Real; its
        batch dimensions broadcast against those of `a` and `b`. A weight of 0 drops its row, whatever `a` and `b` hold
        there, NaN included. x keeps its digits where weights are very different.
    ridge : float or (..., N) array, optional
        Penalties from 0 up: ``sum(ridge * abs(x)**2)`` is added to the sum of squares that is minimised. One number, or
        one for each column; its batch dimensions broadcast.
    driver : str, optional
        The backend's algorithm, by name; see `lstsq.backends`. By default the backend's own choice.
    numpy_resid : bool, optional
        Give `residuals` by NumPy's rule: empty, of shape ``(0,)``, where ``M <= N`` or ``rank < N``. For one concrete
        problem only, since its shape depends on a value.
    singular_values : bool, optional
        Whether `s` is wanted. With False it is None and everything else is as it is. Where the backend finds the rank
        without the singular values, their time is saved; for a large square matrix that is most of the time.
    on_deficient : {"ignore", "warn", "raise"}, optional
        What is said where the rank is below ``min(M, N)``: nothing, a `LstsqRankWarning` or a LinAlgError. The rank is
        the one that is returned, which a `ridge` does not change.
    backend : str, optional
        The backend that solves. If it is another library's, the arrays are converted there and the results back. By
        default the one that serves the arrays' library; of several that do, `explain` says which and why.

    Returns
    -------
    LstsqResult
        ``x (..., N)`` for a vector `b`, else ``(..., N, K)``; ``residuals (..., 1)`` or ``(..., K)``, the sum of
        squares of ``b - a x`` of each right-hand side whatever the rank; ``rank (...)``; ``s (..., min(M, N))``,
        descending, or None with ``singular_values=False``. All are arrays of the library and on the device of the
        input. With `weights`, `residuals` are the weighted sums, and `rank` and `s` those of the rows of `a` times the
        roots of the weights. With a `ridge` these three are still those of the data alone.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the shapes are not those of a least-squares problem; on NumPy's arrays also if `a` is not finite, and on
        Dask's when they are computed. (Elsewhere the results of that batch element are NaN and its rank 0. A column of
        `b` that is not finite has NaN in its own solution and residual alone, in every backend.) With
        ``on_deficient="raise"`` also if the rank is below ``min(M, N)``.
    TypeError
        If the arrays belong to two libraries or are on two devices, `weights` or `ridge` are not real, the backend does
        not take their dtype or a batch, or `backend` names another library's and a transformation traces the arrays or
        records their gradients; or if `on_deficient` asks for a rank that a transformation traces.
    ValueError
        If the driver or the backend is unknown, `rcond` is NaN, a number of a list is beyond its dtype, `on_deficient`
        is another word, or `weights` or `ridge` hold numbers that are negative or not finite. (Where their numbers are
        not known, since a transformation traces them, a library is lazy or records their gradients, such a weight gives
        what a row that is not finite gives. Such a ridge gives NaN in `x` and `residuals`, and on Dask's arrays
        LinAlgError.)

    Notes
    -----
    The cutoff is LAPACK's test (``xGELSD``; Anderson et al., LAPACK Users' Guide, 1999, section 2.4.1).

    Where the backend differentiates, x, residuals and s have derivatives with respect to `a`, `b`, `weights` and
    `ridge`, at full and at deficient rank (Golub and Pereyra 1973). At a point where the rank changes, x is not
    continuous and there is no derivative: what is returned there is that of the branch of the rank found.

    With a ridge and a deficient `a`, x is the more sensitive to the roundings of `a` the smaller the penalty is: like
    ``s_max**2 / ridge``. What neither of them determines by more than ``rcond * s_max`` is as without a ridge.

    References
    ----------
    A. Bjorck, "Iterative refinement of linear least squares solutions I", BIT 7 (1967): how rows of small weights keep
    their digits.

    G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate", SIAM J. Numer. Anal. 10 (1973), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import lstsq
    >>> t = np.array([0.0, 1.0, 2.0, 3.0])
    >>> x, residuals, rank, s = lstsq(np.stack([t, np.ones(4)], axis=1), np.array([-1, 0.2, 0.9, 2.1]))
    >>> print(x.round(3), residuals.round(3), rank)
    [ 1.   -0.95] [0.05] 2

    The last observation left out, and a penalty on the slope:

    >>> a, b = np.stack([t, np.ones(4)], axis=1), np.array([-1, 0.2, 0.9, np.nan])
    >>> print(lstsq(a, b, weights=[1, 1, 1, 0], ridge=[1, 0]).x.round(3))
    [ 0.633 -0.6  ]
    """
    is_reported = not isinstance(on_deficient, str) or on_deficient != "ignore"
    if is_reported or weights is not None or ridge is not None:
        options: dict[str, Any] = {
            "weights": weights,
            "ridge": ridge,
            "driver": driver,
            "numpy_resid": numpy_resid,
            "singular_values": singular_values,
            "backend": backend,
        }
        if not is_reported:
            from lstsq import _weighted  # Which calls this function in its turn.

            return _weighted.lstsq(a, b, rcond, **options)
        _deficient.require_way(on_deficient)
        result = lstsq(a, b, rcond, **options)
        owner = _registry.owner(result.rank) or _registry.numpy_owner()
        home = owner.backend if backend is None else named(backend, owner)[1].backend
        m, n = np.shape(a)[-2:]
        _deficient.report(result.rank, home, n if m != m else min(m, n), on_deficient, ridge is not None)
        return result
    a, b, owner = arrays(a, b)
    solver = owner.backend
    if backend is not None:
        solver, owner = named(backend, owner)
    plan = prepare(solver, owner, a, b, rcond, driver)
    if plan.direct and solver is owner.backend:
        solve = solver.solve if singular_values else solver.solve_without_s
        result = LstsqResult(*solve(a, b, plan.backend_rcond, plan.driver))
    else:
        result = owner.backend.within(lambda a, b: _solve(a, b, plan, owner, solver, singular_values), a, b)
    if not singular_values and result.s is not None:
        result = result._replace(s=None)
    return numpy_residuals(result, plan.batch, plan.m, plan.n, owner.backend) if numpy_resid else result


def arrays(a: Any, b: Any) -> tuple[Array, Array, Owner]:
    """Both operands as arrays of one library; what is no array joins the other's, or NumPy's."""
    owner_a, owner_b = _registry.owner(a), _registry.owner(b)
    if owner_a is None:
        if owner_b is None:
            return numbers("a", a), numbers("b", b), _registry.numpy_owner()
        return _join("a", a, b, owner_b), _plain(b), owner_b
    if owner_b is None:
        return _plain(a), _join("b", b, a, owner_a), owner_a
    if owner_a is not owner_b and owner_a != owner_b:
        raise _two_libraries(owner_a, "b", owner_b)
    if type(a) is not type(b) or type(a) is not np.ndarray:
        a, b = _plain(a), _plain(b)
        _require_one_device(a, "b", b, owner_a.backend)
    return a, b, owner_a


def beside(name: str, operand: Any, a: Array, owner: Owner) -> Array:
    """A third operand as an array of the library of `a`; what is no array joins it."""
    theirs = _registry.owner(operand)
    if theirs is None:
        return _join(name, operand, a, owner)
    if theirs.library != owner.library:
        raise _two_libraries(owner, name, theirs)
    operand = _plain(operand)
    _require_one_device(a, name, operand, owner.backend)
    return operand


def _two_libraries(owner: Owner, name: str, theirs: Owner) -> TypeError:
    return TypeError(
        f"a is an array of {owner.library} and {name} of {theirs.library}; expected one library. "
        "Convert one of them first."
    )


def _require_one_device(a: Array, name: str, operand: Array, backend: Backend) -> None:
    here, there = backend.device(a), backend.device(operand)
    if here is not None and there is not None and here != there:
        raise TypeError(
            f"a is on the device {here} and {name} on {there}; expected one device. Move one of them first."
        )


def _plain(array: Array) -> Array:
    """NumPy's own array in place of a subclass (`numpy.matrix`, `numpy.memmap`), which may multiply by other rules."""
    return np.asarray(array) if isinstance(array, np.ndarray) and type(array) is not np.ndarray else array


def numbers(name: str, plain: Any) -> np.ndarray[Any, Any]:
    """The numbers of the operand `name`, which is no array, as NumPy's array."""
    try:
        array = np.asarray(_without_arrays(plain))
    except ValueError as error:
        raise LinAlgError(
            f"{name} is a {type(plain).__name__} that makes no array ({error}); expected numbers, and as many in each "
            "row as in the others."
        ) from error
    kinds = set(map(type, array.flat)) if array.dtype == object else set()
    if kinds and kinds <= {bool, int, float, complex}:
        # NumPy has no integers of that size, and keeps Python's.
        try:
            return array.astype(complex if complex in kinds else float)
        except OverflowError as error:
            raise ValueError(
                f"{name} holds an integer beyond the range of float64; expected smaller numbers. Scale them first."
            ) from error
    return array


def _without_arrays(plain: Any) -> Any:
    """A list in which the arrays of other libraries are NumPy's, unless they are traced, which `to_numpy` refuses."""
    if not isinstance(plain, (list, tuple)):
        return plain
    if all(kind is np.ndarray or issubclass(kind, _NUMBERS) for kind in set(map(type, plain))):
        return plain
    return [_without_arrays(item) if isinstance(item, (list, tuple)) else _element(item) for item in plain]


def _element(item: Any) -> Any:
    owner = _registry.owner(item) if hasattr(item, "shape") else None
    return item if owner is None else owner.backend.to_numpy(item)


def _join(name: str, plain: Any, like: Array, owner: Owner) -> Array:
    """What is no array as one of the library and the precision of `like`."""
    found, dtype_beside, home = numbers(name, plain), dtype_name(like.dtype), owner.backend
    default_float = home.default_float(like) if _contract.needs_default_float(dtype_beside) else "float64"
    dtype = _contract.join(name, found.dtype.name, dtype_beside, default_float)
    with np.errstate(over="ignore", under="ignore"):
        rounded = found.astype(dtype)
    lost = np.isfinite(found) & ~np.isfinite(rounded)
    if lost.any():
        raise ValueError(
            f"{name} holds {found[lost][0]}, which is beyond the range of {dtype}, the precision of the array "
            "beside it; expected smaller numbers. Scale them, or convert that array to double precision first."
        )
    with home.context():
        return home.from_numpy_like(rounded, like)


def named(backend: str, owner: Owner) -> tuple[Backend, Owner]:
    """The backend of this name; a second backend for the same library takes its arrays as they are."""
    solver = _registry.get_backend(backend)
    if solver is owner.backend or owner.library not in solver.serves:
        return solver, owner
    return solver, Owner(solver, owner.library, owner.xp)


def require_matrix(a: Array) -> None:
    """Refuse an operand that is no matrix, where no right-hand side stands beside it."""
    if len(a.shape) < 2:
        raise LinAlgError(
            f"a has shape {tuple(a.shape)}; expected a matrix (M, N) or a batch of them (..., M, N). "
            "Reshape it, with a[:, None] for a single column."
        )


def solver_at_home(backend: str | None, owner: Owner) -> Backend:
    """The backend of this name, for what is done with arrays of its own library alone."""
    if backend is None:
        return owner.backend
    solver = _registry.get_backend(backend)
    if owner.library not in solver.serves and solver is not owner.backend:
        raise TypeError(
            f"a is an array of {owner.library}, which the {solver.name} backend does not serve; expected one of its "
            "own. Convert the arrays first (a reduction or a factorisation with its method to)."
        )
    return solver


def prepare(solver: Backend, owner: Owner, a: Array, b: Array, rcond: float | Array | None, driver: str | None) -> Plan:
    """How this problem reaches the backend, or the error that says why it does not."""
    if rcond is not None and type(rcond) is not float:
        rcond = number(rcond, solver)
    known = rcond if rcond is None or type(rcond) is float else None
    a_dtype, b_dtype = _dtype_name(a.dtype.__class__, a.dtype), _dtype_name(b.dtype.__class__, b.dtype)
    default_float = None
    if _contract.needs_default_float(a_dtype) or _contract.needs_default_float(b_dtype):
        default_float = owner.backend.default_float(a)
    given = (solver, a.shape, b.shape, a_dtype, b_dtype, default_float, known, driver)
    try:
        plan = _plan(*given)
    except TypeError:
        # A dtype is refused, and again here; or a size is symbolic and cannot be remembered, as in torch.
        plan = _plan.__wrapped__(*given)
    # Asked each time: the answer may depend on a setting of the library.
    reason = solver.refuse(plan.dtype, plan.driver)
    if reason is not None:
        raise TypeError(reason)
    return plan if known is rcond else plan._replace(rcond=rcond, backend_rcond=rcond)


def number(rcond: Any, solver: Backend) -> float | Array:
    """The cutoff as a float; or as it is, where a transformation traces it and the backend takes that."""
    shape, dtype = getattr(rcond, "shape", ()), dtype_name(getattr(rcond, "dtype", ""))
    if len(shape):
        raise TypeError(
            f"rcond has shape {tuple(shape)}; expected one number, which holds for the whole batch. Call lstsq once "
            "for each cutoff, or map over it where the library can (jax.vmap)."
        )
    real = not isinstance(rcond, (str, bytes)) and (not dtype or _contract.is_real(dtype) or dtype.startswith("float"))
    try:
        if real:
            return float(rcond)
    except Exception as error:
        if _contract.is_real(dtype):
            return _traced(rcond, solver, error)
    raise TypeError(f"rcond is {rcond!r}; expected a number or None (the default cutoff), and no complex one.")


def _traced(rcond: Array, solver: Backend, error: Exception) -> Array:
    """A cutoff whose value is not known yet, if the backend takes that."""
    owner = _registry.owner(rcond)
    if solver.capabilities.traced_rcond and owner is not None and owner.library in solver.serves:
        return rcond
    raise TypeError(
        f"rcond is an array that a transformation traces, and the {solver.name} backend needs its value; expected a "
        "number that is known. Pass it as a Python float from outside of the transformation."
    ) from error


@lru_cache(maxsize=64)
def _dtype_name(_: type, dtype: Any) -> str:
    # The class keeps the dtypes of two libraries apart in the cache: some warn when they are compared.
    return dtype_name(dtype)


@lru_cache(maxsize=4096)
def _plan(
    solver: Backend,
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    a_dtype: str,
    b_dtype: str,
    default_float: str | None,
    rcond: float | None,
    driver: str | None,
) -> Plan:
    """The plan for these shapes and dtypes, with everything checked that depends on nothing else."""
    if rcond is not None and math.isnan(rcond):
        raise ValueError("rcond is NaN; expected a number or None (the default cutoff).")
    claims = solver.capabilities
    if driver is not None and driver not in claims.all_drivers:
        raise ValueError(
            f"unknown driver {driver!r} for the {solver.name} backend; its drivers: {', '.join(claims.all_drivers)}."
        )
    return _contract.plan(
        tuple(a_shape),
        tuple(b_shape),
        a_dtype,
        b_dtype,
        default_float or "float64",
        rcond,
        claims.default_driver if driver is None else driver,
        claims.follows_shapes,
        claims.traced_rcond,
        claims.takes_vectors,
    )


def _solve(a: Array, b: Array, plan: Plan, owner: Owner, solver: Backend, singular_values: bool) -> LstsqResult:
    """Canonicalise, solve and restore: the way of everything that is not already canonical."""
    home, xp = owner.backend, owner.xp
    if plan.cast_a:
        a = xp.astype(a, getattr(xp, plan.dtype))
    if plan.cast_b:
        b = xp.astype(b, getattr(xp, plan.dtype))
    if plan.as_given:
        return LstsqResult(*_solution(a, b, plan, home, solver, singular_values))
    if plan.vector:
        b = b[:, None]
    if plan.empty:
        return _nothing_to_solve(b, plan, home, xp)
    matrix = xp.reshape(a, plan.a_shape) if plan.reshape_a else a
    if plan.k == 0:
        # The rank and the singular values are still wanted; a column of zeros finds them.
        right = home.zeros((*_contract.sizes(plan, plan.kept), plan.m, 1), plan.dtype, b)
    else:
        if plan.broadcast_b:
            b = xp.broadcast_to(b, (*plan.batch, plan.m, plan.k))
        right = _columns(b, plan, xp) if plan.folded else b
    try:
        solution = _solution(matrix, right, plan, home, solver, singular_values)
    except LinAlgError:
        if plan.reshape_a:
            # The backend has named a place in a shape that the caller has never seen.
            _require_finite(a, home)
        raise
    return _restore(solution, plan, home, xp)


def _solution(a: Array, b: Array, plan: Plan, home: Backend, solver: Backend, singular_values: bool) -> Solution:
    """What the solver answers to these arrays, as arrays of the caller's library; `s` is None if not wanted."""
    solve = solver.solve if singular_values else solver.solve_without_s
    if solver is home:
        answer = solve(a, b, plan.backend_rcond, plan.driver)
        return answer if singular_values else answer._replace(s=None)
    with solver.context():
        there_a, there_b = (solver.from_numpy(_native(home.to_numpy(array))) for array in (a, b))
        x, residuals, rank, s = solve(there_a, there_b, plan.backend_rcond, plan.driver)
        # What is not wanted is not read: a lazy library then does not compute it.
        wanted = (x, residuals, rank, s) if singular_values else (x, residuals, rank)
        # Copies, since an array that shares the solver's memory may be read-only.
        ours = [np.array(solver.to_numpy(array)) for array in wanted]
    x, residuals, rank, *s = (home.from_numpy_like(array, a) for array in ours)
    return Solution(x, residuals, rank, *(s or [None]))


def _native(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In this machine's byte order, the only one that other libraries know."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _require_finite(a: Array, home: Backend) -> None:
    numbers = home.to_numpy(a)
    if not np.isfinite(numbers).all():
        raise not_finite(numbers)


def _columns(b: Array, plan: Plan, xp: Any) -> Array:
    """b with all right-hand sides of one matrix side by side."""
    b = xp.permute_dims(b, _contract.fold_axes(plan))
    return xp.reshape(b, (*_contract.sizes(plan, plan.kept), plan.m, _contract.columns(plan)))


def _restore(solution: Solution, plan: Plan, home: Backend, xp: Any) -> LstsqResult:
    """The backend's answer in the shapes that the caller's input asks for."""
    x, residuals, rank, s = solution
    if plan.k == 0:
        x = home.zeros((*plan.batch, plan.n, 0), plan.dtype, x)
        residuals = home.zeros((*plan.batch, 0), dtype_name(residuals.dtype), residuals)
    elif plan.folded:
        kept, folded = _contract.sizes(plan, plan.kept), _contract.sizes(plan, plan.folded)
        back = _contract.inverse(_contract.fold_axes(plan))
        x = xp.permute_dims(xp.reshape(x, (*kept, plan.n, *folded, plan.k)), back)
        # The residuals have no axis of rows: they go through the same permutation with one of size 1.
        residuals = xp.permute_dims(xp.reshape(residuals, (*kept, 1, *folded, plan.k)), back)
        residuals = xp.reshape(residuals, (*plan.batch, plan.k))
    if plan.folded:
        ones = tuple(1 if i in plan.folded else size for i, size in enumerate(plan.batch))
        # Adding zeros repeats along the batch; a broadcast would be read-only in NumPy.
        rank = xp.reshape(rank, ones) + home.zeros(plan.batch, dtype_name(rank.dtype), residuals)
        if s is not None:
            smallest = s.shape[-1]
            s = xp.reshape(s, (*ones, smallest)) + home.zeros((*plan.batch, smallest), dtype_name(s.dtype), s)
    if plan.vector:
        x = xp.squeeze(x, axis=-1)
    return LstsqResult(x, residuals, rank, s)


def _nothing_to_solve(b: Array, plan: Plan, home: Backend, xp: Any) -> LstsqResult:
    """The answer where M, N or a batch dimension is 0: x is zero (or empty), so all of b is left over."""
    # A number beyond the range becomes inf without a warning, as in the backends.
    with np.errstate(over="ignore", under="ignore", invalid="ignore") if isinstance(b, np.ndarray) else nullcontext():
        squares = xp.real(b * xp.conj(b)) if plan.dtype.startswith("complex") else b * b
        left = xp.sum(squares, axis=-2)
        real = dtype_name(left.dtype)
        nan = home.from_numpy_like(np.full((), np.nan, real), b)
        left = xp.where(xp.all(xp.isfinite(b), axis=-2), left, nan)
    shape = (*plan.batch, plan.n) if plan.vector else (*plan.batch, plan.n, plan.k)
    return LstsqResult(
        home.zeros(shape, plan.dtype, b),
        # Adding zeros repeats along the batch; a broadcast alone would be read-only in NumPy.
        xp.broadcast_to(left, (*plan.batch, plan.k)) + home.zeros((*plan.batch, plan.k), real, b),
        home.zeros(plan.batch, "int32", b),
        home.zeros((*plan.batch, min(plan.m, plan.n)), real, b),
    )


def numpy_residuals(result: LstsqResult, batch: tuple[int, ...], m: int, n: int, home: Backend) -> LstsqResult:
    """The result with residuals by NumPy's rule, for one problem of M equations in N unknowns."""
    if batch:
        raise LinAlgError(
            f"numpy_resid=True is NumPy's rule for one problem; got a batch of shape {batch}. "
            "Leave it out: the residuals are then always those of every right-hand side."
        )
    if isinstance(m, float):
        raise LinAlgError(
            "numpy_resid=True makes the shape of the residuals depend on the number of rows, which is not known. Leave "
            "it out, or find the number first: with Dask, a.compute_chunk_sizes()."
        )
    try:
        left_out = m <= n or int(result.rank) < n
    except LinAlgError:  # Of a lazy library, which computes here.
        raise
    except Exception as error:
        raise LinAlgError(
            "numpy_resid=True makes the shape of the residuals depend on the value of the rank, which is not known "
            "inside a transformation (jit, vmap, compile). Leave it out there."
        ) from error
    if left_out:
        with home.context():
            none = home.zeros((0,), dtype_name(result.residuals.dtype), result.residuals)
        return result._replace(residuals=none)
    return result


def _shown(rcond: float | Array) -> str:
    return f"{rcond:.3g}" if type(rcond) is float else "(not known yet)"


class Explanation(NamedTuple):
    """What `lstsq` would do with a problem, and why; ``print`` it."""

    backend: str
    driver: str
    dtype: str
    #: The number; or inside a transformation what is known of it.
    rcond: float | Array
    reasons: tuple[str, ...]
    #: With ``run=True``: which way it went, in sentences.
    ran: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for the decision, and one for each reason, and for what was found."""
        head = f"backend {self.backend}, driver {self.driver}, dtype {self.dtype}, rcond {_shown(self.rcond)}"
        found = ["ran:", *(f"  {sentence}" for sentence in self.ran)] if self.ran else []
        return "\n".join([head, *(f"  {reason}" for reason in self.reasons), *found])


def explain(
    a: Array,
    b: Array,
    rcond: float | Array | None = None,
    *,
    driver: str | None = None,
    backend: str | None = None,
    run: bool = False,
) -> Explanation:
    """Say which backend and driver `lstsq` would run on this problem, in which dtype and with which cutoff, and why.

    Parameters
    ----------
    a, b, rcond, driver, backend
        As for `lstsq`.
    run : bool, optional
        Whether to solve, and to say which way that went: the method that answered and why, the condition number, and
        where the cutoff falls. Of concrete arrays only.

    Returns
    -------
    Explanation
        A NamedTuple of `backend`, `driver`, `dtype`, `rcond`, and of `reasons` and `ran`, which are sentences.

    Raises
    ------
    TypeError, ValueError, numpy.linalg.LinAlgError
        Where `lstsq` would raise them before solving; with ``run=True`` also in solving.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import explain
    >>> a = np.ones((5, 2), dtype=np.float32)
    >>> print(explain(a, np.ones(5), backend="numpy"))  # doctest: +ELLIPSIS
    backend numpy, driver gelsd, dtype float64, rcond 1.11e-15
      a is an array of numpy, which the numpy backend serves
      ...
    """
    a, b, owner = arrays(a, b)
    solver = default = owner.backend
    if backend is not None:
        solver, owner = named(backend, owner)
    plan = prepare(solver, owner, a, b, rcond, driver)
    reasons = [f"a is an array of {owner.library}, which the {owner.backend.name} backend serves"]
    if backend is None:
        reasons += _standing(owner)
    elif solver is not owner.backend:
        reasons.append(f"backend={solver.name!r} was asked for: the arrays are converted, and the results back")
    else:
        reasons.append(f"backend={solver.name!r} was asked for")
        if solver is not default:
            reasons.append(f"by default the {default.name} backend serves them")
    asked = "was asked for" if driver is not None else f"is the {solver.name} backend's default"
    reasons.append(f"driver {plan.driver} {asked}")
    reasons.append(f"{dtype_name(a.dtype)} and {dtype_name(b.dtype)} promote to {plan.dtype}")
    if plan.dtype in solver.capabilities.solved_in_double:
        reasons.append("solved in double precision, rounded once at the end")
    reasons.append(f"a singular value is zero iff s <= {_shown(plan.rcond)} * s_max")
    if plan.empty:
        reasons.append("a dimension is 0: nothing is solved")
    if plan.folded:
        reasons.append(f"each matrix has {_contract.columns(plan)} right-hand sides, and is factorised once")
    ran = _ran(a, b, plan, owner, solver) if run and not plan.empty else ()
    return Explanation(solver.name, plan.driver, plan.dtype, plan.rcond, tuple(reasons), ran)


class _Listening:
    """A backend that remembers which way each solve went."""

    def __init__(self, solver: Backend, cutoff: float | Array):
        self._solver, self._cutoff = solver, cutoff
        self.told: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def solve(self, a: Array, b: Array, rcond: Any, driver: str) -> Solution:
        solution = self._solver.solve(a, b, rcond, driver)
        self.told = self._solver.ran(a, b, self._cutoff, driver, solution)
        return solution


def _ran(a: Array, b: Array, plan: Plan, owner: Owner, solver: Backend) -> tuple[str, ...]:
    """Solve, and say which way that went."""
    listening: Any = _Listening(solver, plan.rcond)
    direct = plan.direct and solver is owner.backend
    owner = owner if solver is not owner.backend else Owner(listening, owner.library, owner.xp)
    home = owner.backend
    # As `lstsq` does: what goes to the solver directly is solved outside of its context, maybe on another device.
    if direct:
        result = LstsqResult(*listening.solve(a, b, plan.backend_rcond, plan.driver))
    else:
        result = home.within(lambda a, b: _solve(a, b, plan, owner, listening, True), a, b)
    ranks, s = np.asarray(home.to_numpy(result.rank)), np.asarray(home.to_numpy(result.s))
    return (*listening.told, *_cut(ranks, s.astype(float), plan))


def _cut(ranks: np.ndarray[Any, Any], s: np.ndarray[Any, Any], plan: Plan) -> list[str]:
    """What the singular values say of one matrix, or of the worst of a batch."""
    full = s.shape[-1]
    ranks, s = ranks.reshape(-1), s.reshape(-1, full)
    known = np.isfinite(s).all(axis=-1)
    if not known.all():
        where = f"{np.count_nonzero(~known)} of {len(s)} matrices have" if len(s) > 1 else "there is"
        return [f"{where} no answer: a is not finite, or the driver declined"]
    if len(s) > 1:
        least, most = ranks.min(), ranks.max()
        return [f"rank {least} of {full} everywhere" if least == most else f"rank {least} to {most} of {full}"]
    rank, values = int(ranks[0]), s[0]
    said = [f"rank {rank} of {full}"]
    if not rank:
        return said
    said[0] += f"; condition {values[0] / values[rank - 1]:.3g}" + (" of what is kept" if rank < full else "")
    if isinstance(plan.rcond, float):
        above = f"the smallest singular value that counts is {values[rank - 1] / values[0]:.3g} s_max"
        below = f", and the largest that does not {values[rank] / values[0]:.3g} s_max" if rank < full else ""
        said.append(f"{above}{below}; the cutoff is {plan.rcond:.3g} s_max")
    return said


def _standing(owner: Owner) -> list[str]:
    """Why this backend was chosen, and no other that serves the same library."""
    chosen, ranked = owner.backend, _registry.candidates(owner.library)
    if chosen not in ranked:  # It serves whatever no other does.
        ranked = _registry.candidates(_registry.ANY_OTHER)
    place = ranked.index(chosen)
    before, after = ranked[:place], ranked[place + 1 :]
    reasons = [
        f"the {other.name} backend (precedence {other.precedence}) would go before it and is passed over, since it "
        f"cannot run here: {obstacle}"
        for other in before
        if (obstacle := other.unavailable()) is not None
    ]
    if after:
        why = "its name is the first"
        if chosen.precedence > after[0].precedence:
            why = f"its precedence is {chosen.precedence}"
        elif chosen.name == owner.library:
            why = "it has the library's name"
        others = ", ".join(f"{other.name} (precedence {other.precedence})" for other in after)
        reasons.append(f"it goes before {others}: {why}")
    return reasons


class BackendInfo(NamedTuple):
    """One installed backend: what it claims, and whether it can run here."""

    name: str
    available: bool
    #: Why it cannot run, or "".
    reason: str
    version: str
    serves: tuple[str, ...]
    drivers: tuple[str, ...]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    transforms: tuple[str, ...]


def backends() -> tuple[BackendInfo, ...]:
    """List the installed backends, their claims, and whether each can run here.

    The claims are plain data; a compiled backend is loaded, with its array library, to find whether it works.

    Returns
    -------
    tuple of BackendInfo
        NamedTuples of `name`, `available`, `reason` (why it is not), `version` (of the distribution), `serves`,
        `drivers` (the default first), `dtypes`, `devices` and `transforms`.

    Examples
    --------
    >>> from lstsq import backends
    >>> next(info.drivers[0] for info in backends() if info.name == "numpy")
    'gelsd'
    """
    return tuple(_info(name) for name in _registry.names())


def _info(name: str) -> BackendInfo:
    distribution = _registry.distribution(name)
    try:
        installed = version(distribution) if distribution else ""
    except PackageNotFoundError:
        installed = ""
    try:
        backend = _registry.get_backend(name)
    except Exception as error:
        return BackendInfo(name, False, f"it cannot be loaded: {error}", installed, (), (), (), (), ())
    reason = backend.unavailable()
    claims = backend.capabilities
    return BackendInfo(
        name=name,
        available=reason is None,
        reason=reason or "",
        version=installed,
        serves=backend.serves,
        drivers=claims.all_drivers,
        dtypes=claims.dtypes,
        devices=claims.devices,
        transforms=claims.transforms,
    )
