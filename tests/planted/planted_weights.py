"""A pytest plugin (``-p planted_weights --planted-fault NAME``): the frontend's weights and ridge, wrong in one way."""

from __future__ import annotations

from typing import Any

import pytest

from lstsq import _weighted

_rows, _solve, _stack = _weighted._rows, _weighted._solve, _weighted._stack


def _absent_rows_counted(xp: Any, a: Any, b: Any, *others: Any) -> Any:
    """They are multiplied by 0, which a NaN survives."""
    rows = _rows(xp, a, b, *others)
    return rows if rows.weights is None else rows._replace(scaled_a=rows.weights**0.5 * a)


def _penalty_among_the_residuals(a: Any, b: Any, weights: Any, ridge: Any, *others: Any) -> Any:
    result = _solve(a, b, weights, ridge, *others)
    if ridge is None:
        return result
    return result._replace(residuals=result.residuals + (ridge.array[:, None] * abs(result.x) ** 2).sum(axis=-2))


def _rank_with_the_penalty(a: Any, b: Any, weights: Any, ridge: Any, *others: Any) -> Any:
    result = _solve(a, b, weights, ridge, *others)
    return result if ridge is None else result._replace(rank=result.rank * 0 + min(a.shape[-2:]))


def _heavy_penalty_hides_columns(rows: Any, penalty: Any, x: Any, ways: Any) -> Any:
    """The rank of the stacked matrix decides, as if no column were scaled."""
    stacked, right = _stack(rows, penalty, x, ways)
    return stacked._replace(matrix=stacked.matrix / stacked.scale.swapaxes(-1, -2), scale=stacked.scale**0), right


#: The name in `lstsq._weighted` that each fault takes the place of, and what is there then.
_FAULTS: dict[str, tuple[str, Any]] = {
    "weights-in-the-place-of-their-roots": ("_root", lambda xp, numbers: numbers),
    "light-rows-not-refined": ("STEPS", 0),
    "null-space-of-light-rows-not-refined": ("_shortest", lambda rows, x, rank, ways: x),
    "absent-rows-counted": ("_rows", _absent_rows_counted),
    "penalty-among-the-residuals": ("_solve", _penalty_among_the_residuals),
    "rank-with-the-penalty": ("_solve", _rank_with_the_penalty),
    "heavy-penalty-hides-columns": ("_stack", _heavy_penalty_hides_columns),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--planted-fault", choices=sorted(_FAULTS))


def pytest_configure(config: pytest.Config) -> None:
    """Plant the fault for this run alone: others run in the same process."""
    name, wrong = _FAULTS[config.getoption("planted_fault")]
    honest = getattr(_weighted, name)
    setattr(_weighted, name, wrong)
    config.add_cleanup(lambda: setattr(_weighted, name, honest))
