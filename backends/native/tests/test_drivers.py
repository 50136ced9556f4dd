"""The drivers against gelsd in double precision, above all where they choose between ways: blocks, cores, fallbacks."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from operation import DRIVERS, DTYPES, assert_same, reference, solve, to_mlx

EPS = {"float32": 2.0**-23, "complex64": 2.0**-23, "float64": 2.0**-52}

# Whole and in blocks (from 8192 entries on, at most 64 wide), on both sides of each boundary, and batches of one.
SHAPES = [
    (1, 1), (1, 4), (4, 1), (5, 3), (3, 5), (6, 6), (16, 10), (15, 10), (10, 16), (70, 64), (600, 65),
    (4095, 2), (4096, 2), (2, 4096), (2, 4095), (513, 64), (64, 513), (5000, 5), (5, 5000), (8193, 1), (1, 8193),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_full_rank(draw, m, n, driver, dtype):
    a, b = draw(m, n, dtype=dtype), draw(m, 3, dtype=dtype)
    got, want = solve(a, b, driver=driver), reference(a, b)
    condition = want.s[0] / want.s[-1]
    tolerance = 10 * EPS[dtype] * max(condition, 10)
    assert got.rank == min(m, n)
    assert np.linalg.norm(got.x - want.x) <= tolerance * np.linalg.norm(want.x)
    np.testing.assert_allclose(got.s, want.s, rtol=0, atol=30 * EPS[dtype] * want.s[0])
    np.testing.assert_allclose(got.residuals, want.residuals, rtol=tolerance, atol=1e-24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("m", "n"), [shape for shape in SHAPES if min(shape) > 1])
def test_deficient(draw, m, n, driver, dtype):
    rank = (min(m, n) + 1) // 2
    a = (draw(m, rank) @ draw(rank, n)).astype(dtype) * (1 + 2j if dtype == "complex64" else 1)
    a, b = a.astype(dtype), draw(m, 2, dtype=dtype)
    got, want = solve(a, b, 1e-5, driver), reference(a, b, 1e-5)
    condition = want.s[0] / want.s[rank - 1]
    assert got.rank == want.rank == rank
    # Rounding the product to float32 moved the kept singular vectors of the reference just as far.
    tolerance = 100 * EPS[dtype] * condition
    assert np.linalg.norm(got.x - want.x) <= tolerance * np.linalg.norm(want.x)
    np.testing.assert_allclose(got.residuals, want.residuals, rtol=tolerance)
    assert np.count_nonzero(got.s > 1e-5 * got.s[0]) == rank


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("m", "n"), [(40, 20), (20, 40), (30, 30), (3000, 4), (4, 3000)])
@pytest.mark.parametrize("exponent_a", [-990, -300, 0, 300, 990])
@pytest.mark.parametrize("exponent_b", [-300, 0, 300])
def test_scale(draw, m, n, driver, exponent_a, exponent_b):
    """Powers of two change nothing but the exponents, and rounding where another method takes over."""
    a, b = draw(m, n), draw(m, 2)
    got, want = solve(np.ldexp(a, exponent_a), np.ldexp(b, exponent_b), 1e-12, driver), solve(a, b, 1e-12, driver)
    with np.errstate(over="ignore", under="ignore"):
        x = np.ldexp(want.x, exponent_b - exponent_a)
        largest = abs(x[np.isfinite(x)]).max(initial=0)
        np.testing.assert_allclose(got.x, x, rtol=1e-12, atol=1e-14 * largest)
        np.testing.assert_allclose(got.s, np.ldexp(want.s, exponent_a), rtol=1e-12)
        np.testing.assert_allclose(got.residuals, np.ldexp(want.residuals, 2 * exponent_b), rtol=1e-11, atol=1e-300)
    assert got.rank == want.rank


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("m", "n"), [(50, 7), (7, 50), (20, 20), (5000, 7), (7, 5000)])
def test_residual_of_a_consistent_system_is_rounding(draw, m, n, driver):
    for rank in (min(m, n), min(m, n) - 2):
        a = draw(m, rank) @ draw(rank, n)
        b = a @ draw(n, 1)
        got = solve(a, b, 1e-12, driver)
        assert got.rank == rank
        assert got.residuals[0] <= (100 * EPS["float64"]) ** 2 * (b**2).sum()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("m", "n"), [(60, 6), (6, 60), (6, 6), (3000, 6), (6, 3000)])
def test_rank_is_the_count_of_singular_values_above_the_cutoff(draw, m, n, driver):
    """At cutoffs that lie on a singular value, just below and just above."""
    values = np.array([1, 0.5, 0.25, 0.125, 1e-3, 1e-6])
    u, v = np.linalg.qr(draw(m, 6))[0], np.linalg.qr(draw(n, 6))[0]
    a, b = u * values @ v.T, draw(m, 1)
    exact = solve(a, b, 0.0, "svd").s
    for rcond in (
        0,
        1e-300,
        1e-9,
        *(values[1:] * (1 - 1e-9)),
        *(values[1:] * (1 + 1e-9)),
        *(exact / exact[0]),
        2,
        np.inf,
    ):
        got = solve(a, b, rcond, driver)
        assert got.rank == np.count_nonzero(got.s > rcond * got.s[0]), rcond
        np.testing.assert_allclose(got.s, values, rtol=1e-9)
        kept = int(got.rank)
        want = v[:, :kept] @ ((u[:, :kept].T @ b) / values[:kept, None])
        np.testing.assert_allclose(got.x, want, atol=1e-8 * max(abs(want).max(), 1))
        if kept == 0:
            np.testing.assert_allclose(got.residuals, (b**2).sum(0), rtol=1e-14)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3), (9000, 1), (1, 9000)])
def test_zeros(driver, shape):
    got = solve(np.zeros(shape), np.ones((shape[0], 2)), 0.0, driver)
    assert got.rank == 0
    assert not got.x.any()
    assert not got.s.any()
    np.testing.assert_array_equal(got.residuals, [shape[0]] * 2)


def test_qr_never_returns_garbage(draw):
    """Kahan's triangle looks well conditioned to all that only look at its diagonal."""
    n, c = 60, 0.285
    kahan = np.diag((1 - c**2) ** (np.arange(n) / 2)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    b = draw(n, 1)
    rcond = 1e-6
    got, want = solve(kahan, b, rcond, "qr"), reference(kahan, b, rcond)
    assert want.rank < n
    assert got.rank == want.rank
    np.testing.assert_allclose(got.x, want.x, rtol=0, atol=1e-8 * abs(want.x).max())


@pytest.mark.parametrize("driver", DRIVERS)
def test_wide_blocks_are_as_accurate_as_one_factorisation(draw, driver):
    """x = A^H w instead of x = Q y: the error must stay of the order of the condition number, not of its square."""
    u, v = np.linalg.qr(draw(20, 20))[0], np.linalg.qr(draw(1000, 20))[0]
    values = np.geomspace(1, 1e-9, 20)
    a, b = u * values @ v.T, draw(20, 1)
    want = v @ ((u.T @ b) / values[:, None])
    got = solve(a, b, 1e-12, driver)
    assert got.rank == 20
    assert np.linalg.norm(got.x - want) <= 1e-5 * np.linalg.norm(want)
    outside = got.x - v @ (v.T @ got.x)
    assert np.linalg.norm(outside) <= 1e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_batch_is_its_elements(draw, driver, dtype):
    """Full rank, deficient, zero and not finite side by side: nothing that LAPACK writes reaches the next element.

    Nor the next right-hand side: one that is not finite has no answer, and that is all.
    """
    a, b = draw(2, 3, 6, 4, dtype=dtype), draw(2, 3, 6, 2, dtype=dtype)
    a[0, 1, :, 3] = a[0, 1, :, 0]
    a[1, 0] = 0
    a[1, 1, 2, 2] = np.nan
    b[1, 2, 0, 0] = np.inf
    together = solve(a, b, 1e-5, driver)
    for index in np.ndindex(2, 3):
        alone = solve(a[index], b[index], 1e-5, driver)
        assert_same((field[index] for field in together), alone)
    assert np.isnan(together.x[1, 1]).all()
    assert np.isnan(together.residuals[1, 1]).all()
    assert np.isnan(together.s[1, 1]).all()
    np.testing.assert_array_equal(together.rank, [[4, 3, 4], [0, 0, 4]])
    b[1, 2, 0, 0] = 0
    without = solve(a[1, 2], b[1, 2], 1e-5, driver)
    assert np.isnan(together.x[1, 2, :, 0]).all()
    assert np.isnan(together.residuals[1, 2, 0])
    assert_same([together.s[1, 2]], [without.s])
    np.testing.assert_allclose(together.x[1, 2, :, 1], without.x[:, 1], rtol=1e3 * EPS[dtype])
    np.testing.assert_allclose(together.residuals[1, 2, 1], without.residuals[1], rtol=1e3 * EPS[dtype])


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (3000, 4)])
def test_any_layout(draw, driver, shape):
    """Transposed, strided, reversed and broadcast arrays are read where they lie."""
    a, b = draw(*shape), draw(shape[0], 2)
    want = solve(a, b, driver=driver)
    big = mx.zeros((3, 2 * shape[0], 3 * shape[1]), dtype=mx.float64)
    big[1, ::2, 1::3] = to_mlx(a)
    layouts = {
        "transposed": (mx.transpose(to_mlx(a.T.copy())), mx.transpose(to_mlx(b.T.copy()))),
        "strided": (big[1, ::2, 1::3], to_mlx(np.repeat(b, 2, axis=0))[::2]),
        "reversed": (to_mlx(a[::-1, ::-1].copy())[::-1, ::-1], to_mlx(b[::-1].copy())[::-1]),
    }
    for name, (a_view, b_view) in layouts.items():
        got = solve(a_view, b_view, driver=driver)
        for one, other in zip(got, want):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14, err_msg=name)
    repeated = solve(
        mx.broadcast_to(to_mlx(a), (2, 3, *a.shape)), mx.broadcast_to(to_mlx(b), (2, 3, *b.shape)), driver=driver
    )
    assert_same(repeated, (np.broadcast_to(field, (2, 3, *field.shape)) for field in want))
