"""What a backend is: the interface between the frontend and the solvers.

A backend author reads this file and nothing else. `Backend` is subclassed once per array library; the class is
named in the entry-point group ``lstsq.backends`` of the author's distribution.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import array_api_compat
import numpy as np

#: Any array of any library. The libraries share no base class, so this documents and does not check.
Array = Any


class Solution(NamedTuple):
    """What a backend returns: four arrays of the library that it was given."""

    x: Array
    residuals: Array
    rank: Array
    s: Array


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
    #: What non-finite input does: "raises" LinAlgError, or gives "nan" in that batch element alone.
    nonfinite: str = "nan"
    #: Dtypes whose arithmetic is done in double precision and rounded once at the end.
    solved_in_double: tuple[str, ...] = ()
    #: Whether `Backend.solve` takes, beside the canonical problem, one matrix ``(M, N)`` with ``b (M,)``; ``x`` is then
    #: ``(N,)``. It spares two reshapes, which count where a solve takes microseconds.
    takes_vectors: bool = False
    #: Drivers that give no answer where they cannot certify one: x, residuals and s NaN, rank 0. Only ill-conditioned,
    #: deficient or badly scaled problems may go unanswered.
    declines: tuple[str, ...] = ()


class Backend:
    """A least-squares solver for the arrays of one library.

    A subclass states the class attributes and implements `solve`; everything else has a default. Its module must
    import neither the array library nor anything heavy: `solve` imports what it needs when it is first called.
    """

    #: The name in ``lstsq(..., backend=name)``, which is also the entry point's.
    name: ClassVar[str]
    #: Root modules of the array classes that it serves, such as ``("jax", "jaxlib")``; ``("*",)`` for whatever
    #: no other backend serves.
    serves: ClassVar[tuple[str, ...]]
    #: Modules that must be installed for it to work.
    requires: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[Capabilities]

    def solve(self, a: Array, b: Array, rcond: float, driver: str) -> Solution:
        """Solve for the canonical problem.

        Parameters
        ----------
        a : (..., M, N) array
            M, N and every batch dimension are at least 1.
        b : (..., M, K) array
            The same batch dimensions and dtype as `a`; K is at least 1. ``(M,)`` too if ``capabilities.takes_vectors``.
        rcond : float
            A singular value is zero iff ``s <= rcond * s_max``. Any number from 0 up; never negative or NaN.
        driver : str
            One of ``capabilities.drivers``, or ``capabilities.default_driver``.

        Returns
        -------
        Solution
            ``x (..., N, K)``; ``residuals (..., K)``, real, the sums of squares of ``b - a x`` whatever the rank;
            ``rank (...)``, integer; ``s (..., min(M, N))``, real and descending.
        """
        raise NotImplementedError

    def unavailable(self) -> str | None:
        """Why this backend cannot run here, as a sentence that says what to install, or None.

        A compiled backend overrides this and loads itself, so that what it says is so.
        """
        missing = [module for module in self.requires if importlib.util.find_spec(module) is None]
        if not missing:
            return None
        return f"{', '.join(missing)} is not installed; run `pip install 'lstsq[{self.name}]'`"

    def refuse(self, dtype: str, driver: str) -> str | None:
        """Why a problem of this dtype cannot be solved with this driver, as a sentence, or None."""
        if dtype not in self.capabilities.dtypes:
            return (
                f"the {self.name} backend does not take {dtype}; it takes {', '.join(self.capabilities.dtypes)}. "
                "Convert the arrays, or name another backend with backend=..."
            )
        return None

    def namespace(self, array: Array) -> ModuleType:
        """The array-API namespace of `array`: the functions that the frontend casts and reshapes it with."""
        return array_api_compat.array_namespace(array)

    def default_float(self, array: Array) -> str:
        """The name of the dtype that integers and bools become."""
        info = self.namespace(array).__array_namespace_info__()
        return dtype_name(info.default_dtypes()["real floating"])

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Array:
        """Convert a NumPy array, keeping its dtype. `namespace` says which library, where a backend serves several."""
        raise NotImplementedError(f"the {self.name} backend cannot convert from NumPy")

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert to a NumPy array, keeping the dtype."""
        return np.asarray(array)

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

    def transform(self, name: str) -> Callable[..., Any]:
        """The library's function transformation, with the signature of its namesake in JAX.

        For the tests: one for each name in ``capabilities.transforms``. ``grad(f, argnums)``, ``jvp(f, primals,
        tangents)``, ``vjp(f, *primals)``, ``jacfwd(f, argnums)``, ``jacrev(f, argnums)``, ``vmap(f, in_axes)``,
        ``jit(f)``, ``checkpoint(f)``.
        """
        raise NotImplementedError(f"the {self.name} backend claims no transforms")


def dtype_name(dtype: Any) -> str:
    """The bare name of a dtype of any library: numpy's, 'torch.float32', 'mlx.core.float32' ..."""
    name = getattr(dtype, "name", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]
