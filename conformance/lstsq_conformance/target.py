"""The backend under test, with NumPy arrays going in and coming out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import lstsq
from lstsq import Backend
from lstsq_conformance.cases import DTYPES, Case
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray

Array = Any


class Target:
    """One backend, one of the libraries that it serves, and the drivers, the dtypes and the device of this run."""

    def __init__(
        self,
        backend: Backend,
        namespace: str | None,
        drivers: tuple[str, ...],
        dtypes: tuple[str, ...],
        put: Callable[[Array], Array] | None = None,
    ):
        self.backend = backend
        self.namespace = namespace
        self.drivers = drivers
        self.dtypes = dtypes
        self._put = put
        self.claims = backend.capabilities
        self.answer = functools.lru_cache(maxsize=8192)(self._answer)

    @property
    def dtype(self) -> str:
        """The most accurate real dtype of this run, for tests whose subject is not precision."""
        return next(dtype for dtype in ("float64", *DTYPES) if dtype in self.dtypes)

    @property
    def xp(self) -> ModuleType:
        """The functions of the library."""
        return self.backend.namespace(self.array(np.zeros(1, self.dtype)))

    def inside(self, dtype: str) -> str:
        """The dtype that the frontend computes in for results of this one: double where the library has it."""
        double = str(np.result_type(dtype, np.float64))
        return double if double in self.xp.__array_namespace_info__().dtypes() else dtype

    @functools.cached_property
    def devices(self) -> dict[str, Any]:
        """Of the kinds of device that the backend claims: the library's first one here, where it has one."""
        found = self.backend.devices(self.namespace)
        return {kind: found[kind] for kind in self.claims.devices if kind in found}

    def accepts(self, dtype: str, driver: str | None) -> bool:
        """Whether the backend claims to solve this dtype with this driver."""
        return self.backend.refuse(dtype, driver or self.claims.default_driver) is None

    def factorizes(self, dtype: str) -> bool:
        """Whether the backend claims to factorise matrices of this dtype."""
        claimed = getattr(self.claims, "factorizes", None)
        return claimed is None or dtype in claimed

    def array(self, array: object) -> Array:
        """The library's own array of these numbers, on the device of this run."""
        made = self.backend.from_numpy(np.asarray(array), self.namespace)
        return made if self._put is None else self._put(made)

    def on_each_device(self, array: NumpyArray) -> list[Array]:
        """The library's own array of these numbers on each of its `devices`."""
        arrays = []
        for device in self.devices.values():
            with self.backend.on_device(device) as put:
                arrays.append(put(self.backend.from_numpy(array, self.namespace)))
        return arrays

    def numpy(self, array: Array) -> NumpyArray:
        """A NumPy array of these numbers."""
        return np.asarray(self.backend.to_numpy(array))

    def lstsq(self, a: Array, b: Array, rcond: float | None = None, driver: str | None = None, **options: Any) -> Any:
        """`lstsq.lstsq` of the library's own arrays, by this backend."""
        return lstsq.lstsq(a, b, rcond, driver=driver, backend=self.backend.name, **options)

    def solve(
        self, a: object, b: object, rcond: float | None = None, driver: str | None = None, **options: Any
    ) -> Answer:
        """The answer for NumPy arrays, as NumPy arrays."""
        return self.to_answer(self.lstsq(self.array(a), self.array(b), rcond, driver, **options))

    def to_answer(self, result: Any) -> Answer:
        """The four arrays of a result, as NumPy arrays."""
        x, residuals, rank, s = result
        return Answer(self.numpy(x), self.numpy(residuals), self.numpy(rank), self.numpy(s))

    def _answer(self, case: Case, dtype: str, driver: str | None) -> Answer:
        """The answer to a case of the registry; solved once, however many rows it proves."""
        problem = case.build(dtype)
        return self.solve(problem.a, problem.b, problem.rcond, driver)

    def transform(self, name: str) -> Callable[..., Any]:
        """The library's function transformation of this name."""
        return self.backend.transform(name)

    def library_has(self, feature: str) -> bool:
        """Whether the library has what not every library has."""
        sample = self.array(np.zeros(3, self.dtype))
        if feature == "other than NumPy":
            return not isinstance(sample, np.ndarray)
        if feature == "arrays on two devices":
            return len({str(self.backend.device(array)) for array in self.on_each_device(np.zeros(1, self.dtype))}) > 1
        if feature == "negative steps":
            try:
                with self.backend.context():
                    sample[::-1]
            except (ValueError, IndexError, TypeError):
                return False
            return True
        if feature == "subnormals":
            # Some compute as if the numbers without all their digits were 0.
            smallest = np.array([np.finfo(np.float32).smallest_subnormal])
            return bool(np.all(self.numpy(self.array(smallest) * 2) == 2 * smallest))
        if feature == "bfloat16":
            # NumPy has none to convert from.
            return hasattr(self.xp, feature)
        try:
            return str(self.numpy(self.array(np.zeros(1, feature))).dtype) == feature
        except (TypeError, ValueError, AttributeError, KeyError):
            return False
