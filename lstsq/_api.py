"""The public functions: find whose arrays these are, apply the contract, hand the problem to a backend."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _contract, _registry
from lstsq._backend import Array, Backend, Solution, dtype_name
from lstsq._contract import Plan
from lstsq._registry import Owner
from lstsq._result import LstsqResult


def lstsq(
    a: Array,
    b: Array,
    rcond: float | None = None,
    *,
    driver: str | None = None,
    numpy_resid: bool = False,
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
        dimensions broadcast against those of `a`. `a` and `b` are promoted to one dtype.
    rcond : float, optional
        A singular value counts as zero iff ``s <= rcond * s_max``. By default ``eps * max(M, N)`` in double precision,
        which is NumPy's, and ``eps * min(max(M, N), 16)`` in single precision, so that it does not grow with the
        rows. Negative means eps.
    driver : str, optional
        The backend's algorithm, by name; see `lstsq.backends`. By default the backend's own choice.
    numpy_resid : bool, optional
        Give `residuals` by NumPy's rule: empty, of shape ``(0,)``, where ``M <= N`` or ``rank < N``. For one concrete
        problem only, since its shape depends on a value.
    backend : str, optional
        The backend that solves. If it is another library's, the arrays are converted there and the results back. By
        default the one that serves the arrays' library.

    Returns
    -------
    LstsqResult
        ``x (..., N)`` for a vector `b`, else ``(..., N, K)``; ``residuals (..., 1)`` or ``(..., K)``, the sum of
        squares of ``b - a x`` of each right-hand side whatever the rank; ``rank (...)``; ``s (..., min(M, N))``,
        descending. All are arrays of the library and on the device of the input.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the shapes are not those of a least-squares problem; in the NumPy backend also if the input is not finite.
        (In the others the results of that batch element are NaN and its rank 0.)
    TypeError
        If `a` and `b` belong to two libraries, or the backend does not take their dtype.
    ValueError
        If the driver or the backend is unknown, or `rcond` is NaN.

    Notes
    -----
    The cutoff is LAPACK's test (``xGELSD``; Anderson et al., LAPACK Users' Guide, 1999, section 2.4.1).

    Where the backend differentiates, x, residuals and s have derivatives with respect to `a` and `b`, at full and at
    deficient rank (Golub and Pereyra 1973). At a point where the rank changes, x is not continuous and there is no
    derivative: what is returned there is that of the branch of the rank found.

    References
    ----------
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
    """
    a, b, owner = _arrays(a, b)
    if rcond is not None and type(rcond) is not float:
        rcond = _number(rcond)
    solver = owner.backend
    if backend is not None:
        solver, owner = _named(backend, owner)
    plan = _prepare(solver, owner, a, b, rcond, driver)
    if plan.direct and solver is owner.backend:
        result = LstsqResult(*solver.solve(a, b, plan.backend_rcond, plan.driver))
    else:
        result = _solve(a, b, plan, owner, solver)
    return _numpy_residuals(result, plan, owner.backend) if numpy_resid else result


def _arrays(a: Any, b: Any) -> tuple[Array, Array, Owner]:
    """Both operands as arrays of one library; what is no array joins the other's, or NumPy's."""
    owner_a, owner_b = _registry.owner(a), _registry.owner(b)
    if owner_a is None:
        if owner_b is None:
            return np.asarray(a), np.asarray(b), _registry.numpy_owner()
        return _join(a, b, owner_b), b, owner_b
    if owner_b is None:
        return a, _join(b, a, owner_a), owner_a
    if owner_a is not owner_b and owner_a != owner_b:
        raise TypeError(
            f"a is an array of {owner_a.library} and b of {owner_b.library}; expected one library. "
            "Convert one of them first."
        )
    return a, b, owner_a


def _join(plain: Any, like: Array, owner: Owner) -> Array:
    """A list or number as an array of the library of `like`, its floats in that library's default dtype."""
    array = np.asarray(plain)
    if array.dtype == np.float64 and owner.backend.default_float(like) == "float32":
        array = array.astype(np.float32)
    elif array.dtype == np.complex128 and owner.backend.default_float(like) == "float32":
        array = array.astype(np.complex64)
    return owner.backend.from_numpy_like(array, like)


