"""Weights and a ridge at the frontend: operands, other backends, maps, second derivatives. The suite has the rest."""

import jax
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

from lstsq import LstsqRankWarning, lstsq
from lstsq_conformance import reference, reference_exact

RNG = np.random.default_rng(0)
A, B, W = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 2)), np.arange(8.0) % 3
EXACT = reference_exact.solve(A, B, W, [0.0, 0.5, 2.0]).x


def solve(a, b, **options):
    return lstsq(a, b, weights=W.tolist(), ridge=[0.0, 0.5, 2.0], **options)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
@pytest.mark.parametrize("backend", ["mlx", "jax", "array_api", "numpy"])
def test_another_backend_solves(backend, dtype):
    """In its own precision: JAX's is single here, and so are MLX's complex numbers."""
    if (backend, dtype) == ("jax", np.float64):
        with pytest.raises(TypeError, match="jax_enable_x64"):
            solve(A, B, backend=backend)
        return
    result = solve(A.astype(dtype), B.astype(dtype), backend=backend)
    assert (type(result.x), result.x.dtype, result.s.dtype) == (
        np.ndarray,
        dtype,
        reference.real_of(dtype().dtype.name),
    )
    truth = reference_exact.solve(A.astype(dtype), B.astype(dtype), W, [0.0, 0.5, 2.0]).x
    np.testing.assert_allclose(result.x, truth, rtol=0, atol=100 * np.finfo(dtype).eps)


def test_single_precision_is_weighted_in_double():
    a, b = A.astype(np.float32), B.astype(np.float32)
    truth = reference_exact.solve(a, b, W, [0.0, 0.5, 2.0]).x
    assert np.abs(solve(a, b).x - truth).max() <= np.abs(truth).max() * 2.0**-24
    assert np.abs(np.array(solve(mx.array(a), mx.array(b)).x) - truth).max() <= np.abs(truth).max() * 2.0**-24


@pytest.mark.parametrize("ridge", [1, 0.5, np.float64(0.5), np.array(0.5), True])
def test_a_number_is_a_ridge_for_any_library(ridge):
    expected = lstsq(A, B, ridge=float(ridge)).x
    made = [A, B] if isinstance(ridge, np.ndarray) else [jnp.asarray(A), jnp.asarray(B)]
    np.testing.assert_allclose(lstsq(*made, ridge=ridge).x, expected, rtol=0, atol=1e-5)


def test_weights_of_another_library_are_refused():
    with pytest.raises(TypeError, match="a is an array of jax and weights of numpy; expected one library"):
        lstsq(jnp.asarray(A), jnp.asarray(B), weights=W)
    with pytest.raises(TypeError, match="a is an array of numpy and ridge of mlx; expected one library"):
        lstsq(A, B, ridge=mx.ones(3))


def test_a_table_of_words_is_no_weight():
    with pytest.raises(TypeError, match="weights has dtype str"):
        lstsq(A, B, weights=["one"] * 8)


def test_weights_do_not_decide_about_the_dtype():
    assert lstsq(A.astype(np.float32), B.astype(np.float32), weights=W).x.dtype == np.float32
    assert lstsq(A, B, weights=W.astype(np.float16), ridge=np.float32(1)).x.dtype == np.float64


def test_a_vector_with_batches_of_each():
    a, weights = np.stack([A, 2 * A]), np.stack([W, np.ones(8)])
    result = lstsq(a, B[:, 0], weights=weights, ridge=np.array([[[0.0]], [[1.0]], [[2.0]]]) * np.ones(3))
    assert [part.shape for part in result] == [(3, 2, 3), (3, 2, 1), (3, 2), (3, 2, 3)]
    truth = reference_exact.solve(a[1], B[:, :1], weights[1], 2.0)
    np.testing.assert_allclose(result.x[2, 1], truth.x[:, 0], rtol=1e-13)
    np.testing.assert_allclose(result.residuals[2, 1], truth.squares, rtol=1e-13)


