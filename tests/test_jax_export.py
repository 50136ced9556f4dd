"""`jax.export` with symbolic sizes: one artefact for any number of rows, columns, right-hand sides and problems."""

from __future__ import annotations

import numpy as np
import pytest

from lstsq import lstsq

jax = pytest.importorskip("jax")
jnp = jax.numpy
export = pytest.importorskip("jax.export")
pytest.importorskip("lstsq_jax")
pytestmark = pytest.mark.usefixtures("unoptimised")


def exported(function, dtype, *shapes, constraints=()):
    scope = export.SymbolicScope(constraints)
    arguments = [jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), dtype) for shape in shapes]
    return export.export(jax.jit(function))(*arguments)


def problem(m, n, k, dtype, *batch):
    """The last column is the first once more."""
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((*batch, m, n)), rng.standard_normal((*batch, m, k))
    a[..., -1] = a[..., 0]
    return jnp.asarray(a.astype(dtype)), jnp.asarray(b.astype(dtype))


def assert_same(got, expected):
    eps = float(jnp.finfo(expected.x.dtype).eps)
    np.testing.assert_array_equal(got[2], expected.rank)
    for one, other in zip(got, expected):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=200 * eps * (1 + abs(np.asarray(other)).max()))


@pytest.mark.parametrize("rcond", [None, 1e-3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_rows(dtype, rcond):
    with jax.enable_x64(dtype == "float64"):
        artefact = exported(lambda a, b: tuple(lstsq(a, b, rcond)), dtype, "m, 3", "m, 2")
        for m in (1, 2, 3, 5, 40):
            a, b = problem(m, 3, 2, dtype)
            assert_same(artefact.call(a, b), lstsq(a, b, rcond))


def test_a_cutoff_of_zero_keeps_no_more_values_than_there_are():
    artefact = exported(lambda a, b: tuple(lstsq(a, b, 0.0)), "float32", "m, 3", "m, 2")
    a, b = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3)), "float32"), jnp.ones((2, 2))
    assert_same(artefact.call(a, b), lstsq(a, b, 0.0))


@pytest.mark.parametrize("constraint", ["m >= 3", "m >= 6", "m >= 17", "m <= 3"])
def test_rows_of_which_something_is_known(constraint):
    artefact = exported(lambda a, b: tuple(lstsq(a, b)), "float32", "m, 3", "m, 1", constraints=[constraint])
    a, b = problem(2 if constraint == "m <= 3" else 20, 3, 1, "float32")
    assert_same(artefact.call(a, b), lstsq(a, b))


def test_any_size_at_all():
    artefact = exported(lambda a, b: tuple(lstsq(a, b)), "float32", "p, m, n", "p, m, k")
    for p, m, n, k in ((1, 1, 2, 1), (2, 9, 4, 3), (3, 2, 5, 1), (2, 40, 30, 1)):
        a, b = problem(m, n, k, "float32", p)
        assert_same(artefact.call(a, b), lstsq(a, b))


def test_any_number_of_problems():
    for shape_a, shape_b in (("5, 3", "p, 5, 2"), ("p, 5, 3", "5"), ("p, 5, 3", "p, 5, 2"), ("q, 1, 5, 3", "p, 5, 2")):
        artefact = exported(lambda a, b: tuple(lstsq(a, b)), "float32", shape_a, shape_b)
        for p, q in ((1, 1), (4, 2)):
            sizes = {"p": p, "q": q}
            a, b = (
                jnp.asarray(np.random.default_rng(0).standard_normal([sizes.get(d) or int(d) for d in s.split(", ")]))
                for s in (shape_a, shape_b)
            )
            assert_same(artefact.call(a, b), lstsq(a, b))


def test_derivatives_and_transposes():
    def gradients(a, b):
        return jax.grad(lambda a, b: sum(part.sum() for part in lstsq(a, b)[:2]), (0, 1))(a, b)

    with jax.enable_x64(True):
        artefact = exported(gradients, "float64", "m, 3", "m")
        for m in (2, 7):
            a, b = problem(m, 3, 1, "float64")
            for got, expected in zip(artefact.call(a, b[:, 0]), gradients(a, b[:, 0])):
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)
        mapped = exported(jax.vmap(lambda a, b: lstsq(a, b).x), "float64", "p, m, 3", "p, m")
        a, b = problem(6, 3, 1, "float64", 2)
        np.testing.assert_allclose(mapped.call(a, b[..., 0]), lstsq(a, b).x[..., 0], atol=1e-13)
