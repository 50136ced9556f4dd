"""vmap and compile of the native operation, and what lazy means."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from conftest import DRIVERS, DTYPES, run_python, solve, to_mlx

from lstsq_mlx._native import native


def _equal(got, want):
    for one, other in zip(got, want):
        np.testing.assert_allclose(np.array(one), other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("axis_a", [None, 0, 1, 2])
@pytest.mark.parametrize("axis_b", [None, 0, 2, -1])
def test_vmap(draw, driver, axis_a, axis_b):
    if axis_a is None and axis_b is None:
        return
    a, b = draw(5, 7, 3), draw(5, 7, 2)
    if axis_a is None:
        a = a[:1].repeat(5, axis=0)
    if axis_b is None:
        b = b[:1].repeat(5, axis=0)
    want = solve(a, b, driver=driver)
    moved_a = to_mlx(a[0] if axis_a is None else np.moveaxis(a, 0, axis_a).copy())
    moved_b = to_mlx(b[0] if axis_b is None else np.moveaxis(b, 0, axis_b).copy())
    mapped = mx.vmap(lambda a, b: native().lstsq(a, b, 1e-6, driver), in_axes=(axis_a, axis_b))
    _equal(mapped(moved_a, moved_b), want)


@pytest.mark.parametrize("driver", DRIVERS)
def test_vmap_of_vmap(draw, driver):
    a, b = draw(4, 5, 7, 3), draw(4, 5, 7, 2)
    want = solve(a, b, driver=driver)

    def op(a, b):
        return native().lstsq(a, b, 1e-6, driver)

    _equal(mx.vmap(mx.vmap(op))(to_mlx(a), to_mlx(b)), want)
    # The outer map over both, the inner over b alone: one factorisation for each outer element.
    shared = np.broadcast_to(a[:, :1], a.shape).copy()
    want = solve(shared, b, driver=driver)
    _equal(mx.vmap(mx.vmap(op, in_axes=(None, 0)))(to_mlx(a[:, 0].copy()), to_mlx(b)), want)
    # The outer map over b alone, the inner over both.
    shared = np.broadcast_to(a[:1], a.shape).copy()
    want = solve(shared, b, driver=driver)
    _equal(mx.vmap(mx.vmap(op), in_axes=(None, 0))(to_mlx(a[0].copy()), to_mlx(b)), want)


@pytest.mark.parametrize("driver", DRIVERS)
def test_vmap_over_b_keeps_trouble_to_itself(draw, driver):
    a, b = draw(2, 7, 3), draw(4, 2, 7, 2)
    b[1, 0, 3, 1] = np.nan
    a[1, 0, 0] = np.inf
    want = solve(np.broadcast_to(a, (4, 2, 7, 3)).copy(), b, driver=driver)
    _equal(mx.vmap(lambda b: native().lstsq(to_mlx(a), b, 1e-6, driver))(to_mlx(b)), want)
    assert np.isnan(want.x[1, 0]).all()
    assert np.isfinite(want.x[0, 0]).all()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shapeless", [False, True])
def test_compile(draw, driver, shapeless):
    compiled = mx.compile(lambda a, b: native().lstsq(a, b, 1e-6, driver), shapeless=shapeless)
    for shape in [(7, 3), (3, 7), (2, 5, 4), (9, 9)] if not shapeless else [(7, 3), (9, 4), (3, 7), (300, 50)]:
        a, b = draw(*shape), draw(*shape[:-1], 2)
        _equal(compiled(to_mlx(a), to_mlx(b)), solve(a, b, driver=driver))


def test_compile_keeps_different_solves_apart(draw):
    a, b = to_mlx(draw(6, 3)), to_mlx(draw(6, 1))

    def differences(a, b):
        first = native().lstsq(a, b, 1e-6, "qr")
        return [first[0] - native().lstsq(a, b, rcond, driver)[0] for rcond, driver in [(1e-6, "qr"), (0.999, "qr")]]

    same, other = mx.compile(differences)(a, b)
    assert not np.array(same).any()
    assert np.array(other).any()


def test_singular_values_are_a_node_of_their_own():
    """Reading x, residuals and rank computes no singular value; reading s afterwards factorises nothing again."""
    run_python(
        """
        import mlx.core as mx
        import numpy as np
        from substitute import calls, watch
        from lstsq_mlx._native import native

        watch("dgeqrf", "dgelsd", "dgesdd")
        a = mx.random.normal((40, 30)).astype(mx.float64)
        x, residuals, rank, s = native().lstsq(a, mx.ones((40, 1), dtype=mx.float64), 1e-10, "qr")
        mx.eval(x, residuals, rank)
        assert calls == ["dgeqrf"], calls
        np.testing.assert_allclose(np.array(s), np.linalg.svd(np.array(a), compute_uv=False), rtol=1e-12, atol=1e-13)
        assert calls.count("dgesdd") == 1 and "dgelsd" not in calls, calls

        # The deficient element has found them already.
        calls.clear()
        deficient = mx.concatenate([a, a], axis=1)
        x, residuals, rank, s = native().lstsq(deficient, mx.ones((40, 1), dtype=mx.float64), 1e-10, "qr")
        mx.eval(x)
        solved = list(calls)
        assert solved.count("dgelsd") == 1, solved
        mx.eval(s)
        assert calls == solved, calls
        assert np.count_nonzero(np.array(s) > 1e-10 * np.array(s)[0]) == rank.item() == 30
        """
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (300, 5), (90, 80)])
def test_a_vector_is_a_matrix_of_one_column(draw, shape, driver, dtype):
    """(M,) in, (N,) out: eagerly, compiled, mapped over either operand, and differentiated."""
    a, two = to_mlx(draw(*shape, dtype=dtype)), to_mlx(draw(shape[0], 2, dtype=dtype))
    vector, column = two[:, 0], two[:, :1]  # the vector is strided
    tolerance = 1e-10 if dtype == "float64" else 2e-4

    def op(a, b):
        return native().lstsq(a, b, 1e-6, driver)

    def loss(a, b):
        x, residuals, _, s = op(a, b)
        return mx.sum(mx.abs(x) ** 2) + mx.sum(residuals) + mx.sum(s)

    def same(got, want):
        assert got.shape == want.shape
        np.testing.assert_allclose(np.array(got), np.array(want), rtol=tolerance, atol=tolerance)

    x, *rest = op(a, column)
    for solved in (op, mx.compile(op), mx.compile(op, shapeless=True)):
        got_x, *others = solved(a, vector)
        same(got_x, x[:, 0])
        for got, want in zip(others, rest):
            same(got, want)
    both = mx.stack([a, 2 * a])
    for axes, one, other in (((None, 1), a, two), ((0, None), both, vector), ((0, 1), both, two)):
        mapped = mx.vmap(op, in_axes=axes)
        for got, want in zip(mapped(one, other), mapped(one, mx.expand_dims(other, -1))):
            same(got, want[..., 0] if want.ndim == 3 else want)
    (got_a, got_b), (want_a, want_b) = (mx.grad(loss, argnums=(0, 1))(a, b) for b in (vector, column))
    same(got_a, want_a)
    same(got_b, want_b[:, 0])
    (got_x, got_squares), (want_x, want_squares) = (
        mx.jvp(lambda a, b: op(a, b)[:2], [a, b], [a * a, 3 * b + 1])[1] for b in (vector, column)
    )
    same(got_x, want_x[:, 0])
    same(got_squares, want_squares)


def _tracers_in(transform):
    """What `is_tracer` says of an argument, of what is computed from it and of constants inside of a transformation."""
    fixed, ready = mx.arange(3.0) * 2, mx.ones((3,))
    mx.eval(ready)
    seen = []

    def loss(v):
        seen.append([native().is_tracer(array) for array in (v, mx.sin(v) + ready, mx.stop_gradient(v))])
        seen.append([native().is_tracer(array) for array in (ready, fixed, mx.ones((2,)) * ready[:2], mx.array(3.0))])
        return mx.sum(v * v)

    transform(loss, mx.arange(3.0))
    return seen


@pytest.mark.parametrize(
    "transform",
    [
        lambda f, v: mx.grad(f)(v),
        lambda f, v: mx.value_and_grad(f)(v),
        lambda f, v: mx.vjp(f, [v], [mx.array(1.0)]),
        lambda f, v: mx.jvp(f, [v], [v]),
        lambda f, v: mx.vmap(f)(mx.stack([v, v])),
        lambda f, v: mx.compile(f)(v),
        lambda f, v: mx.compile(f, shapeless=True)(v),
        lambda f, v: mx.grad(mx.checkpoint(f))(v),
        lambda f, v: mx.vmap(mx.grad(f))(mx.stack([v, v])),
        lambda f, v: mx.grad(lambda v: mx.sum(mx.grad(f)(v)))(v),
        lambda f, v: mx.compile(mx.grad(f))(v),
        lambda f, v: mx.grad(lambda v: mx.sum(mx.vmap(f)(mx.stack([v, v]))))(v),
    ],
    ids=[
        *("grad", "value_and_grad", "vjp", "jvp", "vmap", "compile", "shapeless", "checkpoint"),
        *("vmap of grad", "grad of grad", "compile of grad", "grad of vmap"),
    ],
)
def test_is_tracer_tells_arguments_from_constants(transform):
    seen = _tracers_in(transform)
    assert len(seen) >= 2
    assert all(all(of_arguments) for of_arguments in seen[::2])
    assert not any(any(of_constants) for of_constants in seen[1::2])


@pytest.mark.parametrize("outer", ["grad", "jvp", "vmap", "compile"])
def test_is_tracer_after_an_inner_derivative_of_the_same_array(outer):
    """MLX's own mark is gone then."""
    seen = []

    def loss(v):
        inner = mx.grad(lambda w: mx.sum(w * w * mx.sin(v)))(v)
        seen.extend(native().is_tracer(array) for array in (v, inner, v * 2))
        return mx.sum(inner)

    v = mx.arange(3.0)
    {
        "grad": lambda: mx.grad(loss)(v),
        "jvp": lambda: mx.jvp(loss, [v], [v]),
        "vmap": lambda: mx.vmap(loss)(mx.stack([v, v])),
        "compile": lambda: mx.compile(loss)(v),
    }[outer]()
    assert seen == [True, True, True]


