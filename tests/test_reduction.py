"""Reductions of rows as values: what they say, refuse, are pickled to, become in other libraries and in JAX."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from libraries import LIBRARIES

import lstsq
from lstsq import LinAlgError, get_backend, reduce_rows

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((9, 3)), RNG.standard_normal((9, 2))
EXPECTED = lstsq.lstsq(A, B)


@pytest.fixture
def x64():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)


def reduced(library="numpy", rows=slice(None), a=A, b=B):
    backend = get_backend(LIBRARIES[library])
    return reduce_rows(*(backend.from_numpy(array[rows], library) for array in (a, b)))


def assert_solves(reduction, library):
    backend = get_backend(LIBRARIES[library])
    for name, got, expected in zip(EXPECTED._fields, reduction.solve(), EXPECTED):
        np.testing.assert_allclose(backend.to_numpy(got), expected, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pickled_one_is_the_same(library, x64):
    first, rest = (reduced(library, rows) for rows in (slice(4), slice(4, None)))
    copies = [pickle.loads(pickle.dumps(part)) for part in (first, rest)]
    assert_solves(copies[0] + copies[1], library)
    assert_solves(copies[0] + rest, library)


@pytest.mark.parametrize("there", LIBRARIES)
@pytest.mark.parametrize("here", LIBRARIES)
def test_to_another_library(here, there, x64):
    first, rest = (reduced(here, rows).to(there) for rows in (slice(4), slice(4, None)))
    assert f"arrays of {there}" in repr(first)
    assert_solves(first + rest, there)


def test_to_a_library_that_is_not_here():
    with pytest.raises(ValueError, match="no backend serves arrays of 'no_such_library'"):
        reduced().to("no_such_library")


def test_it_says_what_it_holds():
    assert repr(reduced(rows=slice(0))) == "<Reduction of 0 rows: a (0, 3), b (0, 2), float64, arrays of numpy>"
    assert repr(reduced(b=B[:, 0])) == "<Reduction of 9 rows: a (9, 3), b (9,), float64, arrays of numpy>"


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        reduced().rows = 3


def test_dtypes_are_promoted():
    single, double = reduced(a=A.astype(np.float32), b=B.astype(np.float32)), reduced()
    assert single.a.dtype == np.float64
    assert single.solve().x.dtype == np.float32
    assert (single + double).solve().x.dtype == np.float64
    mixed = single + reduced(a=A.astype(np.complex64), b=B.astype(np.complex64))
    assert mixed.solve().x.dtype == np.complex64
    integers = reduce_rows(np.eye(3, dtype=np.int8), [1, 2, 3])
    assert integers.solve().x.tolist() == [1, 2, 3]


def test_a_cutoff_is_the_caller_s():
    graded = reduce_rows(np.diag([1.0, 1e-3, 1e-9]), np.ones(3))
    assert [int(graded.solve(rcond).rank) for rcond in (None, 1e-6, 1e-2, 1, np.float32(0.1))] == [3, 2, 1, 0, 1]
    small = reduce_rows(np.diag([1, 2.0**-24, 2.0**-23]).astype(np.float32), np.ones(3, np.float32))
    assert int(small.solve(-1).rank) == 2
    with pytest.raises(ValueError, match="rcond is NaN"):
        graded.solve(np.nan)


def test_what_solves_is_the_caller_s():
    np.testing.assert_allclose(reduced().solve(driver="svd", backend="numpy").x, EXPECTED.x, rtol=1e-10)
    with pytest.raises(ValueError, match="unknown driver 'nonesuch'"):
        reduced().solve(driver="nonesuch")


class TestRefused:
    def test_other_columns(self):
        with pytest.raises(LinAlgError, match="rows with 3 and 2 columns"):
            reduced() + reduced(a=A[:, :2])

    def test_other_right_hand_sides(self):
        for b in (B[:, 0], B[:, :1]):
            with pytest.raises(LinAlgError, match="right-hand sides of the reductions have shapes"):
                reduced() + reduced(b=b)

    def test_two_libraries(self):
        with pytest.raises(TypeError, match=r"arrays of numpy and array_api_strict.*reduction.to\('numpy'\)"):
            reduced() + reduced("array_api_strict")

    def test_two_devices(self):
        xp = pytest.importorskip("array_api_strict")
        other = reduce_rows(*(xp.asarray(array, device=xp.Device("device1")) for array in (A, B)))
        with pytest.raises(TypeError, match="on the devices"):
            reduced("array_api_strict") + other

    def test_a_batch(self):
        with pytest.raises(LinAlgError, match="a batch of problems"):
            reduce_rows(np.ones((2, 5, 3)), np.ones((5, 1)))
        with pytest.raises(LinAlgError, match="a batch of problems"):
            reduce_rows(np.ones((5, 3)), np.ones((2, 5, 1)))

    def test_what_is_no_reduction(self):
        for other in (1, 0.0, A):
            with pytest.raises(TypeError):
                reduced() + other
        with pytest.raises(TypeError):
            1 + reduced()

    def test_the_backend_of_another_library(self):
        with pytest.raises(TypeError, match=r"array of numpy, which the array_api backend does not serve"):
            reduce_rows(A, B, backend="array_api")

    def test_a_block_that_is_not_finite_names_the_place(self):
        spoilt = A.copy()
        spoilt[5, 1] = np.inf
        with pytest.raises(LinAlgError, match=r"a holds inf at index \(5, 1\)"):
            reduced(a=spoilt)

    def test_a_column_that_is_too_large_for_a_triangle(self):
        with pytest.raises(LinAlgError, match="has a norm beyond the range of float64"):
            reduced(a=np.full((9, 3), 1e308))


@pytest.mark.parametrize("backend", [info.name for info in lstsq.backends() if "numpy" in info.serves])
def test_rows_are_read_as_they_lie(backend):
    """Strides, byte order and alignment are NumPy's affair."""
    wide, expected = np.zeros((18, 7)), lstsq.lstsq(A, B)
    wide[::2, 1::2] = A
    unaligned = np.zeros(9 * 3 * 8 + 1, np.uint8)[1:].view(np.float64).reshape(9, 3)
    unaligned[:] = A
    read_only = A.copy()
    read_only.flags.writeable = False
    for a in (wide[::2, 1::2], A[::-1].copy()[::-1], np.asfortranarray(A), A.astype(">f8"), unaligned, read_only):
        result = reduce_rows(a, np.asfortranarray(B), backend=backend).solve()
        np.testing.assert_allclose(result.x, expected.x, rtol=1e-10)
        np.testing.assert_allclose(result.residuals, expected.residuals, rtol=1e-10)


