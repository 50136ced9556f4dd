"""The driver `native` of the jax backend: the compiled core, which XLA calls."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from lstsq import lstsq

jax = pytest.importorskip("jax")
jnp = jax.numpy
export = pytest.importorskip("jax.export")
pytest.importorskip("lstsq_jax")
native_core = pytest.importorskip("lstsq_native._backend")
native = partial(lstsq, driver="native")

CALL = "lstsq_native_cpu"


def random(shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(shape)
    return jnp.asarray((real + 1j * rng.standard_normal(shape) if "complex" in dtype else real).astype(dtype))


def assert_close(got, expected, tolerance):
    for one, other in zip(got, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        scale = float(np.abs(np.nan_to_num(np.asarray(other))).max(initial=1))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def compiled(function, *operands):
    """XLA's own text of the compiled function: its instructions, one on a line."""
    text = jax.jit(function).lower(*operands).compile().as_text()
    return [line.strip() for line in text.splitlines() if re.match(r"\s*(ROOT )?%?[\w.-]+ = ", line)]


SHAPES = [((7, 3), (7,)), ((4, 4), (4, 2)), ((3, 7), (3, 2)), ((2, 5, 70, 6), (2, 5, 70, 1)), ((5, 3), (4, 5, 2))]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_the_answers_are_those_of_the_oracle(double, dtype):
    for shape_a, shape_b in SHAPES:
        a, b = random(shape_a, dtype), random(shape_b, dtype, 1)
        expected = lstsq(np.asarray(a), np.asarray(b), backend="numpy")  # Which XLA need not compile.
        for solve in (native, jax.jit(native)):
            assert_close(solve(a, b), expected, 1e-12 if dtype in ("float64", "complex128") else 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_is_solved_in_double(x64, dtype):
    a = random((300, 6), dtype) * 10.0 ** -np.arange(6).astype("float32")
    b = random((300, 2), dtype, 1)
    for got, expected in zip(native(a, b), lstsq(np.asarray(a), np.asarray(b), backend="numpy")):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_deficient_matrix_has_the_shortest_solution(double):
    a, b = random((6, 4), "complex128"), random((6, 2), "complex128", 1)
    a = a.at[:, 3].set(a[:, 0])
    got = jax.jit(native)(a, b)
    assert got.rank == 3
    assert_close(got, lstsq(a, b), 1e-12)


def test_one_call_and_no_copy_of_the_matrix(double):
    a, b = random((5, 70, 6)), random((5, 70, 2))
    for solve, operands in ((native, (a, b)), (jax.vmap(native), (a, b)), (jax.vmap(native, (0, None)), (a, b[0]))):
        lines = compiled(solve, *operands)
        assert [line for line in lines if "custom-call" in line] == [line for line in lines if CALL in line]
        assert sum(CALL in line for line in lines) == 1
        # The matrix is what comes in, and nothing else has its size.
        assert all("parameter(" in line for line in lines if re.search(r" = f64\[(5,70,6|70,5,6|5,6,70)\]", line))


def test_mapping_over_b_alone_factorises_once(double):
    a, b = random((70, 6)), random((5, 70, 2))
    (line,) = [line for line in compiled(jax.vmap(native, (None, 0)), a, b) if CALL in line]
    assert "f64[6,10]" in line
    assert "f64[5," not in line


def test_mapping(double):
    a, b = random((4, 3, 6, 3)), random((4, 3, 6, 2), seed=1)
    cutoffs = jnp.asarray([1e-10, 0.3, 0.9, jnp.nan])
    for axes, operands in (
        ((0, 0, None), (a, b, 0.3)),
        ((0, None, None), (a, b[0], None)),
        ((None, 0, None), (a[0], b, None)),
        ((None, None, 0), (a[0], b[0], cutoffs)),
        ((0, None, 0), (a, b[0], cutoffs)),
        ((0, 0, 0), (a, b, cutoffs)),
    ):
        got, expected = (jax.vmap(solve, axes)(*operands) for solve in (native, lstsq))
        np.testing.assert_array_equal(got.rank, expected.rank)
        assert_close(got, expected, 1e-12)
    twice = jax.vmap(jax.vmap(native, (None, 0)), (0, None))
    assert_close(twice(a[:, 0], b[0]), jax.vmap(jax.vmap(lstsq, (None, 0)), (0, None))(a[:, 0], b[0]), 1e-12)
    other_way = jax.vmap(jax.vmap(native, (0, None)), (None, 0))
    assert_close(other_way(a[0], b[:, 0]), jax.vmap(jax.vmap(lstsq, (0, None)), (None, 0))(a[0], b[:, 0]), 1e-12)


def test_without_singular_values(double):
    a, b = random((5, 6, 3)), random((5, 6, 2))
    solve = partial(native, singular_values=False)
    got, expected = jax.jit(solve)(a, b), native(a, b)
    assert got.s is None
    assert_close(got[:3], expected[:3], 1e-13)
    (line,) = [line for line in compiled(solve, a, b) if CALL in line]
    assert line.count("f64[5,3]") == 0
    gradient = jax.grad(lambda a: solve(a, b).residuals.sum())(a)
    assert_close([gradient], [jax.grad(lambda a: lstsq(a, b).residuals.sum())(a)], 1e-12)


@pytest.mark.parametrize("kind", ["full rank", "deficient", "cut off", "wide"])
def test_derivatives_are_those_of_the_driver_svd(kind):
    with jax.enable_x64(True):
        full = random((6, 4), "complex128")
        a, rcond = {
            "full rank": (full, None),
            "deficient": (full.at[:, 3].set(full[:, 0]), None),
            "cut off": (full[:4].at[3].set(1e-4 * full[3]), 1e-3),
            "wide": (full.T.real, None),
        }[kind]
        b = random((a.shape[0], 2), a.dtype.name, 1)

        def real(result):
            return (jnp.abs(result.x) ** 2).sum() + result.residuals.sum() + (result.s**3).sum()

        def derivatives(solve):
            @jax.jit
            def all_of(a, b):
                gradient = jax.grad(lambda a, b: real(solve(a, b, rcond)), (0, 1))
                value, tangent = jax.jvp(lambda a, b: solve(a, b, rcond)[:2], (a, b), (b @ b.T @ a, b))
                return *gradient(a, b), *value, *tangent, *jax.jvp(gradient, (a, b), (a, b))[1]

            return all_of(a, b)

        assert_close(derivatives(native), derivatives(lstsq), 1e-9)


def test_hessians(double):
    a, b = random((2, 4, 2)), random((2, 4), seed=1)

    def all_of(a, b, solve):
        return sum(part.sum() for part in (solve(a, b).x, solve(a, b).residuals, solve(a, b).s))

    def hessians(solve):
        return jax.jit(jax.vmap(jax.hessian(partial(all_of, solve=solve), (0, 1))))(a, b)

    assert_close(jax.tree.leaves(hessians(native)), jax.tree.leaves(hessians(lstsq)), 1e-11)


def test_the_derivative_is_that_of_the_rank_that_was_found():
    """In single precision XLA's values are not good enough to tell the rank here; those of the core are."""
    single = jax.jit(jax.grad(lambda a, b, rcond: native(a, b, rcond).x.sum()))
    exact = jax.jit(jax.grad(lambda a, b, rcond: lstsq(a, b, rcond).x.sum()))
    for seed in range(8):
        a, b = np.array(random((5, 2), "float32", seed)), np.ones(5, "float32")
        a[:, 1] = a[:, 0] + np.float32(1e-6) * a[:, 1]
        largest, smallest = np.linalg.svd(a.astype("float64"), compute_uv=False)
        rcond = float(smallest / largest * (1 + 1e-5))
        with jax.enable_x64(False):
            assert native(jnp.asarray(a), jnp.asarray(b), rcond).rank == 1
            got = np.asarray(single(a, b, rcond))
        with jax.enable_x64(True):
            expected = exact(a.astype("float64"), b.astype("float64"), rcond)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_transposes_by_the_right_hand_side(double, dtype):
    for m, n in ((7, 3), (3, 7)):
        a, b, c = random((m, n), dtype), random((m, 2), dtype, 1), random((n, 2), dtype, 2)
        (got,) = jax.linear_transpose(lambda b: native(a, b).x, b)(c)  # noqa: B023
        np.testing.assert_allclose(got, np.linalg.pinv(np.asarray(a)).T @ np.asarray(c), atol=1e-13)


def test_what_is_not_finite_stays_where_it_is(x64):
    a, b = random((4, 6, 3), "float32"), random((4, 6, 2), "float32", 1)
    bad_a, bad_b = a.at[1, 0, 0].set(jnp.nan).at[3, 5, 2].set(jnp.inf), b.at[2, 4, 1].set(jnp.inf)
    clean, answer = jax.jit(native)(a, b), jax.jit(native)(bad_a, bad_b)
    nan = np.array([[1, 1], [np.nan, np.nan], [1, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(answer.x, clean.x * nan[:, None], rtol=1e-6)
    np.testing.assert_allclose(answer.residuals, clean.residuals * nan, rtol=1e-6)
    np.testing.assert_array_equal(answer.rank, [3, 0, 3, 0])
    np.testing.assert_allclose(answer.s, clean.s * np.array([[1], [np.nan], [1], [np.nan]]), rtol=1e-6)
    of_a = jax.grad(lambda a: native(a, bad_b).x[..., 0].sum())(bad_a)
    np.testing.assert_array_equal(np.isnan(of_a).any((1, 2)), [False, True, False, True])


def test_a_traced_cutoff(x64):
    a, b = jnp.diag(jnp.asarray([1, 0.5, 1e-3])), jnp.ones(3)
    for rcond, rank in ((0, 3), (-1, 3), (1e-2, 2), (0.6, 1), (1, 0), (np.inf, 0), (np.nan, 0)):
        answer = jax.jit(native)(a, b, rcond)
        assert answer.rank == rank
        assert bool(jnp.isnan(answer.x).all()) == bool(jnp.isnan(answer.s).all()) == np.isnan(rcond)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_strict_promotion(x64, dtype):
    a, b = random((2, 6, 3), dtype), random((2, 6, 2), dtype, 1)

    def gradient(a, b):
        return jax.grad(lambda a: sum(jnp.abs(part).sum() for part in (native(a, b).x, native(a, b).residuals)))(a)

    expected = native(a, b, 0.1), gradient(a, b)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert_close(jax.jit(native)(a, b, 0.1), expected[0], 1e-6)
        assert_close([gradient(a, b)], expected[1:], 1e-5)


def test_subnormal_numbers_count():
    """XLA's threads take them for zero; the core has them in its own threads, and in XLA's."""
    a = jnp.asarray(np.diag([1e-37, 1e-39]).astype("float32"))
    b = jnp.asarray(np.array([1e-37, 2e-37], "float32"))
    with jax.enable_x64(False):
        answer = jax.jit(native)(a, b)
    assert answer.rank == 2
    np.testing.assert_allclose(answer.x, [1, 200], rtol=1e-4)


def test_empty_sizes(x64):
    for shape_a, shape_b in (((0, 3), (0,)), ((3, 0), (3, 2)), ((3, 2), (3, 0)), ((0, 3, 2), (0, 3, 1))):
        assert_close(native(jnp.ones(shape_a), jnp.ones(shape_b)), lstsq(jnp.ones(shape_a), jnp.ones(shape_b)), 1e-6)


def test_export():
    """One artefact for every size. JAX asks for leave where the function is not one of its own."""
    scope = export.SymbolicScope()
    operands = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), "float32") for shape in ("p, m, n", "p, m, k")
    ]
    allowed = export.DisabledSafetyCheck.custom_call(CALL)

    def solve(a, b):
        return tuple(native(a, b))

    artefact = export.export(jax.jit(solve), disabled_checks=[allowed])(*operands)
    for p, m, n, k in ((1, 5, 3, 2), (2, 3, 3, 1), (3, 2, 4, 1)):
        a, b = random((p, m, n), "float32"), random((p, m, k), "float32", 1)
        assert_close(artefact.call(a, b), native(a, b), 1e-6)
    with pytest.raises(ValueError, match=CALL):
        export.export(jax.jit(solve))(*operands)


def test_calls_from_several_threads():
    solve = jax.jit(native)
    operands = [(random((200, 20), "float32", seed), random(200, "float32", seed)) for seed in range(8)]
    expected = [native(*operand) for operand in operands]
    with ThreadPoolExecutor(4) as threads:
        for got, one in zip(threads.map(lambda operand: solve(*operand), operands), expected):
            assert_close(got, one, 1e-6)


@pytest.fixture
def forgotten():
    from lstsq_jax import _native

    _native._missing.cache_clear()
    yield
    _native._missing.cache_clear()


def test_refused_where_it_is_not_installed(forgotten, monkeypatch):
    monkeypatch.setitem(sys.modules, "lstsq_native._xla", None)
    with pytest.raises(TypeError, match=r"lstsq-native, which is not installed.*pip install"):
        native(jnp.eye(2), jnp.ones(2))
    assert lstsq(jnp.eye(2), jnp.ones(2)).rank == 2


def test_refused_where_it_was_built_without_jax(forgotten, monkeypatch):
    monkeypatch.delattr(native_core.core(), "xla_handler")
    with pytest.raises(TypeError, match=r"built without JAX's headers.*pip install"):
        native(jnp.eye(2), jnp.ones(2))


def test_a_wrong_call_is_an_error():
    native(jnp.eye(2), jnp.ones(2))
    a, b, rcond = jnp.ones((2, 3, 2)), jnp.ones((2, 3, 1)), jnp.zeros(2)
    right = [((2, 2, 1), "float32"), ((2, 1), "float32"), ((2,), "int32"), ((2, 2), "float32")]
    for i, wrong in (
        (0, ((2, 3, 1), "float32")),
        (1, ((2,), "float32")),
        (2, ((2,), "float32")),
        (3, ((2, 3), "float32")),
    ):
        results = [jax.ShapeDtypeStruct(*(wrong if i == j else result)) for j, result in enumerate(right)]
        with pytest.raises(Exception, match=r"\[lstsq\] expected other shapes or dtypes"):
            jax.block_until_ready(jax.ffi.ffi_call(CALL, results)(a, b, rcond))
    results = [jax.ShapeDtypeStruct(*result) for result in right]
    for operands in ((a, b, jnp.zeros(3)), (a, b[:, :2], rcond), (a, b.astype(complex), rcond), (a[0], b, rcond)):
        with pytest.raises(Exception, match=r"\[lstsq\] expected other shapes or dtypes"):
            jax.block_until_ready(jax.ffi.ffi_call(CALL, results)(*operands))
    with pytest.raises(Exception, match=r"\[lstsq\] expected three operands"):
        jax.block_until_ready(jax.ffi.ffi_call(CALL, results)(a, b))
