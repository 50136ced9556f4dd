"""What least squares must do whatever the numbers: properties, on problems that Hypothesis draws."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstsq_conformance.cases import gaussian, orthonormal, with_spectrum
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Target

pytestmark = pytest.mark.costly
#: Few shapes, because a compiling library compiles for each.
_SHAPES = st.sampled_from([(5, 3), (3, 3), (3, 5)])
_SPECTRA = st.lists(st.floats(0.1, 10), min_size=2, max_size=3)
_SEEDS = st.integers(0, 2**32 - 1)
_RCOND = 1e-3
_same_every_time = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def _draw(dtype: str, shape: tuple[int, int], spectrum: list[float], seed: int) -> tuple[NumpyArray, NumpyArray, Any]:
    """A problem of rank 2 or 3 with condition at most 100, and the generator for whatever else is wanted."""
    rng = np.random.default_rng(seed)
    complex_ = dtype.startswith("complex")
    a = with_spectrum(rng, complex_, *shape, np.array(spectrum)).astype(dtype)
    return a, gaussian(rng, complex_, shape[0], 2).astype(dtype), rng


def _assert_same(got: NumpyArray, expected: NumpyArray, dtype: str, what: str) -> None:
    # Condition at most 100, squared for the part of b outside the range.
    scale = 1 + np.abs(expected).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=30 * 1e4 * eps_of(dtype) * scale, err_msg=what)


@pytest.mark.contract("solution")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS, power=st.integers(-30, 30))
def test_scaling_by_powers_of_two(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int, power: int
) -> None:
    a, b, _ = _draw(dtype, shape, spectrum, seed)
    factor = np.array(2.0**power, a.real.dtype)
    plain = target.solve(a, b, _RCOND, driver)
    scaled = target.solve(a * factor, b * factor, _RCOND, driver)
    _assert_same(scaled.x, plain.x, dtype, "x of (cA, cb)")
    _assert_same(scaled.s / factor, plain.s, dtype, "s of cA")
    _assert_same(scaled.residuals / factor**2, plain.residuals, dtype, "residuals of (cA, cb)")
    assert int(scaled.rank) == int(plain.rank) == len(spectrum)


@pytest.mark.contract("solution")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_orthogonal_invariance(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, rng = _draw(dtype, shape, spectrum, seed)
    q, z = (orthonormal(rng, dtype.startswith("complex"), n, n).astype(dtype) for n in shape)
    plain = target.solve(a, b, _RCOND, driver)
    turned = target.solve(q @ a @ z, q @ b, _RCOND, driver)
    _assert_same(z @ turned.x, plain.x, dtype, "x of (QAZ, Qb)")
    _assert_same(turned.s, plain.s, dtype, "s of QAZ")
    _assert_same(turned.residuals, plain.residuals, dtype, "residuals of (QAZ, Qb)")


@pytest.mark.contract("solution")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_permuted_rows_and_columns(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, rng = _draw(dtype, shape, spectrum, seed)
    rows, columns = rng.permutation(shape[0]), rng.permutation(shape[1])
    plain = target.solve(a, b, _RCOND, driver)
    permuted = target.solve(a[rows][:, columns], b[rows], _RCOND, driver)
    _assert_same(permuted.x, plain.x[columns], dtype, "x with rows and columns permuted")
    _assert_same(permuted.residuals, plain.residuals, dtype, "residuals with rows permuted")


@pytest.mark.contract("residuals")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_rows_stacked_twice(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, _ = _draw(dtype, shape, spectrum, seed)
    plain = target.solve(a, b, _RCOND, driver)
    twice = target.solve(np.concatenate([a, a]), np.concatenate([b, b]), _RCOND, driver)
    _assert_same(twice.x, plain.x, dtype, "x of every row twice")
    _assert_same(twice.residuals, 2 * plain.residuals, dtype, "residuals of every row twice")


@pytest.mark.contract("solution")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_right_hand_sides_do_not_know_of_each_other(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, _ = _draw(dtype, shape, spectrum, seed)
    both = target.solve(a, b, _RCOND, driver)
    for k in range(2):
        alone = target.solve(a, b[:, k], _RCOND, driver)
        _assert_same(both.x[:, k], alone.x, dtype, f"x of right-hand side {k}")
        _assert_same(both.residuals[k], alone.residuals[0], dtype, f"residual of right-hand side {k}")


@pytest.mark.contract("solution")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_linear_in_b(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, _ = _draw(dtype, shape, spectrum, seed)
    both = target.solve(a, b, _RCOND, driver)
    mixed = target.solve(a, b[:, 0] - 2 * b[:, 1], _RCOND, driver)
    _assert_same(mixed.x, both.x[:, 0] - 2 * both.x[:, 1], dtype, "x of b0 - 2 b1")


@pytest.mark.batches
@pytest.mark.contract("batch")
@_same_every_time
@given(shape=_SHAPES, first=_SPECTRA, second=_SPECTRA, seed=_SEEDS)
def test_batch_equals_loop(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], first: list[float], second: list[float], seed: int
) -> None:
    problems = [_draw(dtype, shape, spectrum, seed + i)[:2] for i, spectrum in enumerate((first, second))]
    stacked_a, stacked_b = (np.stack(arrays) for arrays in zip(*problems))
    together = target.solve(stacked_a, stacked_b, _RCOND, driver)
    for i, (a, b) in enumerate(problems):
        alone = target.solve(a, b, _RCOND, driver)
        for got, expected, field in zip(together, alone, alone._fields):
            _assert_same(got[i], expected, dtype, f"{field} of element {i}")


@pytest.mark.contract("transforms")
@pytest.mark.claims("jit", "vmap")
@_same_every_time
@given(shape=_SHAPES, spectrum=_SPECTRA, seed=_SEEDS)
def test_transforms_equal_eager(
    target: Target, dtype: str, driver: str, shape: tuple[int, int], spectrum: list[float], seed: int
) -> None:
    a, b, _ = _draw(dtype, shape, spectrum, seed)
    eager = target.solve(a, b, _RCOND, driver)
    lazy = target.to_answer(_transformed(target, "jit", driver)(target.array(a), target.array(b)))
    stacked = target.array(np.stack([a, a])), target.array(np.stack([b, b]))
    mapped = target.to_answer(_transformed(target, "vmap", driver)(*stacked))
    for field, expected, compiled, many in zip(eager._fields, eager, lazy, mapped):
        _assert_same(compiled, expected, dtype, f"{field} under jit")
        _assert_same(many[1], expected, dtype, f"{field} under vmap")


@functools.cache
def _transformed(target: Target, name: str, driver: str) -> Callable[..., Any]:
    """The solver under this transformation; the same function each time, as what is compiled belongs to a function."""

    def solve(a: Any, b: Any) -> tuple[Any, ...]:
        return tuple(target.lstsq(a, b, _RCOND, driver))

    transformed: Callable[..., Any] = target.transform(name)(solve)
    return transformed
