"""Backends over the array-API backend on a library with two devices, where no processor and no GPU is needed for that.

Array-api-strict refuses every operation on arrays of two devices.
"""

from __future__ import annotations

from typing import Any, ClassVar

import array_api_strict
import numpy as np

from lstsq import Solution
from lstsq_array_api import ArrayApiBackend

CPU, GPU = array_api_strict.Device("CPU_DEVICE"), array_api_strict.Device("device1")


class TwoDevices(ArrayApiBackend):
    """The second device stands for a GPU."""

    name: ClassVar[str] = "planted-two-devices"
    serves: ClassVar[tuple[str, ...]] = ("array_api_strict",)

    def devices(self, namespace: str | None = None) -> dict[str, Any]:
        return {"cpu": CPU, "gpu": GPU}

    def from_numpy(self, array: np.ndarray[Any, Any], namespace: str | None = None) -> Any:
        return super().from_numpy(array, "array_api_strict")


class GpuAlone(TwoDevices):
    """It solves on the second device alone."""

    name = "planted-gpu-alone"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        for array in (a, b):
            if array.device != GPU:
                raise TypeError("the array is on the other device")
        return super().solve(a, b, rcond, driver)


class ResultsElsewhere(TwoDevices):
    """The rank is always on the first device."""

    name = "planted-results-elsewhere"

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        answer = super().solve(a, b, rcond, driver)
        return answer._replace(rank=answer.rank.to_device(CPU))
