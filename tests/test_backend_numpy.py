"""White-box tests of the NumPy backend."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.linalg import LinAlgError

from lstsq import _originals
from lstsq_numpy import NumpyBackend, _solve

A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
PSEUDO_INVERSE_TIMES_A = np.array([[5.0, 2.0, -1.0], [2.0, 2.0, 2.0], [-1.0, 2.0, 5.0]]) / 6


def solve(a, b, rcond=1e-14, driver="gelsd"):
    return NumpyBackend().solve(a, b, rcond, driver)


DRIVERS = pytest.mark.parametrize("driver", ["gelsd", "svd"])


@pytest.mark.parametrize("rcond", [1.0, 2.0, np.inf])
def test_everything_is_zero_from_rcond_1_on(rcond):
    x, residuals, rank, s = solve(A, A, rcond)
    assert rank == 0
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_allclose(residuals, (A**2).sum(0))
    np.testing.assert_allclose(s[:2], np.linalg.svd(A)[1][:2])


def test_rcond_0_keeps_what_lapack_would_cut_off():
    x, _, rank, _ = solve(np.diag([1.0, 1e-30]), np.ones((2, 1)), 0.0)
    assert rank == 2
    np.testing.assert_allclose(x[:, 0], [1, 1e30])
    assert solve(np.diag([1.0, 0.0]), np.ones((2, 1)), 0.0).rank == 1


def test_another_driver_follows_where_gelsd_does_not_converge(monkeypatch):
    def diverge(*_):
        raise LinAlgError("SVD did not converge in Linear Least Squares")

    monkeypatch.setattr(_originals, "lstsq", diverge)
    x, _, rank, _ = solve(A, A)
    assert rank == 2
    np.testing.assert_allclose(x, PSEUDO_INVERSE_TIMES_A)
    monkeypatch.setattr(_originals, "svd", lambda *_, **__: diverge())
    with pytest.raises(LinAlgError, match="did not converge"):
        solve(A, A)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">c8", ">c16"])
def test_foreign_byte_order_gives_native_results(dtype):
    a = A.astype(dtype)
    a.flags.writeable = False
    x, residuals, rank, s = solve(a[::-1, ::-1], a[::-1, ::-1], 1e-6)
    assert x.dtype == a.dtype.newbyteorder("=")
    assert all(array.dtype.isnative for array in (x, residuals, s))
    assert rank == 2
    np.testing.assert_allclose(x, PSEUDO_INVERSE_TIMES_A, rtol=1e-6)


def test_residuals_near_overflow_are_not_lost():
    a = np.diag([1e305, 1e295]) + np.array([[0, 1e305], [0, 0]])
    b = np.array([[1e305], [1e305]])  # x is about 1e10, and a x overflows term by term.
    assert not np.isnan(solve(a, b, 0.0).residuals).any()


def test_one_matrix_of_the_batch_at_a_time_is_held_in_double():
    a, b = np.ones((64, 1000, 16), np.float32), np.ones((64, 1000, 1), np.float32)
    tracemalloc.start()
    solve(a, b, 1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < a.nbytes  # A quarter for isfinite; the whole batch in double would be twice.


def test_a_matrix_that_is_not_finite_is_named():
    a = np.ones((2, 3, 3))
    a[1, 2, 0] = np.nan
    with pytest.raises(LinAlgError, match=r"^a holds nan at index \(1, 2, 0\); expected finite"):
        solve(a, np.ones((2, 3, 1)))


@DRIVERS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.nan), complex(1, -np.inf)])
@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7), (60, 40)])
def test_a_right_hand_side_that_is_not_finite_spoils_its_own_column_only(shape, bad, driver):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape)), rng.standard_normal((2, shape[0], 4))
    if isinstance(bad, complex):
        a, b = a + 1j, b + 1j
    clean = solve(a, b, driver=driver)
    b[1, shape[0] // 2, 2] = bad
    x, residuals, rank, s = solve(a, b, driver=driver)
    lost = np.zeros((2, 1, 4), bool)
    lost[1, :, 2] = True
    for got, expected, mask in ((x, clean.x, lost), (residuals, clean.residuals, lost[:, 0])):
        mask = np.broadcast_to(mask, got.shape)
        for part in (got.real, got.imag) if np.iscomplexobj(got) else (got,):
            np.testing.assert_array_equal(np.isnan(part), mask)
        np.testing.assert_allclose(got[~mask], expected[~mask], rtol=1e-13)
    np.testing.assert_array_equal(rank, clean.rank)
    np.testing.assert_array_equal(s, clean.s)


@DRIVERS
def test_drivers_agree(driver):
    x, residuals, rank, s = solve(A, A, driver=driver)
    assert rank == 2
    np.testing.assert_allclose(x, PSEUDO_INVERSE_TIMES_A)
    np.testing.assert_allclose(residuals, 0, atol=1e-25)
    np.testing.assert_allclose(s[:2], [16.84810335, 1.06836951], rtol=1e-8)


def test_the_svd_driver_is_not_gelsd(monkeypatch):
    monkeypatch.delattr(_originals, "lstsq")
    assert solve(A, A, driver="svd").rank == 2


# ---------------------------------------------------------------------------------------------------------------------
# Where the cut is narrow. A matrix U diag(d) V' with the signs of Hadamard matrices for U and V and integers (times a
# power of two) for d is exact in double precision, and so are its singular values, d times a constant, and vectors.


def hadamard(n):
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


def straddled(m, n, rank, level, gap, wide, seed):
    """a, b, a cutoff between two singular values, which are `gap` apart at `level` (relative), x and the unit of error.

    The unit is what a relative error of eps in a can do to x.
    """
    rng = np.random.default_rng(seed)
    u = rng.permutation(hadamard(m))[:, rng.permutation(m)[:n]] * rng.choice([-1, 1], m)[:, None]
    v = rng.permutation(hadamard(n))[:, rng.permutation(n)] * rng.choice([-1, 1], n)[:, None]
    above = level * (1 + 10.0 ** -rng.uniform(0, 8, rank))
    above[:2] = 1.0, level
    below = (level - gap) * (1 - 10.0 ** -rng.uniform(0, 8, n - rank))
    below[:1] = level - gap
    d = np.concatenate([above, below])
    d = np.round(d * 2.0**53 / 2 ** np.ceil(np.log2(d.sum()))) * 2.0**-53
    if wide:
        u, v = v, u
    a, b = (u * d) @ v.T, rng.integers(-9, 10, (len(u), 2)).astype(float)
    coefficients = u[:, :rank].T @ b
    x = v[:, :rank] @ (coefficients / d[:rank, None]) / (m * n)
    residual = np.linalg.norm(b - u[:, :rank] @ coefficients / len(u), axis=0)
    smallest, largest_below = d[:rank].min(), d[rank:].max(initial=0.0)
    unit = 2.0**-52 * d.max() / (smallest - largest_below)
    unit = unit * (np.linalg.norm(x, axis=0) + residual / (smallest * np.sqrt(m * n)))
    return a, b, (smallest + largest_below) / 2 / d.max(), x, unit


@DRIVERS
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (64, 64), (128, 64)])
@pytest.mark.parametrize(("level", "gap"), [(1e-11, 1e-13), (1e-9, 2e-10), (1e-4, 1e-12), (0.3, 1e-11), (1e-11, 1e-11)])
def test_a_narrow_cut_gets_what_the_matrix_allows(shape, wide, level, gap, driver):
    m, n = shape
    for seed in range(4):
        rank = (n - 4, n // 2, n - 1, 2 * n // 3)[seed] if gap < level else n - (0, 4, 1, 2)[seed]
        a, b, rcond, x, unit = straddled(m, n, rank, level, gap, wide, seed)
        answer = solve(a, b, rcond, driver)
        assert answer.rank == rank
        error = np.linalg.norm(answer.x - x, axis=0)
        # One eps of A's error makes 1. The SVD makes up to 0.8 with one OpenBLAS and 5.8 with another, gelsd up to 25.
        assert np.all(error <= 10 * unit), error / unit


def test_where_the_cut_goes_through_rounding_errors_the_rank_is_that_of_gelsd():
    # The last singular value is zero but for rounding, and 1e-18 may be less than that.
    a = np.array([[0, 1, 0, 1, 2, 0], [0, 2, 0, 0, 1, 0], [1, 0, 1, 0, 0, 4], [0, 3, 0, 1, 3, 0]], float).T
    for rcond in (2.0**-53, 1e-17, 1e-18):
        answer, lapack = solve(a, np.ones((6, 1)), rcond), np.linalg.lstsq(a, np.ones((6, 1)), rcond)
        assert answer.rank == lapack[2]
        assert np.isfinite(answer.x).all()


# ---------------------------------------------------------------------------------------------------------------------
# Scale. A power of two changes nothing but the exponents.


def times_2_to(exponent, array):
    """Each part alone, since a complex product makes NaN of an infinite part."""
    if np.iscomplexobj(array):
        product = np.empty_like(array)
        product.real, product.imag = times_2_to(exponent, array.real), times_2_to(exponent, array.imag)
        return product
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(array, exponent)


@DRIVERS
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7)])
@pytest.mark.parametrize("rcond", [0.0, 1e-300, 1e-12, 0.3, 2.0])
def test_every_right_hand_side_has_its_own_scale(shape, rcond, dtype, driver):
    rng = np.random.default_rng(0)
    # Few digits, so that subnormal numbers hold them.
    a, b = (np.round(rng.standard_normal(size) * 64) / 64 for size in (shape, (shape[0], 9)))
    if dtype == "complex128":
        a, b = a + 1j * a[::-1], b - 1j * b[::-1]
    scales = np.array([0, -1066, -1000, -600, -332, 332, 600, 900, 1018])
    base = solve(a, b, rcond, driver)
    for scale in (0, -332, 332, -1000, -1066, 1018):
        x, residuals, rank, s = solve(times_2_to(scale, a), times_2_to(scales, b), rcond, driver)
        assert rank == base.rank
        shift = scales - scale
        bounded = np.abs(shift) < 1000  # An x beyond the range, or with digits below it, is looked at elsewhere.
        np.testing.assert_allclose(times_2_to(-shift, x)[:, bounded], base.x[:, bounded], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(s, times_2_to(scale, base.s), rtol=1e-13, atol=1e-320)
        for c, factor in enumerate(2 * scales):
            # Of an equation that is solved exactly, what is left is noise.
            noise = 2.0**-90 * (np.linalg.norm(b[:, c]) + np.linalg.norm(a) * np.linalg.norm(base.x[:, c])) ** 2
            low, high = base.residuals[c] * (1 - 1e-10) - noise, base.residuals[c] * (1 + 1e-10) + noise
            assert times_2_to(factor, low) <= residuals[c] <= times_2_to(factor, high)


@DRIVERS
def test_neighbours_of_a_huge_right_hand_side_keep_their_residuals(driver):
    x, residuals, _, _ = solve(np.ones((3, 1)), np.array([[1e160, 1], [1e160, 2], [3e160, 4]]), 0.0, driver)
    np.testing.assert_allclose(residuals, [np.inf, 14 / 3], rtol=1e-14)
    np.testing.assert_allclose(x, [[5e160 / 3, 7 / 3]], rtol=1e-14)


@DRIVERS
def test_what_leaves_the_range_is_infinite_and_the_rest_right(driver):
    # x overflows.
    x, residuals, rank, s = solve(np.array([[1e-200], [0]]), np.array([[1e200, 1], [3, 2]]), 0.0, driver)
    np.testing.assert_array_equal(x[:, 0], np.inf)
    np.testing.assert_allclose(residuals, [9, 4], rtol=1e-14)
    np.testing.assert_allclose((x[0, 1], rank, s[0]), (1e200, 1, 1e-200), rtol=1e-14)
    # x overflows although a and b are of ordinary size.
    x, residuals, rank, _ = solve(np.diag([1, 1e-300, 0]), np.array([[1.0], [1e20], [2]]), 0.0, driver)
    np.testing.assert_allclose(x[:, 0], [1, np.inf, 0])
    np.testing.assert_allclose((residuals[0], rank), (4, 2))
    # So does s, and x is right.
    a = np.full((4, 4), 1.5e308) * [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    x, residuals, rank, s = solve(a, a[:, :1] / 3, 1e-10, driver)
    np.testing.assert_allclose(x[:, 0], [1 / 3, 0, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(s, np.inf)
    assert rank == 4
    # One part of a complex x does.
    x = solve(np.array([[1e-200 + 0j]]), np.array([[complex(1e200, 1)]]), 0.0, driver).x
    np.testing.assert_allclose((x[0, 0].real, x[0, 0].imag), (np.inf, 1e200), rtol=1e-14)


@DRIVERS
def test_subnormal_numbers_are_numbers(driver):
    tiny = 5e-324
    x, residuals, rank, s = solve(np.array([[tiny, 0], [0, 3 * tiny]]), np.array([[2 * tiny], [6 * tiny]]), 0.0, driver)
    np.testing.assert_allclose(x[:, 0], [2, 2], rtol=1e-14)
    assert (residuals[0], rank) == (0, 2)
    np.testing.assert_array_equal(s, [3 * tiny, tiny])


def test_ordinary_numbers_are_left_as_they_are():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 5)), rng.standard_normal((20, 3))
    x, residuals, _, s = solve(a, b)
    expected = np.linalg.lstsq(a, b, 1e-14)
    np.testing.assert_array_equal(x, expected[0])
    np.testing.assert_array_equal(s, expected[3])
    np.testing.assert_allclose(residuals, expected[1], rtol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# The short way, for numbers that need no scaling, and the long way, for all.


def both_ways(a, b, rcond, driver):
    largest = float(_solve._largest(a, None))
    return _solve._solve_ordinary(a, b, rcond, driver), _solve._solve_one(a, b, largest, rcond, driver)


@DRIVERS
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(1, 1), (10, 3), (3, 3), (3, 10), (60, 40)])
@pytest.mark.parametrize("k", [1, 3])
def test_both_ways_give_the_same_bits(shape, k, dtype, driver):
    rng = np.random.default_rng(1)
    for rank in (1, min(shape)):
        a = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        b = rng.standard_normal((shape[0], k))
        if dtype == "complex128":
            a, b = a + 1j * a[::-1], b - 1j * b[::-1]
        for layout in (np.ascontiguousarray, np.asfortranarray, lambda array: array[::-1]):
            for rcond in (0.0, 1e-12, 0.3, 2.0):
                short, long = both_ways(layout(a), layout(b), rcond, driver)
                for one, other in zip(short, long):
                    np.testing.assert_array_equal(one, other)
                assert [type(part) for part in short] == [type(part) for part in long]


@DRIVERS
@np.errstate(over="ignore", invalid="ignore")
@pytest.mark.parametrize("change", [np.nan, np.inf, 1e100, 1e-100, 1e-320])
def test_the_short_way_leaves_the_rest_to_the_long_one(change, driver):
    a, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 1.0], [3.0, 2.0], [4.0, 4.0]])
    for column in (b[:, :1], b):
        assert _solve._solve_ordinary(a, column, 1e-10, driver) is not None
        assert _solve._solve_ordinary(a, change * column, 1e-10, driver) is None
    assert _solve._solve_ordinary(a, b * [1.0, change], 1e-10, driver) is None
    assert _solve._solve_ordinary(a * change, b, 1e-10, driver) is None


@DRIVERS
@np.errstate(over="ignore", invalid="ignore")
def test_the_short_way_knows_a_solution_or_a_residual_that_is_not_ordinary(driver):
    # A solution beyond the range, a residual whose square is below it, and one that is nothing.
    assert _solve._solve_ordinary(np.diag([1.0, 1e-300]), np.array([[1.0], [1e20]]), 0.0, driver) is None
    tall = np.array([[1.0], [0.0]])
    assert _solve._solve_ordinary(tall, np.array([[1.0], [1e-70]]), 0.0, driver) is None
    assert solve(tall, np.array([[1.0], [1e-170]]), 0.0, driver).residuals[0] == 0.0
    assert _solve._solve_ordinary(tall, tall, 0.0, driver).residuals[0] == 0.0


@DRIVERS
def test_numpy_raises_nothing_where_it_is_told_to(driver):
    a, b = np.array([[1.0, 1e-200], [1e-200, 1.0], [1e-200, 1e-200]]), np.array([[1.0], [1e-200], [1e-170]])
    for scale in (1.0, 1e200, 1e-200, 1e300):
        scaled_a, scaled_b = scale * a, scale * b
        with np.errstate(all="raise"):
            assert solve(scaled_a, b, 1e-10, driver).rank == 2
            assert solve(a, scaled_b, 1e-10, driver).rank == 2