def test_weights_at_the_ends_of_the_range():
    for unit in (1e-300, 1e300):
        result = lstsq(A, B, weights=unit * np.where(W > 0, W, 0.0))
        truth = reference_exact.solve(A, B, W)
        np.testing.assert_allclose(result.x, truth.x, rtol=1e-12)
        np.testing.assert_allclose(result.residuals / unit, truth.squares, rtol=1e-12)
        np.testing.assert_allclose(result.s**2 / unit, np.linalg.svd(np.sqrt(W)[:, None] * A)[1] ** 2, rtol=1e-12)


def test_deficient_by_weights_is_told():
    with pytest.warns(LstsqRankWarning, match="a has rank 2; expected"):
        assert lstsq(A, B, weights=np.arange(8) < 2, on_deficient="warn").rank == 2


def test_mapped_over_weights():
    weights = np.stack([W, np.ones(8)])
    expected = np.stack([lstsq(A, B, weights=one).x for one in weights])
    mapped = mx.vmap(lambda w: lstsq(mx.array(A, mx.float64), mx.array(B, mx.float64), weights=w).x)
    with mx.stream(mx.cpu):
        np.testing.assert_allclose(np.array(mapped(mx.array(weights, mx.float64))), expected, rtol=1e-12)


@pytest.mark.parametrize("far", [1.0, 1e10])
@pytest.mark.parametrize("ridge", [None, 0.5])
def test_compiled_for_any_number_of_rows(far, ridge):
    weigh = mx.compile(lambda a, b, w: lstsq(a, b, weights=w, ridge=ridge).x, shapeless=True)
    for rows in (16, 20):
        a, b, w = RNG.normal(size=(rows, 3)), RNG.normal(size=rows), RNG.uniform(1, 2, rows)
        w[-2:] *= far
        x = np.array(weigh(*(mx.array(array.astype(np.float32)) for array in (a, b, w))))
        single = [array.astype(np.float32).astype(float) for array in (a, b, w)]
        # At 1e10 the light rows are below the cutoff of single precision.
        expected = lstsq(*(array.astype(np.float32) for array in single[:2]), weights=single[2], ridge=ridge).x
        np.testing.assert_allclose(x, expected, rtol=1e-5)


