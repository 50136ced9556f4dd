"""White-box tests of the JAX backend: its derivatives, its two precisions, and what it asks XLA to do."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from lstsq import lstsq
from lstsq_numpy import NumpyBackend

jax = pytest.importorskip("jax")
jnp = jax.numpy
JaxBackend = pytest.importorskip("lstsq_jax").JaxBackend


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
SHAPES = pytest.mark.parametrize(
    ("m", "n"),
    [
        pytest.param(m, n, id=name, marks=pytest.mark.xdist_group(f"derivatives, {name}"))
        for name, m, n in (("tall", 6, 4), ("square", 4, 4), ("wide", 4, 6))
    ],
)


# All arrays are arguments: what XLA compiles for one point, and that takes long, serves each with its shape and cutoff.


def weighted(weights, x, residuals):
    return jnp.vdot(weights[0], x).real + jnp.vdot(weights[1], residuals)


def along(gradients, directions):  # JAX's gradient is the conjugate of the steepest ascent.
    return sum(jnp.sum(gradient * direction) for gradient, direction in zip(gradients, directions)).real


@partial(jax.jit, static_argnames="rcond")
def forward(a, b, d, rcond):
    return jax.jvp(lambda a, b: solve(a, b, rcond)[:2], (a, b), d)[1]


@partial(jax.jit, static_argnames="rcond")
def forward_twice(a, b, d, e, rcond):
    return jax.jvp(lambda a, b: forward(a, b, d, rcond), (a, b), e)[1]


@partial(jax.jit, static_argnames="rcond")
def reverse(a, b, d, weights, rcond):
    return along(jax.grad(lambda a, b: weighted(weights, *solve(a, b, rcond)[:2]), (0, 1))(a, b), d)


@partial(jax.jit, static_argnames="rcond")
def reverse_twice(a, b, d, e, weights, rcond):
    return along(jax.grad(lambda a, b: reverse(a, b, d, weights, rcond), (0, 1))(a, b), e)


@POINTS
@SHAPES
def test_derivatives_to_second_order(double, m, n, s, rcond, dtype):
    a, b = matrix(m, n, s, dtype), random((m, 2), dtype)
    d = da, db = random((m, n), dtype, 3), random((m, 2), dtype, 4)
    e = ea, eb = random((m, n), dtype, 5), random((m, 2), dtype, 6)
    weights = random((n, 2), dtype, 7), random((2,), "float64", 8)
    # Forward, against differences of NumPy's solution.
    d1 = forward(a, b, d, rcond)
    numpys = difference(lambda t: NumpyBackend().solve(a + t * da, b + t * db, rcond, "gelsd")[:2], 1e-6)
    for got, expected in zip(d1, numpys):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7 * (1 + np.abs(expected).max()))
    # Forward twice, against differences of the first derivative.
    d2 = forward_twice(a, b, d, e, rcond)
    for got, expected in zip(d2, difference(lambda t: forward(a + t * ea, b + t * eb, d, rcond), 1e-6)):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * (1 + np.abs(expected).max()))
    # Reverse, and reverse over reverse, against forward.
    np.testing.assert_allclose(reverse(a, b, d, weights, rcond), weighted(weights, *d1), rtol=1e-11, atol=1e-11)
    twice = reverse_twice(a, b, d, e, weights, rcond)
    np.testing.assert_allclose(twice, weighted(weights, *d2), rtol=1e-10, atol=1e-10)


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


def spoilt():
    """Four problems of two columns: the second has a matrix that is not finite, the third a right-hand side."""
    a, b = jnp.asarray(random((4, 5, 3), "float64")), jnp.asarray(random((4, 5, 2), "float64", 1))
    lost = np.array([[False, False], [True, True], [False, True], [False, False]])
    return a, b, a.at[1, 0, 0].set(jnp.nan), b.at[2, 4, 1].set(jnp.inf), lost


def test_nan_stays_in_its_matrix_or_in_its_column(x64):
    a, b, bad_a, bad_b, lost = spoilt()
    clean, answer = (jax.jit(solve)(*problem) for problem in ((a, b), (bad_a, bad_b)))
    nan = np.where(lost, np.nan, 1)
    np.testing.assert_array_equal(answer.x, clean.x * nan[:, None, :])
    np.testing.assert_array_equal(answer.residuals, clean.residuals * nan)
    np.testing.assert_array_equal(answer.rank, [3, 0, 3, 3])
    np.testing.assert_array_equal(answer.s, clean.s * np.array([[1], [np.nan], [1], [1]]))


@pytest.mark.parametrize("m", [5, 2], ids=["tall", "wide"])
def test_nan_in_a_column_of_one_matrix(x64, m):
    a, b = jnp.asarray(random((m, 3), "complex128")), jnp.asarray(random((6, m, 2), "complex128", 1))
    bad = b.at[2, 1, 1].set(jnp.nan).at[3, 0, 0].set(1j * jnp.inf)
    clean, answer = lstsq(a, b), jax.jit(lstsq)(a, bad)
    lost = ~np.isfinite(np.asarray(bad)).all(1)
    assert lost.sum() == 2
    np.testing.assert_array_equal(np.isnan(answer.x), np.repeat(lost[:, None], 3, 1))
    np.testing.assert_array_equal(np.isnan(answer.residuals), lost)
    np.testing.assert_allclose(np.where(lost[:, None], 0, answer.x), np.where(lost[:, None], 0, clean.x), rtol=1e-5)
    np.testing.assert_array_equal(answer.rank, clean.rank)
    np.testing.assert_array_equal(answer.s, clean.s)


def test_derivatives_are_nan_where_the_answer_is(x64):
    _, _, a, b, lost = spoilt()

    def f(a, b):
        return solve(a, b)[:2]

    for x, residuals in (jax.jvp(f, (a, b), (a, b))[1], jax.jvp(lambda b: f(a, b), (b,), (jnp.zeros_like(b),))[1]):
        np.testing.assert_array_equal(np.isnan(x), np.repeat(lost[:, None], 3, 1))
        np.testing.assert_array_equal(np.isnan(residuals), lost)
    of_a, of_b = jax.grad(lambda a, b: sum(map(jnp.sum, f(a, b))), (0, 1))(a, b)
    np.testing.assert_array_equal(np.isnan(of_a), np.broadcast_to(lost.any(1)[:, None, None], a.shape))
    np.testing.assert_array_equal(np.isnan(of_b), np.broadcast_to(lost[:, None], b.shape))


@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_left_out_spoils_no_gradient(x64, mapped):
    a, b, bad_a, bad_b, lost = spoilt()
    keep, weights = ~lost, random((4, 3, 2), "float64", 2)

    def loss(a, b):
        x, residuals, _, s = jax.vmap(solve)(a, b) if mapped else solve(a, b)
        x, residuals = jnp.where(keep[:, None], x, 0), jnp.where(keep, residuals, 0)
        return (weights * x**2).sum() + residuals.sum() + jnp.where(keep.any(1, keepdims=True), s, 0).sum()

    # Compiled as one: by itself JAX would compile each operation.
    first = jax.jit(jax.grad(loss, (0, 1)))
    second = jax.jit(jax.grad(lambda a, b: jax.grad(loss)(a, b)[keep.any(1)].sum(), (0, 1)))
    for f in (first, second):
        for got, expected in zip(f(bad_a, bad_b), f(a, b)):
            np.testing.assert_allclose(got, expected, rtol=1e-12 if x64 else 1e-5, atol=1e-12 if x64 else 1e-5)
    of_a, of_b = first(bad_a, bad_b)
    assert not of_a[1].any()
    assert not of_b[2, :, 1].any()


def test_mapping_over_b_alone_factorises_once():
    a, b = jnp.eye(3), jnp.ones((7, 3, 1))
    jaxpr = str(jax.make_jaxpr(jax.vmap(lambda b: solve(a, b)))(b))
    (line,) = [line for line in jaxpr.split("\n") if " = svd[" in line]
    assert "[7" not in line


def test_mapping_over_the_cutoff_alone_factorises_once():
    a, b = jnp.eye(3), jnp.ones((3, 1))
    jaxpr = str(jax.make_jaxpr(jax.vmap(lambda rcond: solve(a, b, rcond)))(jnp.ones(7)))
    (line,) = [line for line in jaxpr.split("\n") if " = svd[" in line]
    assert "[7" not in line


def test_a_cutoff_may_be_traced(x64):
    a, b = jnp.asarray(matrix(6, 4, (1, 0.5, 1e-2, 1e-3))), jnp.asarray(random((6, 2), "float64"))
    cutoffs = np.array([0, 5e-3, 0.1, 0.7, 1, 2, np.inf])
    ranks = [4, 3, 2, 1, 0, 0, 0]
    for mapped in (jax.vmap(lstsq, (None, None, 0)), jax.jit(jax.vmap(lstsq, (None, None, 0)))):
        answer = mapped(a, b, jnp.asarray(cutoffs))
        np.testing.assert_array_equal(answer.rank, ranks)
        for i, rcond in enumerate(cutoffs):
            for got, expected in zip(answer, lstsq(a, b, float(rcond))):
                np.testing.assert_allclose(got[i], expected, rtol=1e-11 if x64 else 3e-4, atol=1e-7)
    for rcond in (5e-3, np.float32(5e-3), jnp.float16(5e-3), 0):
        assert jax.jit(lstsq)(a, b, rcond).rank == (3 if rcond else 4)
    of_cutoff = jax.grad(lambda r: lstsq(a, b, r).x.sum())
    assert of_cutoff(5e-3) == 0
    assert jax.jvp(lambda r: lstsq(a, b, r).x, (5e-3,), (1.0,))[1].any() == False  # noqa: E712
    for got, expected in zip(
        jax.jit(jax.grad(lambda a, b, r: lstsq(a, b, r).x.sum(), (0, 1)))(a, b, 5e-3),
        jax.grad(lambda a, b: lstsq(a, b, 5e-3).x.sum(), (0, 1))(a, b),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-10 if x64 else 1e-2)


def test_a_traced_cutoff_that_is_nan_gives_nan(x64):
    answer = jax.jit(lstsq)(jnp.eye(3, 2), jnp.ones(3), jnp.nan)
    assert answer.rank == 0
    assert all(np.isnan(array).all() for array in (answer.x, answer.residuals, answer.s))


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
def test_a_negative_cutoff_means_the_unit_roundoff(double, dtype):
    unit = float(np.finfo(dtype).eps) / 2
    for factor, rank in ((1.5, 2), (0.75, 1)):
        a = jnp.asarray(np.diag([1, factor * unit]).astype(dtype))
        assert jax.jit(lstsq)(a, jnp.ones(2, a.dtype), -1.0).rank == rank
        assert jax.jit(lstsq)(a, jnp.ones(2, a.dtype), -1).rank == rank
        assert lstsq(a, jnp.ones(2, a.dtype), -1).rank == rank


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


def test_a_traced_array_is_not_converted_to_numpy():
    a, b = jnp.eye(3), jnp.ones((3, 3))
    for transformed in (jax.jit, jax.vmap, jax.grad, jax.jacfwd):
        with pytest.raises(TypeError, match="expected an array outside of any transformation") as raised:
            transformed(lambda b: lstsq(a, b, backend="numpy").x.sum())(b)
        assert not isinstance(raised.value, jax.errors.JAXTypeError)


@pytest.mark.parametrize("big", [3_000_000_000, 2**40, -(2**62), 2**63 + 2**62])
def test_integers_of_a_list_do_not_wrap_round(x64, big):
    ones = jnp.ones((3, 1), jnp.float32)
    rtol = 1e-12 if x64 else 1e-6
    for like in (ones, ones.astype(int), ones.astype(jnp.float16), ones.astype(jnp.complex64)):
        np.testing.assert_allclose(lstsq(like, [big] * 3).x, [big], rtol=1e-6)
    np.testing.assert_allclose(lstsq([[big], [big], [big]], ones).x, [[1 / big]], rtol=1e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(lstsq(jnp.ones((3, 1)), [big + 1] * 3).x, [big + 1], rtol=1e-15)
    # Milliseconds since 1970, all but equal in int32 that has wrapped round, and distinct in any float.
    times = 1_700_000_000_000 + 86_400_000 * np.arange(5)
    table = [[1, int(t)] for t in times]
    answer = lstsq(table, jnp.arange(5.0), 1e-30)
    assert answer.rank == 2
    np.testing.assert_allclose(answer.s, np.linalg.svd(np.asarray(table, "f8" if x64 else "f4"))[1], rtol=rtol * 1e3)


def test_a_list_lands_beside_the_array():
    backend, like = JaxBackend(), jnp.ones(3)
    for dtype in ("bool", "int8", "uint32", ">i4", "float16", "float32", ">c8"):
        array = np.arange(3).astype(dtype)
        converted = backend.from_numpy_like(array, like)
        assert converted.dtype == array.dtype.newbyteorder("=")
        assert converted.sharding == like.sharding
        np.testing.assert_array_equal(converted, array)
    with jax.enable_x64(False):
        assert backend.from_numpy_like(np.arange(3), like).dtype == np.float32
        for dtype in ("float64", "complex128"):
            with pytest.raises(TypeError, match="jax_enable_x64"):
                backend.from_numpy_like(np.ones(3, dtype), like)


def test_the_switch_of_precision_is_seen_each_time():
    a, b = np.eye(4, 2), np.ones(4)
    with jax.enable_x64(True):
        wide = jnp.asarray(a), jnp.asarray(b)
        assert lstsq(*wide).x.dtype == np.float64
        integers = wide[0].astype(int), wide[1].astype(int)
    for _ in range(2):
        with jax.enable_x64(False), pytest.raises(TypeError, match="jax_enable_x64"):
            lstsq(*wide)
        with jax.enable_x64(True):
            assert lstsq(*wide).x.dtype == np.float64
            assert lstsq(*integers).x.dtype == np.float64
        with jax.enable_x64(False):
            assert lstsq(jnp.asarray(a, int), jnp.asarray(b, int)).x.dtype == np.float32


@pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 6)], ids=["tall", "wide"])
def test_scales_of_double_precision(double, m, n):
    check_scales(m, n, (-990, -500, 0, 500, 990), "float64", 1e-12)


def test_scales_of_single_precision(x64):
    check_scales(6, 4, (-110, -60, 0, 60, 110), "float32", 1e-5)


def check_scales(m, n, exponents, dtype, rtol):
    """The second right-hand side is of another size than the first, and neither touches the other."""
    a, b = random((m, n), dtype), random((m, 2), dtype, 1)
    x = np.linalg.lstsq(a.astype("f8"), b.astype("f8"))[0]
    residuals = ((b.astype("f8") - a.astype("f8") @ x) ** 2).sum(0)
    s = np.linalg.svd(a.astype("f8"), compute_uv=False)
    smallest = np.finfo(dtype).smallest_normal

    def scaled(number, exponent):
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(number, exponent).astype(dtype)

    def assert_scaled(got, number, exponent):
        # What is below the normal numbers may be zero.
        np.testing.assert_allclose(got, scaled(number, exponent), rtol=rtol, atol=smallest)

    for size_a in exponents:
        for size_b in exponents:
            right = np.stack([np.ldexp(b[:, 0], size_b), b[:, 1]], 1)
            answer = lstsq(jnp.asarray(np.ldexp(a, size_a)), jnp.asarray(right))
            assert answer.rank == min(m, n)
            assert_scaled(answer.s, s, size_a)
            for column, size in enumerate((size_b, 0)):
                assert_scaled(answer.x[:, column], x[:, column], size - size_a)
                if m > n:
                    assert_scaled(answer.residuals[column], residuals[column], 2 * size)
                else:
                    noise = 1000 * float(np.finfo(dtype).eps) ** 2
                    assert answer.residuals[column] <= scaled(noise, 2 * size) + smallest


def test_what_overflows_is_infinite_and_nothing_else(x64):
    dtype = np.float64 if x64 else np.float32
    big, tiny = float(np.finfo(dtype).max) / 2, float(np.finfo(dtype).smallest_normal) * 4
    # x overflows, the residuals do not.
    for a in ([[tiny], [tiny]], [[tiny * 1j], [tiny * 1j]]):
        answer = lstsq(jnp.asarray(a), jnp.asarray([[1e9, tiny], [3e9, tiny]], dtype))
        assert answer.rank == 1
        assert np.isinf(answer.x[0, 0])
        assert not np.isnan(answer.x).any()
        np.testing.assert_allclose(answer.x[0, 1], 1 if a[0][0].imag == 0 else -1j)
        np.testing.assert_allclose(answer.residuals[0], 2e18, rtol=1e-6)
    # The largest singular value overflows: the rank and x do not depend on it.
    a = jnp.full((4, 4), big, dtype) + jnp.diag(jnp.full(4, big / 2, dtype))
    answer = lstsq(a, a @ jnp.full(4, 1e-3, dtype))
    assert answer.rank == 4
    assert np.isinf(answer.s[0])
    np.testing.assert_allclose(answer.s[1:], big / 2, rtol=1e-5)
    np.testing.assert_allclose(answer.x, 1e-3, rtol=1e-4)
    # The residuals of one column overflow, those of its neighbours do not.
    answer = lstsq(jnp.ones((3, 1), dtype), jnp.asarray([[big / 4, 1], [big / 4, 2], [big, 4]], dtype))
    assert np.isinf(answer.residuals[0])
    np.testing.assert_allclose(answer.residuals[1], 14 / 3, rtol=1e-5)
    np.testing.assert_allclose(answer.x, [[big / 2, 7 / 3]], rtol=1e-5)


def test_two_values_that_straddle_the_cutoff(double):
    rng = np.random.default_rng(113)
    for m, n, cut, gap in (
        (27, 27, 5.7e-14, 1.015),
        (40, 40, 1e-14, 1.05),
        (60, 20, 1e-13, 1.02),
        (24, 40, 5e-14, 1.1),
    ):
        q = min(m, n)
        s = np.logspace(0, -12, q)
        s[-4:] = 3 * cut, cut * gap, cut / gap, cut / 5
        u, v = (np.linalg.qr(rng.standard_normal((size, q)))[0] for size in (m, n))
        b = rng.standard_normal(m)
        answer = lstsq(jnp.asarray((u * s) @ v.T), jnp.asarray(b), cut)
        assert answer.rank == q - 2
        expected = (v[:, :-2] / s[:-2]) @ (u[:, :-2].T @ b)
        # What rounding the matrix may turn the kept directions towards those cut off.
        allowed = 2.0**-52 / (s[-3] - s[-2])
        assert np.linalg.norm(answer.x - expected) <= allowed * np.linalg.norm(expected)
