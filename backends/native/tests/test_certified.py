"""The certified drivers, ``auto`` and ``cholesky``: which way an element goes, and that both ways give one answer."""

from __future__ import annotations

import os

import mlx.core as mx
import numpy as np
import pytest
from operation import DTYPES, assert_same, reference, run_python, solve, to_mlx

from lstsq_mlx._native import native

EPS = {"float32": 2.0**-23, "complex64": 2.0**-23, "float64": 2.0**-52}
CERTIFYING = ("auto", "cholesky")

# Either side of 64 columns (batch kernel), of 128 (bounds and precision of the Gram matrix), and of square (LU); long
# enough for several threads.
SHAPES = [
    (1, 1), (5, 1), (1, 5), (8, 8), (9, 9), (30, 64), (70, 65), (65, 65), (140, 129), (129, 140), (150, 150),
    (6000, 40), (40, 6000), (1500, 200),
]  # fmt: skip


def conditioned(draw, m, n, condition, dtype="float64"):
    """Singular values from 1 to 1 / condition."""
    narrow = min(m, n)
    u, v = (np.linalg.qr(draw(size, narrow, dtype=dtype))[0] for size in (m, n))
    return ((u * np.geomspace(1, 1 / condition, narrow)) @ v.conj().T).astype(dtype)


def is_declined(answer):
    return (
        np.isnan(answer.x).all()
        and np.isnan(answer.residuals).all()
        and np.isnan(answer.s).all()
        and not answer.rank.any()
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_cholesky_answers_as_qr_does(draw, m, n, k, dtype):
    a, b = conditioned(draw, m, n, 10, dtype), draw(m, k, dtype=dtype)
    want = solve(a, b, driver="qr")
    for driver in CERTIFYING:
        got = solve(a, b, driver=driver)
        assert got.rank == min(m, n)
        assert np.linalg.norm(got.x - want.x) <= 100 * EPS[dtype] * np.linalg.norm(want.x)
        np.testing.assert_allclose(got.residuals, want.residuals, rtol=100 * EPS[dtype], atol=1e-26)
        # Against the truth: two decompositions of a matrix of this order are each off by some 8 eps, LAPACK's too.
        np.testing.assert_allclose(got.s, np.geomspace(1, 0.1, min(m, n)), rtol=0, atol=10 * EPS[dtype])


def largest_error(a, truth, condition):
    """Of x, in norm: its own rounding, and 30 times what rounding A in double precision does at this condition."""
    x, r = np.linalg.norm(truth.x), np.sqrt(truth.residuals.sum())
    return EPS[a.dtype.name] * x + 30 * max(a.shape) * EPS["float64"] * condition * (x + condition * r / truth.s[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(30, 10), (10, 30), (12, 12), (100, 100), (300, 150), (3000, 10)])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8, 1e10, 1e12])
def test_every_condition(draw, m, n, condition, dtype):
    """`auto` is right everywhere, and `cholesky` is `auto` or says that it is not."""
    a, b = conditioned(draw, m, n, condition, dtype), draw(m, 2, dtype=dtype)
    rcond = EPS[dtype] * 16
    automatic, certified, want = (solve(a, b, rcond, driver) for driver in ("auto", "cholesky", "gelsd"))
    assert automatic.rank == want.rank == np.count_nonzero(automatic.s > rcond * automatic.s[0])
    np.testing.assert_allclose(automatic.s, want.s, rtol=0, atol=30 * EPS[dtype] * want.s[0])
    if want.rank == min(m, n):
        assert np.linalg.norm(automatic.x - want.x) <= largest_error(a, want, condition)
    if is_declined(certified):
        assert condition >= 1e4
    else:
        assert_same(certified, automatic)