def test_second_derivatives_at_zero():
    """Of x, by weights and penalties of 0 and others, against differences of the normal equations, smooth there."""
    weights, ridge = np.array([1.0, 2, 0, 3, 0.5, 0, 1, 1]), np.array([0.0, 1.0, 0.5])
    of_x, along = RNG.normal(size=(3, 2)), RNG.normal(size=11)

    def exact(both):
        w, p = both[..., :8], both[..., 8:]
        gram = np.swapaxes(A * w[..., None], -1, -2) @ A + p[..., None] * np.eye(3)
        return np.sum(of_x * np.linalg.solve(gram, np.swapaxes(A * w[..., None], -1, -2) @ B), axis=(-2, -1))

    def value(both):
        arrays = (mx.array(array, mx.float64) for array in (A, B))
        return mx.sum(mx.array(of_x, mx.float64) * lstsq(*arrays, weights=both[:8], ridge=both[8:]).x)

    def slope(both):
        return mx.sum(mx.array(along, mx.float64) * mx.grad(value)(both))

    both = np.concatenate([weights, ridge])
    first = reference.gradient(exact, both, 1e-3)
    second = reference.gradient(
        lambda at: reference.directional(exact, at, np.broadcast_to(along, at.shape), 1e-3), both, 1e-3
    )
    with mx.stream(mx.cpu):
        native = mx.array(both, mx.float64)
        np.testing.assert_allclose(np.array(mx.grad(value)(native)), first, rtol=0, atol=1e-7)
        np.testing.assert_allclose(np.array(mx.grad(slope)(native)), second, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("double")
def test_a_known_ridge_is_known_where_the_data_are_traced():
    found = jax.jit(lambda a, b: lstsq(a, b, weights=W.tolist(), ridge=[0.0, 0.5, 2.0]).x)(A, B)
    np.testing.assert_allclose(found, EXACT, rtol=1e-12)


@pytest.mark.usefixtures("double")
def test_a_traced_cutoff():
    a, b = A.astype(np.float32), B.astype(np.float32)
    solve = jax.jit(lambda rcond: lstsq(jnp.asarray(a), jnp.asarray(b), rcond, weights=W.tolist(), ridge=1.0)[1:3])
    for rcond in (-1.0, 0.9):
        residuals, rank = solve(rcond)
        expected = lstsq(a, b, rcond, weights=W, ridge=1.0)
        assert rank == expected.rank
        np.testing.assert_allclose(residuals, expected.residuals, rtol=1e-5)


def test_what_a_driver_declines_stays_unanswered():
    graded = np.vander(np.linspace(0, 1, 30), 14)
    assert lstsq(graded, np.ones(30), weights=np.ones(30), driver="cholesky", backend="native").rank == 0
    result = lstsq(graded, np.ones(30), ridge=1e-30, driver="cholesky", backend="native")
    assert np.isnan(result.x).all()


def lstsq_of(a, b, weights, ridge):
    return lstsq(a, b, weights=weights, ridge=ridge)


@pytest.mark.parametrize("weights", [[1.0] * 6, [1e12, 1, 1, 1, 1, 0]])
@pytest.mark.parametrize(("of_a", "of_b"), [(500, 500), (300, 800), (-500, -500), (-500, -300)])
@pytest.mark.parametrize("library", ["numpy", "jax"])
@pytest.mark.usefixtures("double")
def test_powers_of_two_scale_the_answer(library, of_a, of_b, weights):
    """Traced in JAX, where nobody looks at the numbers."""
    a, b = A[:6].copy(), B[:6].copy()
    solve = jax.jit(lstsq_of) if library == "jax" else lstsq_of
    weights = np.array(weights)
    expected = solve(a, b, weights, 0.5)
    a, b = a * 2.0**of_a, b * 2.0**of_b
    if weights[-1] == 0:
        a[5], b[5, 0] = np.nan, 1e300
    found = solve(a, b, weights, 0.5 * 2.0**of_a * 2.0**of_a)
    np.testing.assert_allclose(np.ldexp(found.x, of_a - of_b), expected.x, rtol=1e-13)
    np.testing.assert_allclose(np.ldexp(found.s, -of_a), expected.s, rtol=1e-13)
    if of_b < 512:  # Else the sum of squares is beyond the range.
        np.testing.assert_allclose(np.ldexp(np.ldexp(found.residuals, -of_b), -of_b), expected.residuals, rtol=1e-12)


@pytest.mark.parametrize(("weight", "size"), [(1e-200, 1e180), (1e-100, 1e160), (1e200, 1e-180), (1e100, 1e-170)])
def test_a_weighted_sum_in_range_of_squares_that_are_not(weight, size):
    a, b = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([1.0, 2, 4])
    found = lstsq(a, b * size, weights=np.full(3, weight))
    np.testing.assert_allclose(found.residuals, (size * weight) * size / 3, rtol=1e-12)
    np.testing.assert_allclose(found.x, np.array([4, 7]) / 3 * size, rtol=1e-14)


@pytest.mark.parametrize("rcond", [None, 1e-15])
def test_rows_of_one_length_do_not_hide_what_the_weighted_ones_show(rcond):
    """By lengths the light rows hide the second unknown and show the third; by weights it is the other way round."""
    m, delta = 300, 2.0**-41
    a, b, weights = np.tile([1.0, 0, 0], (m, 1)), np.ones(m), np.full(m, 1e-36)
    a[1], a[2], b[1], weights[:2] = (1, delta, 0), (0, 0, 1), 1 + delta, 1
    x, _, rank, _ = lstsq(a, b, rcond, weights=weights)
    assert rank == 2
    np.testing.assert_allclose(x, [1, 1, 0], atol=1e-3)
