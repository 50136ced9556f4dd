"""What every native test may draw from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


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