def test_is_tracer_outside():
    kept = []
    mx.grad(lambda v: kept.append(v) or mx.sum(v))(mx.ones((2,)))
    mx.vmap(lambda v: kept.append(v) or v)(mx.ones((2, 2)))
    assert not any(native().is_tracer(array) for array in (*kept, mx.ones((2,)), mx.ones((2,)) + 1))


@pytest.mark.parametrize("order", [1, 2])
def test_is_tracer_of_what_was_evaluated_inside(order):
    """MLX evaluates inside of a derivative, and keeps the graph of what depends on the argument."""
    seen = []

    def loss(v):
        square = v * v
        mx.eval(square)
        seen.append(native().is_tracer(square))
        return mx.sum(square)

    f = loss
    for _ in range(order):
        f = mx.grad(lambda v, f=f: mx.sum(f(v)))
    f(mx.arange(3.0))
    assert seen
    assert all(seen)


def test_is_tracer_inside_of_a_rule_of_the_callers():
    seen = []

    @mx.custom_function
    def square(v):
        return v * v

    @square.vjp
    def rule(primal, cotangent, output):
        seen.append((native().is_tracer(primal), native().is_tracer(mx.ones((2,)))))
        return 2 * primal * cotangent

    mx.grad(lambda v: mx.sum(square(v)))(mx.arange(3.0))
    assert seen == [(True, False)]
