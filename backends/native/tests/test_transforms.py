"""vmap and compile of the native operation, and what lazy means."""

from __future__ import annotations

import os
from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from operation import DRIVERS, DTYPES, run_python, solve, to_mlx

from lstsq import lstsq
from lstsq_mlx._native import native


def _equal(got, want):
    for one, other in zip(got, want):
        np.testing.assert_allclose(np.array(one), other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("axis_a", "axis_b"), [axes for axes in product([None, 0, 1, 2], [None, 0, 2, -1]) if axes != (None, None)]
)
def test_vmap(draw, driver, axis_a, axis_b):
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
    """A column that is not finite has no answer; the others, the rank and s are what they are without it."""
    a, b = draw(2, 7, 3), draw(4, 2, 7, 2)
    a[1, 0, 0] = np.inf
    x, residuals, rank, s = solve(np.broadcast_to(a, (4, 2, 7, 3)).copy(), b, driver=driver)
    b[1, 0, 3, 1] = np.nan
    x[1, 0, :, 1] = np.nan
    residuals[1, 0, 1] = np.nan
    _equal(mx.vmap(lambda b: native().lstsq(to_mlx(a), b, 1e-6, driver))(to_mlx(b)), (x, residuals, rank, s))
    assert np.isfinite(x[1, 0, :, 0]).all()
    assert rank[1].tolist() == [3, 0]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shapeless", [False, True])
def test_compile(draw, driver, shapeless):
    compiled = mx.compile(lambda a, b: native().lstsq(a, b, 1e-6, driver), shapeless=shapeless)
    for shape in [(7, 3), (3, 7), (2, 5, 4), (9, 9)] if not shapeless else [(7, 3), (9, 4), (3, 7), (300, 50)]:
        a, b = draw(*shape), draw(*shape[:-1], 2)
        _equal(compiled(to_mlx(a), to_mlx(b)), solve(a, b, driver=driver))


# ----------------------------------------------------------------------------------------------------------------------
# Broadcasting
# ----------------------------------------------------------------------------------------------------------------------

#: Shapes of a and b before their last two dimensions.
BATCHES = [((), (4,)), ((1,), (4,)), ((4,), ()), ((4,), (1,)), ((2, 1), (4,)), ((2, 1, 4), (5, 1)), ((1, 3), (2, 1))]