@pytest.mark.parametrize(("m", "n"), [(2000, 40), (600, 200), (200, 600), (4, 9)])
@pytest.mark.parametrize("condition", [1.5, 30, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("columns", ["C", "F", "scaled"])
def test_singular_values_in_single_precision_are_rounded_once(draw, m, n, condition, columns):
    """Those of the Gram matrix where they are good enough, and of an orthogonal reduction elsewhere."""
    a = conditioned(draw, m, n, condition)
    if columns == "scaled":
        a *= 10 ** np.linspace(-4, 4, n)
    a = np.asarray(a, np.float32, order="F" if columns == "F" else "C")
    want = np.linalg.svdvals(a.astype(np.float64))
    got = solve(a, draw(m, 1, dtype="float32"), 1e-7).s
    np.testing.assert_allclose(got, want, rtol=2.0**-24, atol=2.0**-28 * want[0])


@pytest.mark.parametrize(("m", "n"), [(2000, 40), (600, 200), (200, 600)])
@pytest.mark.parametrize("noise", [0, 1])
def test_float64_is_certified_up_to_1e6(draw, m, n, noise):
    """Where the bounds of the rounding errors promise too little, they are measured; the answer is NumPy's."""
    a = conditioned(draw, m, n, 1e6)
    exact = draw(n, 1) if m > n else a.T @ draw(m, 1)
    b = a @ exact + noise * draw(m, 1)
    got = solve(a, b, 1e-12, "cholesky")
    assert got.rank == min(m, n)
    truth = exact if m > n and not noise else solve(a, b, 1e-12, "svd").x
    error, numpys = (np.linalg.norm(x - truth) for x in (got.x, np.linalg.lstsq(a, b)[0]))
    assert error <= max(10 * numpys, 10 * 1e6 * EPS["float64"] * np.linalg.norm(truth))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 6), (40, 12), (80, 80)])
def test_elements_that_are_declined_among_others(draw, m, n, count, dtype):
    """Deficient, zero and not finite, one by one and in the batch kernel: each is as it is alone.

    A right-hand side that is not finite has no answer, and takes nothing from the other.
    """
    a, b = draw(count, m, n, dtype=dtype), draw(count, m, 2, dtype=dtype)
    kinds = {"deficient": 0, "zero": 3, "nan": 7}
    kinds = {kind: place for kind, place in kinds.items() if place < count}
    clean = b.copy()
    a[0, -1], a[0, :, -1] = a[0, 0], a[0, :, 0]
    if count > 10:
        a[3], a[7, 1, 1], b[50, 0, 0] = 0, np.nan, np.inf
    rcond = 1e-5
    together, certified = solve(a, b, rcond, "auto"), solve(a, b, rcond, "cholesky")
    for i in range(count):
        alone = solve(a[i], b[i], rcond, "auto")
        assert_same((field[i] for field in together), alone)
        element = type(certified)(*(field[i] for field in certified))
        if i in kinds.values():
            assert is_declined(element)
        else:
            assert element.rank == min(m, n)
            assert_same(element, alone)
    want = reference(a[0], b[0], rcond)
    assert together.rank[0] == want.rank < min(m, n)
    limit = largest_error(a[0], want, want.s[0] / want.s[want.rank - 1])
    assert np.linalg.norm(together.x[0] - want.x) <= limit
    if count > 10:
        assert together.rank[3] == together.rank[7] == 0
        assert not together.x[3].any()
        assert np.isnan(together.x[7]).all()
        without = solve(a[50], clean[50], rcond, "auto")
        for answer in (together, certified):
            assert np.isnan(answer.x[50, :, 0]).all()
            assert np.isnan(answer.residuals[50, 0])
            assert answer.rank[50] == min(m, n)
            assert_same([answer.s[50]], [without.s])
            np.testing.assert_allclose(answer.x[50, :, 1], without.x[:, 1], rtol=1e3 * EPS[dtype])
            np.testing.assert_allclose(answer.residuals[50, 1], without.residuals[1], rtol=1e3 * EPS[dtype], atol=1e-26)


@pytest.mark.parametrize("rcond", [0.6, 1.0, 7.0, np.inf])
@pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 6), (80, 80), (200, 140), (140, 200)])
def test_large_cutoffs_are_declined(draw, m, n, rcond):
    """What a cutoff may cut is not certified."""
    a, b = conditioned(draw, m, n, 1.5), draw(m, 1)
    assert is_declined(solve(a, b, rcond, "cholesky"))
    got, want = solve(a, b, rcond, "auto"), solve(a, b, rcond, "svd")
    assert got.rank == want.rank
    np.testing.assert_allclose(got.x, want.x, rtol=0, atol=1e-12)


