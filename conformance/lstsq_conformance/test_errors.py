"""What is refused, and whether the refusal says what was given and what to do."""

from __future__ import annotations

import numpy as np
import pytest

import lstsq
from lstsq import LinAlgError
from lstsq_conformance.cases import DTYPES
from lstsq_conformance.target import Target


@pytest.mark.contract("errors")
@pytest.mark.parametrize(
    ("a_shape", "b_shape", "given"),
    [
        ((3,), (3,), r"\(3,\)"),
        ((), (3,), r"\(\)"),
        ((3, 2), (), r"\(\)"),
        ((3, 2), (4,), "4"),
        ((3, 2), (2, 3), r"\(2, 3\)"),
        ((4, 3, 2), (4, 3), r"\(4, 3\)"),
        ((2, 3, 2), (4, 3, 1), r"\(4,"),
        ((3, 0), (2,), "2"),
        ((0, 3), (2,), "2"),
    ],
    ids=str,
)
def test_bad_shapes(target: Target, a_shape: tuple[int, ...], b_shape: tuple[int, ...], given: str) -> None:
    a, b = np.ones(a_shape, target.dtype), np.ones(b_shape, target.dtype)
    with pytest.raises(LinAlgError, match=given):
        target.solve(a, b)
    assert issubclass(LinAlgError, ValueError)
    assert LinAlgError is np.linalg.LinAlgError


@pytest.mark.contract("errors")
def test_unknown_driver(target: Target) -> None:
    with pytest.raises(ValueError, match="no such driver") as caught:
        target.solve(np.eye(2, dtype=target.dtype), np.ones(2, target.dtype), driver="no such driver")
    for driver in target.claims.drivers:
        assert driver in str(caught.value)


@pytest.mark.contract("drivers")
def test_svd_is_a_driver_of_every_backend(target: Target) -> None:
    assert "svd" in target.claims.drivers
    assert "svd" not in target.claims.declines
    answer = target.solve(np.eye(3, 2, dtype=target.dtype), np.ones(3, target.dtype), driver="svd")
    np.testing.assert_allclose(answer.x, [1, 1], rtol=1e-5)


@pytest.mark.contract("drivers")
@pytest.mark.parametrize("name", ["gelsd", "gelss", "gelsy", "gels", "", "SVD"])
def test_what_is_no_driver_here_is_refused_with_the_list(target: Target, name: str) -> None:
    if name in target.claims.drivers:
        # What is claimed is tested everywhere else.
        assert target.accepts(target.dtype, name)
        return
    for a, b in ((np.eye(2), np.ones(2)), (np.ones((0, 2)), np.ones(0)), (np.ones((2, 3, 2)), np.ones((2, 3, 1)))):
        with pytest.raises(ValueError, match=f"{name!r}|driver") as caught:
            target.solve(a.astype(target.dtype), b.astype(target.dtype), driver=name)
        for driver in target.claims.drivers:
            assert driver in str(caught.value)


@pytest.mark.contract("errors")
def test_unknown_backend(target: Target) -> None:
    with pytest.raises(ValueError, match="no such backend") as caught:
        lstsq.lstsq(np.eye(2), np.ones(2), backend="no such backend")
    assert target.backend.name in str(caught.value)


@pytest.mark.contract("errors")
def test_rcond_that_is_no_number(target: Target) -> None:
    a, b = np.eye(2, dtype=target.dtype), np.ones(2, target.dtype)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        target.solve(a, b, float("nan"))
    with pytest.raises((TypeError, ValueError), match="rcond"):
        target.solve(a, b, "small")  # type: ignore[arg-type]


@pytest.mark.contract("errors")
def test_what_is_not_claimed_is_refused_with_the_reason(target: Target) -> None:
    for dtype in DTYPES:
        for driver in target.drivers:
            reason = target.backend.refuse(dtype, driver)
            if reason is None:
                continue
            assert " " in reason.strip(), f"the refusal of {dtype} with {driver} is no sentence: {reason!r}"
            # As plain numbers, so that libraries without the dtype are asked too.
            a, b = np.eye(2, dtype=dtype), np.ones(2, dtype)
            with pytest.raises((TypeError, ValueError)) as caught:
                lstsq.lstsq(a, b, driver=driver, backend=target.backend.name)
            assert reason in str(caught.value)


@pytest.mark.contract("errors")
def test_claims_are_well_formed(target: Target) -> None:
    claims = target.claims
    assert set(claims.dtypes) <= set(DTYPES)
    assert set(claims.solved_in_double) <= {"float32", "complex64"} & set(claims.dtypes)
    assert claims.nonfinite in ("raises", "nan")
    assert set(claims.transforms) <= {"jit", "vmap", "grad", "vjp", "jvp", "jacfwd", "jacrev", "checkpoint"}
    assert claims.drivers
