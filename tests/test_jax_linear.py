"""To JAX, x is a linear function of b: `linear_transpose` and whatever is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq import lstsq

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytest.importorskip("lstsq_jax")
pytestmark = pytest.mark.usefixtures("unoptimised", "double")


def random(shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(shape)
    return jnp.asarray(real + 1j * rng.standard_normal(shape) if dtype == "complex128" else real)


def transpose(a, b, c):
    (result,) = jax.linear_transpose(lambda b: lstsq(a, b).x, b)(c)
    return result


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(("m", "n"), [(7, 3), (4, 4), (3, 7)], ids=["tall", "square", "wide"])
def test_transpose_by_the_right_hand_side(m, n, dtype):
    a, b, c = random((m, n), dtype), random((m, 2), dtype, 1), random((n, 2), dtype, 2)
    a = a.at[:, 1].set(a[:, 0])
    expected = np.linalg.pinv(np.asarray(a), rcond=1e-10).T @ np.asarray(c)
    for f in (transpose, jax.jit(transpose)):
        np.testing.assert_allclose(f(a, b, c), expected, atol=1e-13)
    np.testing.assert_allclose(transpose(a, b[:, 0], c[:, 0]), expected[:, 0], atol=1e-13)


def test_transpose_at_any_scale():
    a, b, c = random((7, 3)), random((7, 2)), random((3, 2), seed=2)
    expected = np.linalg.pinv(np.asarray(a)).T @ np.asarray(c)
    scales = jnp.asarray([1e-200, 1e100])
    np.testing.assert_allclose(transpose(a * 1e100, b, c * scales) / scales * 1e100, expected, rtol=1e-12)


def test_transpose_of_batches():
    a, b, c = random((7, 3)), random((5, 7, 2)), random((5, 3, 2), seed=2)
    expected = np.linalg.pinv(np.asarray(a)).T @ np.asarray(c)
    np.testing.assert_allclose(transpose(a, b, c), expected, atol=1e-13)
    np.testing.assert_allclose(jax.vmap(transpose, (None, 0, 0))(a, b, c), expected, atol=1e-13)
    mapped = jax.linear_transpose(jax.vmap(lambda b: lstsq(a, b).x), b)(c)[0]
    np.testing.assert_allclose(mapped, expected, atol=1e-13)


def test_compositions():
    a, b, c = random((7, 3)), random(7), random(3, seed=2)
    x = lstsq(a, b).x
    twice = jax.linear_transpose(lambda c: transpose(a, b, c), c)(b)[0]
    np.testing.assert_allclose(twice, x, rtol=1e-13)
    expected = transpose(a, b, c)
    for value, derivative in (
        jax.jvp(lambda c: transpose(a, b, c), (c,), (c,)),
        jax.jit(lambda c: jax.jvp(lambda c: transpose(a, b, c), (c,), (c,)))(c),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(derivative, expected, rtol=1e-13)
    back = jax.vjp(lambda c: transpose(a, b, c), c)[1](b)[0]
    np.testing.assert_allclose(back, x, rtol=1e-13)
    linear = jax.linearize(lambda b: lstsq(a, b).x, b)[1]
    np.testing.assert_allclose(linear(b), x, rtol=1e-12)
    np.testing.assert_allclose(jax.linear_transpose(linear, b)(c)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vjp(lambda b: lstsq(a, b).x, b)[1](c)[0], expected, rtol=1e-12)
    # By the matrix: the transpose depends on it as the gradient of cᵀ x does.
    of_transpose = jax.grad(lambda a: transpose(a, b, c) @ b)(a)
    np.testing.assert_allclose(of_transpose, jax.grad(lambda a: lstsq(a, b).x @ c)(a), rtol=1e-11)


def test_nan_stays_in_its_column():
    a, b, c = random((7, 3)), random((7, 2)), random((3, 2), seed=2)
    bad = transpose(a, b, c.at[0, 1].set(jnp.nan))
    np.testing.assert_array_equal(bad[:, 0], transpose(a, b, c)[:, 0])
    assert np.isnan(bad[:, 1]).all()
    assert np.isnan(transpose(a.at[0, 0].set(jnp.nan), b, c)).all()