class TestInJax:
    @pytest.fixture(autouse=True)
    def double(self, x64):
        pass

    def test_it_is_a_pytree(self):
        import jax

        leaves, tree = jax.tree_util.tree_flatten(reduced("jax"))
        assert [np.shape(leaf) for leaf in leaves] == [(3, 3), (3, 2), (2,), ()]
        assert_solves(jax.tree_util.tree_unflatten(tree, leaves), "jax")

    def test_it_goes_into_and_out_of_jit(self):
        import jax

        add = jax.jit(lambda total, a, b: total + reduce_rows(a, b))
        total = add(reduced("jax", slice(4)), A[4:], B[4:])
        assert_solves(total, "jax")
        np.testing.assert_allclose(jax.jit(lambda total: total.solve())(total).x, EXPECTED.x, rtol=1e-10)
        assert "9 rows" in repr(total)

    def test_a_loop_carries_it(self):
        import jax

        first = reduced("jax", slice(3))
        blocks = A[3:].reshape(2, 3, 3), B[3:].reshape(2, 3, 2)
        total, _ = jax.lax.scan(lambda total, block: (total + reduce_rows(*block), None), first, blocks)
        assert_solves(total, "jax")

    def test_the_cutoff_knows_the_rows_under_jit(self):
        import jax

        a = np.zeros((1000, 2))
        a[0, 0], a[1, 1] = 1, 100 * 2.0**-52

        @jax.jit
        def rank(total, rcond=None):
            return total.solve(rcond).rank

        total = reduced("jax", a=a, b=a)
        assert int(rank(total)) == 1
        assert int(rank(total, 1e-20)) == 2
        assert int(rank(total, -1.0)) == 2

    def test_numpy_resid_is_refused_under_jit(self):
        import jax

        with pytest.raises(LinAlgError, match=r"numpy_resid=True makes the shape .* depend on the value"):
            jax.jit(lambda total: total.solve(numpy_resid=True))(reduced("jax"))

    def test_it_maps(self):
        import jax

        solve = jax.vmap(lambda a, b: (reduce_rows(a[:4], b[:4]) + reduce_rows(a[4:], b[4:])).solve().x)
        np.testing.assert_allclose(solve(np.stack([A, 2 * A]), np.stack([B, B]))[1], EXPECTED.x / 2, rtol=1e-10)

    def test_a_derivative_is_refused(self):
        import jax

        with pytest.raises(TypeError, match="asks for the derivative of a reduction of rows"):
            jax.grad(lambda a: reduce_rows(a, jax.numpy.asarray(B)).solve().x.sum())(A)

    def test_without_double_precision(self):
        import jax

        jax.config.update("jax_enable_x64", False)
        a, b = (array.astype(np.float32) for array in (A, B))
        total = reduced("jax", slice(4), a, b) + reduced("jax", slice(4, None), a, b)
        np.testing.assert_allclose(total.solve().x, EXPECTED.x, rtol=1e-5)


def test_mlx_refuses_what_it_traces():
    mx = pytest.importorskip("mlx.core")
    with pytest.raises(TypeError, match="a transformation of MLX"):
        mx.grad(lambda a: reduce_rows(a, mx.ones(4)).solve().x.sum())(mx.ones((4, 2)))


def test_torch_refuses_derivatives():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="whose derivatives are asked for"):
        reduce_rows(torch.ones(4, 2, requires_grad=True), torch.ones(4))
