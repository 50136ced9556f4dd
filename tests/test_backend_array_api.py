"""White-box tests of the array-API backend."""

from __future__ import annotations

import types

import numpy as np
import pytest

from lstsq_array_api import ArrayApiBackend

BACKEND = ArrayApiBackend()


@pytest.fixture(params=ArrayApiBackend.namespaces)
def namespace(request):
    pytest.importorskip(request.param)
    return request.param


def solve(namespace, a, b, rcond=1e-14):
    solution = BACKEND.solve(BACKEND.from_numpy(a, namespace), BACKEND.from_numpy(b, namespace), rcond, "svd")
    return [BACKEND.to_numpy(array) for array in solution]


@pytest.mark.parametrize("dtype", BACKEND.capabilities.dtypes)
def test_single_precision_is_solved_in_double(namespace, dtype):
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((rows, 5)))[0] for rows in (50, 5))
    a = ((u * np.logspace(0, -5, 5)) @ v.T).astype(dtype)
    b = rng.standard_normal((50, 1)).astype(dtype)
    x, residuals, rank, s = solve(namespace, a, b)
    assert (x.dtype, residuals.dtype, rank.dtype) == (np.dtype(dtype), s.dtype, np.int32)
    assert s.dtype == a.real.dtype
    np.testing.assert_allclose(x, np.linalg.lstsq(a.astype("complex128"), b, 1e-14)[0], rtol=1e-6)


def test_each_element_keeps_its_trouble_to_itself(namespace):
    a, b = np.stack([np.eye(3)] * 4), np.ones((4, 3, 2))
    a[1, 0, 0], b[2, 0, 1] = np.inf, np.nan
    a[3, 2, 2] = 0
    x, residuals, rank, s = solve(namespace, a, b)
    lost = np.array([False, True, True, False])
    for array in (x, residuals, s):
        expected = np.broadcast_to(lost.reshape(-1, *[1] * (array.ndim - 1)), array.shape)
        np.testing.assert_array_equal(np.isnan(array), expected)
    np.testing.assert_array_equal(rank, [3, 0, 0, 2])
    np.testing.assert_array_equal(x[3, :, 0], [1, 1, 0])


@pytest.mark.parametrize("rcond", [1.0, np.inf])
def test_everything_is_zero_from_rcond_1_on(namespace, rcond):
    x, residuals, rank, _ = solve(namespace, np.eye(3), np.ones((3, 1)), rcond)
    assert rank == 0
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(residuals, 3)


@pytest.mark.parametrize("size", [1e-300, 1e300])
@pytest.mark.parametrize("shape", [(6, 2), (3, 3), (2, 6)])
def test_nothing_overflows_in_between(namespace, size, shape):
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal(shape), rng.standard_normal((shape[1], 2))
    expected = np.linalg.pinv(a) @ a @ x
    got, _, rank, s = solve(namespace, a * size, a @ x * size)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(s / size, np.linalg.svd(a, compute_uv=False), rtol=1e-14)
    assert rank == min(shape)


@pytest.mark.parametrize("shape", [(200_000, 3), (3, 200_000)])
def test_a_long_matrix_needs_no_square(namespace, shape):
    a = np.random.default_rng(0).standard_normal(shape).astype("float32")  # Squared, 160 GB.
    x, _, rank, _ = solve(namespace, a, a @ np.ones((shape[1], 1), "float32"), 1e-6)
    assert (rank, x.shape) == (3, (shape[1], 1))


def test_a_library_without_linalg_is_refused(monkeypatch):
    bare = types.SimpleNamespace(__name__="bare", linalg=types.SimpleNamespace(qr=None))
    monkeypatch.setattr(ArrayApiBackend, "namespace", lambda self, array: bare)
    with pytest.raises(TypeError, match=r"^bare has no linalg\.svd, so that it cannot solve least squares"):
        BACKEND.solve(np.eye(2), np.eye(2), 0.0, "svd")


@pytest.mark.parametrize("which", [0, 1])
def test_a_tensor_that_records_gradients_is_refused(which):
    torch = pytest.importorskip("torch")
    operands = [torch.eye(2), torch.eye(2)]
    operands[which].requires_grad_()
    with pytest.raises(TypeError, match="detach"):
        BACKEND.solve(*operands, 1e-6, "svd")
    with torch.no_grad():
        solution = BACKEND.solve(*operands, 1e-6, "svd")
    assert not any(array.requires_grad for array in solution)
    np.testing.assert_array_equal(BACKEND.to_numpy(solution.x), np.eye(2))


def test_from_numpy_copies_whatever_the_layout(namespace):
    array = np.arange(6.0).reshape(2, 3)[::-1, ::-1].astype(">f8")
    array.flags.writeable = False
    converted = BACKEND.from_numpy(array, namespace)
    np.testing.assert_array_equal(BACKEND.to_numpy(converted), array)