# Batch kernel, tall, wide (each either side of 128 columns), LU.
SCALED_SHAPES = [(8, 3), (300, 20), (20, 300), (400, 200), (200, 400), (100, 100)]


@pytest.mark.parametrize("exponent", [-1040, -900, -500, -160, -80, 100, 150, 210, 470, 960])
@pytest.mark.parametrize(("m", "n"), SCALED_SHAPES)
def test_the_scale_of_the_matrix_decides_nothing(draw, m, n, exponent):
    """A power of two changes neither rank nor digits, with all singular values above the cutoff and with some below."""
    a, b = draw(m, n), draw(m, 2)
    if exponent < -1000:
        a = np.round(a * 2**10) / 2**10  # so that all are numbers still
    s = np.linalg.svdvals(a)
    between = (s[len(s) // 2 - 1] + s[len(s) // 2]) / (2 * s[0])
    for rcond, drivers in ((1e-13, ("auto", "cholesky", "qr")), (between, ("auto", "qr", "gelsd", "svd"))):
        want, _, rank, _ = np.linalg.lstsq(a, b, rcond)
        for driver in drivers:
            got = solve(np.ldexp(a, exponent), np.ldexp(b, exponent), rcond, driver)
            assert got.rank == rank, driver
            np.testing.assert_allclose(got.x, want, rtol=0, atol=1e-9 * abs(want).max(), err_msg=driver)
            np.testing.assert_allclose(got.s, np.ldexp(s, exponent), rtol=1e-9, atol=0, err_msg=driver)
        assert is_declined(solve(np.ldexp(a, exponent), b, between, "cholesky"))


@pytest.mark.parametrize("driver", ["auto", "cholesky", "qr", "gelsd", "svd"])
@pytest.mark.parametrize(("m", "n"), SCALED_SHAPES)
def test_each_right_hand_side_has_a_scale_of_its_own(draw, m, n, driver):
    """Side by side, none takes digits from another. What is too large for a number is inf, and not its neighbours."""
    a, b = draw(m, n), draw(m, 6)
    b[:, 2] = 0
    exponents = np.array([0, -1000, 0, 960, 550, -195])
    for exponent in (0, -100, -332, -800, 700):
        want = solve(a, b, 1e-13, driver)
        got = solve(np.ldexp(a, exponent), np.ldexp(b, exponents), 1e-13, driver)
        assert got.rank == min(m, n)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.ldexp(want.x, exponents - exponent)
            sums = np.ldexp(want.residuals, 2 * exponents)
        np.testing.assert_allclose(got.x, expected, rtol=1e-9, atol=np.finfo(float).tiny)
        np.testing.assert_allclose(got.residuals, sums, rtol=1e-9, atol=np.finfo(float).tiny)


def test_a_product_with_b_that_vanishes_is_seen():
    for driver in ("auto", "cholesky", "qr", "gelsd", "svd"):
        got = solve(np.array([[1e-80]]), np.array([[1e-250]]), driver=driver)
        np.testing.assert_allclose(got.x, [[1e-170]], rtol=1e-15, err_msg=driver)


@pytest.mark.parametrize("driver", CERTIFYING)
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None), (2, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_residuals_under_vmap(draw, driver, axes, dtype):
    """They are a node of their own, from x before it was rounded."""
    a, b = conditioned(draw, 30, 4, 30, dtype), draw(30, 2, dtype=dtype)
    count = 5
    many_a = np.stack([a * (1 + i) for i in range(count)], axis=axes[0]) if axes[0] is not None else a
    many_b = np.stack([b * (1 - i) for i in range(count)], axis=axes[1]) if axes[1] is not None else b
    mapped = mx.vmap(lambda a, b: native().lstsq(a, b, 1e-6, driver), in_axes=axes)(to_mlx(many_a), to_mlx(many_b))
    for i in range(count):
        element_a = a if axes[0] is None else (a * (1 + i)).astype(dtype)
        element_b = b if axes[1] is None else (b * (1 - i)).astype(dtype)
        want = reference(element_a, element_b)
        np.testing.assert_allclose(np.array(mapped[1])[i], want.residuals, rtol=100 * EPS[dtype], atol=1e-26)
        np.testing.assert_allclose(np.array(mapped[0])[i], want.x, rtol=0, atol=1e3 * EPS[dtype] * abs(want.x).max())
        np.testing.assert_allclose(np.array(mapped[3])[i], want.s, rtol=100 * EPS[dtype])


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_residuals_are_those_of_x_before_it_was_rounded(draw, dtype):
    """As NumPy's are: of a consistent system, of the order of double precision."""
    for shape in [(60, 5), (9000, 20), (20, 60, 5)]:
        a, x = np.round(draw(*shape, dtype=dtype) * 8), np.round(draw(*shape[:-2], shape[-1], 1, dtype=dtype) * 8)
        b = a @ x
        got = solve(a, b, driver="cholesky")
        assert (got.residuals <= 1e-26 * (abs(b) ** 2).sum(-2)).all()


@pytest.mark.parametrize("driver", CERTIFYING)
@pytest.mark.parametrize("shape", [(6, 3), (4, 4), (3, 6), (100, 70)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_those_of_svd(draw, driver, shape, dtype):
    a, b = conditioned(draw, *shape, 5, dtype), draw(shape[0], 2, dtype=dtype)
    weights = to_mlx(draw(2))

    def gradient(driver):
        def f(a, b):
            x, residuals, _, s = native().lstsq(a, b, 1e-6, driver)
            return mx.sum(mx.real(x * x)) + mx.sum(mx.square(residuals) * weights.astype(residuals.dtype)) + mx.sum(s)

        return mx.grad(f, argnums=(0, 1))(to_mlx(a), to_mlx(b))

    for got, want in zip(gradient(driver), gradient("svd")):
        want = np.array(want)
        np.testing.assert_allclose(got, want, rtol=0, atol=2000 * EPS[dtype] * abs(want).max())


@pytest.mark.parametrize("driver", CERTIFYING)
def test_second_derivatives_of_the_residuals(draw, driver):
    a, b, direction = draw(6, 3), draw(6, 2), draw(6, 3)

    def first(a):
        return mx.grad(lambda a: mx.sum(mx.square(native().lstsq(a, to_mlx(b), 1e-10, driver)[1])))(a)

    second = mx.jvp(first, [to_mlx(a)], [to_mlx(direction)])[1][0]
    h = 1e-5
    after, before = (np.array(first(to_mlx(a + sign * h * direction))) for sign in (1, -1))
    np.testing.assert_allclose(second, (after - before) / (2 * h), rtol=0, atol=1e-6 * abs(np.array(second)).max())


def test_gradient_of_the_residuals_at_deficient_rank(draw):
    """That of the whole function, not of b - a x at a fixed x: also where `auto` goes by the singular values."""
    a, b = draw(8, 3), draw(8, 1)
    a[:, 2] = a[:, 0] + a[:, 1]

    def gradient(driver):
        return np.array(mx.grad(lambda a: native().lstsq(a, to_mlx(b), 1e-10, driver)[1].sum())(to_mlx(a)))

    want = gradient("svd")
    np.testing.assert_allclose(gradient("auto"), want, rtol=0, atol=1e-10 * abs(want).max())


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize("setting", ["1", "3", "0", "many"])
def test_number_of_threads(setting):
    """LSTSQ_NUM_THREADS bounds the threads of the kernels; what is not a positive number leaves them all cores."""
    out = run_python(
        f"""
        import os
        os.environ["LSTSQ_NUM_THREADS"] = "{setting}"
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        import mlx.core as mx
        from lstsq_mlx._native import native

        a, b = mx.random.normal((20_000, 10)), mx.random.normal((20_000, 1))
        mx.eval(a, b, native().lstsq(a[:10], b[:10], 1e-6, "svd"))
        before = len(os.listdir("/proc/self/task"))
        mx.eval(native().lstsq(a, b, 1e-6, "cholesky")[0])
        print(len(os.listdir("/proc/self/task")) - before, len(os.sched_getaffinity(0)))
        """
    )
    started, cores = map(int, out.split())
    assert started == {"1": 0, "3": 2}.get(setting, cores - 1)
