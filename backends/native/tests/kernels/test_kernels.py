"""The kernels against extended precision, on their own: over conditions, shapes, types, instruction sets, bad input."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernels import (
    CERTIFIED,
    SingleProducts,
    default_rcond,
    gram_values,
    instruction_set,
    reduce,
    reduce_by_gram,
    repeat,
    singular_values,
    solve,
    solve_batch,
    tridiagonalise,
)

REFERENCE = Path(__file__).parents[4] / "conformance" / "lstsq_conformance" / "reference.py"
residual = runpy.run_path(str(REFERENCE))["residual"]

REAL = [np.float32, np.float64]
TYPES = [*REAL, np.complex64, np.complex128]
ISAS = ["baseline", "avx2", "avx512"]
CONDITIONS = [10.0**e for e in range(0, 17)]


def with_condition(rng, m, n, condition, dtype):
    """Singular values from 1 to 1 / condition, geometrically; rounded to dtype."""
    k = min(m, n)
    factors = [rng.standard_normal((size, k)) for size in (m, n)]
    if np.iscomplexobj(np.zeros(0, dtype)):
        factors = [f + 1j * rng.standard_normal(f.shape) for f in factors]
    u, v = (np.linalg.qr(f)[0] for f in factors)
    return ((u * np.geomspace(1, 1 / condition, k)) @ v.conj().T).astype(dtype)


def exact(a, b):
    """The minimum-norm solution at full rank and its residual, each rounded once.

    The augmented system ``p + B q = f, Bᴴ p = g`` holds the least-squares problem (B = a, f = b, g = 0: p is the
    residual, q the solution) and that of minimum norm (B = aᴴ, f = 0, g = b: p is the solution). A solution of it by QR
    is refined with residuals in twice the precision, which converges unless the condition number is near 1 / eps
    (Björck 1996, section 2.9).
    """
    a, b = (array.astype(np.complex128 if np.iscomplexobj(a) else np.float64) for array in (a, b))
    if a.shape[0] >= a.shape[1]:
        r, x = augmented(a, b, np.zeros((a.shape[1], b.shape[1]), a.dtype))
    else:
        x, _ = augmented(a.conj().T, np.zeros((a.shape[1], b.shape[1]), a.dtype), b)
        r = residual(a, x, b)
    return x, r


def augmented(matrix, f, g):
    q_factor, r_factor = np.linalg.qr(matrix)
    p, q = np.zeros_like(f), np.zeros_like(g)
    for _ in range(30):
        # p is one more column beside the matrix, so that nothing is rounded before the sum is complete.
        beside = np.concatenate([np.broadcast_to(matrix, (f.shape[1], *matrix.shape)), p.T[..., None]], axis=-1)
        below = np.concatenate([q, np.ones_like(q[:1])])
        left = residual(beside, below.T[..., None], f.T[..., None])[..., 0].T
        w = np.linalg.solve(r_factor.conj().T, residual(matrix.conj().T, p, g))
        seen = q_factor.conj().T @ left
        p_step, q_step = left - q_factor @ (seen - w), np.linalg.solve(r_factor, seen - w)
        p, q = p + p_step, q + q_step
        # Where p is the residual and nearly 0, there is no digit of it to wait for.
        q_size = abs(q).max()
        p_size = max(abs(p).max(), 1e-15 * np.linalg.norm(matrix) * q_size)
        if abs(p_step).max() <= 1e-15 * p_size and abs(q_step).max() <= 1e-15 * q_size:
            return p, q
    raise AssertionError("the condition number is too large for refinement")


def relative(x, truth):
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth))


def assert_good(a, b, x, residuals, what=""):
    """Forward error at most 10 times NumPy's, or below 10 condition eps; NumPy's rank; a right residual."""
    eps = float(np.finfo(a.dtype).eps)
    wide_type = np.complex128 if np.iscomplexobj(a) else np.float64
    aw, bw = a.astype(wide_type), b.astype(wide_type)
    peer, _, rank, s = np.linalg.lstsq(aw, bw, rcond=default_rcond(a.dtype, *a.shape))
    assert rank == min(a.shape), what
    truth, r = exact(a, b)
    error, peer_error = relative(x, truth), max(relative(peer.astype(a.dtype), truth), eps / 4)
    assert error <= max(10 * peer_error, 10 * eps * s[0] / s[-1]), (what, error, peer_error, s[0] / s[-1])
    if a.shape[0] <= a.shape[1]:  # a system: what is left is rounding, whatever the condition
        left = np.linalg.norm(residual(aw, x.astype(wide_type), bw), axis=0)
        sizes = np.linalg.norm(x.astype(wide_type), axis=0)
        assert (left <= 4 * eps * np.sqrt(max(a.shape)) * s[0] * sizes).all(), (what, left / (eps * s[0] * sizes))
    else:
        sums = (np.abs(r) ** 2).sum(0)
        # b - a x is subject to rounding errors of size eps |a| |x|, whoever computes it, in double precision.
        noise = 2.3e-16 * s[0] * np.linalg.norm(truth, axis=0) * np.sqrt(a.size)
        floor = 2 * noise * np.sqrt(sums) + noise**2 + float(np.finfo(a.real.dtype).smallest_subnormal)
        assert (np.abs(residuals - sums) <= 8 * eps * sums + floor).all(), (what, residuals, sums)


SHAPES = [(1, 1), (4, 3), (7, 7), (50, 17), (200, 40), (180, 130), (70, 70), (140, 140), (20, 90), (130, 180)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_conditions(dtype, shape):
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    certified = []
    for condition in CONDITIONS[:: 1 if n < 100 else 3] if min(shape) > 1 else [1.0]:
        a = with_condition(rng, m, n, condition, dtype)
        inconsistent = rng.standard_normal((m, 1)).astype(dtype)
        consistent = (a @ rng.standard_normal((n, 1))).astype(dtype)
        for b in (inconsistent, consistent):
            answer = solve(a, b)
            if answer.status == CERTIFIED:
                certified.append(condition)
                assert_good(a, b, answer.x, answer.residuals, condition)
    assert max(certified) >= (1e3 if min(shape) > 1 else 1)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(8, 4), (3, 1), (32, 8), (9, 9), (64, 16), (100, 33), (90, 64)])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_batches(dtype, shape, k):
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    conditions = [c for c in CONDITIONS for _ in range(2)] if n > 1 else [1.0] * 5
    a = np.stack([with_condition(rng, m, n, c, dtype) for c in conditions])
    b = rng.standard_normal((len(conditions), m, k)).astype(dtype)
    x, residuals, ok = solve_batch(a, b)
    for i in np.flatnonzero(ok):
        assert_good(a[i], b[i], x[i], residuals[i], conditions[i])
    assert ok[np.array(conditions) <= 1e2].all()


@pytest.mark.parametrize("dtype", REAL)
def test_bad_elements_leave_their_neighbours_alone(dtype):
    rng = np.random.default_rng(5)
    for m, n in ((12, 5), (40, 20)):
        a, b = rng.standard_normal((23, m, n)).astype(dtype), rng.standard_normal((23, m, 1)).astype(dtype)
        clean, _, _ = solve_batch(a, b)
        bad = {0: np.nan, 5: np.inf, 9: 0.0, 22: np.nan}
        for i, value in bad.items():
            a[i, 3, 1] = value
            if value == 0:
                a[i, :, 2] = a[i, :, 0]
        b[13, 2] = np.inf
        b[14, 0] = np.nan
        x, _, ok = solve_batch(a, b)
        expected = np.ones(23, bool)
        expected[[*bad, 13, 14]] = False
        np.testing.assert_array_equal(ok, expected)
        np.testing.assert_array_equal(x[ok], clean[ok])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(30, 10), (200, 140), (100, 100)])
def test_never_certifies_deficient_or_bad_input(dtype, shape):
    rng = np.random.default_rng(7)
    m, n = shape
    good, b = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((m, 1)).astype(dtype)
    assert solve(good, b).status == CERTIFIED
    for change in ("zero", "twice", "nan", "inf", "sum", "b nan", "b inf"):
        a, right = good.copy(), b.copy()
        if change == "zero":
            a[:, 3] = 0
        elif change == "twice":
            a[:, 3] = a[:, 4]
        elif change == "sum":
            a[:, 3] = a[:, 4:].sum(1)
        elif change.startswith("b"):
            right[-1] = np.nan if change == "b nan" else np.inf
        else:
            a[-1, -1] = np.nan if change == "nan" else np.inf
        assert solve(a, right).status != CERTIFIED, change


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(40, 12), (200, 140), (100, 100), (12, 40)])
def test_scales_and_grades(dtype, shape):
    rng = np.random.default_rng(9)
    m, n = shape
    info = np.finfo(dtype)
    certified = 0
    for scale in (1, 1e-3, 1e3, float(info.max) ** 0.9, float(info.tiny) ** 0.9, float(info.max) / 64):
        a = (rng.uniform(-1, 1, (m, n)) * scale).astype(dtype)
        b = rng.standard_normal((m, 1)).astype(dtype)
        answer = solve(a, b)
        if answer.status == CERTIFIED:
            certified += 1
            truth, _ = exact(a / dtype(scale), b)
            assert relative(answer.x.astype(float) * scale, truth) < 1e4 * info.eps
    assert certified >= 3
    grades = np.geomspace(1, 1e-3 if dtype == np.float32 else 1e-9, n)
    a = (rng.standard_normal((m, n)) * grades).astype(dtype)
    b = rng.standard_normal((m, 1)).astype(dtype)
    answer = solve(a, b)
    if answer.status == CERTIFIED:
        assert_good(a, b, answer.x, answer.residuals)
    if m > n:
        assert answer.status == CERTIFIED


@pytest.mark.parametrize("dtype", REAL)
def test_cutoff(dtype):
    """With the cutoff above the smallest singular value nothing is certified; well below it, all is."""
    rng = np.random.default_rng(11)
    for m, n in ((60, 20), (300, 150), (100, 100), (20, 60)):
        a = with_condition(rng, m, n, 100, dtype)
        b = rng.standard_normal((m, 1)).astype(dtype)
        assert solve(a, b, rcond=0.0101).status != CERTIFIED
        assert solve(a, b, rcond=0.0099 / n).status == CERTIFIED
        if m >= n <= 64:
            assert not solve_batch(a[None], b[None], rcond=0.0101)[2].any()
            assert solve_batch(a[None], b[None], rcond=0.0099 / n)[2].all()


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_square_matrices_are_certified_beyond_the_square_root_of_eps(dtype):
    """By LU, whose error grows with the condition number; that of the Gram matrix grows with its square."""
    rng = np.random.default_rng(17)
    a, b = with_condition(rng, 100, 100, 1e9, dtype), rng.standard_normal((100, 1)).astype(dtype)
    answer = solve(a, b, rcond=1e-14)
    assert answer.status == CERTIFIED
    assert_good(a, b, answer.x, answer.residuals)


@pytest.mark.parametrize("dtype", TYPES)
def test_strides_and_many_right_hand_sides(dtype):
    rng = np.random.default_rng(13)
    for m, n, k in ((50, 13, 9), (333, 140, 37), (120, 120, 21), (13, 50, 7)):
        a = rng.standard_normal((m, n + 5)).astype(dtype)[:, 2 : n + 2]
        b = rng.standard_normal((m, k + 3)).astype(dtype)[:, :k]
        answer = solve(a, b)
        assert answer.status == CERTIFIED
        assert_good(a, b, answer.x, answer.residuals)
        without = solve(a, b, residuals=False)
        assert relative(without.x, exact(a, b)[0]) <= 1e3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("shape", [(390, 140), (150, 601)])
def test_gram_matrices_by_another_library(dtype, shape):
    """As good as by our own loops, in blocks that are as short."""
    (m, n), gap = shape, 5
    rng = np.random.default_rng(sum(shape))
    a = with_condition(rng, m, n + gap, 3, dtype)[:, 2 : n + 2]
    b = rng.standard_normal((m, 4)).astype(dtype)[:, :3]
    with SingleProducts() as others:
        answer = solve(a, b)
    assert (answer.status, answer.tier) == (CERTIFIED, 1)
    assert_good(a, b, answer.x, answer.residuals)
    # A wide complex matrix is solved in its real form, which has twice the rows and columns.
    inner = max(shape) * (2 if m < n and dtype == np.complex64 else 1)
    blocks = -(-inner // 192)
    assert (others.grams, others.crosses) == (blocks, blocks if m > n else 0)
    assert others.deepest <= 192
    ours = solve(a, b)
    assert relative(answer.x, ours.x) <= 10 * np.finfo(dtype).eps


def back_substitution(r, c):
    x = c.copy()
    for i in reversed(range(len(r))):
        x[i] = (x[i] - r[i, i + 1 :] @ x[i + 1 :]) / r[i, i]
    return x


LONG_SHAPES = [(1, 1), (5, 1), (30, 7), (129, 24), (127, 25), (300, 60), (600, 70), (2000, 49), (4001, 8)]


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", LONG_SHAPES)
@pytest.mark.parametrize("order", "CF")
def test_reduction_of_any_shape(dtype, shape, order):
    """[R c; 0 left] is an orthogonal image of [A b] up to rounding, at every condition."""
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    for condition in (1.0, 1e3, 1e8, 1e14) if n > 1 else (1.0,):
        a = np.array(with_condition(rng, m, n, condition, dtype), order=order)
        for k in (0, 1, 5, 30):
            b = rng.standard_normal((m, k)).astype(dtype)
            r, c, left = reduce(a, b)
            np.testing.assert_array_equal(r, np.triu(r))
            unit = 2.3e-16 * np.sqrt(m)
            double_a, double_b = a.astype(float), b.astype(float)
            size_a, size_b = np.linalg.norm(double_a), np.linalg.norm(double_b)
            assert abs(r.T @ r - double_a.T @ double_a).max() <= 30 * unit * size_a**2
            assert abs(r.T @ c - double_a.T @ double_b).max(initial=0) <= 30 * unit * size_a * size_b
            squares = (double_b**2).sum(0)
            assert (abs((c**2).sum(0) + left - squares) <= 30 * unit * squares).all()
            values = np.linalg.svd(a.astype(float), compute_uv=False)
            assert abs(np.linalg.svd(r, compute_uv=False) - values).max() <= 30 * unit * values[0]
            if k == 1 and dtype == np.float64 and condition <= 1e8:
                assert_good(a, b, back_substitution(r, c), left, condition)


@pytest.mark.parametrize("shape", [(8, 1), (240, 30), (1501, 16), (600, 70), (1130, 140)])
@pytest.mark.parametrize(("order", "noise"), [("C", 1.0), ("F", 1e-5)], ids=["noise", "nearly exact"])
def test_reduction_by_gram_matrices(shape, order, noise):
    """|R x - c|^2 + left is |A x - b|^2 to single precision, and at the solution to its last digits."""
    rng = np.random.default_rng(sum(shape))
    (m, n), unit = shape, 2.0**-28
    for condition in (1.0, 1e3) if n > 1 else (1.0,):
        a = np.array(with_condition(rng, m, n, condition, np.float32) * 2.0 ** rng.integers(-60, 60, n), order=order)
        a = a.astype(np.float32)
        for k in (0, 1, 3):
            b = a.astype(float) @ rng.standard_normal((n, k)) * np.sqrt(m)
            b = (b / np.linalg.norm(b, axis=0) + noise * rng.standard_normal((m, k))).astype(np.float32)
            b = np.array(b, order=order)
            r, c, left = reduce_by_gram(a, b)
            np.testing.assert_array_equal(r, np.triu(r))
            wide_a, wide_b = a.astype(float), b.astype(float)
            sizes = np.linalg.norm(wide_a, axis=0)
            error = np.linalg.norm((r.T @ r - wide_a.T @ wide_a) / np.outer(sizes, sizes), 2)
            smallest = np.linalg.svd(wide_a / sizes, compute_uv=False)[-1]
            assert error / smallest <= 4 * unit
            if k == 0:
                continue
            x, residual = exact(a, b)
            sums = (residual**2).sum(0)
            np.testing.assert_allclose(left, sums, rtol=4 * unit)
            error = np.linalg.norm((back_substitution(r, c) - x) * sizes[:, None], axis=0)
            assert (error <= 4 * unit * np.linalg.norm(wide_b, axis=0)).all()


def test_reduction_by_gram_matrices_declines():
    """What is not finite, deficient, ill-conditioned, or too short, is reduced by reflections."""
    rng = np.random.default_rng(23)
    good, b = rng.standard_normal((400, 20)).astype(np.float32), rng.standard_normal((400, 2)).astype(np.float32)
    assert reduce_by_gram(good, b) is not None
    assert reduce_by_gram(good[:159], b[:159]) is None
    for spoil in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[37, 3] = spoil
        assert reduce_by_gram(bad, b) is None
        poisoned = b.copy()
        poisoned[37, 0] = spoil
        r, c, left = reduce_by_gram(good, poisoned)
        assert np.isfinite(r).all()
        assert np.isnan(c[:, 0]).all()
        assert np.isnan(left[0])
        np.testing.assert_array_equal(c[:, 1], reduce_by_gram(good, b)[1][:, 1])
    for copy_of in (0, 7):
        deficient = good.copy()
        deficient[:, 11] = deficient[:, copy_of]
        assert reduce_by_gram(deficient, b) is None
    assert reduce_by_gram(np.zeros_like(good), b) is None
    assert reduce_by_gram(with_condition(rng, 400, 20, 1e6, np.float32), b) is None


@pytest.mark.parametrize("dtype", REAL)
def test_reduction_of_zeros_and_extreme_sizes(dtype):
    rng = np.random.default_rng(17)
    m, n = 400, 30
    info = np.finfo(dtype)
    a, b = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((m, 2)).astype(dtype)
    plain = reduce(a, b)[0]
    r, c, left = reduce(np.zeros_like(a), b)
    assert not r.any()
    assert not c.any()
    np.testing.assert_allclose(left, (b.astype(float) ** 2).sum(0), rtol=1e-13)
    a[:, 3] = 0  # and a column that depends on others
    a[:, 7] = a[:, 5]
    r = reduce(a, b)[0]
    assert not r[:, 3].any()
    assert abs(r[:, 7] - r[:, 5]).max() <= 1e-13 * abs(r).max()
    # Sizes for which the caller names an exponent, and columns whose squares vanish beside others.
    for exponent in (info.minexp + 30, info.maxexp - 30):
        big = np.ldexp(rng.standard_normal((m, n)), exponent).astype(dtype)
        r = reduce(big, b, exponent)[0]
        same = reduce(np.ldexp(big.astype(float), -exponent), b.astype(float))[0]
        np.testing.assert_array_equal(r, same)
    if dtype == np.float64:
        for at in (0, 11, 29):
            tiny, scale = np.array(rng.standard_normal((m, n))), 1e-200
            tiny[:, at] *= scale
            r = reduce(tiny, b)[0]
            tiny[:, at] /= scale
            r[:, at] /= scale
            np.testing.assert_allclose(r.T @ r, tiny.T @ tiny, rtol=0, atol=1e-12 * m)
        small = 1e-170 * rng.standard_normal((m, n))
        r = reduce(small, b)[0] / 1e-170
        np.testing.assert_allclose(r.T @ r, (small / 1e-170).T @ (small / 1e-170), rtol=0, atol=1e-12 * m)
    assert np.isfinite(plain).all()


def assert_values(a, what, reference=None):
    """Within 2 (m + n) units of rounding of the largest value, as LAPACK is, and rounded."""
    m, n = a.shape[1:]
    s, ok = singular_values(a)
    assert ok.all(), (what, ok)
    expected = np.linalg.svd(a.astype(np.float64), compute_uv=False) if reference is None else reference
    assert (s[:, :-1] >= s[:, 1:]).all(), what
    rounding = 0 if a.dtype == np.float64 else np.finfo(a.dtype).eps * expected + np.finfo(a.dtype).smallest_subnormal
    allowed = 2 * (m + n) * np.finfo(np.float64).eps * expected[:, :1] + rounding
    assert (abs(s - expected) <= allowed).all(), (what, m, n, (abs(s - expected) / np.maximum(allowed, 1e-300)).max())


def with_values(rng, count, m, n, values):
    k = min(m, n)
    u, v = (np.linalg.qr(rng.standard_normal((count, size, k)))[0] for size in (m, n))
    return (u * values) @ np.swapaxes(v, 1, 2)


def with_conditions(rng, count, m, n, condition):
    return with_values(rng, count, m, n, np.geomspace(1, 1 / condition, n))


VALUES_SHAPES = [
    (1, 1), (2, 1), (64, 1), (2, 2), (3, 3), (10, 3), (4, 4), (8, 4), (20, 5), (6, 6), (9, 8), (32, 8), (33, 12),
    (16, 16), (64, 16), (20, 17), (64, 33), (64, 64), (3, 7), (16, 40), (1, 30),
]  # fmt: skip


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", VALUES_SHAPES)
def test_singular_values_of_any_shape(dtype, shape):
    """Well and ill conditioned, equal and nearly equal, zeros, graded, and matrices on which methods have failed."""
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    k, count = min(shape), 37
    made = {f"condition {c:g}": np.geomspace(1, 1 / c, k) for c in CONDITIONS[:: 1 if k < 20 else 5]}
    made["one small"], made["one large"] = np.r_[np.ones(k - 1), 1e-9], np.r_[1, np.full(k - 1, 1e-9)]
    made["pairs"] = np.repeat(rng.random(k), 2)[:k]
    made["near pairs"] = made["pairs"] * (1 + 1e-9 * rng.random(k))
    made["clusters"] = rng.choice([1, 1e-3, 1e-6, 1e-12], (count, 1, k))
    made["deficient"] = np.r_[np.ones((k + 1) // 2), np.zeros(k // 2)]
    for what, values in made.items():
        assert_values(with_values(rng, count, m, n, values).astype(dtype), what)

    plain = rng.standard_normal((count, m, n))
    rows, columns = np.arange(m)[:, None], np.arange(n)
    grades = {
        "plain": plain,
        "graded columns": plain * np.geomspace(1, 1e-30, n),
        "graded upwards": plain * np.geomspace(1e-30, 1, n),
        "graded rows": plain * np.geomspace(1, 1e-20, m)[:, None],
        "wild": plain * 10.0 ** rng.integers(-20, 20, plain.shape),
        "integers": rng.integers(-1, 2, plain.shape),
        "sparse": plain * (rng.random(plain.shape) < 0.3),
        "triangular": np.triu(plain),
    }
    famous = {
        "zeros": np.zeros((m, n)),
        "ones": np.ones((m, n)),
        "identity": np.eye(m, n),
        "a twin": np.where(columns == 1, 1.0, rows + 1.0) * np.ones((m, n)),
        "bidiagonal of ones": np.eye(m, n) + np.eye(m, n, 1),
        "Kahan": np.triu(2 * np.eye(m, n) - 1) * 0.9**rows,
        "Vandermonde": (rows / m) ** columns,
        "Hilbert": 1 / (1 + rows + columns),
        "Wilkinson": abs(rows - m // 2) * np.eye(m, n) + np.eye(m, n, 1) + np.eye(m, n, -1),
    }
    for what, a in grades.items():
        assert_values(a.astype(dtype), what)
    assert_values(np.stack([*famous.values()]).astype(dtype), "famous")


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (6, 6)])
def test_singular_values_that_are_equal(shape):
    """Many, for a shift that hits a value exactly is rare: it divides by zero."""
    rng = np.random.default_rng(11)
    k = min(shape)
    for _ in range(10):
        assert_values(with_values(rng, 1000, *shape, np.repeat(rng.random(k), 2)[:k]), shape)


@pytest.mark.parametrize("dtype", REAL)
def test_singular_values_of_other_sizes(dtype):
    """The scale changes nothing but the exponents; what is out of range, NaN or infinite is declined, alone."""
    rng = np.random.default_rng(3)
    exponents = [-100, -30, 0, 30, 100]
    for m, n in ((8, 4), (6, 6), (40, 12), (5, 9)):
        a = rng.standard_normal((23, m, n)).astype(dtype)
        clean, ok = singular_values(a)
        assert ok.all()
        for exponent in exponents:
            np.testing.assert_array_equal(singular_values(np.ldexp(a, exponent))[0], np.ldexp(clean, exponent))
        bad = {0: np.nan, 5: np.inf, 9: -np.inf, 22: np.nan}
        for i, value in bad.items():
            a[i, m - 1, n - 1] = value
        if dtype == np.float64:
            bad |= {12: 0, 13: 0}
            a[12], a[13] = np.ldexp(a[12], 300), np.ldexp(a[13], -300)
        a[15] = 0
        s, ok = singular_values(a)
        np.testing.assert_array_equal(np.flatnonzero(~ok), sorted(bad))
        assert not s[15].any()
        ok[15] = False
        np.testing.assert_array_equal(s[ok], clean[ok])


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(8, 4), (10, 3), (9, 9), (30, 13), (5, 9), (7, 20)])
def test_singular_values_wherever_the_elements_lie(dtype, shape):
    """Any strides, any number of elements: bit by bit the same for an element alone, beside others, and repeated."""
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    for count in (1, 7, 16, 35, 200):
        a = rng.standard_normal((count, m, n)).astype(dtype)
        s, _ = singular_values(a)
        wide = np.zeros((count, 2 * m, n + 3), dtype)
        wide[:, ::2, 1 : n + 1] = a
        spread = np.zeros((count, m, 2 * n), dtype)
        spread[:, :, ::2] = a
        transposed = np.ascontiguousarray(np.swapaxes(a, 1, 2))
        for other in (wide[:, ::2, 1 : n + 1], spread[:, :, ::2], np.swapaxes(transposed, 1, 2)):
            np.testing.assert_array_equal(singular_values(other)[0], s)
        if m != n:  # the longer side is reduced; of equal ones, the first
            np.testing.assert_array_equal(singular_values(transposed)[0], s)
        np.testing.assert_array_equal(singular_values(a[-1:])[0], s[-1:])
        repeated = np.broadcast_to(a[:1], (5, m, n))
        np.testing.assert_array_equal(singular_values(repeated)[0], np.repeat(s[:1], 5, 0))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 17, 64, 65, 130, 300])
def test_tridiagonal_matrices_have_the_eigenvalues(n):
    rng = np.random.default_rng(n)
    plain = rng.standard_normal((n, n))
    made = {
        "plain": plain + plain.T,
        "Gram": plain.T @ plain,
        "identity": np.eye(n),
        "ones": np.ones((n, n)),
        "zeros": np.zeros((n, n)),
        "tridiagonal": np.eye(n) + np.eye(n, n, 1) + np.eye(n, n, -1),
        "blocks": (plain + plain.T) * (np.subtract.outer(np.arange(n), np.arange(n)) % 3 == 0),
        "graded": (plain + plain.T) * np.outer(*2 * [np.geomspace(1, 1e-20, n)]),
    }
    for what, a in made.items():
        expected = np.linalg.eigvalsh(a)
        for exponent in (0, 390, -390):
            d, e = (np.ldexp(part, -exponent) for part in tridiagonalise(np.ldexp(a, exponent)))
            values = np.linalg.eigvalsh(np.diag(d) + np.diag(e, 1) + np.diag(e, -1))
            allowed = 4 * (n + 1) * np.finfo(np.float64).eps * abs(expected).max()
            assert (abs(values - expected) <= allowed).all(), (what, exponent, abs(values - expected).max(), allowed)


GRAM_SHAPES = [(1, 1), (5, 1), (2, 2), (8, 4), (10, 3), (9, 8), (32, 8), (33, 12), (64, 16), (100, 33), (130, 64)]


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", GRAM_SHAPES)
def test_singular_values_beside_the_solution(dtype, shape):
    """Those of a small condition are all found, and no others in double precision; each is as good as LAPACK's."""
    rng = np.random.default_rng(sum(shape))
    m, n = shape
    good = {f"condition {c:g}": np.geomspace(1, 1 / c, n) for c in (1, 2, 3.9)}
    good["one small"], good["one large"] = np.r_[np.ones(n - 1), 0.26], np.r_[1, np.full(n - 1, 0.26)]
    good["pairs"] = np.repeat(1 + rng.random(n), 2)[:n]
    good["near pairs"] = good["pairs"] * (1 + 1e-9 * rng.random(n))
    made = {what: with_values(rng, 37, m, n, values) for what, values in good.items()}
    made["identity"] = np.broadcast_to(np.eye(m, n), (3, m, n)).copy()
    if dtype == np.float32 and n > 1:
        # In single precision what a Gram matrix in double precision loses is next to nothing.
        made |= {f"condition {c:g}": with_conditions(rng, 37, m, n, c) for c in (10, 1e2, 1e3)}
        made["graded columns"] = with_values(rng, 37, m, n, np.ones(n)) * np.geomspace(1, 1e-3, n)
    for what, a in made.items():
        for exponent in (0, 60, -60):
            scaled = np.ldexp(a, exponent).astype(dtype)
            values, found = gram_values(scaled)
            expected = np.linalg.svd(scaled.astype(np.float64), compute_uv=False)
            assert found.all(), (what, exponent)
            assert (values[:, :-1] >= values[:, 1:]).all(), what
            rounding = 2 * (m + n) * np.finfo(np.float64).eps if dtype == np.float64 else 2.0**-28
            error = (abs(values - expected) / expected[:, :1]).max()
            assert error <= rounding, (what, exponent, error)
    if dtype == np.float64 and n > 1:
        assert not gram_values(with_conditions(rng, 37, m, n, 4.1))[1].any()


