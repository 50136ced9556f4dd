"""`lstsq.residual` is ``b - a x`` in double precision where the library has it, at any scale, with derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import lstsq
from lstsq_conformance import reference
from lstsq_conformance.cases import gaussian
from lstsq_conformance.points import conjugates
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Array, Target

pytestmark = [pytest.mark.contract("residual"), pytest.mark.costly]

#: A batch of matrices beside one right-hand side, a vector, and one matrix beside a batch.
_SHAPES = [((5, 3), (3,), (5,)), ((2, 3, 5), (2, 5, 2), (3, 2)), ((4, 4), (2, 4, 1), (2, 4, 1))]


def _residual(target: Target, a: NumpyArray, x: NumpyArray, b: NumpyArray) -> NumpyArray:
    arrays = (target.array(array) for array in (a, x, b))
    return target.numpy(lstsq.residual(*arrays, backend=target.backend.name))


def _assert_right(target: Target, a: NumpyArray, x: NumpyArray, b: NumpyArray) -> None:
    """What rounding the operands to the precision inside can do, and one rounding of the result."""
    got, dtype = _residual(target, a, x, b), str(a.dtype)
    vector = b.ndim == 1
    a, x, b = (array.astype(np.result_type(dtype, np.float64)) for array in (a, x, b))
    if vector:
        x, b = x[..., None], b[:, None]
    double = "float64" in target.xp.__array_namespace_info__().dtypes()
    inside = eps_of("float64" if double else dtype)
    expected = reference.residual(
        a, x, np.broadcast_to(b, (*np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), b.shape[-1]))
    )
    size = np.abs(b) + np.abs(a) @ np.abs(x)
    expected, size = (np.asarray(array[..., 0] if vector else array) for array in (expected, size))
    assert got.shape == expected.shape
    assert got.dtype == dtype
    limit = LIMIT * max(a.shape[-2:]) * inside * size + 2 * eps_of(dtype) * np.abs(expected)
    assert (np.abs(got - expected) <= limit).all(), f"error {np.abs(got - expected).max():.3g}; limits\n{limit}"


@pytest.mark.parametrize(("a_shape", "x_shape", "b_shape"), _SHAPES, ids=str)
def test_digits_that_cancel_are_kept(
    target: Target, dtype: str, a_shape: tuple[int, ...], x_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    a, x = (gaussian(rng, dtype.startswith("complex"), *shape).astype(dtype) for shape in (a_shape, x_shape))
    # All but all of b is a x, in its first batch element.
    near = (a @ x).reshape(-1, *b_shape)[0]
    _assert_right(target, a, x, near.astype(dtype))


@pytest.mark.dtypes("float64", "complex128")
def test_products_beyond_the_range_do_no_harm(target: Target, dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, x, b = (gaussian(rng, dtype.startswith("complex"), *shape).astype(dtype) for shape in ((5, 2), (2, 1), (5, 1)))
    # Products that are infinite, and differ by 2^-30 of them.
    a, x = np.concatenate([a, -a], axis=1), np.concatenate([x, x + 2.0**-30])
    ordinary = _residual(target, a, x, b * 2.0**-30)
    beyond = _residual(target, a * 2.0**600, x * 2.0**430, b * 2.0**1000)
    np.testing.assert_allclose(beyond * 2.0**-1000, ordinary * 2.0**30, rtol=1e-5)


def test_an_exact_solution_leaves_nothing(target: Target, dtype: str) -> None:
    a, x = np.arange(12.0).reshape(4, 3).astype(dtype), np.array([1, -2, 3], dtype)
    assert not _residual(target, a, x, a @ x).any()


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 1), (3, 0, 2), (3, 2, 0)])
def test_empty(target: Target, dtype: str, m: int, n: int, k: int) -> None:
    got = _residual(target, np.ones((m, n), dtype), np.ones((n, k), dtype), np.ones((m, k), dtype))
    np.testing.assert_array_equal(got, np.ones((m, k)))


@pytest.mark.claims("grad")
def test_gradients(target: Target, dtype: str) -> None:
    rng, xp = np.random.default_rng(2), target.xp
    complex_ = dtype.startswith("complex")
    a, x, b, w = (gaussian(rng, complex_, *shape).astype(dtype) for shape in ((4, 3), (3, 2), (4, 2), (4, 2)))
    weights = [target.array(np.ascontiguousarray(part)) for part in ((w.real, w.imag) if complex_ else (w,))]

    def value(a: Array, x: Array, b: Array) -> Array:
        r = lstsq.residual(a, x, b, backend=target.backend.name)
        parts = (xp.real(r), xp.imag(r)) if complex_ else (r,)
        return sum(xp.sum(weight * part) for weight, part in zip(weights, parts))

    expected = (-w @ reference.dagger(x), -reference.dagger(a) @ w, w)
    for got, wanted in zip(target.transform("grad")(value, (0, 1, 2))(*map(target.array, (a, x, b))), expected):
        found = target.numpy(got)
        found = np.conj(found) if conjugates(target, dtype) else found
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT * eps_of(dtype) * np.abs(wanted).max())
