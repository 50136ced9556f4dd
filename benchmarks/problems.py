"""The problems that are timed: shapes that people have, with standard normal data and an answer to check against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """One shape: a batch of ``M × N`` matrices with K right-hand sides each."""

    m: int
    n: int
    k: int = 1
    batch: int = 0

    @cached_property
    def label(self) -> str:
        """The shape, as it is written in tables."""
        one = f"{self.m}×{self.n}"
        right = f", {self.k} rhs" if self.k > 1 else ""
        return (f"{self.batch} × ({one})" if self.batch else one) + right

    def data(self, dtype: str) -> tuple[NDArray, NDArray]:
        """A and b, the same at each call."""
        rng = np.random.default_rng(self.m * self.n + self.batch)
        lead = (self.batch,) if self.batch else ()
        a = rng.standard_normal((*lead, self.m, self.n), dtype=np.float32).astype(dtype)
        b = rng.standard_normal((*lead, self.m, self.k), dtype=np.float32).astype(dtype)
        return a, b

    @property
    def repeats(self) -> int:
        """How many calls are timed as one, so that the clock is not what is measured."""
        return 100 if max(self.batch, 1) * self.m * self.n <= 1000 else 1

    def floor_flops(self) -> float:
        """Operations of the cheapest dense method: LU where A is square, elsewhere the normal equations by Cholesky.

        Golub and Van Loan (2013), *Matrix Computations*, 4th ed., 3.2 and 5.3.
        """
        tall, narrow = max(self.m, self.n), min(self.m, self.n)
        if tall == narrow:
            one = 2 / 3 * narrow**3 + 2.0 * narrow**2 * self.k
        else:
            one = tall * narrow**2 + narrow**3 / 3 + 2.0 * (tall + narrow) * narrow * self.k
        return one * max(self.batch, 1)

    def floor_bytes(self, itemsize: int) -> float:
        """What must at least be read and written: A, b and x, once each."""
        return itemsize * (self.m * self.n + (self.m + self.n) * self.k) * max(self.batch, 1)


PROBLEMS = (
    Problem(10, 3),
    Problem(100, 10),
    Problem(100_000, 64),
    Problem(1_000_000, 8),
    Problem(20_000, 512),
    Problem(1024, 1024),
    Problem(2000, 2000),
    Problem(512, 20_000),
    Problem(5000, 1000, k=100),
    Problem(32, 8, batch=10_000),
    Problem(64, 16, k=4, batch=4096),
    Problem(256, 32, batch=512),
    Problem(8, 4, batch=50_000),
)
#: What is timed on a device: larger, as whoever has a GPU has such.
ON_DEVICES = (
    Problem(100_000, 64),
    Problem(1_000_000, 8),
    Problem(1_000_000, 64),
    Problem(200_000, 512),
    Problem(2048, 2048),
    Problem(4096, 4096),
    Problem(32, 8, batch=10_000),
    Problem(64, 16, k=4, batch=4096),
    Problem(256, 32, batch=512),
    Problem(8, 4, batch=50_000),
)
