"""The least-squares functions that people use today, each as its own users call it: one adapter for each.

`lstsq compare`, ``lstsq conformance --peers`` and the benchmarks take their peers from here. Nothing is imported before
`Peer.load`, and nothing is done to the arrays: they come in the library and the dtype that the function is for.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

#: Any array of any library.
Array = Any

ALL_DTYPES = ("float32", "float64", "complex64", "complex128")
#: What a function may give besides x.
EVERYTHING = ("residuals", "rank", "s")
_IN_JAX = ("jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev")
_IN_TORCH = ("vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev")


class Result(NamedTuple):
    """What a function gives, as arrays of its library; None for what it does not give."""

    x: Array
    residuals: Array | None = None
    rank: Array | None = None
    s: Array | None = None


#: From a ``(M, N)``, b ``(M,)`` or ``(M, K)`` and a cutoff, None for its own. More dimensions where it takes batches.
Function = Callable[[Array, Array, "float | None"], Result]


class Peer(NamedTuple):
    """One function of a library, and what its documentation says of it."""

    #: Its module as it is written in programs, such as ``scipy.linalg``.
    module: str
    #: The driver, the method or the solver that is asked for; empty where there is one alone.
    method: str
    #: The module that must be installed, and the distribution that has its version.
    requires: str
    distribution: str
    #: Our backend that converts to its arrays and back, and the library where that backend serves several.
    host: str
    namespace: str | None
    load: Callable[[], Function]
    #: Which of residuals, rank and s it ever gives.
    gives: tuple[str, ...]
    page: str
    #: Whether it takes a cutoff.
    cutoff: bool = True
    batches: bool = False
    dtypes: tuple[str, ...] = ALL_DTYPES
    devices: tuple[str, ...] = ("cpu",)
    transforms: tuple[str, ...] = ()
    #: Dtypes that it is known to compute in double precision.
    in_double: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.module} {self.method}".strip()

    @property
    def name(self) -> str:
        """The name in benchmarks: the library's and the method's."""
        return f"{self.requires} {self.method}".strip()

    @property
    def installed(self) -> bool:
        """Whether its library is here."""
        return importlib.util.find_spec(self.requires) is not None

    @property
    def version(self) -> str:
        """The version of its library."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return "(version unknown)"


def _numpy() -> Function:
    # NumPy's own, also where a program has put ours in its place.
    from lstsq._originals import lstsq

    return lambda a, b, rcond: Result(*lstsq(a, b, rcond))


def scipy_with(driver: str, check_finite: bool = True) -> Function:
    """`scipy.linalg.lstsq` with this driver of LAPACK's."""
    from scipy.linalg import lstsq

    def solve(a: Array, b: Array, rcond: float | None) -> Result:
        return Result(*lstsq(a, b, cond=rcond, lapack_driver=driver, check_finite=check_finite))

    return solve


def _jax() -> Function:
    import jax.numpy as jnp

    return lambda a, b, rcond: Result(*jnp.linalg.lstsq(a, b, rcond))


def _torch_with(driver: str) -> Function:
    import torch

    linalg: Any = torch.linalg

    def solve(a: Array, b: Array, rcond: float | None) -> Result:
        # gels, which is for full rank, takes no cutoff.
        found = linalg.lstsq(a, b, None if driver == "gels" else rcond, driver=driver)
        # What a driver does not find is an empty tensor there.
        rank = found.rank if driver != "gels" else None
        return Result(found.solution, found.residuals, rank, found.singular_values if driver == "gelsd" else None)

    return solve


def _cupy() -> Function:
    import cupy

    return lambda a, b, rcond: Result(*cupy.linalg.lstsq(a, b, rcond))


def _dask() -> Function:
    import dask.array as da

    return lambda a, b, rcond: Result(*da.linalg.lstsq(a, b))


def _lineax_with(method: str) -> Function:
    """`lineax.linear_solve`, which is for a vector; right-hand sides side by side are mapped over, as its pages do."""
    import jax
    import lineax

    def solver(rcond: float | None) -> Any:
        if method == "SVD":
            return lineax.SVD(rcond)
        return lineax.QR() if method == "QR" else lineax.AutoLinearSolver(well_posed=None)

    @functools.partial(jax.jit, static_argnums=2)
    def solve(a: Array, b: Array, rcond: float | None) -> tuple[Array, Array | None]:
        operator, chosen = lineax.MatrixLinearOperator(a), solver(rcond)

        def one(vector: Array) -> tuple[Array, Array | None]:
            found = lineax.linear_solve(operator, vector, chosen)
            return found.value, found.stats.get("rank")

        if b.ndim == 1:
            return one(b)
        x, ranks = jax.vmap(one, in_axes=1, out_axes=(1, 0))(b)
        return x, None if ranks is None else ranks[0]

    def given(a: Array, b: Array, rcond: float | None) -> Result:
        x, rank = solve(a, b, rcond)
        return Result(x, rank=rank)

    return given


