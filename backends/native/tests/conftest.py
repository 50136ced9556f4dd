"""What every native test may draw from."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("mlx"):  # The tests of the kernels do without.
    import mlx.core as mx

    # Where it is the GPU, as on a Mac, there is no float64 to test with.
    mx.set_default_device(mx.cpu)


@pytest.fixture
def draw() -> Callable[..., np.ndarray[Any, Any]]:
    """Standard normal arrays of any shape and dtype, the same in each run."""
    rng = np.random.default_rng(20240607)

    def normal(*shape: int, dtype: str = "float64") -> np.ndarray[Any, Any]:
        array = rng.standard_normal(shape)
        if dtype.startswith("complex"):
            array = array + 1j * rng.standard_normal(shape)
        return array.astype(dtype)

    return normal
