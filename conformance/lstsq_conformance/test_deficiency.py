"""``lstsq(..., on_deficient=...)``: a rank below min(M, N) is told where it is asked for, and only there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lstsq import LinAlgError, LstsqRankWarning
from lstsq_conformance.target import Array, Target

pytestmark = [pytest.mark.contract("deficiency"), pytest.mark.costly]


@pytest.mark.parametrize("shape", [(5, 3), (3, 3), (3, 5)])
def test_deficient(target: Target, dtype: str, shape: tuple[int, int]) -> None:
    a, b = target.array(np.ones(shape, dtype)), target.array(np.ones(shape[0], dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LstsqRankWarning)
        ignored = target.to_answer(target.lstsq(a, b))
    with pytest.warns(LstsqRankWarning, match=r"a has rank 1; expected min\(M, N\) = 3") as caught:
        warned = target.to_answer(target.lstsq(a, b, on_deficient="warn"))
    assert [warning.filename for warning in caught if warning.category is LstsqRankWarning] != []
    np.testing.assert_array_equal(warned.x, ignored.x)
    with pytest.raises(LinAlgError, match=r"a has rank 1; expected min\(M, N\) = 3"):
        target.lstsq(a, b, on_deficient="raise")


@pytest.mark.parametrize("shape", [(3, 5), (0, 3)])
def test_full_rank_is_nothing_to_tell(target: Target, dtype: str, shape: tuple[int, int]) -> None:
    a, b = target.array(np.eye(*shape, dtype=dtype)), target.array(np.ones((shape[0], 2), dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LstsqRankWarning)
        for way in ("warn", "raise"):
            assert int(target.numpy(target.lstsq(a, b, on_deficient=way, singular_values=False).rank)) == min(shape)


@pytest.mark.batches
def test_the_first_of_a_batch_is_named(target: Target, dtype: str) -> None:
    a = np.stack([np.eye(3, 2), np.ones((3, 2)), np.zeros((3, 2))]).astype(dtype)
    with pytest.raises(LinAlgError, match=r"a has rank 1 at index \(1,\) \(2 of 3 matrices are deficient\)"):
        target.lstsq(target.array(a), target.array(np.ones((3, 1), dtype)), on_deficient="raise")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.claims(name)) for name in ("jit", "vmap")])
def test_a_rank_that_is_traced_is_refused(target: Target, dtype: str, name: str) -> None:
    a, b = (target.array(np.ones((2, *shape), dtype)) for shape in ((3, 2), (3, 1)))

    def solve(a: Array, b: Array) -> Array:
        return target.lstsq(a, b, on_deficient="warn").x

    # Of any class: torch's compiler puts what is raised while it traces into an error of its own.
    with pytest.raises(Exception, match="on_deficient='warn' asks for the value of the rank"):
        target.transform(name)(solve)(a, b)


def test_another_word_is_refused(target: Target, dtype: str) -> None:
    with pytest.raises(ValueError, match="on_deficient is 'error'; expected one of 'ignore', 'warn', 'raise'"):
        target.lstsq(target.array(np.eye(2, dtype=dtype)), target.array(np.ones(2, dtype)), on_deficient="error")
