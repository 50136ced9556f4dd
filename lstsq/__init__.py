"""One least-squares function for every array library, under one contract."""

from numpy.linalg import LinAlgError

from lstsq import _originals as _originals  # Before a program can put ours in the place of NumPy's.
from lstsq._api import BackendInfo, Explanation, backends, explain, lstsq
from lstsq._backend import Backend, Capabilities, Solution
from lstsq._deficient import LstsqRankWarning
from lstsq._factorization import Factorization, factorize
from lstsq._factors import Factors
from lstsq._namespace import array_namespace
from lstsq._pinv import pinv
from lstsq._reduction import Reduction, reduce_rows
from lstsq._registry import get_backend
from lstsq._residual import residual
from lstsq._result import LstsqResult
from lstsq._rows import Rows

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendInfo",
    "Capabilities",
    "Explanation",
    "Factorization",
    "Factors",
    "LinAlgError",
    "LstsqRankWarning",
    "LstsqResult",
    "Reduction",
    "Rows",
    "Solution",
    "array_namespace",
    "backends",
    "explain",
    "factorize",
    "get_backend",
    "lstsq",
    "pinv",
    "reduce_rows",
    "residual",
]
