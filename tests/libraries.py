"""The libraries of this machine whose values the tests compare."""

from __future__ import annotations

import importlib.util

_BACKENDS = {"numpy": "numpy", "array_api_strict": "array_api", "jax": "jax", "mlx": "mlx", "torch": "torch"}

#: Libraries that are installed, and the backends that serve them.
LIBRARIES = {name: backend for name, backend in _BACKENDS.items() if importlib.util.find_spec(name)}