def _named(backend: str, owner: Owner) -> tuple[Backend, Owner]:
    """The backend of this name; a second backend for the same library takes its arrays as they are."""
    solver = _registry.get_backend(backend)
    return solver, owner._replace(backend=solver) if owner.library in solver.serves else owner


def _number(rcond: Any) -> float:
    try:
        number = float(rcond)
    except Exception as error:
        raise TypeError(f"rcond is {rcond!r}; expected a number or None (the default cutoff).") from error
    return number


def _prepare(solver: Backend, owner: Owner, a: Array, b: Array, rcond: float | None, driver: str | None) -> Plan:
    a_dtype, b_dtype = a.dtype, b.dtype
    default_float = None
    if _is_integer(a_dtype) or _is_integer(b_dtype):
        default_float = owner.backend.default_float(a)
    return _plan(solver, a.shape, b.shape, a_dtype, b_dtype, default_float, rcond, driver)


def _is_integer(dtype: Any) -> bool:
    # The class keeps the dtypes of two libraries apart in the cache: some warn when they are compared.
    return _is_integer_of(dtype.__class__, dtype)


@lru_cache(maxsize=64)
def _is_integer_of(_: Any, dtype: Any) -> bool:
    return _contract.needs_default_float(dtype_name(dtype))


@lru_cache(maxsize=4096)
def _plan(
    solver: Backend,
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    a_dtype: Any,
    b_dtype: Any,
    default_float: str | None,
    rcond: float | None,
    driver: str | None,
) -> Plan:
    """The plan for these shapes and dtypes, with everything checked that can be without looking at a number."""
    if rcond is not None and math.isnan(rcond):
        raise ValueError("rcond is NaN; expected a number or None (the default cutoff).")
    claims = solver.capabilities
    if driver is not None and driver not in (*claims.drivers, claims.default_driver):
        raise ValueError(
            f"unknown driver {driver!r} for the {solver.name} backend; its drivers: {', '.join(claims.drivers)}."
        )
    chosen = claims.default_driver if driver is None else driver
    plan = _contract.plan(
        tuple(a_shape),
        tuple(b_shape),
        dtype_name(a_dtype),
        dtype_name(b_dtype),
        default_float or "float64",
        rcond,
        chosen,
        claims.follows_shapes,
    )
    reason = solver.refuse(plan.dtype, chosen)
    if reason is not None:
        raise TypeError(reason)
    return plan


def _solve(a: Array, b: Array, plan: Plan, owner: Owner, solver: Backend) -> LstsqResult:
    """Canonicalise, solve and restore: the way of everything that is not already canonical."""
    home, xp = owner.backend, owner.xp
    if plan.cast_a:
        a = xp.astype(a, getattr(xp, plan.dtype))
    if plan.cast_b:
        b = xp.astype(b, getattr(xp, plan.dtype))
    if plan.as_given:
        return LstsqResult(*_solution(a, b, plan, home, solver))
    if plan.vector:
        b = xp.expand_dims(b, axis=-1)
    if plan.empty:
        return _nothing_to_solve(b, plan, home, xp)

    finite = None
    if plan.reshape_a:
        a = xp.reshape(a, plan.a_shape)
    if plan.k == 0:
        # The rank and the singular values are still wanted; a column of zeros finds them.
        right = home.zeros((*_contract.sizes(plan, plan.kept), plan.m, 1), plan.dtype, b)
    else:
        if plan.broadcast_b:
            b = xp.broadcast_to(b, (*plan.batch, plan.m, plan.k))
        if plan.folded and solver.capabilities.nonfinite == "nan":
            # What shares a matrix is one element to the backend: a right-hand side that is not finite would spoil all.
            finite = xp.all(xp.isfinite(b), axis=(-2, -1))
            b = xp.where(finite[..., None, None], b, home.zeros((), plan.dtype, b))
        right = _columns(b, plan, xp)
    result = _restore(_solution(a, right, plan, home, solver), plan, home, xp)
    return result if finite is None else _spoil(result, finite, plan, home, xp)