def _tensorflow_with(fast: bool) -> Function:
    import tensorflow as tf

    def solve(a: Array, b: Array, rcond: float | None) -> Result:
        x = tf.linalg.lstsq(a, b if len(b.shape) > 1 else b[:, None], fast=fast)
        return Result(x if len(b.shape) > 1 else x[:, 0])

    return solve


_SCIPY_PAGE = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.linalg.lstsq.html"
_TORCH_PAGE = "https://docs.pytorch.org/docs/stable/generated/torch.linalg.lstsq.html"


def _scipy_peer(driver: str) -> Peer:
    gives = ("rank",) if driver == "gelsy" else EVERYTHING
    load = functools.partial(scipy_with, driver)
    return Peer("scipy.linalg", driver, "scipy", "scipy", "numpy", None, load, gives, _SCIPY_PAGE, batches=True)


def _torch_peer(driver: str) -> Peer:
    gives = {"gels": ("residuals",), "gelsy": ("rank",), "gelsd": EVERYTHING}[driver]
    return Peer(
        "torch.linalg", driver, "torch", "torch", "torch", None, functools.partial(_torch_with, driver), gives,
        _TORCH_PAGE, cutoff=driver != "gels", batches=True, devices=("cpu", "gpu") if driver == "gels" else ("cpu",),
        transforms=_IN_TORCH,
    )  # fmt: skip


def _lineax_peer(method: str) -> Peer:
    return Peer(
        "lineax", method, "lineax", "lineax", "jax", None, functools.partial(_lineax_with, method),
        ("rank",) if method == "SVD" else (), "https://docs.kidger.site/lineax/", cutoff=method == "SVD",
        devices=("cpu", "gpu"), transforms=_IN_JAX,
    )  # fmt: skip


def _tensorflow_peer(method: str) -> Peer:
    return Peer(
        "tf.linalg", method, "tensorflow", "tensorflow", "numpy", None,
        functools.partial(_tensorflow_with, method == "fast"), (),
        "https://www.tensorflow.org/api_docs/python/tf/linalg/lstsq", cutoff=False, batches=True,
        dtypes=ALL_DTYPES if method == "fast" else ("float32", "float64"),
    )  # fmt: skip


PEERS = (
    Peer(
        "numpy.linalg", "", "numpy", "numpy", "numpy", None, _numpy, EVERYTHING,
        "https://numpy.org/doc/stable/reference/generated/numpy.linalg.lstsq.html",
        in_double=("float32", "complex64"),
    ),
    *map(_scipy_peer, ("gelsd", "gelsy", "gelss")),
    Peer(
        "jax.numpy", "", "jax", "jax", "jax", None, _jax, EVERYTHING,
        "https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.lstsq.html",
        devices=("cpu", "gpu"), transforms=_IN_JAX,
    ),
    *map(_torch_peer, ("gels", "gelsy", "gelsd")),
    Peer(
        "cupy.linalg", "", "cupy", "cupy", "array_api", "cupy", _cupy, EVERYTHING,
        "https://docs.cupy.dev/en/stable/reference/generated/cupy.linalg.lstsq.html", devices=("gpu",),
    ),
    Peer(
        "dask.array", "", "dask", "dask", "dask", None, _dask, EVERYTHING,
        "https://docs.dask.org/en/stable/generated/dask.array.linalg.lstsq.html", cutoff=False,
    ),
    *map(_lineax_peer, ("QR", "SVD", "auto")),
    *map(_tensorflow_peer, ("fast", "COD")),
)  # fmt: skip


def installed() -> list[Peer]:
    """Those whose library is here."""
    return [peer for peer in PEERS if peer.installed]


def find(label: str) -> Peer:
    """The peer that tables call so.

    Raises
    ------
    KeyError
        If there is none.
    """
    return {peer.label: peer for peer in PEERS}[label]
