"""``lstsq(..., weights=...)`` against exact arithmetic: far apart, deficient, zero, traced, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstsq
from lstsq import LinAlgError
from lstsq_conformance import reference, reference_exact
from lstsq_conformance.cases import gaussian
from lstsq_conformance.ratios import LIMIT, Answer
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.reference_exact import Weighted
from lstsq_conformance.target import Array, Target

pytestmark = [pytest.mark.contract("weights"), pytest.mark.costly]


def matrix(kind: str, m: int, n: int, dtype: str) -> tuple[NumpyArray, NumpyArray]:
    """A and b; a deficient A has small integers, so that it is so in every dtype."""
    rng = np.random.default_rng(m + n)
    complex_ = dtype.startswith("complex")
    a = gaussian(rng, complex_, m, n)
    if kind == "deficient":
        a = (rng.integers(-3, 4, (m, 2)) @ rng.integers(-3, 4, (2, n))).astype(a.dtype)
        a = a * (1 + 2j) if complex_ else a
    return a.astype(dtype), gaussian(rng, complex_, m, 2).astype(dtype)


def assert_right(target: Target, answer: Answer, truth: Weighted, shape: tuple[int, ...], dtype: str) -> None:
    """x to what rounding in each row can do, the root of the residuals, and the rank."""
    size = max(shape)
    unit = reference_exact.roundings(truth, size, target.inside(dtype), dtype)
    error = np.linalg.norm(answer.x - truth.x, axis=-2)
    assert (error <= LIMIT * unit).all(), f"x: ratios {error / unit}, limit {LIMIT:g}"
    roots = np.sqrt(truth.squares)
    unit = size * eps_of(target.inside(dtype)) * truth.lengths + eps_of(dtype) * roots
    assert (np.abs(np.sqrt(answer.residuals) - roots) <= LIMIT * unit).all(), (answer.residuals, truth.squares)
    assert int(answer.rank) == truth.rank
    assert (answer.x.dtype, answer.residuals.dtype) == (dtype, reference.real_of(dtype))


@pytest.mark.parametrize(
    ("kind", "m", "n", "heavy"),
    [
        ("full rank", 8, 4, "last"),
        pytest.param("full rank", 8, 4, "first", marks=pytest.mark.thorough),
        pytest.param("full rank", 4, 4, "last", marks=pytest.mark.thorough),
        ("full rank", 3, 5, "first"),
        ("deficient", 8, 4, "last"),
    ],
)
def test_weights_far_apart(target: Target, dtype: str, driver: str, kind: str, m: int, n: int, heavy: str) -> None:
    a, b = matrix(kind, m, n, dtype)
    double = eps_of(target.inside(dtype)) < 1e-10
    weights = np.ones(m)
    # Fewer than there are unknowns, so that the others decide about the rest of x.
    weights[: 1 if kind == "deficient" else 2] = 1e10 if double else 1e4
    if heavy == "last":
        weights = weights[::-1].copy()
    # The light rows are to count: the default cutoff of single precision is just below them.
    answer = _solve(target, a, b, 1e-12 if double else None, driver, weights=weights)
    assert_right(target, answer, reference_exact.solve(a, b, weights), a.shape, dtype)


@pytest.mark.parametrize(("m", "n"), [(8, 4), pytest.param(3, 5, marks=pytest.mark.thorough)])
def test_weights_extremely_far_apart(target: Target, dtype: str, driver: str, m: int, n: int) -> None:
    a, b = matrix("full rank", m, n, dtype)
    double = eps_of(target.inside(dtype)) < 1e-10
    # Where nobody sees the weights there are two steps, which are not enough for more.
    most = 1e20 if double and _sees(target) else 1e15 if double else 1e8 if _sees(target) else 1e6
    for heavy in ([most], [most, most**0.5]):
        weights = np.ones(m)
        weights[: len(heavy)] = heavy
        answer = _solve(target, a, b, 1e-12 if double else None, driver, weights=weights)
        assert_right(target, answer, reference_exact.solve(a, b, weights), a.shape, dtype)


def test_moderate_weights(target: Target, dtype: str, driver: str) -> None:
    for kind in ("full rank", "deficient"):
        a, b = matrix(kind, 8, 4, dtype)
        weights = np.arange(1.0, 9)
        answer = _solve(target, a, b, None, driver, weights=weights)
        assert_right(target, answer, reference_exact.solve(a, b, weights), a.shape, dtype)
        s = np.linalg.svd(np.sqrt(weights)[:, None] * a, compute_uv=False)
        np.testing.assert_allclose(answer.s, s, atol=LIMIT * eps_of(dtype) * s[0])


@pytest.mark.contract("factorisation")
@pytest.mark.factorizes
@pytest.mark.parametrize("kind", ["full rank", "deficient"])
def test_factorised_with_weights(target: Target, dtype: str, kind: str) -> None:
    """Moderate ones, and rows far apart, the longest of which are NaN and of weight 0."""
    a, b = matrix(kind, 8, 4, dtype)
    double = eps_of(target.inside(dtype)) < 1e-10
    wild = np.array([1, 0, 1, 1, 1, 1, 1, 1e10 if double else 1e4])
    for weights, rcond in ((np.arange(1.0, 9), None), (wild, 1e-12 if double else None)):
        truth = reference_exact.solve(a, b, weights)
        given = np.where((weights == 0)[:, None], np.array(np.nan, dtype), a)
        rows = target.array(given), target.array(weights.astype(reference.real_of(dtype)))
        factorised = lstsq.factorize(rows[0], weights=rows[1], backend=target.backend.name)
        assert_right(target, target.to_answer(factorised.solve(target.array(b), rcond)), truth, a.shape, dtype)


def test_all_weights_zero(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    answer = _solve(target, a, b, None, driver, weights=np.zeros(8))
    assert not any(part.any() for part in answer)


def test_a_weight_of_zero_drops_its_row_whatever_it_holds(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 8, 4, dtype)
    weights = np.arange(8.0) % 3
    truth = reference_exact.solve(a, b, weights)
    a[0], a[3, 1], b[3, 0], b[6] = np.nan, np.inf, np.nan, -np.inf
    assert_right(target, _solve(target, a, b, None, driver, weights=weights), truth, a.shape, dtype)
    # Traced or far apart, it is computed in another way.
    weights[1] = 1e6
    truth = reference_exact.solve(a, b, weights)
    a[6] = np.finfo(dtype).max
    assert_right(target, _solve(target, a, b, None, driver, weights=weights), truth, a.shape, dtype)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_weights_that_are_none(target: Target, dtype: str, wrong: float) -> None:
    a, b = matrix("full rank", 4, 2, dtype)
    if _sees(target):
        with pytest.raises(ValueError, match=r"weights holds .* at index \(2,\); expected finite numbers from 0 up"):
            _solve(target, a, b, weights=np.array([1, 0, wrong, 2]))
    else:
        with pytest.raises(LinAlgError):
            _solve(target, a, b, weights=np.array([1, 0, wrong, 2]))


def test_shapes_and_dtypes_that_do_not_fit(target: Target, dtype: str) -> None:
    a, b = (target.array(array) for array in matrix("full rank", 4, 2, dtype))
    for shape in ((), (3,), (4, 1)):
        with pytest.raises(LinAlgError, match=r"weights has shape .*; expected \(..., M\), one for each of the 4 rows"):
            target.lstsq(a, b, weights=target.array(np.ones(shape, dtype).real))
    if "complex64" in target.dtypes:
        with pytest.raises(TypeError, match="weights has dtype complex64; expected real numbers"):
            target.lstsq(a, b, weights=target.array(np.ones(4, np.complex64)))


@pytest.mark.batches
def test_batches(target: Target, dtype: str, driver: str) -> None:
    a, b = matrix("full rank", 6, 3, dtype)
    weights = np.array([np.ones(6), np.arange(6.0), np.zeros(6)])
    for right in (b, b[:, 0]):
        answer = _solve(target, a, right, None, driver, weights=weights)
        assert answer.x.shape == (3, 3, 2)[: 1 + right.ndim]
        assert answer.residuals.shape == (3, 1 if right.ndim == 1 else 2)
        assert answer.rank.tolist() == [3, 3, 0]
        for i in range(2):
            columns = answer.x[i].reshape(3, -1)
            truth = reference_exact.solve(a, right.reshape(6, -1), weights[i])
            one = Answer(columns, answer.residuals[i], answer.rank[i], answer.s[i])
            assert_right(target, one, truth, a.shape, dtype)


def test_bools_integers_and_lists_are_weights(target: Target) -> None:
    dtype = target.dtype
    a, b = matrix("full rank", 6, 3, dtype)
    mask = np.array([True, True, False, True, True, True])
    expected = target.solve(a[mask], b[mask])
    for weights in (
        target.array(mask),
        target.array(mask.astype(np.int32)),
        mask.tolist(),
        [float(one) for one in mask],
    ):
        answer = target.solve(a, b, weights=weights)
        np.testing.assert_allclose(answer.x, expected.x, rtol=0, atol=LIMIT * eps_of(dtype) * np.abs(expected.x).max())


def test_without_s_and_by_numpys_rule(target: Target) -> None:
    dtype = target.dtype
    a, b = matrix("full rank", 8, 4, dtype)
    weights = np.ones(8)
    arrays, w = (target.array(a), target.array(b[:, 0])), target.array(weights.astype(_real(target, dtype)))
    assert target.lstsq(*arrays, weights=w, singular_values=False).s is None
    assert target.solve(a, b[:, 0], weights=w, numpy_resid=True).residuals.shape == (1,)
    a[:, 1] = 0
    assert target.solve(a, b[:, 0], weights=w, numpy_resid=True).residuals.shape == (0,)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 1), (3, 0, 2), (3, 2, 0)])
def test_empty(target: Target, m: int, n: int, k: int) -> None:
    dtype = target.dtype
    answer = _solve(target, np.ones((m, n), dtype), np.ones((m, k), dtype), weights=np.full(m, 4.0))
    assert (answer.x.shape, answer.residuals.tolist()) == ((n, k), [4.0 * m if n == 0 else 0.0] * k)
    assert answer.rank == min(m, n, 1)


@pytest.mark.claims("jit")
def test_traced_weights(target: Target) -> None:
    dtype = reference.real_of(target.dtype)
    a, b = matrix("full rank", 8, 4, dtype)
    weights = np.arange(8.0) % 3
    a[3] = np.nan

    def solve(a: Array, b: Array, weights: Array) -> tuple[Array, ...]:
        return tuple(target.lstsq(a, b, weights=weights))

    compiled = target.transform("jit")(solve)
    for first in (0.0, 1e6):
        weights[0] = first
        answer = target.to_answer(compiled(*map(target.array, (a, b, weights.astype(dtype)))))
        assert_right(target, answer, reference_exact.solve(a, b, weights), a.shape, dtype)
    for wrong in (-1.0, np.nan, np.inf):
        weights[0] = wrong
        answer = target.to_answer(compiled(*map(target.array, (a, b, weights.astype(dtype)))))
        assert np.isnan(answer.x).all(), wrong
        assert np.isnan(answer.residuals).all(), wrong
        assert answer.rank == 0, wrong


@pytest.mark.claims("grad")
@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["full rank", "deficient"])
def test_gradients(target: Target, kind: str) -> None:
    """With respect to A, b and the weights; to a weight of 0, where it can only grow, from the right."""
    dtype, xp = reference.real_of(target.dtype), target.xp
    a, b = matrix(kind, 6, 3, dtype)
    weights = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.0])
    rng = np.random.default_rng(0)
    of_x, of_squares = rng.standard_normal((3, 2)), rng.standard_normal(2)
    rank = 2 if kind == "deficient" else 3

    def value(a: Array, b: Array, weights: Array) -> Array:
        found = target.lstsq(a, b, weights=weights)
        one, other = (target.array(array.astype(dtype)) for array in (of_x, of_squares))
        return xp.sum(one * found.x) + xp.sum(other * found.residuals)

    def exact(a: NumpyArray, b: NumpyArray, weights: NumpyArray) -> NumpyArray:
        root = np.sqrt(weights)[..., None]
        found = reference.solve_at_rank(root * a, root * b, rank)
        return np.asarray(np.sum(of_x * found.x, axis=(-2, -1)) + np.sum(of_squares * found.residuals, axis=-1))

    native = [target.array(array.astype(dtype)) for array in (a, b, weights)]
    got = [target.numpy(part) for part in target.transform("grad")(value, (0, 1, 2))(*native)]
    a, b = a.astype(float), b.astype(float)
    expected = [
        reference.gradient(lambda at: exact(at, b, weights), a, 1e-4),
        reference.gradient(lambda at: exact(np.broadcast_to(a, (len(at), *a.shape)), at, weights), b, 1e-4),
        _of_weights(a, b, weights, of_x, of_squares),
    ]
    for name, one, other in zip(("a", "b", "weights"), got, expected):
        tolerance = 1e4 * max(eps_of(dtype), 1e-12) * max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=f"with respect to {name}")


def _of_weights(
    a: NumpyArray, b: NumpyArray, weights: NumpyArray, of_x: NumpyArray, of_squares: NumpyArray
) -> NumpyArray:
    """``dx = G^+ a_i^H r_i dw_i`` and ``dR = r_i^2 dw_i``."""
    root = np.sqrt(weights)[:, None]
    inverse = np.linalg.pinv(root * a)
    left = b - a @ (inverse @ (root * b))
    return np.asarray(np.sum((a @ inverse @ inverse.T @ of_x) * left, axis=1) + left**2 @ of_squares)


def _real(target: Target, dtype: str) -> str:
    return reference.real_of(target.inside(dtype))


def _sees(target: Target) -> bool:
    """Whether the numbers of an array can be seen before anything is computed."""
    return target.backend.name != "dask"


def _solve(target: Target, a: NumpyArray, b: NumpyArray, *arguments: Any, weights: NumpyArray) -> Answer:
    return target.solve(a, b, *arguments, weights=target.array(weights.astype(_real(target, str(a.dtype)))))