def _solution(a: Array, b: Array, plan: Plan, home: Backend, solver: Backend) -> Solution:
    """What the solver answers to these arrays, as arrays of the caller's library."""
    if solver is home:
        return solver.solve(a, b, plan.backend_rcond, plan.driver)
    there_a, there_b = (solver.from_numpy(home.to_numpy(array)) for array in (a, b))
    answer = solver.solve(there_a, there_b, plan.backend_rcond, plan.driver)
    return Solution(*(home.from_numpy_like(solver.to_numpy(array), a) for array in answer))


def _spoil(result: LstsqResult, finite: Array, plan: Plan, home: Backend, xp: Any) -> LstsqResult:
    """NaN in place of the answer, and rank 0, in the batch elements that are not finite."""
    x, residuals, rank, s = result

    def keep(array: Array, mask: Array) -> Array:
        return xp.where(mask, array, home.zeros((), dtype_name(array.dtype), array) * float("nan"))

    row = finite[..., None]
    x = keep(x, row if plan.vector else row[..., None])
    rank = xp.where(finite, rank, home.zeros((), dtype_name(rank.dtype), rank))
    return LstsqResult(x, keep(residuals, row), rank, keep(s, row))


def _columns(b: Array, plan: Plan, xp: Any) -> Array:
    """b as the backend takes it, the right-hand sides of one matrix side by side."""
    if plan.folded:
        b = xp.permute_dims(b, _contract.fold_axes(plan))
        b = xp.reshape(b, (*_contract.sizes(plan, plan.kept), plan.m, _contract.columns(plan)))
    return b


def _restore(solution: Solution, plan: Plan, home: Backend, xp: Any) -> LstsqResult:
    """The backend's answer in the shapes that the caller's input asks for."""
    x, residuals, rank, s = solution
    if plan.k == 0:
        x = home.zeros((*plan.batch, plan.n, 0), plan.dtype, x)
        residuals = home.zeros((*plan.batch, 0), dtype_name(s.dtype), s)
    elif plan.folded:
        kept, folded = _contract.sizes(plan, plan.kept), _contract.sizes(plan, plan.folded)
        back = _contract.inverse(_contract.fold_axes(plan))
        x = xp.permute_dims(xp.reshape(x, (*kept, plan.n, *folded, plan.k)), back)
        # The residuals have no axis of rows: they go through the same permutation with one of size 1.
        residuals = xp.permute_dims(xp.reshape(residuals, (*kept, 1, *folded, plan.k)), back)
        residuals = xp.reshape(residuals, (*plan.batch, plan.k))
    if plan.folded:
        ones = tuple(1 if i in plan.folded else size for i, size in enumerate(plan.batch))
        smallest = min(plan.m, plan.n)
        # Adding zeros repeats along the batch; a broadcast would be read-only in NumPy.
        rank = xp.reshape(rank, ones) + home.zeros(plan.batch, dtype_name(rank.dtype), s)
        s = xp.reshape(s, (*ones, smallest)) + home.zeros((*plan.batch, smallest), dtype_name(s.dtype), s)
    if plan.vector:
        x = xp.squeeze(x, axis=-1)
    return LstsqResult(x, residuals, rank, s)


def _nothing_to_solve(b: Array, plan: Plan, home: Backend, xp: Any) -> LstsqResult:
    """The answer where M, N or a batch dimension is 0: x is zero (or empty), so all of b is left over."""
    squares = xp.real(b * xp.conj(b)) if plan.dtype.startswith("complex") else b * b
    left = xp.sum(squares, axis=-2)
    real = dtype_name(left.dtype)
    shape = (*plan.batch, plan.n) if plan.vector else (*plan.batch, plan.n, plan.k)
    return LstsqResult(
        home.zeros(shape, plan.dtype, b),
        left + home.zeros((*plan.batch, plan.k), real, b),
        home.zeros(plan.batch, "int32", b),
        home.zeros((*plan.batch, min(plan.m, plan.n)), real, b),
    )


