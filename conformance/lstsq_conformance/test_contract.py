"""What goes in and what comes out: shapes, dtypes, layouts, libraries, the form of the result, NumPy's residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstsq
from lstsq import LinAlgError
from lstsq_conformance.cases import find
from lstsq_conformance.reference import NumpyArray, real_of
from lstsq_conformance.target import Target


def _random(*shape: int, dtype: str = "float64") -> NumpyArray:
    real, imaginary = np.random.default_rng(len(shape) + sum(shape)).standard_normal((2, *shape))
    values: NumpyArray = real + 1j * imaginary if dtype.startswith("complex") else real
    return values.astype(dtype)


@pytest.mark.contract("shapes")
@pytest.mark.parametrize(
    ("m", "n"),
    [
        *((1, 1), (1, 3), (3, 1), (3, 3), (3, 5), (5, 3)),
        *(pytest.param(m, n, marks=pytest.mark.thorough) for m, n in ((1, 5), (5, 1), (5, 5))),
    ],
)
@pytest.mark.parametrize("k", [None, 1, 2])
def test_shapes_of_one_problem(target: Target, m: int, n: int, k: int | None) -> None:
    columns = () if k is None else (k,)
    answer = target.solve(_random(m, n, dtype=target.dtype), _random(m, *columns, dtype=target.dtype))
    assert answer.x.shape == (n, *columns)
    assert answer.residuals.shape == (k or 1,)
    assert answer.rank.shape == ()
    assert answer.s.shape == (min(m, n),)


@pytest.mark.contract("shapes")
@pytest.mark.parametrize(
    ("a_shape", "b_shape", "batch"),
    [
        ((2, 5, 3), (2, 5, 4), (2,)),
        ((5, 3), (2, 5, 4), (2,)),
        ((2, 5, 3), (5, 4), (2,)),
        ((2, 1, 5, 3), (3, 5, 4), (2, 3)),
        ((3, 5, 3), (2, 1, 5, 4), (2, 3)),
        ((1, 3, 5, 3), (2, 1, 5, 4), (2, 3)),
        ((2, 1, 5, 3), (2, 3, 5, 4), (2, 3)),
        ((1, 5, 3), (5, 4), (1,)),
        ((2, 3, 2, 5), (2, 3, 2, 1), (2, 3)),
    ],
    ids=str,
)
def test_batch_dimensions_broadcast(
    target: Target, a_shape: tuple[int, ...], b_shape: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    a, b = _random(*a_shape, dtype=target.dtype), _random(*b_shape, dtype=target.dtype)
    answer = target.solve(a, b)
    (m, n), k = a_shape[-2:], b_shape[-1]
    assert answer.x.shape == (*batch, n, k)
    assert answer.residuals.shape == (*batch, k)
    assert answer.rank.shape == batch
    assert answer.s.shape == (*batch, min(m, n))
    a, b = np.broadcast_to(a, (*batch, m, n)), np.broadcast_to(b, (*batch, m, k))
    for i in np.ndindex(batch):
        alone = target.solve(a[i], b[i])
        np.testing.assert_allclose(answer.x[i], alone.x, rtol=_close(target), atol=_close(target))
        np.testing.assert_allclose(answer.residuals[i], alone.residuals, rtol=_close(target), atol=_close(target))
        np.testing.assert_allclose(answer.s[i], alone.s, rtol=_close(target))
        assert answer.rank[i] == alone.rank


@pytest.mark.batches
@pytest.mark.contract("shapes")
def test_vector_with_a_batch_of_matrices(target: Target) -> None:
    a, b = _random(4, 5, 3, dtype=target.dtype), _random(5, dtype=target.dtype)
    answer = target.solve(a, b)
    assert answer.x.shape == (4, 3)
    assert answer.residuals.shape == (4, 1)
    matrix = target.solve(a, b[:, None])
    np.testing.assert_allclose(answer.x, matrix.x[..., 0], rtol=_close(target))


@pytest.mark.contract("shapes")
def test_result_is_a_named_tuple_in_numpys_order(target: Target) -> None:
    result = target.lstsq(target.array(_random(5, 3, dtype=target.dtype)), target.array(_random(5, dtype=target.dtype)))
    assert isinstance(result, lstsq.LstsqResult)
    x, residuals, rank, s = result
    assert (x is result.x, residuals is result.residuals, rank is result.rank, s is result.s) == (True,) * 4


@pytest.mark.contract("shapes")
def test_result_answers_to_torchs_names(target: Target) -> None:
    result = target.lstsq(target.array(_random(5, 3, dtype=target.dtype)), target.array(_random(5, dtype=target.dtype)))
    assert result.solution is result.x
    assert result.singular_values is result.s


@pytest.mark.contract("dtypes")
def test_dtypes_are_kept(target: Target, dtype: str, driver: str) -> None:
    answer = target.solve(_random(5, 3, dtype=dtype), _random(5, 2, dtype=dtype), driver=driver)
    assert answer.x.dtype == dtype
    assert answer.residuals.dtype == real_of(dtype)
    assert answer.s.dtype == real_of(dtype)
    assert np.issubdtype(answer.rank.dtype, np.integer)


@pytest.mark.contract("dtypes")
def test_a_and_b_are_promoted(target: Target, dtype: str) -> None:
    for other in target.dtypes:
        a, b, expected = _random(5, 3, dtype=dtype), _random(5, 2, dtype=other), str(np.result_type(dtype, other))
        if expected in target.claims.dtypes and target.accepts(expected, None):
            assert target.solve(a, b).x.dtype == expected, f"{dtype} with {other}"
        else:
            # What two claimed dtypes promote to need not be claimed: complex128, where float64 and complex64 are.
            with pytest.raises((TypeError, ValueError), match=expected):
                target.solve(a, b)


@pytest.mark.contract("dtypes")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=pytest.mark.library(name))
        for name in ("bool", "uint8", "int8", "int16", "int32", "int64")
    ],
)
def test_integers_become_the_default_float(target: Target, kind: str) -> None:
    a, b = np.array([[1, 0], [1, 1], [0, 1]], kind), np.array([1, 1, 0], kind)
    native = target.array(a)
    answer = target.solve(a, b)
    assert answer.x.dtype == target.backend.default_float(native)
    expected = target.solve(a.astype(answer.x.dtype), b.astype(answer.x.dtype))
    close = _close(target, str(answer.x.dtype))
    np.testing.assert_allclose(answer.x, expected.x, rtol=close, atol=close)


@pytest.mark.contract("dtypes")
@pytest.mark.parametrize(
    "half", [pytest.param(name, marks=pytest.mark.library(name)) for name in ("float16", "bfloat16")]
)
def test_half_precision_becomes_single(target: Target, half: str) -> None:
    xp = target.xp
    single = [target.array(_random(*shape, dtype="float32").round(1)) for shape in ((5, 3), (5, 2))]
    halves = [xp.astype(array, getattr(xp, half, half)) for array in single]
    answer = target.to_answer(target.lstsq(*halves))
    expected = target.to_answer(target.lstsq(*(xp.astype(array, xp.float32) for array in halves)))
    assert (answer.x.dtype, answer.residuals.dtype, answer.s.dtype) == ("float32",) * 3
    close = _close(target, "float32")
    np.testing.assert_allclose(answer.x, expected.x, rtol=close, atol=close)


def _reversed_rows(target: Target, a: NumpyArray) -> Any:
    return target.array(a[::-1])[::-1, :]


def _reversed_columns(target: Target, a: NumpyArray) -> Any:
    return target.array(a[:, ::-1])[:, ::-1]


def _every_other(target: Target, a: NumpyArray) -> Any:
    return target.array(np.repeat(np.repeat(a, 2, axis=0), 2, axis=1))[::2, ::2]


def _transposed(target: Target, a: NumpyArray) -> Any:
    return target.xp.permute_dims(target.array(np.ascontiguousarray(a.T)), (1, 0))


def _middle(target: Target, a: NumpyArray) -> Any:
    return target.array(np.pad(a, 2))[2:-2, 2:-2]


@pytest.mark.contract("shapes")
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(_reversed_rows, marks=pytest.mark.library("negative steps")),
        pytest.param(_reversed_columns, marks=pytest.mark.library("negative steps")),
        _every_other,
        _transposed,
        _middle,
    ],
)
@pytest.mark.parametrize(("m", "n"), [(6, 3), (3, 3), (3, 6)])
def test_layout_in_memory_does_not_matter(
    target: Target, dtype: str, driver: str, layout: Callable[[Target, NumpyArray], Any], m: int, n: int
) -> None:
    a, b = _random(m, n, dtype=dtype), _random(m, 2, dtype=dtype)
    expected = target.solve(a, b, driver=driver)
    with target.backend.context():
        a_laid, b_laid = layout(target, a), layout(target, b)
    before = target.numpy(a_laid).copy(), target.numpy(b_laid).copy()
    answer = target.to_answer(target.lstsq(a_laid, b_laid, driver=driver))
    np.testing.assert_allclose(answer.x, expected.x, rtol=100 * _close(target, dtype), atol=100 * _close(target, dtype))
    np.testing.assert_array_equal(target.numpy(a_laid), before[0])
    np.testing.assert_array_equal(target.numpy(b_laid), before[1])


@pytest.mark.contract("shapes")
def test_input_is_not_written_to(target: Target, dtype: str, driver: str) -> None:
    a, b = _random(5, 3, dtype=dtype), _random(5, 2, dtype=dtype)
    kept = a.copy(), b.copy()
    native = target.array(a), target.array(b)
    if isinstance(native[0], np.ndarray):
        native[0].flags.writeable = native[1].flags.writeable = False
    target.to_answer(target.lstsq(*native, driver=driver))
    for array, before in zip(native, kept):
        np.testing.assert_array_equal(target.numpy(array), before)


@pytest.mark.contract("namespaces")
def test_results_are_of_the_inputs_library(target: Target) -> None:
    a, b = target.array(_random(5, 3, dtype=target.dtype)), target.array(_random(5, 2, dtype=target.dtype))
    result = target.lstsq(a, b)
    for field, array in result._asdict().items():
        if isinstance(a, np.ndarray) and field == "rank":
            assert isinstance(array, (np.ndarray, np.integer))
        else:
            assert isinstance(array, type(a)), field


@pytest.mark.contract("namespaces")
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((5, 3), (5,)), ((3, 3), (3, 1)), ((3, 5), (2, 3, 2)), ((2, 5, 3), (5, 2)), ((0, 3), (0, 2)), ((5, 3), (5, 0))],
    ids=str,
)
def test_results_are_on_the_inputs_device(
    target: Target, device: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    backend = target.backend
    a, b = _random(*a_shape, dtype=target.dtype), _random(*b_shape, dtype=target.dtype)
    expected = target.solve(a, b)
    with backend.on_device(target.devices[device]) as put:
        there = [put(backend.from_numpy(array, target.namespace)) for array in (a, b)]
        operands = [there, [there[0], b.tolist()]] if b.size else [there]
        for native_a, native_b in operands:
            for singular_values in (True, False):
                result = target.lstsq(native_a, native_b, singular_values=singular_values)
                for field, array in result._asdict().items():
                    if array is not None:
                        assert backend.device(array) == backend.device(there[0]), field
                np.testing.assert_allclose(target.numpy(result.x), expected.x, rtol=_close(target), atol=_close(target))
                np.testing.assert_array_equal(target.numpy(result.rank), expected.rank)


@pytest.mark.contract("namespaces")
@pytest.mark.library("arrays on two devices")
def test_two_devices_are_refused(target: Target) -> None:
    first, second = target.on_each_device(_random(3, 3, dtype=target.dtype))[:2]
    for a, b in ((first, second), (second, first)):
        with pytest.raises(TypeError) as caught:
            target.lstsq(a, b)
        for array in (a, b):
            assert str(target.backend.device(array)) in str(caught.value)


@pytest.mark.contract("namespaces")
def test_named_backend_solves_numpy_arrays_and_converts_back(target: Target) -> None:
    a, b = _random(5, 3, dtype=target.dtype), _random(5, 2, dtype=target.dtype)
    result = lstsq.lstsq(a, b, backend=target.backend.name)
    assert isinstance(result.x, np.ndarray)
    assert isinstance(result.s, np.ndarray)
    np.testing.assert_allclose(result.x, target.solve(a, b).x, rtol=_close(target), atol=_close(target))


@pytest.mark.contract("namespaces")
@pytest.mark.library("other than NumPy")
def test_two_libraries_are_refused(target: Target) -> None:
    native, other = target.array(_random(5, 3, dtype=target.dtype)), _random(5, 2, dtype=target.dtype)
    with pytest.raises(TypeError, match="numpy"):
        target.lstsq(native, other)
    with pytest.raises(TypeError, match="numpy"):
        target.lstsq(other, native)


@pytest.mark.contract("namespaces")
def test_a_plain_list_joins_the_other_operand(target: Target) -> None:
    a, b = np.array([[1, 0], [1, 1], [1, 2]], target.dtype), [1.0, 3.0, 5.0]
    native = target.array(a)
    result = target.lstsq(native, b)
    assert isinstance(result.x, type(native))
    np.testing.assert_allclose(target.numpy(result.x), [1, 2], rtol=_close(target), atol=_close(target))


@pytest.mark.contract("namespaces")
def test_plain_lists_are_numpys(target: Target) -> None:
    if "float64" not in target.dtypes:
        with pytest.raises(TypeError, match="float64"):
            lstsq.lstsq([[1, 0], [1, 1], [1, 2]], [1, 3, 5], backend=target.backend.name)
        return
    result = lstsq.lstsq([[1, 0], [1, 1], [1, 2]], [1, 3, 5], backend=target.backend.name)
    assert isinstance(result.x, np.ndarray)
    np.testing.assert_allclose(result.x, [1, 2], rtol=_close(target), atol=_close(target))


@pytest.mark.contract("dtypes")
def test_default_driver_takes_every_dtype_and_its_own_name(target: Target, dtype: str) -> None:
    a, b = _random(6, 3, dtype=dtype), _random(6, 2, dtype=dtype)
    by_default, by_name = target.solve(a, b), target.solve(a, b, driver=target.claims.default_driver)
    close = _close(target, dtype)
    np.testing.assert_allclose(by_default.x, by_name.x, rtol=close, atol=close)


@pytest.mark.contract("residuals")
@pytest.mark.parametrize(
    "name", ["full rank/10x3", "full rank/3x3", "full rank/3x10", "deficient/10x3", "tie/tall 5x3"]
)
def test_numpy_resid_is_numpys_rule(target: Target, dtype: str, name: str) -> None:
    problem = find(name).build(dtype)
    m, n = problem.a.shape
    ours = target.solve(problem.a, problem.b, problem.rcond)
    numpys = target.solve(problem.a, problem.b, problem.rcond, numpy_resid=True)
    if m <= n or problem.rank != n:
        assert numpys.residuals.shape == (0,)
        assert numpys.residuals.dtype == real_of(dtype)
    else:
        np.testing.assert_allclose(numpys.residuals, ours.residuals, rtol=_close(target, dtype))
    size = max(1.0, float(np.abs(ours.x).max()))
    np.testing.assert_allclose(numpys.x, ours.x, rtol=0, atol=_close(target, dtype) * size)


@pytest.mark.batches
@pytest.mark.contract("residuals")
def test_numpy_resid_is_refused_for_a_batch(target: Target) -> None:
    with pytest.raises(LinAlgError, match="numpy_resid"):
        target.solve(_random(2, 5, 3, dtype=target.dtype), _random(2, 5, 1, dtype=target.dtype), numpy_resid=True)


@pytest.mark.contract("residuals")
@pytest.mark.claims("jit")
def test_numpy_resid_is_refused_under_jit(target: Target) -> None:
    a, b = target.array(_random(5, 3, dtype=target.dtype)), target.array(_random(5, 1, dtype=target.dtype))
    # A LinAlgError, or the compiler's own error, which quotes what it cannot compile.
    with pytest.raises(Exception, match="numpy_resid"):
        target.transform("jit")(lambda a, b: target.lstsq(a, b, numpy_resid=True).residuals)(a, b)


@pytest.mark.contract("residuals")
def test_residuals_are_per_right_hand_side_whatever_the_rank(target: Target, dtype: str, driver: str) -> None:
    deficient = np.array([[1, 1], [1, 1], [0, 0]], dtype)
    b = np.array([[1, 0, 2], [1, 2, 0], [3, 0, 1]], dtype)
    answer = target.solve(deficient, b, driver=driver)
    np.testing.assert_allclose(answer.residuals, [9, 2, 3], rtol=_close(target, dtype))


def _close(target: Target, dtype: str | None = None) -> float:
    """For small, well-conditioned problems: 100 roundings."""
    return 100 * float(np.finfo(dtype or target.dtype).eps)
