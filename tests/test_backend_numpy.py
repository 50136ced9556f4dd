"""White-box tests of the NumPy backend."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.linalg import LinAlgError

from lstsq_numpy import NumpyBackend
from lstsq_numpy import _gelsd as gelsd

A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
PSEUDO_INVERSE_TIMES_A = np.array([[5.0, 2.0, -1.0], [2.0, 2.0, 2.0], [-1.0, 2.0, 5.0]]) / 6


def solve(a, b, rcond=1e-14):
    return NumpyBackend().solve(a, b, rcond, "gelsd")


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

    monkeypatch.setattr(gelsd.np.linalg, "lstsq", diverge)
    x, _, rank, _ = solve(A, A)
    assert rank == 2
    np.testing.assert_allclose(x, PSEUDO_INVERSE_TIMES_A)
    monkeypatch.setattr(gelsd.np.linalg, "svd", lambda *_, **__: diverge())
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


@pytest.mark.parametrize("spoilt", [0, 1])
def test_what_is_not_finite_is_named(spoilt):
    operands = [np.ones((2, 3, 3)), np.ones((2, 3, 1))]
    operands[spoilt][1, 2, 0] = np.nan
    with pytest.raises(LinAlgError, match=rf"^{'ab'[spoilt]} holds nan at index \(1, 2, 0\); expected finite"):
        solve(*operands)
