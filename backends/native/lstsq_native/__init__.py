"""The backend ``native``: least squares on NumPy's arrays by the compiled core."""

from lstsq_native._backend import NativeBackend

__all__ = ["NativeBackend"]

#: Of the distribution, and of both backends in it.
__version__ = "0.1.0"