@pytest.mark.parametrize("dtype", REAL)
def test_singular_values_beside_the_solution_of_one_element_alone(dtype):
    """No element's values depend on its neighbours, whatever those are; what has no values, has none here."""
    rng = np.random.default_rng(8)
    for m, n in ((12, 5), (40, 20)):
        a = with_conditions(rng, 43, m, n, 3).astype(dtype)
        clean, found = gram_values(a)
        assert found.all()
        a[0, 1, 1], a[5, 0, 0], a[17], a[42, m - 1, n - 1] = np.nan, np.inf, 0, -np.inf
        a[9, :, 2] = a[9, :, 0]
        values, found = gram_values(a)
        assert np.flatnonzero(~found).tolist() == [0, 5, 9, 17, 42]
        np.testing.assert_array_equal(values[found], clean[found])
        for i in (1, 16, 41):
            np.testing.assert_array_equal(gram_values(a[i : i + 1])[0], clean[i : i + 1])


def test_singular_values_in_many_digits():
    """Against 50 digits, not LAPACK: conditions at which LAPACK's own errors would show."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(23)
    with mpmath.workdps(50):
        for m, n in ((4, 4), (8, 4), (6, 5), (3, 6)):
            a = np.stack([with_condition(rng, m, n, c, np.float64) for c in (1, 1e4, 1e10, 1e15)])
            exact_values = [[float(s) for s in mpmath.svd_r(mpmath.matrix(x.tolist()), compute_uv=False)] for x in a]
            assert_values(a, "digits", np.sort(np.array(exact_values))[:, ::-1])


@pytest.mark.parametrize("isa", ISAS)
def test_other_instruction_sets(isa):
    """The same tests in a process that is told to use less; where the machine has less, it uses what it has."""
    here, told = os.path.dirname(os.path.abspath(__file__)), {**os.environ, "LSTSQ_ISA": isa}
    ask = [sys.executable, "-c", "import kernels; print(kernels.instruction_set())"]
    most = instruction_set()
    used = subprocess.run(ask, check=True, env=told, cwd=here, capture_output=True, text=True).stdout.strip()
    assert used == min(isa, most, key=ISAS.index)
    if used != most:
        command = [sys.executable, "-m", "pytest", "-q", "-x", __file__]
        chosen = ["-k", "shape or cutoff or batches or strides or singular"]
        subprocess.run([*command, *chosen], check=True, env=told, timeout=600)


@pytest.mark.parametrize(("setting", "threads"), [("1", 1), ("3", 3), ("0", None), ("many", None)])
def test_number_of_threads(setting, threads):
    """What is not a positive number leaves all cores."""
    here = os.path.dirname(os.path.abspath(__file__))
    unset = {name: value for name, value in os.environ.items() if name != "LSTSQ_NUM_THREADS"}
    ask = [sys.executable, "-c", "import kernels; print(kernels.thread_count())"]
    told, untold = (
        int(subprocess.run(ask, check=True, env=environment, cwd=here, capture_output=True, text=True).stdout)
        for environment in ({**unset, "LSTSQ_NUM_THREADS": setting}, unset)
    )
    assert told == (threads or untold)


@pytest.mark.skipif(sys.platform == "win32", reason="the shim repeats with alarm and fork, which Windows lacks")
@pytest.mark.parametrize("forked", [False, True], ids=["threads", "fork"])
def test_repeats(forked):
    """Several callers at once, and a child of fork, get the answers that a single caller gets."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4000, 40)).astype(np.float32), rng.standard_normal((4000, 1)).astype(np.float32)
    c, d = rng.standard_normal((500, 30, 6)), rng.standard_normal((500, 30, 1))
    assert repeat(a, b, c, d, forked) == 0
