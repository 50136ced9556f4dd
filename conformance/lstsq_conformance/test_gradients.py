"""Derivatives of x, residuals and s with respect to a and b, against central differences of the NumPy reference."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_conformance.cases import gaussian
from lstsq_conformance.points import (
    ARGUMENTS,
    NAMES,
    OUTPUTS,
    QUICK,
    SOME,
    TWICE,
    WRITTEN,
    Point,
    conjugates,
    functional,
    point,
)
from lstsq_conformance.reference import NumpyArray, directional, eps_of, solve_at_rank
from lstsq_conformance.target import Array, Target

pytestmark = pytest.mark.costly


def _points(names: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough) for name in names]
    )


_OUTPUTS = pytest.mark.parametrize("output", OUTPUTS)


def _native(target: Target, at: Point, dtype: str) -> tuple[Array, Array]:
    return target.array(at.a.astype(dtype)), target.array(at.b.astype(dtype))


def _assert_gradient(target: Target, got: Array, expected: NumpyArray, dtype: str, tolerance: float, what: str) -> None:
    found = target.numpy(got)
    assert found.shape == expected.shape, what
    assert found.dtype == dtype, what
    found = np.conj(found) if conjugates(target, dtype) else found
    error = np.linalg.norm(found - expected)
    assert error <= tolerance, f"{what}: error {error:.3g}, limit {tolerance:.3g}; got\n{found}\nexpected\n{expected}"


@pytest.mark.contract("gradients")
@pytest.mark.claims("grad")
@_points(NAMES)
@_OUTPUTS
def test_gradient(target: Target, dtype: str, driver: str, name: str, output: str) -> None:
    at = point(name, dtype)
    f = functional(target, at, output, dtype, driver)
    for argument, got in zip(ARGUMENTS, target.transform("grad")(f, (0, 1))(*_native(target, at, dtype))):
        expected = at.gradient(output, argument)
        tolerance = at.tolerance(output, argument, dtype)
        _assert_gradient(target, got, expected, dtype, tolerance, f"d {output} / d {argument}")


@pytest.mark.contract("gradients")
@pytest.mark.claims("grad")
@pytest.mark.parametrize("name", WRITTEN)
def test_written_gradient_of_the_sum(target: Target, dtype: str, driver: str, name: str) -> None:
    xp = target.xp
    a, b, _, expected = WRITTEN[name]
    native = target.array(a.astype(dtype)), target.array(b[:, 0].astype(dtype))

    def total(a: Array, b: Array) -> Array:
        x = target.lstsq(a, b, driver=driver).x
        return xp.sum(xp.real(x)) if dtype.startswith("complex") else xp.sum(x)

    got = target.transform("grad")(total, 0)(*native)
    _assert_gradient(target, got, expected, dtype, 300 * eps_of(dtype), "d sum(x) / d a")


@pytest.mark.contract("gradients")
@pytest.mark.claims("jvp")
@_points(NAMES)
def test_forward_mode(target: Target, dtype: str, driver: str, name: str) -> None:
    at = point(name, dtype)
    rng = np.random.default_rng(1)
    complex_ = dtype.startswith("complex")
    da, db = gaussian(rng, complex_, *at.a.shape), gaussian(rng, complex_, *at.b.shape)
    da, db = (d.astype(dtype).astype(at.a.dtype) for d in (da, db))
    tangents = target.array(da.astype(dtype)), target.array(db.astype(dtype))
    for output in ("x", "residuals"):

        def solve(a: Array, b: Array, output: str = output) -> Array:
            return getattr(target.lstsq(a, b, at.rcond, driver), output)

        value, got = target.transform("jvp")(solve, _native(target, at, dtype), tangents)
        alone = target.numpy(solve(*_native(target, at, dtype)))
        # The same up to rounding: it may be compiled differently. No condition number here is above 20.
        roundings = 1000 * eps_of(dtype) * max(1.0, float(np.abs(alone).max()))
        np.testing.assert_allclose(target.numpy(value), alone, rtol=0, atol=roundings)

        def along(t: NumpyArray, output: str = output) -> NumpyArray:
            t = t[:, None, None]
            return np.asarray(getattr(solve_at_rank(at.a + t * da, at.b + t * db, at.rank), output))

        expected = directional(along, np.zeros(()), np.ones(1), 1e-4)[0]
        # The tolerance is that of one weighted number; the direction has entries like the weights have.
        size = np.sqrt(expected.size) * max(np.linalg.norm(da), np.linalg.norm(db))
        tolerance = size * sum(at.tolerance(output, argument, dtype) for argument in ARGUMENTS)
        error = np.linalg.norm(target.numpy(got) - expected)
        assert error <= tolerance, f"tangent of {output}: error {error:.3g}, limit {tolerance:.3g}"


@pytest.mark.contract("gradients")
@pytest.mark.claims("vjp", "grad")
@_points(SOME)
def test_reverse_mode_equals_gradient(target: Target, dtype: str, driver: str, name: str) -> None:
    at = point(name, dtype)
    for output in OUTPUTS:
        f = functional(target, at, output, dtype, driver)
        native = _native(target, at, dtype)
        value, pullback = target.transform("vjp")(f, *native)
        one = target.array(np.ones((), target.numpy(value).dtype))
        for argument, got in zip(ARGUMENTS, pullback(one)):
            expected, tolerance = at.gradient(output, argument), at.tolerance(output, argument, dtype)
            _assert_gradient(target, got, expected, dtype, tolerance, f"d {output} / d {argument}")


@pytest.mark.contract("gradients")
@pytest.mark.dtypes("float32", "float64")
@pytest.mark.parametrize("mode", [pytest.param(mode, marks=pytest.mark.claims(mode)) for mode in ("jacfwd", "jacrev")])
@_points(SOME)
def test_jacobian(target: Target, dtype: str, driver: str, name: str, mode: str) -> None:
    at = point(name, dtype)

    def solve(a: Array, b: Array) -> Array:
        return target.lstsq(a, b, at.rcond, driver).x

    for i, argument in enumerate(ARGUMENTS):
        got = target.numpy(target.transform(mode)(solve, i)(*_native(target, at, dtype)))
        assert got.shape == (at.a.shape[1], at.b.shape[1], *getattr(at, argument).shape)
        weighted = np.tensordot(at.weights["x"], got, axes=2)
        error = np.linalg.norm(weighted - at.gradient("x", argument))
        assert error <= at.tolerance("x", argument, dtype), f"{mode} of x with respect to {argument}: error {error:.3g}"


@pytest.mark.contract("gradients")
@pytest.mark.claims("grad")
@_points(TWICE)
@_OUTPUTS
def test_second_derivative(target: Target, dtype: str, driver: str, name: str, output: str) -> None:
    at, xp = point(name, dtype), target.xp
    f = functional(target, at, output, dtype, driver)
    grad = target.transform("grad")
    rng = np.random.default_rng(5)
    for i, argument in enumerate(ARGUMENTS):
        if (output, argument) == ("s", "b"):
            continue
        complex_ = dtype.startswith("complex")
        direction = gaussian(rng, complex_, *getattr(at, argument).shape).astype(dtype)
        # The library pairs its gradient g with a direction d as Re(g d) or Re(g conj(d)); see `conjugates`.
        paired = np.conj(direction) if complex_ and not conjugates(target, dtype) else direction
        native = target.array(paired)

        def slope(a: Array, b: Array, i: int = i, native: Array = native) -> Array:
            product = native * grad(f, i)(a, b)
            return xp.sum(xp.real(product)) if dtype.startswith("complex") else xp.sum(product)

        got = grad(slope, i)(*_native(target, at, dtype))
        expected = at.second(output, argument, direction.astype(at.a.dtype))
        tolerance = np.linalg.norm(direction) * at.tolerance(output, argument, dtype, order=2)
        _assert_gradient(target, got, expected, dtype, tolerance, f"d2 {output} / d {argument}2")


@pytest.mark.contract("gradients")
@pytest.mark.claims("grad", "jvp")
@pytest.mark.dtypes("float32", "float64")
@_points(SOME)
def test_forward_over_reverse(target: Target, dtype: str, driver: str, name: str) -> None:
    at = point(name, dtype)
    f = functional(target, at, "x", dtype, driver)
    direction = gaussian(np.random.default_rng(5), False, *at.a.shape).astype(dtype)
    a, b = _native(target, at, dtype)
    gradient = target.transform("grad")(f, 0)
    _, got = target.transform("jvp")(lambda a: gradient(a, b), (a,), (target.array(direction),))
    expected = at.second("x", "a", direction.astype(float))
    tolerance = np.linalg.norm(direction) * at.tolerance("x", "a", dtype, order=2)
    _assert_gradient(target, got, expected, dtype, tolerance, "jvp of d x / d a")


@pytest.mark.batches
@pytest.mark.contract("gradients")
@pytest.mark.claims("grad")
@pytest.mark.nonfinite("nan")
def test_one_bad_batch_element_leaves_the_gradients_of_others(target: Target, dtype: str, driver: str) -> None:
    xp = target.xp
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 3)).astype(dtype), rng.standard_normal((2, 5, 1)).astype(dtype)

    def first(a: Array, b: Array) -> Array:
        x = target.lstsq(a, b, driver=driver).x[0]
        return xp.sum(xp.real(x)) if dtype.startswith("complex") else xp.sum(x)

    clean = target.numpy(target.transform("grad")(first, 0)(target.array(a), target.array(b)))
    a[1, 0, 0] = np.nan
    got = target.numpy(target.transform("grad")(first, 0)(target.array(a), target.array(b)))
    np.testing.assert_allclose(got[0], clean[0], rtol=1e3 * eps_of(dtype), atol=1e3 * eps_of(dtype))