def _broadcast(a, b):
    """The operands with one batch, repeated."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return (np.broadcast_to(part, batch + part.shape[-2:]).copy() for part in (a, b))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch_a", "batch_b"), BATCHES)
def test_batches_broadcast(draw, batch_a, batch_b, dtype, driver):
    a, b = draw(*batch_a, 7, 3, dtype=dtype), draw(*batch_b, 7, 2, dtype=dtype)
    got, want = solve(a, b, driver=driver), solve(*_broadcast(a, b), driver=driver)
    for one, other in zip(got, want):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-11 if dtype == "float64" else 2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
@pytest.mark.parametrize(("batch_a", "batch_b"), BATCHES)
def test_gradient_of_a_broadcast_is_summed_over_what_shares(draw, batch_a, batch_b, shape, dtype):
    a, b = draw(*batch_a, *shape, dtype=dtype), draw(*batch_b, shape[0], 2, dtype=dtype)

    def loss(a, b):
        x, residuals, _, s = native().lstsq(a, b, 1e-6, "auto")
        return mx.sum(mx.abs(x) ** 2) + mx.sum(residuals**2) + mx.sum(s**3)

    got = mx.grad(loss, argnums=(0, 1))(to_mlx(a), to_mlx(b))
    want = mx.grad(loss, argnums=(0, 1))(*(to_mlx(part) for part in _broadcast(a, b)))
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    for one, of_each in zip(got, want):
        of_each = np.array(of_each)
        ndim = of_each.ndim - one.ndim
        shared = tuple(range(ndim)) + tuple(ndim + i for i in range(one.ndim - 2) if one.shape[i] == 1)
        summed = of_each.sum(axis=shared, keepdims=True).reshape(one.shape)
        np.testing.assert_allclose(np.array(one), summed, rtol=tolerance, atol=tolerance * abs(summed).max())


def test_a_vector_beside_a_batch_of_matrices(draw):
    a, b = draw(2, 5, 7, 3), draw(7)
    want = solve(a, np.broadcast_to(b[:, None], (2, 5, 7, 1)).copy())
    _equal(solve(a, b), (want.x[..., 0], want.residuals, want.rank, want.s))


@pytest.mark.parametrize("transposed", [False, True])
def test_right_hand_sides_that_lie_anywhere_in_memory(draw, transposed):
    """Side by side they go in the order of their values, whatever the strides."""
    a, b = to_mlx(draw(3, 1, 2, 7, 3)), to_mlx(draw(7, 4, 3, 6, 2))
    b = mx.transpose(b, (2, 3, 4, 0, 1))[:, ::-1, :, ::-1] if transposed else mx.reshape(b, (3, 6, 2, 7, 4))
    _equal(solve(a, b), solve(*_broadcast(np.array(a), np.array(b))))


def test_one_matrix_is_factorised_once_for_a_batch_of_right_hand_sides():
    run_python(
        """
        import mlx.core as mx
        from substitute import calls, watch
        from lstsq_mlx._native import native

        watch("dgeqrf")
        a, b = mx.random.normal((1, 40, 30)).astype(mx.float64), mx.random.normal((8, 40, 2)).astype(mx.float64)
        mx.eval(native().lstsq(a, b, 1e-10, "qr"))
        assert calls == ["dgeqrf"], calls
        """
    )


# ----------------------------------------------------------------------------------------------------------------------
# Compiled for any shape
# ----------------------------------------------------------------------------------------------------------------------


def _given(draw, shape, dtype):
    if dtype in DTYPES:
        return to_mlx(draw(*shape, dtype=dtype))
    if dtype == "bool_":
        return mx.array(draw(*shape) > 0)
    return mx.array(8 * draw(*shape)).astype(getattr(mx, dtype))


def _same_for_any_shape(draw, function, first, second, dtype, tolerance):
    """Traced with the shapes of `first`, the function is right for both."""
    compiled = mx.compile(function, shapeless=True)
    for shapes in (first, second, first):
        operands = [_given(draw, shape, dtype) for shape in shapes]
        for got, want in zip(compiled(*operands), function(*operands)):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            got, want = np.array(got), np.array(want)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, abs(want).max(initial=0)))


#: Shapes of a and b, then others that a function compiled for the first must answer to as well.
SHAPES = {
    "matrix": ([(6, 3), (6, 2)], [(40, 5), (40, 1)]),
    "wide": ([(3, 6), (3, 2)], [(5, 40), (5, 1)]),
    "vector": ([(6, 3), (6,)], [(40, 5), (40,)]),
    "batch": ([(5, 6, 3), (5, 6, 2)], [(2, 9, 4), (2, 9, 3)]),
    "batch of a": ([(5, 6, 3), (6, 2)], [(2, 9, 4), (9, 3)]),
    "batch of a, vector": ([(5, 6, 3), (6,)], [(2, 9, 4), (9,)]),
    "batch of b": ([(6, 3), (5, 6, 2)], [(9, 4), (2, 9, 3)]),
    "both": ([(5, 1, 6, 3), (4, 6, 2)], [(2, 1, 9, 4), (3, 9, 1)]),
}


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16", "int32", "bool_"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_compiled_for_any_shape(draw, shapes, dtype):
    _same_for_any_shape(draw, lambda a, b: tuple(lstsq(a, b)), *SHAPES[shapes], dtype, 1e-5)


def _squares(a, b):
    x, residuals, _, s = lstsq(a, b)
    return mx.sum(mx.abs(x) ** 2) + mx.sum(residuals) + mx.sum(s)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_gradient_compiled_for_any_shape(draw, shapes, dtype):
    tolerance = 1e-9 if dtype == "float64" else 1e-3
    _same_for_any_shape(draw, mx.grad(_squares, argnums=(0, 1)), *SHAPES[shapes], dtype, tolerance)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("shapes", ["matrix", "wide", "vector", "batch"])
def test_jvp_compiled_for_any_shape(draw, shapes, dtype):
    function = lambda a, b: mx.jvp(lambda a, b: tuple(lstsq(a, b)), [a, b], [a * a, 3 * b])[1]  # noqa: E731
    _same_for_any_shape(draw, function, *SHAPES[shapes], dtype, 1e-9 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("axes", "shapes"),
    [
        ((0, 0), ([(5, 6, 3), (5, 6, 2)], [(2, 9, 4), (2, 9, 3)])),
        ((None, 0), ([(6, 3), (5, 6, 2)], [(9, 4), (2, 9, 3)])),
        ((0, None), ([(5, 6, 3), (6, 2)], [(2, 9, 4), (9, 3)])),
        ((2, None), ([(6, 3, 5), (6,)], [(9, 4, 2), (9,)])),
    ],
)
def test_vmap_compiled_for_any_shape(draw, axes, shapes, dtype):
    mapped = mx.vmap(lambda a, b: tuple(lstsq(a, b)), in_axes=axes)
    _same_for_any_shape(draw, mapped, *shapes, dtype, 1e-9 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_second_derivative_compiled_for_any_shape(draw, shape):
    """In reverse, of a function whose own second derivative MLX does not tie to a shape."""
    inner = mx.grad(lambda a, b: mx.sum(lstsq(a, b).x ** 2))
    hessian = mx.grad(lambda a, b: mx.sum(inner(a, b) ** 2))
    other = tuple(size + 2 for size in shape)
    shapes = [shape, (shape[0], 2)], [other, (other[0], 2)]
    _same_for_any_shape(draw, lambda a, b: [hessian(a, b)], *shapes, "float64", 1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_default_cutoff_is_that_of_the_shape(dtype):
    """Compiled at 40 rows, run at 4000: the smallest singular value is between the two cutoffs."""
    compiled = mx.compile(lambda a, b: tuple(lstsq(a, b)), shapeless=True)
    eps = 2.0**-52 if dtype == "float64" else 2.0**-23
    few, many = (40, 4000) if dtype == "float64" else (5, 40)  # single precision stops growing at 16
    between = eps * (few * min(many, 16 if dtype != "float64" else many)) ** 0.5
    for rows, rank in ((few, 3), (many, 2), (few, 3)):
        a = mx.array(np.eye(rows, 3) * [1, 1, between], dtype=getattr(mx, dtype))
        b = mx.ones((rows, 1), dtype=a.dtype)
        assert compiled(a, b)[2].item() == lstsq(a, b).rank.item() == rank
        gradient = mx.compile(mx.grad(lambda a, b: mx.sum(mx.abs(lstsq(a, b).x) ** 2)), shapeless=True)
        gradient(mx.array(np.eye(few, 3) * [1, 1, between], dtype=a.dtype), mx.ones((few, 1), dtype=a.dtype))
        want = mx.grad(lambda a, b: mx.sum(mx.abs(lstsq(a, b).x) ** 2))(a, b)
        np.testing.assert_allclose(np.array(gradient(a, b)), np.array(want), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "traced", "called", "message"),
    [
        (lambda a, b: lstsq(a, b).x, [(1, 6, 3), (1, 6, 2)], [(1, 6, 3), (5, 6, 2)], "1 where one was 1"),
        (lambda a, b: lstsq(a, b).x, [(1, 6, 3), (5, 6, 2)], [(4, 6, 3), (4, 6, 2)], "1 where one was 1"),
        (lambda a, b: lstsq(a, b).x, [(6, 3), (6, 2)], [(0, 3), (0, 2)], "no dimension of 0"),
        (lambda a, b: lstsq(a, b).x, [(6, 3), (6, 2)], [(7, 3), (6, 2)], "as many rows in b as in a"),
        (mx.grad(_squares), [(6, 3), (6, 2)], [(3, 6), (3, 2)], "tall matrix was called with a wide one"),
        (mx.grad(_squares), [(3, 6), (3, 2)], [(6, 3), (6, 2)], "tall matrix was called with a wide one"),
    ],
)
def test_shapes_of_another_kind_are_refused(function, traced, called, message):
    """In one sentence that says what to do."""
    compiled = mx.compile(function, shapeless=True)
    mx.eval(compiled(*(mx.ones(shape) for shape in traced)))
    with pytest.raises(ValueError, match=f"{message}.*shapeless=False"):
        compiled(*(mx.ones(shape) for shape in called))


@pytest.mark.parametrize("shapes", [((0, 3), (0, 2)), ((6, 3), (6, 0)), ((0, 6, 3), (6, 2))])
def test_an_empty_problem_is_no_trace_for_other_shapes(shapes):
    operands = [mx.ones(shape) for shape in shapes]
    assert mx.compile(lambda a, b: lstsq(a, b).x)(*operands).size == lstsq(*operands).x.size
    with pytest.raises(ValueError, match=r"answer is a constant.*shapeless=False"):
        mx.compile(lambda a, b: lstsq(a, b).x, shapeless=True)(*operands)


def test_export_is_refused_by_name():
    """MLX serialises its own operations alone, and names the one that it cannot; docs/limits.md says what to do."""
    with pytest.raises(ValueError, match="Unable to serialize primitive Lstsq"):
        mx.export_function(os.devnull, lambda a, b: lstsq(a, b).x, mx.eye(4, 2), mx.ones((4,)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_map_over_right_hand_sides(draw, dtype):
    """MLX's compiler cannot write a constant that is a complex NaN: there is none in the graph."""
    a, b = to_mlx(draw(20, 4, dtype=dtype)), to_mlx(draw(3, 20, 2, dtype=dtype))
    mapped = mx.vmap(lambda a, b: mx.multiply(lstsq(a, b).x, 2, stream=mx.cpu), in_axes=(None, 0))
    of_both = mx.vmap(mx.grad(_squares, argnums=(0, 1)), in_axes=(None, 0))
    for function in (lambda a, b: [mapped(a, b)], of_both):
        for got, want in zip(mx.compile(function)(a, b), function(a, b)):
            np.testing.assert_allclose(np.array(got), np.array(want), rtol=1e-4, atol=1e-4)


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
