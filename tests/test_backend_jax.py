"""White-box tests of the JAX backend: its derivatives, its two precisions, and what it asks XLA to do."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq_numpy import NumpyBackend

jax = pytest.importorskip("jax")
jnp = jax.numpy
JaxBackend = pytest.importorskip("lstsq_jax").JaxBackend


@pytest.fixture(params=[False, True], ids=["single", "double"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def solve(a, b, rcond=1e-6):
    return JaxBackend().solve(a, b, rcond, "svd")


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(shape)
    return (real + 1j * rng.standard_normal(shape) if dtype == "complex128" else real).astype(dtype)


def matrix(m, n, s, dtype="float64"):
    u = np.linalg.qr(random((m, len(s)), dtype, 1))[0]
    v = np.linalg.qr(random((n, len(s)), dtype, 2))[0]
    return (u * np.array(s)) @ v.conj().T


def difference(f, h):
    """The central difference of f(t), a tuple, at 0."""
    return [(np.asarray(p) - np.asarray(q)) / (2 * h) for p, q in zip(f(h), f(-h))]


@pytest.mark.parametrize(
    ("a", "gradient"),
    [
        (np.eye(3), -np.ones((3, 3))),
        (np.eye(5)[:, :3], np.repeat([-1.0, 1.0], [3, 2])[:, None] * np.ones(3)),
        (np.zeros((3, 2)), np.zeros((3, 2))),
        (np.arange(1.0, 10).reshape(3, 3), np.array([[-1, 0, 1], [0, 0, 0], [1, 0, -1]]) / 12),
    ],
    ids=["eye", "tall eye", "zeros", "1 to 9"],
)
def test_gradient_where_singular_values_are_equal_or_zero(x64, a, gradient):
    a = jnp.asarray(a)
    b = jnp.ones((a.shape[0], 1), a.dtype)
    got, wrt_b = jax.grad(lambda a, b: solve(a, b).x.sum(), (0, 1))(a, b)
    assert np.isfinite(wrt_b).all()
    np.testing.assert_allclose(got, gradient, atol=1e-14 if x64 else 5e-6)


POINTS = pytest.mark.parametrize(
    ("s", "rcond", "dtype"),
    [
        pytest.param((3, 2, 1, 0.5), 1e-10, "complex128", id="full rank"),
        pytest.param((1, 1, 1, 0.5), 1e-10, "complex128", id="equal"),
        pytest.param((1, 0.5, 1e-3, 2e-4), 1e-2, "complex128", id="cut off"),
        pytest.param((1, 0.5, 1e-3, 2e-4), 1e-2, "float64", id="cut off, real"),
        pytest.param((1, 1, 1e-3, 1e-3), 1e-2, "complex128", id="equal and cut off"),
        pytest.param((1, 1, 1e-3, 0), 1e-2, "complex128", id="cut off and zero"),
        pytest.param((2, 1, 0.95, 0.5), 0.45, "complex128", id="large and cut off"),
    ],
)
SHAPES = pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 4), (4, 6)], ids=["tall", "square", "wide"])


@POINTS
@SHAPES
def test_derivatives_to_second_order(double, m, n, s, rcond, dtype):
    a, b = matrix(m, n, s, dtype), random((m, 2), dtype)
    da, db = random((m, n), dtype, 3), random((m, 2), dtype, 4)
    ea, eb = random((m, n), dtype, 5), random((m, 2), dtype, 6)
    wx, wr = random((n, 2), dtype, 7), random((2,), "float64", 8)

    def f(a, b):
        return solve(a, b, rcond)[:2]

    def first(a, b):
        return jax.jvp(f, (a, b), (da, db))[1]

    def weighted(x, residuals):
        return jnp.vdot(wx, x).real + jnp.vdot(wr, residuals)

    def along(gradients, da, db):  # JAX's gradient is the conjugate of the steepest ascent.
        return (jnp.sum(gradients[0] * da) + jnp.sum(gradients[1] * db)).real

    def reverse(a, b):
        return along(jax.grad(lambda a, b: weighted(*f(a, b)), (0, 1))(a, b), da, db)

    # Forward, against differences of NumPy's solution.
    d1 = jax.jit(first)(a, b)
    numpys = difference(lambda t: NumpyBackend().solve(a + t * da, b + t * db, rcond, "gelsd")[:2], 1e-6)
    for got, expected in zip(d1, numpys):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7 * (1 + np.abs(expected).max()))
    # Forward twice, against differences of the first derivative.
    d2 = jax.jit(lambda a, b: jax.jvp(first, (a, b), (ea, eb))[1])(a, b)
    once = jax.jit(first)
    for got, expected in zip(d2, difference(lambda t: once(a + t * ea, b + t * eb), 1e-6)):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * (1 + np.abs(expected).max()))
    # Reverse, and reverse over reverse, against forward.
    np.testing.assert_allclose(jax.jit(reverse)(a, b), weighted(*d1), rtol=1e-11, atol=1e-11)
    twice = along(jax.jit(jax.grad(reverse, (0, 1)))(a, b), ea, eb)
    np.testing.assert_allclose(twice, weighted(*d2), rtol=1e-10, atol=1e-10)


def test_equal_values_to_ten_digits(double):
    a, b = matrix(6, 4, (1, 1, 1, 0.5)), random((6, 1), "float64")
    got = jax.jacfwd(lambda a: solve(a, b, 1e-10).x)(a)
    # For full rank, in closed form: dx = (AᵀA)⁻¹ dAᵀ r − A⁺ dA x.
    x, r = np.linalg.pinv(a) @ b, b - a @ np.linalg.pinv(a) @ b
    g = np.linalg.inv(a.T @ a)
    expected = np.einsum("np,mk->nkmp", g, r) - np.einsum("nm,pk->nkmp", np.linalg.pinv(a), x)
    np.testing.assert_allclose(got, expected, atol=1e-10, rtol=0)


@SHAPES
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_singular_values_to_second_order(double, m, n, dtype):
    a, da, ea = matrix(m, n, (3, 2, 1, 0.5), dtype), random((m, n), dtype, 3), random((m, n), dtype, 4)

    def s(a):
        return solve(a, jnp.ones((m, 1), a.dtype)).s

    first = jax.jit(lambda a: jax.jvp(s, (a,), (da,))[1])
    (expected,) = difference(lambda t: (np.linalg.svd(a + t * da, compute_uv=False),), 1e-6)
    np.testing.assert_allclose(first(a), expected, atol=1e-7)
    (expected,) = difference(lambda t: (first(a + t * ea),), 1e-6)
    np.testing.assert_allclose(jax.jvp(first, (a,), (ea,))[1], expected, atol=1e-6)


def test_symmetric_functions_of_equal_singular_values(double):
    a = matrix(6, 4, (1, 1, 1, 0.5))
    got = jax.grad(lambda a: (solve(a, jnp.ones((6, 1))).s ** 2).sum())(a)
    np.testing.assert_allclose(got, 2 * a, atol=1e-14)


def test_second_derivative_of_a_sum_of_equal_singular_values(double):
    a, da, ea = matrix(6, 4, (1, 1, 1, 0.5)), random((6, 4), "float64", 3), random((6, 4), "float64", 4)

    def first(a):
        return jax.jvp(lambda a: solve(a, jnp.ones((6, 1))).s[:3].sum(), (a,), (da,))[1]

    (expected,) = difference(lambda t: (first(a + t * ea),), 1e-6)
    np.testing.assert_allclose(jax.jvp(first, (a,), (ea,))[1], expected, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-60, 60])
def test_derivatives_do_not_overflow_in_between(exponent):
    with jax.enable_x64(False):
        scale = 2.0**exponent
        a, b = jnp.asarray(matrix(6, 4, (3, 2, 1, 0.5))), jnp.asarray(random((6, 1), "float64"))
        expected = jax.grad(lambda a: solve(a, b).x.sum())(a)
        scaled = jax.grad(lambda a: solve(a, b * scale).x.sum())(a * scale)
        np.testing.assert_array_equal(scaled * scale, expected)  # Scaling by a power of two changes no digit.


def test_nan_stays_in_its_element_and_in_its_gradient(x64):
    a, b = jnp.stack([jnp.eye(3)] * 4), jnp.ones((4, 3, 1))
    a, b = a.at[1, 0, 0].set(jnp.nan), b.at[2, 0, 0].set(jnp.inf)
    lost = np.array([False, True, True, False])
    answer = jax.jit(solve)(a, b)
    np.testing.assert_array_equal(answer.rank, np.where(lost, 0, 3))
    gradients = jax.grad(lambda a, b: solve(a, b).x.sum(), (0, 1))(a, b)
    for array in (answer.x, answer.residuals, answer.s, *gradients):
        expected = np.broadcast_to(lost.reshape(-1, *[1] * (array.ndim - 1)), array.shape)
        np.testing.assert_array_equal(np.isnan(array), expected)


def test_mapping_over_b_alone_factorises_once():
    a, b = jnp.eye(3), jnp.ones((7, 3, 1))
    jaxpr = str(jax.make_jaxpr(jax.vmap(lambda b: solve(a, b)))(b))
    (line,) = [line for line in jaxpr.split("\n") if " = svd[" in line]
    assert "[7" not in line


def test_float32_is_solved_in_double_where_jax_has_it(double):
    a, b = matrix(50, 5, np.logspace(0, -5, 5)).astype("float32"), random((50, 1), "float32")
    np.testing.assert_allclose(
        solve(jnp.asarray(a), jnp.asarray(b)).x, NumpyBackend().solve(a, b, 1e-6, "gelsd").x, rtol=1e-6
    )


def test_no_digits_are_lost_over_many_rows(x64):
    a = jnp.arange(10_000_000, dtype=jnp.float32)[:, None]
    np.testing.assert_allclose(solve(a, 3 * a).x, 3, rtol=1e-6)
    a = random((500_000, 3), "float32")
    a[:, 2] *= np.float32(0.02)
    b = a @ np.array([[1], [2], [3]], np.float32)
    answer = solve(jnp.asarray(a), jnp.asarray(b), 16 * 2.0**-23)
    np.testing.assert_allclose(answer.x[:, 0], [1, 2, 3], rtol=2e-6)
    assert answer.rank == 3


def test_equal_columns_are_found_in_single_precision(x64):
    t = np.arange(1, 11)
    a = np.stack([np.ones(10), t, t], axis=1).astype("float32")
    b = np.isin(t, (1, 7)).astype("float32")[:, None]
    answer = solve(jnp.asarray(a), jnp.asarray(b), 10 * 2.0**-23)
    assert answer.rank == 2
    np.testing.assert_allclose(answer.x[:, 0], [2 / 5, -1 / 55, -1 / 55], rtol=2e-5)


def test_a_value_just_above_the_cutoff_is_kept(x64):
    above = np.float32(0.3)  # 0.30000001
    assert solve(jnp.asarray(np.diag([np.float32(1), above])), jnp.ones((2, 1), "float32"), 0.3).rank == 2


def test_double_precision_is_refused_while_jax_has_none():
    with jax.enable_x64(False):
        assert "jax_enable_x64" in JaxBackend().refuse("complex128", "svd")
        assert JaxBackend().refuse("float32", "svd") is None
        for dtype in ("float64", "complex128"):
            with pytest.raises(TypeError, match="jax_enable_x64"):
                JaxBackend().from_numpy(np.ones(3, dtype))
    with jax.enable_x64(True):
        assert JaxBackend().refuse("complex128", "svd") is None
        assert JaxBackend().from_numpy(np.ones(3, ">f8")).dtype == np.float64


def test_from_numpy_copies():
    array = np.ones(1000, "float32")
    converted = JaxBackend().from_numpy(array)
    array[:] = 2
    np.testing.assert_array_equal(converted, 1)
