"""NumPy's own solvers, as they are when this library is imported.

A program may put `lstsq.lstsq` in the place of `numpy.linalg.lstsq`. A backend that looked for NumPy's at its first
solve would then find ours, which calls the backend.
"""

from numpy.linalg import lstsq, svd

__all__ = ["lstsq", "svd"]
