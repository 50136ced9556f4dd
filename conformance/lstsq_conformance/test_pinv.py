"""The pseudo-inverse: the solution for every column of an identity, with the same cutoff, dtypes and derivatives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import lstsq
from lstsq import LinAlgError
from lstsq_conformance import ratios
from lstsq_conformance.cases import Case, Problem, gaussian
from lstsq_conformance.points import Point, conjugates, point
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, dagger, eps_of
from lstsq_conformance.target import Array, Target

pytestmark = pytest.mark.contract("pinv")


def _pinv(target: Target, a: NumpyArray, rcond: float | None = None) -> NumpyArray:
    return target.numpy(lstsq.pinv(target.array(a), rcond, backend=target.backend.name))


@pytest.mark.costly
@pytest.mark.cases("ratios", "condition")
def test_it_solves_for_an_identity(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


@pytest.mark.thorough
@pytest.mark.cases("ratios")
def test_it_solves_for_an_identity_in_every_case(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


def _judge(target: Target, case: Case, dtype: str) -> None:
    problem = case.build(dtype)
    found = _pinv(target, problem.a, problem.rcond)
    assert found.shape == problem.a.shape[::-1]
    # Of the shorter dimension: a long identity says nothing more, and takes long to judge.
    tall = len(problem.a) > len(found)
    a, x = (dagger(problem.a), dagger(found)) if tall else (problem.a, found)
    of_identity = Problem(a, np.eye(len(a), dtype=dtype), problem.rcond, problem.rank)
    answer = ratios.Answer(x, np.empty(0), np.empty(0), np.empty(0))
    for ratio in (ratios.solution, ratios.minimum_norm):
        value = ratio(of_identity, answer)
        assert value < LIMIT, f"{ratio.__name__} ratio {value:.3g}, limit {LIMIT:g}"


@pytest.mark.parametrize("a_shape", [(5, 3), (2, 3, 5), (0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 3, 2)], ids=str)
def test_shapes_and_dtypes(target: Target, dtype: str, a_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(a_shape))
    a = gaussian(rng, dtype.startswith("complex"), *a_shape).astype(dtype)
    found = _pinv(target, a)
    assert (found.shape, str(found.dtype)) == ((*a_shape[:-2], a_shape[-1], a_shape[-2]), dtype)
    if a.size:
        tolerance = 1e4 * eps_of(dtype)
        np.testing.assert_allclose(found, np.linalg.pinv(a), rtol=tolerance, atol=tolerance)


def test_the_cutoff_is_that_of_lstsq(target: Target, dtype: str) -> None:
    a = np.zeros((4, 3), dtype)
    a[:3] = np.diag([1, 2.0**-10, 2.0**-20])
    for rcond, rank in ((None, 3), (2.0**-20, 2), (1e-4, 2), (1e-2, 1), (1, 0), (0, 3)):
        inverse = np.zeros((3, 4))
        inverse[:, :3] = np.diag([1.0 if i < rank else 0.0 for i in range(3)]) * np.diag([1, 2.0**10, 2.0**20])
        np.testing.assert_allclose(_pinv(target, a, rcond), inverse, rtol=1e-5, atol=1e-5, err_msg=str(rcond))


def test_integers(target: Target) -> None:
    a = np.array([[2, 0], [0, 4], [0, 0]], np.int32)
    expected = np.array([[0.5, 0, 0], [0, 0.25, 0]])
    found = _pinv(target, a)
    assert found.dtype == target.numpy(target.lstsq(target.array(a), target.array(a[:, 0])).x).dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("m", "n"), [(4, 3), (3, 4)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(target: Target, dtype: str, m: int, n: int, bad: float) -> None:
    a = np.eye(m, n).astype(dtype)
    a[2, 1] = bad
    if target.claims.nonfinite != "raises":
        assert np.isnan(_pinv(target, a)).all()
        return
    with pytest.raises(LinAlgError):
        _pinv(target, a)


@pytest.mark.parametrize("a_shape", [(2, 4, 3), (2, 3, 4)])
@pytest.mark.nonfinite("nan")
def test_a_neighbour_that_is_not_finite(target: Target, dtype: str, a_shape: tuple[int, ...]) -> None:
    a = np.ones(a_shape, dtype)
    a[0, 1, 1] = np.nan
    found = _pinv(target, a)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], np.full((a_shape[2], a_shape[1]), 1 / 12), rtol=1e-5)


def test_a_vector_is_no_matrix(target: Target) -> None:
    with pytest.raises(LinAlgError, match=r"a has shape \(3,\); expected a matrix"):
        _pinv(target, np.ones(3, target.dtype))


#: Matrices whose pseudo-inverse torch and JAX differentiate to NaN, or to something else, by their own functions: all
#: singular values are equal, two are, and the rank is deficient.
_WRITTEN = {
    "identity": (np.eye(3), 3),
    "indicator": (np.repeat(np.eye(3), 2, axis=0)[:5], 3),
    "rank one": (np.outer([1.0, 2.0, 0.0], [2.0, 1.0, 1.0]), 1),
}
_POINTS = (*_WRITTEN, *(pytest.param(name, marks=pytest.mark.thorough) for name in ("deficient 5x3", "truncated 3x5")))


def _point(name: str, dtype: str) -> Point:
    """The place, with an identity for its right-hand sides."""
    if name in _WRITTEN:
        a, rank = _WRITTEN[name]
        a = a + (0j if dtype.startswith("complex") else 0)
        return Point(name, a, np.eye(len(a)).astype(a.dtype), rank)
    found = point(name, dtype)
    return dataclasses.replace(found, b=np.eye(len(found.a)).astype(found.a.dtype))


@pytest.mark.costly
@pytest.mark.claims("grad")
@pytest.mark.parametrize("name", _POINTS)
def test_gradient(target: Target, dtype: str, name: str) -> None:
    at, xp = _point(name, dtype), target.xp
    weights = at.weights["x"].astype(dtype)

    def value(a: Array) -> Array:
        found = lstsq.pinv(a, at.rcond, backend=target.backend.name)
        if not np.iscomplexobj(weights):
            return xp.sum(target.array(weights) * found)
        real, imaginary = target.array(weights.real.copy()), target.array(weights.imag.copy())
        return xp.sum(real * xp.real(found) + imaginary * xp.imag(found))

    got = target.numpy(target.transform("grad")(value)(target.array(at.a.astype(dtype))))
    got = np.conj(got) if conjugates(target, dtype) else got
    expected, limit = at.gradient("x", "a"), at.tolerance("x", "a", dtype)
    error = np.linalg.norm(got - expected)
    assert error <= limit, f"error {error:.3g}, limit {limit:.3g}; got\n{got}\nexpected\n{expected}"


@pytest.mark.costly
@pytest.mark.claims("jit", "vmap")
def test_compiled_and_mapped(target: Target, dtype: str) -> None:
    a = gaussian(np.random.default_rng(0), dtype.startswith("complex"), 2, 5, 3).astype(dtype)
    mapped = target.transform("jit")(target.transform("vmap")(lambda a: lstsq.pinv(a, backend=target.backend.name)))
    tolerance = 1e3 * eps_of(dtype)
    np.testing.assert_allclose(target.numpy(mapped(target.array(a))), _pinv(target, a), rtol=tolerance, atol=tolerance)
