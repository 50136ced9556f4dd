"""The decision of the certified way in the functions of the library: of all matrices at once, or of each."""

from __future__ import annotations

from contextlib import nullcontext
from typing import ClassVar

import array_api_compat
import array_api_compat.numpy as xp
import numpy as np
import pytest
from numpy.random import Generator

from lstsq._backend import Solution
from lstsq_array_api import ArrayApiBackend, _certified, _lacking, _solve
from lstsq_array_api._matrix import Matrix

BACKEND = ArrayApiBackend()


def near(random: Generator, size: tuple[int, ...], low: float, high: float) -> np.ndarray:
    return 10.0 ** random.uniform(low, high, size)


@pytest.mark.parametrize("single", [False, True], ids=["double", "single"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7)])
def test_what_is_said_of_all_matrices_holds_for_each(shape, single):
    random, answers = np.random.default_rng(5), [0, 0]
    matrix = Matrix(xp, random.standard_normal((1, *shape)).astype("float32" if single else "float64"), xp.float64)
    reduction, judges = _certified._reduce(xp, matrix), [_certified.judge]
    judges += [_certified.judge_before_residual] if shape[0] > shape[1] else []
    for trial in range(1500):
        # Numbers with which all is proven, or nothing, or which are about as large as what they are compared with.
        rcond, spread = near(random, (), -16, -4), random.choice([0.0, 0.3, 1.0, 2.0])
        norm = near(random, (1,), -62, 62)
        facts = [near(random, (1,), -17, -2), norm**2 * near(random, (1,), 0, 1)]
        facts += [near(random, (3,), 0, 4), norm**2 * near(random, (3,), 0, 0.5)]
        with np.errstate(all="ignore"):
            unit = 2.0**-28 if single else 2.0**-53
            step = near(random, (1,), -16, -6), near(random, (1,), -1, 3) * unit / reduction.bounds(np, facts).rho
            residual = near(random, (1,), -16, 1), near(random, (1,), -1, 1) * unit
            measured = [step[random.integers(2)], near(random, (1,), -1, 1), residual[random.integers(2)]]
            measured += [near(random, (1,), -1, 1) * unit * norm] if shape[0] < shape[1] else []
            measured += [] if single else [near(random, (1,), -46, 46) * random.choice([0, 1, 1])]
            facts, measured = (
                [v[:, None] * near(random, (v.size, 4), 0, spread) for v in numbers] for numbers in (facts, measured)
            )
            low, high = ([extreme(v, axis=1) for v in (*facts, *measured)] for extreme in (np.min, np.max))
            judge, asked = judges[trial % len(judges)], (shape, rcond, single)
            of_all = judge(reduction.bounds(np, high[:4], low[:4]), low[4:], high[4:], *asked)
            of_each = judge(reduction.bounds(np, facts), measured, measured, *asked)
        accepted = bool(np.all(of_all[0] & of_all[1]))
        assert not accepted or np.all(of_each[0] & of_each[1])
        answers[accepted] += 1
    assert min(answers) > 40, answers


def solved(namespace: str, a: np.ndarray, b: np.ndarray) -> Solution:
    arrays = (BACKEND.from_numpy(v, namespace) for v in (a, b))
    return Solution(*(BACKEND.to_numpy(part) for part in BACKEND.solve(*arrays, 1e-12, "cholesky")))


@pytest.mark.parametrize("namespace", ["array_api_strict", "torch"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_a_batch_is_answered_as_its_halves_are(namespace, dtype, shape, monkeypatch):
    pytest.importorskip(namespace)
    monkeypatch.setattr(_certified, "FEW", 100)
    random = np.random.default_rng(2)
    a, b = random.standard_normal((40, *shape)), random.standard_normal((40, shape[0], 2))
    if dtype.startswith("complex"):
        a, b = a + 1j * random.standard_normal(a.shape), b - 1j * random.standard_normal(b.shape)
    a[:20] += 4 * np.eye(*shape)  # One decision for the first half, and one for each matrix in the second.
    a[25] = np.outer(a[25, :, 0], a[25, 0])
    a[26:30] *= 2.0 ** np.array([-30, -20, 20, 30])[:, None, None]
    b[31:33] = 0
    a, b = a.astype(dtype), b.astype(dtype)
    whole = solved(namespace, a, b)
    assert whole.rank.tolist() == [min(shape)] * 25 + [0] + [min(shape)] * 14
    assert np.isnan(whole.x[25]).all()
    halves = [solved(namespace, a[half], b[half]) for half in (slice(20), slice(20, 40))]
    for found, *expected in zip(whole, *halves):
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("way", "most"), [("gram", 36), ("batch on gpu", 28)])
def test_a_batch_takes_few_operations_of_torch(dtype, way, most, monkeypatch):
    """On a GPU each starts a kernel or more, and small problems take their time for that."""
    pytest.importorskip("torch")
    monkeypatch.setattr(_lacking, "is_on_cpu", lambda a: False)  # Batches go another way there.
    monkeypatch.setattr(_certified, "FEW", 0)
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names += [] if function.is_view else [str(function)]
            return function(*args, **(kwargs or {}))

    a, b = np.ones((300, 9, 1), dtype), np.broadcast_to(np.arange(9, dtype=dtype)[:, None], (300, 9, 1))
    a, b = (BACKEND.from_numpy(array, "torch") for array in (a, b))
    for mode in (nullcontext(), Counting()):  # What is found once for a dtype is not counted.
        with mode:
            _solve._solve(
                a, b, _solve._Request(array_api_compat.array_namespace(a), 1e-6, "auto", False), (way, "gram")
            )
    assert len(Counting.names) <= most, Counting.names


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "gpu"])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("namespace", ["array_api_strict", "torch"])
def test_a_right_hand_side_that_is_infinite_has_no_first_solution(namespace, count, on_cpu, monkeypatch):
    pytest.importorskip(namespace)
    if not on_cpu:
        monkeypatch.setattr(_lacking, "is_on_cpu", lambda a: False)
    a, b = np.ones((count, 5, 1), np.float32), np.ones((count, 5, 2), np.float32)
    b[0, 1, 0] = np.inf
    arrays = (BACKEND.from_numpy(array, namespace) for array in (a, b))
    x, residuals, _, _ = (
        part if part is None else BACKEND.to_numpy(part) for part in BACKEND.solve_without_s(*arrays, 1e-6, "auto")
    )
    expected = np.ones((count, 1, 2), np.float32)
    expected[0, 0, 0] = np.nan
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(np.isnan(residuals), np.isnan(expected[:, 0]))