def _numpy_residuals(result: LstsqResult, plan: Plan, home: Backend) -> LstsqResult:
    if plan.batch:
        raise LinAlgError(
            f"numpy_resid=True is NumPy's rule for one problem; got a batch of shape {plan.batch}. "
            "Leave it out: the residuals are then always those of every right-hand side."
        )
    if plan.m > plan.n:
        try:
            deficient = int(result.rank) < plan.n
        except Exception as error:
            raise LinAlgError(
                "numpy_resid=True makes the shape of the residuals depend on the value of the rank, which is not known "
                "inside a transformation (jit, vmap, compile). Leave it out there."
            ) from error
    if plan.m <= plan.n or deficient:
        return result._replace(residuals=home.zeros((0,), dtype_name(result.residuals.dtype), result.residuals))
    return result


class Explanation(NamedTuple):
    """What `lstsq` would do with a problem, and why; ``print`` it."""

    backend: str
    driver: str
    dtype: str
    rcond: float
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """One line for the decision, and one for each reason."""
        head = f"backend {self.backend}, driver {self.driver}, dtype {self.dtype}, rcond {self.rcond:.3g}"
        return "\n".join([head, *(f"  {reason}" for reason in self.reasons)])


def explain(
    a: Array,
    b: Array,
    rcond: float | None = None,
    *,
    driver: str | None = None,
    backend: str | None = None,
) -> Explanation:
    """Say which backend and driver `lstsq` would run on this problem, in which dtype and with which cutoff, and why.

    Parameters
    ----------
    a, b, rcond, driver, backend
        As for `lstsq`.

    Returns
    -------
    Explanation
        A NamedTuple of `backend`, `driver`, `dtype`, `rcond` and `reasons`, which are sentences.

    Raises
    ------
    TypeError, ValueError, numpy.linalg.LinAlgError
        Where `lstsq` would raise them before solving.

    Examples
    --------
    >>> import numpy as np
    >>> from lstsq import explain
    >>> print(explain(np.ones((5, 2), dtype=np.float32), np.ones(5)))  # doctest: +ELLIPSIS
    backend numpy, driver gelsd, dtype float64, rcond 1.11e-15
      a is an array of numpy, which the numpy backend serves
      ...
    """
    a, b, owner = _arrays(a, b)
    if rcond is not None:
        rcond = _number(rcond)
    solver = owner.backend
    if backend is not None:
        solver, owner = _named(backend, owner)
    plan = _prepare(solver, owner, a, b, rcond, driver)
    reasons = [f"a is an array of {owner.library}, which the {owner.backend.name} backend serves"]
    if solver is not owner.backend:
        reasons.append(f"backend={solver.name!r} was asked for: the arrays are converted, and the results back")
    asked = "was asked for" if driver is not None else f"is the {solver.name} backend's default"
    reasons.append(f"driver {plan.driver} {asked}")
    reasons.append(f"{dtype_name(a.dtype)} and {dtype_name(b.dtype)} promote to {plan.dtype}")
    if plan.dtype in solver.capabilities.solved_in_double:
        reasons.append("solved in double precision, rounded once at the end")
    reasons.append(f"a singular value is zero iff s <= {plan.rcond:.3g} * s_max")
    if plan.empty:
        reasons.append("a dimension is 0: nothing is solved")
    if plan.folded:
        reasons.append(f"each matrix has {_contract.columns(plan)} right-hand sides, and is factorised once")
    return Explanation(solver.name, plan.driver, plan.dtype, plan.rcond, tuple(reasons))


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
    >>> next(info.drivers for info in backends() if info.name == "numpy")
    ('gelsd',)
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
        drivers=(claims.default_driver, *(d for d in claims.drivers if d != claims.default_driver)),
        dtypes=claims.dtypes,
        devices=claims.devices,
        transforms=claims.transforms,
    )
