"""vmap and compile of the native operation, and what lazy means."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from conftest import DRIVERS, run_python, solve, to_mlx

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
