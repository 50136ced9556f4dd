"""A matrix factorised once: what is solved and told by its factors is what the matrix itself would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstsq
from lstsq import Factorization, LinAlgError
from lstsq_conformance import ratios
from lstsq_conformance.cases import Case, gaussian
from lstsq_conformance.points import ARGUMENTS, OUTPUTS, QUICK, Point, conjugates, point
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.reference import NumpyArray, dagger, eps_of, real_of
from lstsq_conformance.target import Array, Target
from lstsq_conformance.test_values import judge_all

pytestmark = [pytest.mark.contract("factorisation"), pytest.mark.factorizes]


def _factorize(target: Target, a: NumpyArray | Array) -> Factorization:
    return lstsq.factorize(target.array(a) if isinstance(a, np.ndarray) else a, backend=target.backend.name)


def _problem(dtype: str, a_shape: tuple[int, ...], *b_shape: int) -> tuple[NumpyArray, NumpyArray]:
    rng = np.random.default_rng(len(a_shape) + sum(b_shape))
    a, b = (gaussian(rng, dtype.startswith("complex"), *shape) for shape in (a_shape, b_shape or a_shape[:-1]))
    return a.astype(dtype), b.astype(dtype)


def _assert_close(got: NumpyArray, expected: NumpyArray, dtype: str, what: str = "") -> None:
    """For small, well-conditioned problems."""
    assert got.shape == expected.shape, what
    tolerance = 1e4 * eps_of(dtype)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def _judge(target: Target, case: Case, dtype: str) -> None:
    problem = case.build(dtype)
    answer = target.to_answer(_factorize(target, problem.a).solve(target.array(problem.b), problem.rcond))
    judge_all(problem, answer)
    assert (answer.s[1:] <= answer.s[:-1]).all(), f"s is not descending: {answer.s}"


@pytest.mark.costly
@pytest.mark.cases("ratios", "condition")
def test_ratios(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


@pytest.mark.costly
@pytest.mark.cases("ratios", "near overflow")
def test_ratios_near_overflow(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


@pytest.mark.thorough
@pytest.mark.cases("ratios")
def test_ratios_in_every_case(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


@pytest.mark.thorough
@pytest.mark.cases("scaled")
def test_scales(target: Target, case: Case, dtype: str) -> None:
    _judge(target, case, dtype)


@pytest.mark.cases("arithmetic")
@pytest.mark.solved_in_double
def test_single_precision_is_factorised_in_double(target: Target, case: Case, dtype: str) -> None:
    problem = case.build(dtype)
    answer = target.to_answer(_factorize(target, problem.a).solve(target.array(problem.b), problem.rcond))
    value = ratios.double_arithmetic(problem, answer)
    assert value < LIMIT, f"ratio {value:.3g}, limit {LIMIT:g}"


@pytest.mark.costly
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((5, 3), (5,)), ((5, 3), (2, 5, 2)), ((2, 1, 3, 4), (3, 3, 2)),
        ((0, 3), (0, 2)), ((5, 0), (5,)), ((5, 3), (5, 0)), ((2, 0, 3), (2, 0, 1)), ((0, 5, 3), (5, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_the_form_is_that_of_lstsq(
    target: Target, dtype: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    a, b = _problem(dtype, a_shape, *b_shape)
    expected = target.solve(a, b)
    got = target.to_answer(_factorize(target, a).solve(target.array(b)))
    for name, one, other in zip(got._fields, got, expected):
        # The rank is an integer, of any size.
        assert one.dtype == other.dtype or {one.dtype.kind, other.dtype.kind} == {"i"}, name
        _assert_close(one, other, dtype, name)


@pytest.mark.thorough
def test_operands_of_two_dtypes(target: Target, dtype: str) -> None:
    a, b = _problem(dtype, (5, 3))
    for other in target.dtypes:
        if not target.factorizes(other):
            continue
        expected = target.solve(a, b.real.astype(other))
        got = target.to_answer(_factorize(target, a).solve(target.array(b.real.astype(other))))
        assert [part.dtype for part in got] == [part.dtype for part in expected], other
        _assert_close(got.x, expected.x, dtype if eps_of(dtype) > eps_of(other) else other, other)


@pytest.mark.costly
def test_the_cutoff_is_that_of_lstsq(target: Target, dtype: str) -> None:
    a = np.zeros((5, 3), dtype)
    a[:3] = np.diag([1, 2.0**-10, 2.0**-20])
    f, b = _factorize(target, a), target.array(np.ones(5, dtype))
    for rcond, rank in ((None, 3), (1.5 * 2.0**-20, 2), (1e-2, 1), (1, 0), (0, 3), (-1, 3)):
        assert int(target.numpy(f.solve(b, rcond).rank)) == int(target.numpy(f.rank(rcond))) == rank
        assert target.numpy(f.null_space(rcond)).shape == (3, 3 - rank)
    with pytest.raises(ValueError, match="rcond is NaN"):
        f.solve(b, np.nan)
    with pytest.raises(ValueError, match="rcond is NaN"):
        f.rank(np.nan)


@pytest.mark.costly
@pytest.mark.parametrize("a_shape", [(5, 3), pytest.param((2, 3, 5), marks=pytest.mark.thorough)])
def test_what_it_tells(target: Target, dtype: str, a_shape: tuple[int, ...]) -> None:
    a, _ = _problem(dtype, a_shape)
    a[..., -1] = a[..., 0] * 2
    f = _factorize(target, a)
    inverse = np.linalg.pinv(a, rcond=1e-4)
    s = np.linalg.svd(a, compute_uv=False)
    rank = min(a_shape[-2], a_shape[-1] - 1)
    for got, expected in (
        (f.s, s),
        (f.pinv(), inverse),
        (f.covariance(), inverse @ dagger(inverse)),
        (f.leverage(), np.diagonal(a @ inverse, axis1=-2, axis2=-1).real),
        (f.rank(), np.full(a_shape[:-2], rank)),
    ):
        _assert_close(target.numpy(got), expected, dtype)
    assert str(target.numpy(f.s).dtype) == str(target.numpy(f.leverage()).dtype) == real_of(dtype)
    assert str(target.numpy(f.pinv()).dtype) == str(target.numpy(f.covariance()).dtype) == dtype
    basis = target.numpy(f.null_space())
    assert (basis.shape, str(basis.dtype)) == ((*a_shape[:-2], a_shape[-1], a_shape[-1] - rank), dtype)
    _assert_close(a @ basis, np.zeros((*a_shape[:-1], basis.shape[-1])), dtype)
    _assert_close(
        dagger(basis) @ basis, np.broadcast_to(np.eye(basis.shape[-1]), (*a_shape[:-2], *basis.shape[-1:] * 2)), dtype
    )


def test_condition_number(target: Target) -> None:
    dtype = target.dtype
    for diagonal, expected in (([4, 2, 1], 4), ([1, 1, 0], np.inf)):
        got = target.numpy(_factorize(target, np.diag(diagonal).astype(dtype)).condition)
        assert got.shape == ()
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_covariance_of_an_estimate(target: Target) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (5, 3), 5, 2)
    a[:, 2] = a[:, 0]
    f = _factorize(target, a)
    residuals = f.solve(target.array(b)).residuals
    inverse = np.linalg.pinv(a, rcond=1e-4)
    expected = target.numpy(residuals)[:, None, None] / (5 - 2) * (inverse @ dagger(inverse))
    _assert_close(target.numpy(f.covariance(residuals=residuals)), expected, dtype)
    square = _factorize(target, np.eye(3).astype(dtype))
    residuals = square.solve(target.array(np.ones((3, 2), dtype))).residuals
    assert np.isnan(target.numpy(square.covariance(residuals=residuals))).all()


@pytest.mark.costly
@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((5, 3), (5,)), pytest.param((3, 5), (2, 3, 2), marks=pytest.mark.thorough)]
)
def test_a_path_of_penalties(target: Target, dtype: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    a, b = _problem(dtype, a_shape, *b_shape)
    penalties = [0, 2.0**-6, 1.0, 64]
    f = _factorize(target, a)
    path = target.to_answer(f.solve_ridge(target.array(b), penalties))
    plain = target.to_answer(f.solve(target.array(b)))
    _assert_close(path.rank, plain.rank, dtype)
    _assert_close(path.s, plain.s, dtype)
    columns = b[:, None] if b.ndim == 1 else b
    for i, penalty in enumerate(penalties):
        # That is the solution of the normal equations.
        normal = dagger(a) @ a + penalty * np.eye(a_shape[-1])
        x = np.linalg.solve(normal, dagger(a) @ columns) if penalty else np.linalg.pinv(a) @ columns
        squares = np.sum(np.abs(columns - a @ x) ** 2, axis=-2)
        _assert_close(path.x[i], x[..., 0] if b.ndim == 1 else x, dtype, f"x for {penalty}")
        _assert_close(path.residuals[i], squares, dtype, f"residuals for {penalty}")


def test_a_path_over_a_deficient_matrix(target: Target) -> None:
    dtype = target.dtype
    a = np.array([[1, 1], [1, 1], [1, 1]], dtype)
    path = _factorize(target, a).solve_ridge(target.array(np.array([1, 2, 3], dtype)), np.array([0.0, 2.0, 1e-30]))
    for x, expected in zip(target.numpy(path.x), (1.0, 0.75, 1.0)):
        _assert_close(x, np.full(2, expected), dtype)


@pytest.mark.parametrize("bad", [-1.0, np.inf, np.nan])
def test_a_penalty_that_is_none(target: Target, bad: float) -> None:
    dtype = target.dtype
    f = _factorize(target, np.eye(2).astype(dtype))
    with pytest.raises(ValueError, match="penalties contain"):
        f.solve_ridge(target.array(np.ones(2, dtype)), [1.0, bad])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(target: Target, bad: float) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (5, 3), 5, 2)
    clean = target.to_answer(_factorize(target, a).solve(target.array(b)))
    b[1, 0] = bad
    f = _factorize(target, a)
    for answer in (target.to_answer(f.solve(target.array(b))), target.to_answer(f.solve_ridge(target.array(b), [0]))):
        x, residuals = answer.x.reshape(3, 2), answer.residuals.reshape(2)
        assert np.isnan(x[:, 0]).all()
        assert np.isnan(residuals[0])
        _assert_close(x[:, 1], clean.x[:, 1], dtype)
        _assert_close(residuals[1], clean.residuals[1], dtype)
        assert int(answer.rank) == 3
    a[1, 2] = bad
    if target.claims.nonfinite == "raises":
        with pytest.raises(LinAlgError, match=r"at index \(1, 2\)"):
            _factorize(target, a)
        return
    f = _factorize(target, a)
    answer = target.to_answer(f.solve(target.array(b)))
    assert all(np.isnan(part).all() for part in (answer.x, answer.residuals, answer.s))
    assert int(answer.rank) == int(target.numpy(f.rank())) == 0
    for part in (f.pinv(), f.covariance(), f.condition, f.solve_ridge(target.array(b), [1]).x):
        assert np.isnan(target.numpy(part)).all()
    with pytest.raises(LinAlgError, match="not finite"):
        f.null_space()


@pytest.mark.nonfinite("nan")
@pytest.mark.batches
def test_a_neighbour_that_is_not_finite(target: Target) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (2, 5, 3))
    alone = target.solve(a[1], b[1])
    a[0, 1, 1] = np.nan
    f = _factorize(target, a)
    answer = target.to_answer(f.solve(target.array(b[..., None])))
    assert np.isnan(answer.x[0]).all()
    np.testing.assert_array_equal(answer.rank, [0, 3])
    _assert_close(answer.x[1, :, 0], alone.x, dtype)
    assert np.isnan(target.numpy(f.leverage())[0]).all()
    _assert_close(target.numpy(f.s)[1], alone.s, dtype)


def test_rows_in_blocks(target: Target) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (9, 3), 9, 2)
    parts = [lstsq.reduce_rows(target.array(a[rows]), target.array(b[rows]), backend=target.backend.name)
             for rows in (slice(0, 4), slice(4, 9))]  # fmt: skip
    f = _factorize(target, sum(parts[1:], parts[0]))
    whole = _factorize(target, a)
    for name, got, expected in zip(*[target.solve(a, b)._fields], target.to_answer(f.solve()), target.solve(a, b)):
        assert got.dtype == expected.dtype or {got.dtype.kind, expected.dtype.kind} == {"i"}, name
        _assert_close(got, expected, dtype, name)
    path, expected = (
        target.to_answer(result) for result in (f.solve_ridge(None, [0, 1]), whole.solve_ridge(target.array(b), [0, 1]))
    )
    _assert_close(path.x, expected.x, dtype)
    _assert_close(path.residuals, expected.residuals, dtype)
    residuals = whole.solve(target.array(b)).residuals
    for got, other in (
        (f.covariance(residuals=residuals), whole.covariance(residuals=residuals)), (f.rank(), whole.rank()),
    ):  # fmt: skip
        _assert_close(target.numpy(got), target.numpy(other), dtype)
    for refused in (lambda: f.solve(target.array(b)), f.leverage, f.pinv, lambda: whole.solve()):
        with pytest.raises(TypeError, match="expected"):
            refused()


def test_the_default_cutoff_of_rows_in_blocks_is_that_of_all(target: Target) -> None:
    dtype = target.dtype
    rows, small = 1000, (100 if eps_of(dtype) < 1e-10 else 8) * eps_of(dtype)
    a = np.zeros((rows, 2), dtype)
    a[0, 0], a[1, 1] = 1, small
    for count, rank in ((3, 2), (rows, 1)):
        blocks = lstsq.reduce_rows(target.array(a[:count]), target.array(a[:count, 0]), backend=target.backend.name)
        f = _factorize(target, blocks)
        assert int(target.numpy(f.solve().rank)) == int(target.numpy(f.rank())) == rank


def test_it_is_named_like_a_driver(target: Target) -> None:
    dtype = target.dtype
    a = target.array(np.eye(2).astype(dtype))
    lstsq.factorize(a, driver="svd", backend=target.backend.name)
    with pytest.raises(ValueError, match="unknown driver 'qr' for a factorisation"):
        lstsq.factorize(a, driver="qr", backend=target.backend.name)


# Derivatives: of the solution they are those of `lstsq`, of the rest those of the reference.

_POINTS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "truncated 3x5" else pytest.mark.thorough) for name in QUICK]
)


def _weighted(target: Target, at: Point, output: str, dtype: str, found: Array) -> Array:
    xp, weights = target.xp, at.weights[output].astype(dtype if output == "x" else real_of(dtype))
    if not np.iscomplexobj(weights):
        return xp.sum(target.array(weights) * found)
    real, imaginary = target.array(weights.real.copy()), target.array(weights.imag.copy())
    return xp.sum(real * xp.real(found) + imaginary * xp.imag(found))


def _assert_gradients(target: Target, at: Point, dtype: str, f: Callable[..., Array], output: str) -> None:
    native = target.array(at.a.astype(dtype)), target.array(at.b.astype(dtype))
    for argument, got in zip(ARGUMENTS, target.transform("grad")(f, (0, 1))(*native)):
        found = target.numpy(got)
        found = np.conj(found) if conjugates(target, dtype) else found
        expected, limit = at.gradient(output, argument), at.tolerance(output, argument, dtype)
        error = np.linalg.norm(found - expected)
        assert error <= limit, f"d {output} / d {argument}: error {error:.3g}, limit {limit:.3g}"


@pytest.mark.costly
@pytest.mark.claims("grad")
@_POINTS
def test_gradient(target: Target, dtype: str, name: str) -> None:
    at = point(name, dtype)
    for output in OUTPUTS:

        def value(a: Array, b: Array, output: str = output) -> Array:
            found = getattr(_factorize(target, a).solve(b, at.rcond), output)
            return _weighted(target, at, output, dtype, found)

        _assert_gradients(target, at, dtype, value, output)


@pytest.mark.costly
@pytest.mark.claims("grad")
def test_gradient_with_respect_to_b_alone(target: Target, dtype: str) -> None:
    at = point("deficient 5x3", dtype)
    f = _factorize(target, at.a.astype(dtype))
    for output in ("x", "residuals"):
        got = target.transform("grad")(
            lambda b, output=output: _weighted(target, at, output, dtype, getattr(f.solve(b, at.rcond), output))
        )(target.array(at.b.astype(dtype)))
        found = target.numpy(got)
        found = np.conj(found) if conjugates(target, dtype) else found
        error, limit = np.linalg.norm(found - at.gradient(output, "b")), at.tolerance(output, "b", dtype)
        assert error <= limit, f"d {output} / d b: error {error:.3g}, limit {limit:.3g}"


@pytest.mark.claims("grad")
def test_gradient_of_what_it_tells(target: Target) -> None:
    """Against the derivative of the same in terms of `lstsq.pinv`, whose derivative has tests of its own."""
    xp, dtype, rng = target.xp, target.dtype, np.random.default_rng(0)
    at = point("deficient 5x3", dtype)
    drawn = at.a, rng.standard_normal((3, 3)), rng.standard_normal(5)
    a, of_g, of_h = (target.array(array.astype(dtype)) for array in drawn)

    def told(a: Array) -> Array:
        f = _factorize(target, a)
        return xp.sum(of_g * f.covariance()) + xp.sum(of_h * f.leverage())

    def plain(a: Array) -> Array:
        inverse = lstsq.pinv(a, backend=target.backend.name)
        transposed = xp.matrix_transpose(inverse)
        return xp.sum(of_g * xp.matmul(inverse, transposed)) + xp.sum(of_h * xp.sum(a * transposed, axis=-1))

    got, expected = (target.numpy(target.transform("grad")(f)(a)) for f in (told, plain))
    _assert_close(got, expected, dtype)


@pytest.mark.claims("grad")
def test_derivatives_that_there_are_not(target: Target) -> None:
    dtype = target.dtype
    xp, a = target.xp, target.array(np.eye(3).astype(dtype))
    b = target.array(np.ones(3, dtype))
    for refused in (
        lambda a: xp.sum(xp.real(_factorize(target, a).solve_ridge(b, [1.0]).x)),
        lambda a: xp.sum(xp.real(_factorize(target, a).null_space())),
    ):
        with pytest.raises(TypeError, match="expected"):
            target.transform("grad")(refused)(a)


@pytest.mark.claims("jit")
def test_compiled(target: Target) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (5, 3), 5, 2)
    f = _factorize(target, a)

    def everything(f: Factorization, b: Array) -> tuple[Array, ...]:
        result = f.solve(b)
        return (*result, f.covariance(), f.leverage(), f.pinv(), f.s)

    expected = everything(f, target.array(b))
    of_both = target.transform("jit")(lambda a, b: everything(_factorize(target, a), b))
    of_b = target.transform("jit")(lambda b: everything(f, b))
    for got in (of_both(target.array(a), target.array(b)), of_b(target.array(b))):
        for one, other in zip(got, expected):
            _assert_close(target.numpy(one), target.numpy(other), dtype)


@pytest.mark.claims("vmap")
def test_mapped(target: Target) -> None:
    dtype = target.dtype
    a, b = _problem(dtype, (2, 5, 3), 2, 5, 2)
    whole = _factorize(target, a)
    alone = _factorize(target, a[0])

    def everything(a: Array, b: Array) -> tuple[Array, ...]:
        f = _factorize(target, a)
        return (*f.solve(b), f.covariance())

    got: Any = target.transform("vmap")(everything)(target.array(a), target.array(b))
    for one, other in zip(got, (*whole.solve(target.array(b)), whole.covariance())):
        _assert_close(target.numpy(one), target.numpy(other), dtype)
    got = target.transform("vmap")(lambda b: alone.solve(b).x)(target.array(b))
    _assert_close(target.numpy(got), target.numpy(alone.solve(target.array(b)).x), dtype)
