"""`lstsq.residual` at the frontend: libraries, lists, dtypes, and what it refuses. The suite has the numbers."""

import warnings

import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

from lstsq import LinAlgError, LstsqRankWarning, lstsq, residual


def test_lists_join_the_array_beside_them():
    assert isinstance(residual([[1.0], [2.0]], [3.0], jnp.ones(2)), jnp.ndarray)
    found = residual(mx.ones((2, 1)), [3.0], [1, 2])
    assert (type(found), found.dtype, found.tolist()) == (mx.array, mx.float32, [-2, -1])
    assert residual([[1], [2]], [3], [1, 2]).tolist() == [-2, -4]


def test_dtypes_are_promoted():
    a, x, b = np.ones((2, 1), np.float16), np.ones(1, np.float32), np.ones(2, np.int8)
    assert residual(a, x, b).dtype == np.float64
    assert residual(a, x, b.astype(np.float16)).dtype == np.float32
    assert residual(a, x.astype(np.complex64), b).dtype == np.complex128


def test_columns_of_one_matrix_beside_a_batch_of_vectors():
    a, b = np.arange(24.0).reshape(2, 4, 3), np.arange(4.0)
    x = lstsq(a, b).x
    assert residual(a, x, b).shape == (2, 4)
    np.testing.assert_allclose(residual(a, x, b), b - np.einsum("bmn,bn->bm", a, x), atol=1e-13)


@pytest.mark.parametrize(
    ("a", "x", "b", "message"),
    [
        ((4, 3), (4,), (4,), r"x has shape \(4,\) beside a \(4, 3\) and b \(4,\); expected \(..., N\)"),
        ((4, 3), (3,), (4, 1), r"expected \(..., N, K\), whose last sizes are \(3, 1\)"),
        ((2, 4, 3), (3, 3, 1), (4, 1), r"the batch dimensions of x \(shape \(3, 3, 1\)\) do not broadcast"),
        ((4, 3), (3,), (5,), "a has 4 rows"),
    ],
)
def test_shapes_that_do_not_fit(a, x, b, message):
    with pytest.raises(LinAlgError, match=message):
        residual(np.ones(a), np.ones(x), np.ones(b))


def test_two_libraries_and_strangers():
    with pytest.raises(TypeError, match="a is an array of numpy and x of jax; expected one library"):
        residual(np.ones((2, 1)), jnp.ones(1), np.ones(2))
    with pytest.raises(TypeError, match="a is an array of mlx, which the numpy backend does not serve"):
        residual(mx.ones((2, 1)), mx.ones(1), mx.ones(2), backend="numpy")
    with pytest.raises(TypeError, match="x has dtype object"):
        residual(np.ones((2, 1)), np.array([None]), np.ones(2))


def test_the_warning_names_the_line_of_the_call():
    with pytest.warns(LstsqRankWarning) as caught:
        lstsq(np.ones((3, 2)), np.ones(3), on_deficient="warn")
    assert caught[0].filename == __file__


def test_what_numpys_filters_silence_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        assert lstsq(np.ones((3, 2)), np.ones(3), on_deficient="warn").rank == 1
