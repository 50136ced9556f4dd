"""JAX's own switches, by which a caller forbids what JAX would otherwise do without a word."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq import lstsq

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytest.importorskip("lstsq_jax")
pytestmark = pytest.mark.usefixtures("unoptimised")


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    real = 4 * rng.standard_normal(shape)
    array = real + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else real
    return jnp.asarray(array.astype("float32") if dtype == "bfloat16" else array).astype(dtype)


def real_sum(result):
    x, residuals, _, s = result
    return (x * x.conj()).real.sum() + residuals.sum() + s.sum()


@pytest.mark.parametrize(
    ("x64", "dtype"),
    [(False, "bfloat16"), (False, "complex64"), (True, "bool"), (True, "complex64")],
)
def test_strict_promotion(x64, dtype):
    """Strict: no two dtypes meet, the ranks of no two arrays differ, and nothing is NaN on the way."""
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        for rcond, shape_a, shape_b in ((None, (6, 3), (6,)), (-1, (2, 3, 6), (3, 2)), (0.5, (4, 4), (2, 4, 2))):
            a, b = random(shape_a, dtype), random(shape_b, dtype, 1)
            got = lstsq(a, b, rcond)
            with jax.numpy_dtype_promotion("standard"):
                expected = lstsq(a, b, rcond)
            for one, other in zip(got, expected):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(jax.jit(lstsq)(a, b, 0.5).rank, got.rank)
        for empty_a, empty_b in ((a, b[..., :0]), (a[:0], b[:, :0]), (a[:, :0], b)):
            assert lstsq(empty_a, empty_b).residuals.dtype == got.residuals.dtype
        if jnp.issubdtype(a.dtype, jnp.inexact):
            of_a, of_b = jax.jit(jax.grad(lambda a, b: real_sum(lstsq(a, b)), (0, 1)))(a, b)
            assert (of_a.dtype, of_b.dtype) == (a.dtype, b.dtype)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_strict_promotion_of_second_derivatives(dtype):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        a, b = random((5, 3), dtype), random((5, 2), dtype, 1)
        first = jax.grad(lambda a: real_sum(lstsq(a, b)))
        assert np.isfinite(jax.jit(lambda a: jax.jvp(first, (a,), (a,))[1])(a)).all()


def test_transfers_may_be_forbidden():
    a, b, stack, integers = (random(shape, "float32") for shape in ((6, 3), (6,), (4, 6, 2), (6, 1)))
    integers = integers.astype(int)
    batch, none, no_rows, no_right = jnp.stack([a] * 4), stack[..., :0], a[:0], b[:0]
    numbers = b.tolist()
    calls = {
        "vector": lambda: lstsq(a, b),
        "batch": lambda: lstsq(batch, stack),
        "one matrix": lambda: lstsq(a, stack),
        "a matrix for each": lambda: lstsq(batch, b),
        "integers": lambda: lstsq(a, integers),
        "no right-hand side": lambda: lstsq(batch, none),
        "one matrix without right-hand sides": lambda: lstsq(a, none),
        "no rows": lambda: lstsq(no_rows, no_right),
        "list": lambda: lstsq(a, numbers),
        "list for a": lambda: lstsq([[1, 2]] * 6, b),
        "cutoff": lambda: lstsq(a, b, 0.1),
        "negative cutoff": lambda: lstsq(a, b, -1),
        "vmap": lambda: jax.vmap(lambda b: lstsq(a, b))(stack),
        "jit": lambda: jax.jit(lstsq)(a, b),
        "gradient": lambda: jax.jit(jax.grad(lambda a: lstsq(a, b).x.sum()))(a),
    }
    for name, call in calls.items():
        expected = jax.tree.leaves(call())
        with jax.transfer_guard("disallow"):
            got = jax.tree.leaves(call())
        for one, other in zip(got, expected):
            np.testing.assert_array_equal(one, other, err_msg=name)
