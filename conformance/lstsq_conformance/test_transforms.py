"""Function transformations and their compositions: each equals the loop, or the eager call, over any axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstsq_conformance.cases import gaussian
from lstsq_conformance.ratios import Answer
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.target import Array, Target

pytestmark = pytest.mark.costly
#: As many problems as rows and columns, so that no wrong axis is found out by its length.
_SIZE = 3


def _batch(dtype: str, *batch: int) -> tuple[NumpyArray, NumpyArray]:
    """Square problems, the second of which is deficient."""
    rng = np.random.default_rng(8)
    complex_ = dtype.startswith("complex")
    a, b = gaussian(rng, complex_, *batch, _SIZE, _SIZE), gaussian(rng, complex_, *batch, _SIZE, _SIZE)
    a[..., 1, :, 0] = a[..., 1, :, 1]
    return a.astype(dtype), b.astype(dtype)


def _solver(target: Target, driver: str) -> Callable[..., tuple[Array, ...]]:
    def solve(a: Array, b: Array) -> tuple[Array, ...]:
        return tuple(target.lstsq(a, b, 1e-3, driver))

    return solve


def _scalar(target: Target, driver: str) -> Callable[[Array, Array], Array]:
    xp = target.xp

    def loss(a: Array, b: Array) -> Array:
        x, residuals, _, s = target.lstsq(a, b, 1e-3, driver)
        return xp.sum(xp.real(x * xp.conj(x)) if "complex" in str(x.dtype) else x * x) + xp.sum(residuals) + xp.sum(s)

    return loss


def _assert_same(got: NumpyArray, expected: NumpyArray, what: str) -> None:
    assert got.shape == expected.shape, f"{what} has shape {got.shape}; expected {expected.shape}"
    scale = 1 + np.abs(expected).max(initial=0)
    tolerance = 3e4 * eps_of(str(expected.dtype)) * scale if expected.dtype.kind in "fc" else 0
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance, err_msg=what)


def _assert_loop(target: Target, got: Any, a: list[NumpyArray], b: list[NumpyArray], driver: str) -> None:
    answer = target.to_answer(got)
    for i, (a_i, b_i) in enumerate(zip(a, b)):
        alone = target.solve(a_i, b_i, 1e-3, driver)
        for field, mapped, expected in zip(alone._fields, answer, alone):
            _assert_same(mapped[i], expected, f"{field} of element {i}")


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
@pytest.mark.parametrize(
    "axes", [(0, 0), (1, 0), (2, 1), (-1, -1), (0, 2), (-2, None), (0, None), (None, 0), (None, 1), (2, None)], ids=str
)
def test_vmap_over_any_axis(target: Target, dtype: str, driver: str, axes: tuple[int | None, int | None]) -> None:
    a, b = _batch(dtype, _SIZE)
    moved = [
        array[0] if axis is None else np.ascontiguousarray(np.moveaxis(array, 0, axis))
        for array, axis in zip((a, b), axes)
    ]
    result = target.transform("vmap")(_solver(target, driver), axes)(*map(target.array, moved))
    a_loop, b_loop = ([array[0]] * _SIZE if axis is None else list(array) for array, axis in zip((a, b), axes))
    _assert_loop(target, result, a_loop, b_loop, driver)


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
def test_vmap_of_vectors(target: Target, dtype: str, driver: str) -> None:
    a, b = _batch(dtype, _SIZE)
    vectors = np.ascontiguousarray(b[0])
    vmap = target.transform("vmap")
    for axis in (0, 1):
        loop = list(np.moveaxis(vectors, axis, 0))
        both = vmap(_solver(target, driver), (0, axis))(target.array(a), target.array(vectors))
        _assert_loop(target, both, list(a), loop, driver)
        only_b = vmap(_solver(target, driver), (None, axis))(target.array(a[0]), target.array(vectors))
        _assert_loop(target, only_b, [a[0]] * _SIZE, loop, driver)


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
@pytest.mark.parametrize(
    ("outer", "inner"), [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((0, None), (None, 0)), ((None, 0), (0, None))], ids=str
)
def test_nested_vmap(
    target: Target, dtype: str, driver: str, outer: tuple[int | None, ...], inner: tuple[int | None, ...]
) -> None:
    vmap = target.transform("vmap")
    arrays, elements = [], []
    for full, out_axis, in_axis in zip(_batch(dtype, 2, _SIZE), outer, inner):
        array = full[:, 0] if in_axis is None else full
        array = array[0] if out_axis is None else array
        loop = array
        if in_axis is not None:
            array = np.moveaxis(array, -3, in_axis - 3)
        if out_axis is not None:
            array = np.moveaxis(array, 0, out_axis)
        arrays.append(target.array(np.ascontiguousarray(array)))
        loop = loop[None] if out_axis is None else loop
        loop = loop[:, None] if in_axis is None else loop
        elements.append(np.broadcast_to(loop, (2, _SIZE, _SIZE, _SIZE)))
    answer = target.to_answer(vmap(vmap(_solver(target, driver), inner), outer)(*arrays))
    for i in range(2):
        row = Answer(*(field[i] for field in answer))
        for j in range(_SIZE):
            alone = target.solve(elements[0][i, j], elements[1][i, j], 1e-3, driver)
            for field, got, expected in zip(alone._fields, row, alone):
                _assert_same(got[j], expected, f"{field} of element {i}, {j}")


@pytest.mark.batches
@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
def test_vmap_of_a_batch(target: Target, dtype: str, driver: str) -> None:
    a, b = _batch(dtype, 2, _SIZE)
    result = target.transform("vmap")(_solver(target, driver), (0, None))(target.array(a), target.array(b[0]))
    _assert_loop(target, result, list(a), [b[0]] * 2, driver)


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
def test_vmap_of_each_shape(target: Target, dtype: str, driver: str) -> None:
    rng = np.random.default_rng(4)
    for m, n in ((5, 2), (2, 5)):
        a, b = (gaussian(rng, dtype.startswith("complex"), 3, m, k).astype(dtype) for k in (n, 1))
        result = target.transform("vmap")(_solver(target, driver), (0, 0))(target.array(a), target.array(b))
        _assert_loop(target, result, list(a), list(b), driver)


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap")
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (None, 1), (None, 2), (1, 2)], ids=str)
def test_vmap_of_a_right_hand_side_that_is_not_finite(
    target: Target, dtype: str, driver: str, axes: tuple[int | None, int]
) -> None:
    rng = np.random.default_rng(6)
    a, b = (gaussian(rng, dtype.startswith("complex"), _SIZE, _SIZE, _SIZE).astype(dtype) for _ in range(2))
    clean = [target.solve(a[0 if axes[0] is None else i], b[i], 1e-3, driver) for i in range(_SIZE)]
    b[1, 0, 2], b[2, 1, 0] = np.nan, np.inf
    moved = [
        array[0] if axis is None else np.ascontiguousarray(np.moveaxis(array, 0, axis))
        for array, axis in zip((a, b), axes)
    ]
    answer = target.to_answer(target.transform("vmap")(_solver(target, driver), axes)(*map(target.array, moved)))
    for i, expected in enumerate(clean):
        spoilt = ~np.isfinite(b[i]).all(axis=0)
        x, residuals = expected.x.copy(), expected.residuals.copy()
        x[:, spoilt], residuals[spoilt] = np.nan, np.nan
        for field, got, wanted in zip(answer._fields, (part[i] for part in answer), (x, residuals, *expected[2:])):
            assert np.array_equal(np.isnan(got), np.isnan(wanted)), f"{field} of element {i} is {got}"
            _assert_same(np.nan_to_num(got), np.nan_to_num(wanted), f"{field} of element {i}")


@pytest.mark.contract("transforms")
@pytest.mark.claims("jit")
def test_jit_of_a_right_hand_side_that_is_not_finite(target: Target, dtype: str, driver: str) -> None:
    a, b = (array[0] for array in _batch(dtype, _SIZE))
    clean = target.solve(a, b, 1e-3, driver)
    b = b.copy()
    b[1, 1] = np.nan
    answer = target.to_answer(target.transform("jit")(_solver(target, driver))(target.array(a), target.array(b)))
    assert np.isnan(answer.x[:, 1]).all()
    assert np.isnan(answer.residuals[1])
    _assert_same(answer.x[:, [0, 2]], clean.x[:, [0, 2]], "x of the others")
    _assert_same(answer.rank, clean.rank, "rank")
    _assert_same(answer.s, clean.s, "s")


def _gradients_in_a_loop(target: Target, dtype: str, driver: str) -> list[NumpyArray]:
    grad = target.transform("grad")(_scalar(target, driver), (0, 1))
    pairs = [grad(target.array(a), target.array(b)) for a, b in zip(*_generic(dtype))]
    return [np.stack([target.numpy(pair[i]) for pair in pairs]) for i in range(2)]


def _generic(dtype: str) -> tuple[NumpyArray, NumpyArray]:
    """Two problems of full rank: the sum of all singular values has no derivative at zero."""
    rng = np.random.default_rng(9)
    complex_ = dtype.startswith("complex")
    a = np.eye(5, 3) * np.array([3, 2, 1]) + 0.1 * gaussian(rng, complex_, 2, 5, 3)
    return a.astype(dtype), gaussian(rng, complex_, 2, 5, 2).astype(dtype)


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap", "grad")
def test_vmap_of_grad(target: Target, dtype: str, driver: str) -> None:
    grad = target.transform("grad")(_scalar(target, driver), (0, 1))
    got = target.transform("vmap")(grad, (0, 0))(*map(target.array, _generic(dtype)))
    for name, mapped, expected in zip("ab", got, _gradients_in_a_loop(target, dtype, driver)):
        _assert_same(target.numpy(mapped), expected, f"vmap of the gradient with respect to {name}")


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap", "grad")
def test_grad_of_vmap(target: Target, dtype: str, driver: str) -> None:
    mapped = target.transform("vmap")(_scalar(target, driver), (0, 0))
    total = target.transform("grad")(lambda a, b: target.xp.sum(mapped(a, b)), (0, 1))
    got = total(*map(target.array, _generic(dtype)))
    for name, array, expected in zip("ab", got, _gradients_in_a_loop(target, dtype, driver)):
        _assert_same(target.numpy(array), expected, f"gradient of vmap with respect to {name}")


@pytest.mark.batches
@pytest.mark.contract("transforms")
@pytest.mark.claims("grad")
def test_grad_of_a_batch(target: Target, dtype: str, driver: str) -> None:
    got = target.transform("grad")(_scalar(target, driver), (0, 1))(*map(target.array, _generic(dtype)))
    for name, array, expected in zip("ab", got, _gradients_in_a_loop(target, dtype, driver)):
        _assert_same(target.numpy(array), expected, f"gradient of a batch with respect to {name}")


@pytest.mark.contract("transforms")
@pytest.mark.claims("vmap", "grad")
def test_grad_of_vmap_over_right_hand_sides(target: Target, dtype: str, driver: str) -> None:
    a, b = (array[0] for array in _generic(dtype))
    loss, xp = _scalar(target, driver), target.xp
    mapped = target.transform("vmap")(loss, (None, 1))
    got = target.transform("grad")(lambda a, b: xp.sum(mapped(a, b)), (0, 1))(target.array(a), target.array(b))
    pairs = [
        target.transform("grad")(loss, (0, 1))(target.array(a), target.array(np.ascontiguousarray(b[:, k])))
        for k in range(2)
    ]
    _assert_same(target.numpy(got[0]), target.numpy(pairs[0][0]) + target.numpy(pairs[1][0]), "with respect to a")
    _assert_same(target.numpy(got[1]), np.stack([target.numpy(pair[1]) for pair in pairs], axis=1), "with respect to b")


@pytest.mark.contract("transforms")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, marks=pytest.mark.claims(*names), id=" of ".join(names))
        for names in (
            ("jit", "grad"),
            ("grad", "jit"),
            ("checkpoint",),
            ("grad", "checkpoint"),
            ("jit", "grad", "checkpoint"),
            ("jit", "checkpoint"),
        )
    ],
)
def test_composition_equals_eager(target: Target, dtype: str, driver: str, names: tuple[str, ...]) -> None:
    native = [target.array(array[0]) for array in _generic(dtype)]
    plain = composed = _scalar(target, driver)
    for name in reversed(names):
        composed = target.transform(name)(composed)
        if name == "grad":
            plain = target.transform("grad")(plain)
    with target.backend.context():
        expected = target.numpy(plain(*native))
    _assert_same(target.numpy(composed(*native)), expected, " of ".join(names))


@pytest.mark.contract("transforms")
@pytest.mark.claims("jit", "vmap")
def test_jit_of_vmap_and_vmap_of_jit(target: Target, dtype: str, driver: str) -> None:
    a, b = _batch(dtype, _SIZE)
    jit, vmap, solve = target.transform("jit"), target.transform("vmap"), _solver(target, driver)
    for composed in (jit(vmap(solve, (0, 0))), vmap(jit(solve), (0, 0))):
        _assert_loop(target, composed(target.array(a), target.array(b)), list(a), list(b), driver)


@pytest.mark.contract("transforms")
@pytest.mark.claims("jit", "vmap", "grad")
def test_jit_of_vmap_of_grad(target: Target, dtype: str, driver: str) -> None:
    grad = target.transform("grad")(_scalar(target, driver), (0, 1))
    got = target.transform("jit")(target.transform("vmap")(grad, (0, 0)))(*map(target.array, _generic(dtype)))
    for name, mapped, expected in zip("ab", got, _gradients_in_a_loop(target, dtype, driver)):
        _assert_same(target.numpy(mapped), expected, f"compiled gradients with respect to {name}")


#: A cutoff, and the rank of ``diag(8, 1, 0.125)``.
_CUTOFFS = ((0.5, 1), (0.125, 1), (0.0625, 2), (0.0, 3), (1.0, 0), (2.0, 0), (-1.0, 3))


def _traced(target: Target, dtype: str, driver: str) -> tuple[Callable[[Array], tuple[Array, ...]], list[Array]]:
    """The solution as a function of the cutoff alone, and cutoffs as arrays."""
    a, b = target.array(np.diag([8, 1, 0.125]).astype(dtype)), target.array(np.ones((3, 1), dtype))
    real = str(np.empty(0, dtype).real.dtype)
    return lambda rcond: tuple(target.lstsq(a, b, rcond, driver)), [
        target.array(np.array(c, real)) for c, _ in _CUTOFFS
    ]


def _assert_cut(answer: Answer, rank: int, dtype: str) -> None:
    assert int(answer.rank) == rank
    expected = np.where(np.arange(3) < rank, 1 / np.array([8, 1, 0.125]), 0)
    np.testing.assert_allclose(answer.x[:, 0], expected, rtol=8 * eps_of(dtype))


@pytest.mark.contract("transforms")
@pytest.mark.traced_rcond
@pytest.mark.claims("jit")
def test_jit_over_the_cutoff(target: Target, dtype: str, driver: str) -> None:
    solve, cutoffs = _traced(target, dtype, driver)
    compiled = target.transform("jit")(solve)
    for rcond, (_, rank) in zip(cutoffs, _CUTOFFS):
        _assert_cut(target.to_answer(compiled(rcond)), rank, dtype)


@pytest.mark.contract("transforms")
@pytest.mark.traced_rcond
@pytest.mark.claims("vmap")
def test_vmap_over_the_cutoff(target: Target, dtype: str, driver: str) -> None:
    solve, cutoffs = _traced(target, dtype, driver)
    answer = target.to_answer(target.transform("vmap")(solve, 0)(target.xp.stack(cutoffs)))
    for i, (_, rank) in enumerate(_CUTOFFS):
        _assert_cut(Answer(*(field[i] for field in answer)), rank, dtype)


@pytest.mark.contract("transforms")
@pytest.mark.traced_rcond
@pytest.mark.claims("grad")
def test_gradient_with_a_traced_cutoff(target: Target, dtype: str, driver: str) -> None:
    a, b = (target.array(array[0]) for array in _generic(dtype))
    xp, rcond = target.xp, target.array(np.array(0.5, str(np.empty(0, dtype).real.dtype)))

    def loss(a: Array, b: Array, rcond: Array | float) -> Array:
        x = target.lstsq(a, b, rcond, driver).x
        return xp.sum(xp.real(x * xp.conj(x)) if "complex" in str(x.dtype) else x * x)

    got = target.transform("grad")(loss, (0, 1))(a, b, rcond)
    expected = target.transform("grad")(loss, (0, 1))(a, b, 0.5)
    for name, one, other in zip("ab", got, expected):
        _assert_same(target.numpy(one), target.numpy(other), f"gradient with respect to {name}")
