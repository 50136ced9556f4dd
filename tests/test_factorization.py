"""Factorisations as values: what they say, refuse, are pickled to, become in other libraries and under transformations.

What they solve and tell is in the conformance suite.
"""

from __future__ import annotations

import dataclasses
import pickle
import re

import numpy as np
import pytest
from libraries import LIBRARIES

import lstsq
from lstsq import LinAlgError, _factors, factorize, get_backend, reduce_rows

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((9, 3)), RNG.standard_normal((9, 2))
EXPECTED = lstsq.lstsq(A, B)


@pytest.fixture
def x64():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


def factorized(library="numpy", a=A):
    return factorize(get_backend(LIBRARIES[library]).from_numpy(a, library))


@pytest.mark.parametrize("library", LIBRARIES)
def test_with_weights(library):
    home = get_backend(LIBRARIES[library])
    weights = np.arange(9.0)
    a, b, w = (home.from_numpy(array.astype(np.float32), library) for array in (A, B, weights))
    f = factorize(a, weights=w)
    expected = lstsq.lstsq(a, b, weights=w)
    for one in (f, pickle.loads(pickle.dumps(f)), f.to("numpy").to(library)):
        for got, wanted in zip(one.solve(b), expected):
            assert str(got.dtype) == str(wanted.dtype)
            np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(f.solve(b[:, 0]).x), np.asarray(expected.x)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(f.covariance()), np.linalg.inv(A.T @ (weights[:, None] * A)), rtol=1e-5)
    path = f.solve_ridge(b, [0.0, 0.5])
    with_ridge = lstsq.lstsq(a, b, weights=w, ridge=0.5)
    np.testing.assert_allclose(np.asarray(path.x)[1], np.asarray(with_ridge.x), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(path.residuals)[1], np.asarray(with_ridge.residuals), rtol=1e-4)
    assert "a with weights (9, 3), float32" in repr(f)


def test_standard_errors_without_the_rows_of_weight_0():
    weights = np.array([2.0, 0, 1, 1, 0, 3, 1, 1, 1])
    there = weights > 0
    f, without = factorize(A, weights=weights), factorize(A[there], weights=weights[there])
    got, expected = (one.covariance(residuals=one.solve(b).residuals) for one, b in ((f, B), (without, B[there])))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("residuals", [[1.0, 2.0], 3.0, "ab", np.ones(2) * 1j])
def test_residual_sums_of_another_kind(residuals):
    with pytest.raises(TypeError, match=r"residuals are of \w+; expected a real array of numpy"):
        factorize(A).covariance(residuals=residuals)


def test_other_input_that_is_refused():
    f, reduced = factorize(A), factorize(reduce_rows(A, B))
    with pytest.raises(LinAlgError, match=r"residuals have shape \(2, 2\); expected \('K',\)"):
        f.covariance(residuals=np.ones((2, 2)))
    with pytest.raises(TypeError, match=r"penalties have shape \(0,\)"):
        f.solve_ridge(B, [])
    with pytest.raises(LinAlgError, match="penalties is a list that makes no array"):
        f.solve_ridge(B, [[1], [1, 2]])
    for ask in (reduced.rank, lambda rcond: reduced.solve(None, rcond), f.rank):
        with pytest.raises(ValueError, match="rcond is NaN"):
            ask(float("nan"))
    with pytest.raises(ValueError, match="no backend serves arrays of 3"):
        f.to(3)


def test_weights_that_do_not_go_with_a_factorisation():
    weights = np.array([1e6, *np.ones(8)])
    with pytest.raises(TypeError, match="a path of penalties is not refined; expected weights that are closer"):
        factorize(A, weights=weights).solve_ridge(B, [1.0])
    with pytest.raises(TypeError, match="rows in blocks were given with weights"):
        factorize(reduce_rows(A, B), weights=weights)
    with pytest.raises(ValueError, match=r"weights holds -1.0 at index \(2,\)"):
        factorize(A, weights=np.array([1, 1, -1.0, *np.ones(6)]))


