"""What a backend is: the interface between the frontend and the solvers.

A backend author reads this file and nothing else. `Backend` is subclassed once per array library; the class is
named in the entry-point group ``lstsq.backends`` of the author's distribution.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import array_api_compat
import numpy as np
from numpy.linalg import LinAlgError

from lstsq import _factors, _rows
from lstsq._arithmetic import dtype_name as dtype_name
from lstsq._arithmetic import working_dtype
from lstsq._factors import Factors as Factors  # What `Backend.factorize` returns.
from lstsq._rows import Rows as Rows  # What `Backend.reduce_rows` returns.

#: Any array of any library. The libraries share no base class, so this documents and does not check.
Array = Any

_NO_CONTEXT = nullcontext()


class Solution(NamedTuple):
    """What a backend returns: four arrays of its library; `Backend.solve_without_s` may leave `s` out."""

    x: Array
    residuals: Array
    rank: Array
    s: Array | None


@dataclass(frozen=True)
class Capabilities:
    """The claims of a backend, as plain data: readable without importing the array library.

    The conformance suite tests every claim, and the support table in the documentation is generated from them.
    """

    #: Drivers that can be named, and the one that ``driver=None`` means.
    drivers: tuple[str, ...]
    default_driver: str
    #: Floating dtypes that `Backend.solve` takes, out of float32, float64, complex64, complex128.
    dtypes: tuple[str, ...]
    #: Kinds of device that arrays may live on: "cpu", "gpu".
    devices: tuple[str, ...] = ("cpu",)
    #: Names that `Backend.transform` answers, out of jit, vmap, grad, vjp, jvp, jacfwd, jacrev, checkpoint.
    transforms: tuple[str, ...] = ()
    #: What a matrix that is not finite does: "raises" LinAlgError, or gives "nan" and rank 0 in that batch element
    #: alone. A right-hand side that is not finite gives NaN in its own column alone, in every backend.
    nonfinite: str = "nan"
    #: Dtypes whose arithmetic is done in double precision and rounded once at the end.
    solved_in_double: tuple[str, ...] = ()
    #: Whether `Backend.solve` takes shapes as the caller gives them, where none of them is 0, and applies the shape
    #: rules and the default cutoff itself: batch dimensions that broadcast, ``b (M,)`` beside any `a`, and
    #: ``rcond=None``. For a library that compiles functions for any shape: what is computed from a shape on the way to
    #: `solve` is a constant to it. And for one whose arrays need not know how many rows they have: M is then NaN.
    follows_shapes: bool = False
    #: Whether `Backend.solve` takes ``b (M,)`` beside one matrix and answers with ``x (N,)``: for one small problem the
    #: two reshapes take as long as the solution.
    takes_vectors: bool = False
    #: Drivers that give no answer where they cannot certify one: x, residuals and s NaN, rank 0. Only ill-conditioned,
    #: deficient or badly scaled problems may go unanswered.
    declines: tuple[str, ...] = ()
    #: Whether `Backend.solve` takes an `rcond` whose value is not known yet: a 0-d array of its library that a
    #: transformation traces; or None, which is the default cutoff where M or N is symbolic.
    traced_rcond: bool = False

    #: Whether `Backend.solve` takes batches. If not, it refuses them, with a TypeError.
    batches: bool = True
    #: Dtypes that `Backend.factorize` takes, out of `dtypes`; None for all of them.
    factorizes: tuple[str, ...] | None = None

    @property
    def all_drivers(self) -> tuple[str, ...]:
        """Every driver that can be named, the default first."""
        return (self.default_driver, *(driver for driver in self.drivers if driver != self.default_driver))


class Backend:
    """A least-squares solver for the arrays of one library.

    A subclass states the class attributes and implements `solve`; everything else has a default. Its module must
    import neither the array library nor anything heavy, since the modules of all installed backends are imported before
    the first solve, for the choice between them: `solve` imports what it needs when it is first called.
    """

    #: The name in ``lstsq(..., backend=name)``, which is also the entry point's.
    name: ClassVar[str]
    #: Root modules of the array classes that it serves, such as ``("jax", "jaxlib")``; ``("*",)`` for whatever
    #: no other backend serves.
    serves: ClassVar[tuple[str, ...]]
    #: Which backend is used where several serve one library and the caller names none: the one with the highest number;
    #: of equals the one that has the library's name, then the first by name. What cannot run here (`unavailable`) is
    #: passed over. Leave it at 0, unless whoever installs the backend wants it in the place of others.
    precedence: ClassVar[int] = 0
    #: Modules that must be installed for it to work.
    requires: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[Capabilities]

    def solve(self, a: Array, b: Array, rcond: Any, driver: str) -> Solution:
        """Solve for the canonical problem, or for any where the backend claims ``follows_shapes``.

        Parameters
        ----------
        a : (..., M, N) array
            M, N and every batch dimension are at least 1.
        b : (..., M, K) array
            The same batch dimensions and dtype as `a`; K is at least 1. With ``capabilities.follows_shapes``: batch
            dimensions that broadcast, or ``(M,)``. With ``capabilities.takes_vectors``: ``(M,)`` beside one matrix.
        rcond : float
            A singular value is zero iff ``s <= rcond * s_max``. Any number from 0 up; never negative or NaN. With the
            claim ``traced_rcond`` also a traced 0-d array of the library, of any real dtype and value: what is negative
            stands for 2^-53 in double precision and 2^-24 in single, and NaN makes everything NaN and the rank 0. And
            None, the default: with ``traced_rcond`` where M or N is symbolic, with ``follows_shapes`` always.
        driver : str
            One of ``capabilities.drivers``, or ``capabilities.default_driver``.

        Returns
        -------
        Solution
            ``x (..., N, K)``; ``residuals (..., K)``, real, the sums of squares of ``b - a x`` whatever the rank;
            ``rank (...)``, integer; ``s (..., min(M, N))``, real and descending. Where a column of `b` is not finite,
            that column of `x` and of `residuals` is NaN; the others, `rank` and `s` are not touched by it.
        """
        raise NotImplementedError

    def solve_without_s(self, a: Array, b: Array, rcond: Any, driver: str) -> Solution:
        """Solve where nobody asks for the singular values; `s` may be None, and the rank is still found.

        The frontend calls this in the place of `solve` for ``lstsq(..., singular_values=False)``, with the same
        arguments. By default it is `solve`. Override it where singular values take time of their own.

        Returns
        -------
        Solution
            As of `solve`. The frontend leaves `s` out of the result, whatever it is.
        """
        return self.solve(a, b, rcond, driver)

    def reduce_rows(self, a: Array, b: Array) -> Rows:
        """Reduce the rows of one problem to at most as many as it has columns, without solving it.

        By default by the QR factorisation of the array-API standard, in double precision where the device has it.
        Override it where that is not how the library factorises, or where there is a faster way.

        Parameters
        ----------
        a : (M, N) array
            N is at least 1; M may be 0.
        b : (M, K) array
            The same dtype as `a`; K may be 0.

        Returns
        -------
        Rows
            ``a (min(M, N), N)`` and ``b (min(M, N), K)``, in double precision where the library has it, and
            ``left (K,)``, so that ``‖b - a x‖²`` of the rows given is that of the rows returned plus ``left²``, for
            every x. Where `a` is not finite: LinAlgError or NaN, as `Capabilities.nonfinite` says.

        Raises
        ------
        TypeError
            If a transformation traces the arrays, or records gradients, and the library cannot follow it here.
        """
        xp = self.namespace(a)
        working = working_dtype(xp, a)
        # A number beyond the range becomes inf, which is told at the end; NumPy would warn besides.
        with np.errstate(all="ignore"):
            return _rows.reduce_rows(xp, xp.astype(a, working), xp.astype(b, working))

    def matmul(self, a: Array, b: Array) -> Array:
        """``a @ b`` in the precision that the arrays have, whatever a setting of the library would make of it.

        The products that the frontend computes itself. Override it where the library may multiply in less.
        """
        return self.namespace(a).matmul(a, b)

    def factorize(self, a: Array) -> Factors:
        """The thin singular value decomposition, in the precision that this backend computes in.

        By default by ``linalg.svd`` of the array-API standard, after its QR where the matrix is long, in double
        precision where the device has it. Override it where the library has these by other names, or a better way.

        Parameters
        ----------
        a : (..., M, N) array
            Of a dtype that ``capabilities.factorizes`` has; no dimension is 0. Where
            ``capabilities.nonfinite`` is "raises" it is finite.

        Returns
        -------
        Factors
            Without a derivative. Where a matrix is not finite its singular values are NaN, and the rest is finite.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the decomposition does not converge, where the library says so.
        """
        xp = self.namespace(a)
        return _factors.factorise(xp, a, working_dtype(xp, a), lambda a: xp.linalg.svd(a, full_matrices=False))

    def is_traced(self, a: Array) -> bool:
        """Whether a transformation may ask for the derivative of what is computed from `a`.

        Where it may, what `Factorization` answers is made of `solve_factored`, which then has the right derivatives.
        """
        return False

    def solve_factored(
        self, a: Array, factors: Factors, b: Array, rcond: Any, penalties: Array | None = None
    ) -> Solution:
        """Solve by the factors of `a`, without a decomposition; where `is_traced` says so, by `solve` instead.

        Override it where the rules for derivatives can use the factors.

        Parameters
        ----------
        a : (..., M, N) array
            The matrix, no dimension of which is 0.
        factors : Factors
            What `factorize` made of it.
        b : (..., M, K) array
            The same batch dimensions; K is at least 1.
        rcond : float
            As for `solve`.
        penalties : (L,) array, optional
            Solve for each of these, with ``penalty * ‖x‖²`` added to what is minimised.

        Returns
        -------
        Solution
            In the precision of the factors. With penalties ``x (..., N, L K)`` and ``residuals (..., L K)``, side by
            side.
        """
        xp = self.namespace(a)
        if not self.is_traced(a):
            return Solution(*_factors.solve(xp, factors, b, rcond, penalties))
        if penalties is not None:
            raise TypeError(
                "a transformation traces the matrix or records its gradients, and a path of penalties has no "
                "derivative with respect to the matrix; expected a matrix that is a constant to it. Factorise outside "
                "of the transformation, or solve for each penalty, with lstsq.lstsq(a, b, ridge=penalty)."
            )
        return self.solve(xp.astype(a, b.dtype), b, rcond, self.capabilities.default_driver)

    def unavailable(self) -> str | None:
        """Why this backend cannot run here, as a sentence that says what to install, or None.

        A compiled backend overrides this and loads itself, so that what it says is so. It is asked once in a process,
        when there are arrays of its library to be solved, and by `lstsq.backends`.
        """
        missing = [module for module in self.requires if importlib.util.find_spec(module) is None]
        if not missing:
            return None
        are = "is" if len(missing) == 1 else "are"
        return f"{', '.join(missing)} {are} not installed; run `pip install {' '.join(missing)}`"

    def refuse(self, dtype: str, driver: str) -> str | None:
        """Why a problem of this dtype cannot be solved with this driver, as a sentence, or None.

        It is asked before each solve, so that the answer may change with a setting of the library.
        """
        if dtype not in self.capabilities.dtypes:
            return (
                f"the {self.name} backend does not take {dtype}; it takes {', '.join(self.capabilities.dtypes)}. "
                "Convert the arrays, or name another backend with backend=..."
            )
        return None

    def namespace(self, array: Array) -> ModuleType:
        """The array-API namespace of `array`: the functions that the frontend casts and reshapes it with."""
        return array_api_compat.array_namespace(array)

    def device(self, array: Array) -> Any:
        """The device that `array` is bound to, or None where it may be used beside arrays of any device.

        Two operands whose devices are not equal are refused, with both devices in the message.
        """
        return getattr(array, "device", None)

    def context(self) -> AbstractContextManager[Any]:
        """What the frontend's own operations on arrays of this library run in: a device, or nothing special.

        A canonical problem goes straight to `solve`, outside of it.
        """
        return _NO_CONTEXT

    def within(self, function: Callable[..., Any], a: Array, b: Array, *others: Array) -> Any:
        """``function(a, b, *others)``, the frontend's work on one problem around `solve`, in the `context`.

        For a backend whose arrays can be cast and reshaped only after some preparation, which it then makes here.
        """
        with self.context():
            return function(a, b, *others)

    def default_float(self, array: Array) -> str:
        """The name of the dtype that integers and bools become, on the device of `array`."""
        info, device = self.namespace(array).__array_namespace_info__(), array_api_compat.device(array)
        if "float64" not in info.dtypes(device=device, kind="real floating"):
            return "float32"
        return dtype_name(info.default_dtypes(device=device)["real floating"])

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Convert a NumPy array, keeping its dtype. `namespace` says which library, where a backend serves several."""
        raise NotImplementedError(f"the {self.name} backend cannot convert from NumPy")

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype.

        Raises
        ------
        TypeError
            If a transformation of the library traces the array, or records its gradient: NumPy would lose both.
        """
        return np.asarray(array)

    def known(self, array: Array) -> np.ndarray[Any, Any] | None:
        """The numbers of `array`, or None where a transformation traces it, or its derivatives would be lost.

        By default what `to_numpy` gives or refuses. Override it where the library's compiler must not come so far.
        """
        try:
            return self.to_numpy(array)
        except TypeError:
            return None

    def from_numpy_like(self, array: np.ndarray[Any, Any], like: Array) -> Array:
        """Convert a NumPy array to the library and the device of `like`, keeping the dtype of `array`."""
        return self.namespace(like).asarray(array, device=array_api_compat.device(like))

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """Zeros of the library and the device of `like`."""
        xp = self.namespace(like)
        return xp.zeros(shape, dtype=getattr(xp, dtype), device=array_api_compat.device(like))

    def examine(self, array: Array) -> None:
        """Look at an operand before its shape and dtype are used: not every array of a library can be solved with.

        Raises
        ------
        TypeError
            If it has a form that cannot, such as a sparse layout; the message says what to do.
        """

    def devices(self, namespace: str | None = None) -> dict[str, Any]:
        """The first device of each kind, "cpu" and "gpu", that the library finds on this machine.

        For the tests and the command line, as `on_device` is. It is the standard's inspection, so that a library
        that has it needs no method of its own. A library that can make no array here has no device.
        """
        try:
            xp = self.namespace(self.from_numpy(np.zeros(1, np.float32), namespace))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch asks for devices that it has given up.
                found = xp.__array_namespace_info__().devices()
        except Exception:
            return {}
        kinds: dict[str, Any] = {}
        for device in found:
            kind = _kind(device)
            if kind is not None:
                kinds.setdefault(kind, device)
        return kinds

    @contextmanager
    def on_device(self, device: Any) -> Iterator[Callable[[Array], Array]]:
        """A context for work on this device, one of `devices`, and the function that puts an array there."""
        yield lambda array: array_api_compat.to_device(array, device)

    def ran(self, a: Array, b: Array, rcond: Any, driver: str, solution: Solution) -> tuple[str, ...]:
        """Tell which way a solve went, for `lstsq.explain` with ``run=True``: sentences, by default none.

        It is told after the solve and may take as long again. Override it where a driver chooses between methods.

        Parameters
        ----------
        a, b, driver
            What `solve` was given.
        rcond : float
            The cutoff as a number, also where `solve` finds its own.
        solution : Solution
            What `solve` returned.
        """
        return ()

    def transform(self, name: str) -> Callable[..., Any]:
        """The library's function transformation, with the signature of its namesake in JAX.

        For the tests: one for each name in ``capabilities.transforms``. ``grad(f, argnums)``, ``jvp(f, primals,
        tangents)``, ``vjp(f, *primals)``, ``jacfwd(f, argnums)``, ``jacrev(f, argnums)``, ``vmap(f, in_axes)``,
        ``jit(f)``, ``checkpoint(f)``.
        """
        raise NotImplementedError(f"the {self.name} backend claims no transforms")


def not_finite(a: np.ndarray[Any, Any]) -> LinAlgError:
    """The error of a matrix, or a batch of them, that holds NaN or inf: which, and where."""
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
    return LinAlgError(
        f"a holds {a[place]} at index {place}; expected finite numbers, since least squares has no answer otherwise. "
        "Drop or replace these rows: numpy.isfinite(a) finds them."
    )


def require_finite(rows: Rows, a: np.ndarray[Any, Any]) -> None:
    """Raise the error of a backend of NumPy's arrays that has reduced `a` to these rows, if they are not finite."""
    if np.isfinite(rows.a).all():
        return
    if not np.isfinite(a).all():
        raise not_finite(a)
    raise LinAlgError(
        f"a column of a (shape {a.shape}) has a norm beyond the range of {rows.a.dtype}; expected smaller numbers, "
        "since rows are reduced to others of that norm. Scale the column, and its entry of x."
    )


def _kind(device: Any) -> str | None:
    """Whether this is a "cpu" or a "gpu", by the name that its library gives it."""
    name = str(device).lower()
    if "cpu" in name:
        return "cpu"
    return "gpu" if any(word in name for word in ("gpu", "cuda", "rocm", "mps", "metal", "xpu")) else None
