"""Least squares on MLX arrays, natively: the backend ``mlx`` of `lstsq.lstsq`.

Importing this package imports neither MLX nor its own extension module; the first solve does.
"""

from lstsq_mlx._backend import MlxBackend

__all__ = ["MlxBackend"]