def test_weights_in_jax(x64):
    jax = pytest.importorskip("jax")
    a, b, w = jax.numpy.asarray(A), jax.numpy.asarray(B), jax.numpy.asarray([0.0, 1e6, *range(1, 8)])
    solve = jax.jit(lambda f, b: f.solve(b).x)
    np.testing.assert_allclose(solve(factorize(a, weights=w), b), lstsq.lstsq(a, b, weights=w).x, rtol=1e-12)
    got, expected = (
        jax.grad(lambda w, solve=solve: solve(w).sum())(w)
        for solve in (lambda w: factorize(a, weights=w).solve(b).x, lambda w: lstsq.lstsq(a, b, weights=w).x)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-15)


def assert_solves(f, library, b=B, expected=EXPECTED):
    backend = get_backend(LIBRARIES[library])
    for name, got, other in zip(expected._fields, f.solve(backend.from_numpy(b, library)), expected):
        np.testing.assert_allclose(backend.to_numpy(got), other, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pickled_one_is_the_same(library, x64):
    assert_solves(pickle.loads(pickle.dumps(factorized(library))), library)


@pytest.mark.parametrize("there", LIBRARIES)
@pytest.mark.parametrize("here", LIBRARIES)
def test_to_another_library(here, there, x64):
    f = factorized(here).to(there)
    assert f"arrays of {there}" in repr(f)
    assert_solves(f, there)


def test_rows_in_blocks_go_with_it():
    f = factorize(reduce_rows(A[:5], B[:5]) + reduce_rows(A[5:], B[5:]))
    assert repr(f) == "<Factorization of rows in blocks: a (9, 3), float64, arrays of numpy>"
    for copy in (pickle.loads(pickle.dumps(f)), f.to("mlx").to("numpy")):
        np.testing.assert_allclose(copy.solve().residuals, EXPECTED.residuals, rtol=1e-10)


def test_it_says_what_it_holds():
    assert repr(factorize(np.ones((2, 4, 3), np.float32))) == "<Factorization of a (2, 4, 3), float32, arrays of numpy>"
    assert factorize([[1, 2], [3, 4]]).dtype == "float64"
    assert factorize(np.ones((2, 1), np.float16)).solve(np.ones(2, np.float16)).x.dtype == np.float32


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        factorized().dtype = "float32"


@pytest.mark.parametrize("library", ["numpy", "mlx", "torch"])
def test_what_is_written_to_the_matrix_later_is_not_seen(library):
    if library not in LIBRARIES:
        pytest.skip(f"{library} is not installed")
    a = get_backend(LIBRARIES[library]).from_numpy(A.copy(), library)
    f = factorize(a)
    a[0, 0] = 100.0
    assert_solves(f, library)


def test_what_is_written_to_an_answer_is_not_seen():
    f = factorized()
    for _ in range(2):
        result = f.solve(B)
        np.testing.assert_allclose(result.s, EXPECTED.s)
        result.s[:] = 0


@pytest.mark.parametrize("a", [A, A.T, A @ np.diag([1, 1e-3, 0]), A.astype(np.float32), A + 1j * A[::-1]], ids=range(5))
def test_a_path_of_penalties_is_that_of_lstsq(a):
    b = np.ones((len(a), 2), a.dtype)
    penalties = [0.0, 1e-6, 1.0, 100.0]
    path = factorize(a).solve_ridge(b, penalties)
    for i, penalty in enumerate(penalties):
        alone = lstsq.lstsq(a, b, ridge=penalty)
        assert path.x.dtype == alone.x.dtype
        tolerance = 1e-5 if a.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(path.x[i], alone.x, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(path.residuals[i], alone.residuals, rtol=tolerance, atol=tolerance)


class TestSolutionOfFewOperations:
    """For numbers of ordinary size, NumPy's and torch's; all others are scaled before and after."""

    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    @pytest.mark.parametrize("shape", [(9, 3), (3, 9), (4, 4)])
    @pytest.mark.parametrize("columns", [1, 2])
    @pytest.mark.parametrize("rcond", [0.0, 0.5, 1.0])
    def test_is_the_scaled_one(self, dtype, shape, columns, rcond):
        a, b = RNG.standard_normal(shape).astype(dtype), RNG.standard_normal((shape[0], columns)).astype(dtype)
        if dtype is np.complex128:
            a, b = a + 1j * a[::-1], b + 1j * b[::-1]
        f = factorize(a).factors
        for got, expected in zip(_factors.solve_ordinary(f, b, rcond), _factors.solve(np, f, b, rcond)):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    @pytest.mark.parametrize("exponent", [-1000, -250, 250, 1000])
    def test_is_not_for_what_is_extreme(self, exponent):
        factor = 2.0**exponent
        f = factorized()
        assert _factors.solve_ordinary(f.factors, B * factor, 0.0) is None
        np.testing.assert_allclose(f.solve(B * factor).x, EXPECTED.x * factor, rtol=1e-12)
        np.testing.assert_allclose(factorize(A * factor).solve(B).x, EXPECTED.x / factor, rtol=1e-12)

    def test_is_not_for_one_right_hand_side_among_others(self):
        f, b = factorized(), B * [1.0, 2.0**300]
        assert _factors.solve_ordinary(f.factors, b, 0.0) is None
        np.testing.assert_allclose(f.solve(b).x, EXPECTED.x * [1.0, 2.0**300], rtol=1e-12)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_is_not_for_zeros_nor_for_what_is_not_finite(self):
        f = factorized()
        for number in (0.0, np.nan, np.inf):
            assert _factors.solve_ordinary(f.factors, np.full((9, 1), number), 0.0) is None
        assert not f.solve(np.zeros(9)).x.any()


class TestRefused:
    def test_no_matrix(self):
        with pytest.raises(LinAlgError, match=r"a has shape \(3,\); expected a matrix"):
            factorize(np.ones(3))

    def test_the_backend_of_another_library(self):
        with pytest.raises(TypeError, match="which the jax backend does not serve"):
            factorize(A, backend="jax")

    def test_a_right_hand_side_of_another_library(self):
        mx = pytest.importorskip("mlx.core")
        with pytest.raises(TypeError, match="a is an array of numpy and b of mlx"):
            factorized().solve(mx.ones(9))

    def test_a_right_hand_side_of_other_rows(self):
        with pytest.raises(LinAlgError, match="a has 9 rows"):
            factorized().solve(np.ones(8))

    def test_complex_matrices_of_mlx(self):
        mx = pytest.importorskip("mlx.core")
        with pytest.raises(TypeError, match="the mlx backend factorises float32, float64, and a is of complex64"):
            factorize(mx.ones((3, 2)) * 1j)

    @pytest.mark.parametrize("penalties", [1.0, [[1.0]], [1j], ["a"]])
    def test_penalties_that_are_no_sequence_of_numbers(self, penalties):
        with pytest.raises(TypeError, match="expected a sequence of real numbers"):
            factorized().solve_ridge(B, penalties)

    def test_a_condition_number_of_nothing(self):
        with pytest.raises(LinAlgError, match="has no condition number"):
            factorize(np.ones((0, 3))).condition  # noqa: B018

    def test_a_null_space_of_several_ranks(self):
        with pytest.raises(LinAlgError, match=r"have the ranks \[1, 2\]"):
            factorize(np.stack([np.eye(2), np.ones((2, 2))])).null_space()


class TestJax:
    @pytest.fixture(autouse=True)
    def jax(self, x64):
        return pytest.importorskip("jax")

    def test_it_is_a_pytree(self, jax):
        f = factorized("jax")
        doubled = jax.tree_util.tree_map(lambda leaf: leaf, f)
        assert_solves(doubled, "jax")
        assert_solves(jax.jit(lambda f: f)(f), "jax")

    def test_nothing_is_decomposed_again(self, jax):
        f, b = factorized("jax"), jax.numpy.asarray(B)

        def solve(f, b):
            return f.solve(b).x.sum() + f.solve(b).residuals.sum()

        for function in (solve, jax.grad(solve, 1), jax.grad(lambda f, b: solve(f, b), allow_int=True)):
            program = str(jax.make_jaxpr(function)(f, b))
            assert not re.search(r"\b(svd|qr|geqrf)\[", program)

    def test_a_cutoff_may_be_traced(self, jax):
        f, b = factorized("jax", np.diag([1.0, 0.1, 0.01])), jax.numpy.ones(3)

        def told(rcond):
            return f.solve(b, rcond).rank, f.rank(rcond), f.covariance(rcond).trace(), f.solve_ridge(b, [0.0], rcond).x

        for rcond, rank in ((-1.0, 3), (0.05, 2), (0.5, 1), (1.0, 0)):
            of_solution, of_matrix, trace, x = jax.jit(told)(rcond)
            assert (of_solution, of_matrix, (abs(x[0]) > 0.5).sum()) == (rank, rank, rank)
            np.testing.assert_allclose(trace, [0, 1, 101, 10101][rank], rtol=1e-10)

    def test_penalties_that_are_traced_are_refused(self, jax):
        f = factorized("jax")
        with pytest.raises(TypeError, match="a transformation of JAX"):
            jax.jit(lambda penalties: f.solve_ridge(jax.numpy.asarray(B), penalties).x)(jax.numpy.ones(2))

    def test_a_path_is_differentiated_by_b(self, jax):
        f, b = factorized("jax"), jax.numpy.asarray(B)
        got = jax.grad(lambda b: f.solve_ridge(b, [2.0]).x.sum())(b)
        expected = np.linalg.solve(A.T @ A + 2 * np.eye(3), A.T).sum(0)
        np.testing.assert_allclose(got, np.stack([expected, expected], axis=1), rtol=1e-10)


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    def test_nested_transformations_see_the_derivative(self, torch):
        stack = torch.from_numpy(np.stack([A, 2 * A + 1]))
        b = torch.from_numpy(B)

        def total(a):
            return torch.vmap(lambda a: factorize(a).solve(b).x)(a).sum()

        expected = torch.func.grad(lambda a: lstsq.lstsq(a, b).x.sum())(stack)
        np.testing.assert_allclose(torch.func.grad(total)(stack), expected, rtol=1e-10)
        one_by_one = torch.vmap(torch.func.grad(lambda a: factorize(a).solve(b).x.sum()))(stack)
        np.testing.assert_allclose(one_by_one, expected, rtol=1e-10)

    def test_the_matrix_may_start_to_record_later(self, torch):
        a, b = torch.from_numpy(A.copy()).requires_grad_(), torch.from_numpy(B)
        (expected,) = torch.autograd.grad(lstsq.lstsq(a, b).x.sum(), a)
        (got,) = torch.autograd.grad(factorize(a).solve(b).x.sum(), a)
        np.testing.assert_allclose(got, expected, rtol=1e-10)
        with torch.no_grad():
            assert not factorize(a).solve(b).x.requires_grad

    def test_a_program_recorded_without_derivatives_refuses_them_later(self, torch):
        from torch.fx.experimental.proxy_tensor import make_fx

        a, b = torch.from_numpy(A.copy()), torch.from_numpy(B)
        program = make_fx(lambda a, b: factorize(a).solve(b).x, tracing_mode="fake")(a, b)
        np.testing.assert_allclose(program(a, b), EXPECTED.x, rtol=1e-10)
        with pytest.raises(TypeError, match="whose derivatives are asked for"):
            program(a.requires_grad_(), b)
