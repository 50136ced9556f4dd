"""Cells that cannot be used, gathered over the whole of a table into one message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

#: What was expected of a cell.
ANY, NUMBER, FINITE, WEIGHT = "a cell that is not missing", "a number", "a finite number", "a weight from 0 up"
#: So many cells of a column are named, and so many columns; of the others there is the number.
_CELLS, _COLUMNS = 3, 20


class Fault(NamedTuple):
    """What is wrong in one column."""

    expected: str
    column: str
    #: The first cells: the number of the row, and what is there.
    cells: list[tuple[int, str]]
    total: int


class Faults:
    """What is wrong with the cells of one table, which is read block by block."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Fault] = {}
        self._first_row = 0
        self._no_numbers: dict[str, set[int]] = {}

    def begin(self, first_row: int) -> None:
        """A block begins with this row of the table."""
        self._first_row, self._no_numbers = first_row, {}

    def add(self, expected: str, column: str, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Cells in which something else was expected: their rows in the block; what the first of them hold."""
        if expected == NUMBER:
            self._no_numbers.setdefault(column, set()).update(rows)
        if not rows:
            return
        before = self._found.get((expected, column), Fault(expected, column, [], 0))
        cells = [*before.cells, *((self._first_row + row, text) for row, text in zip(rows, texts))]
        self._found[expected, column] = Fault(expected, column, cells[:_CELLS], before.total + len(rows))

    def add_missing(self, column: str, rows: Sequence[int]) -> None:
        """Cells of the block that gave no number, but for what was told already."""
        told = self._no_numbers.get(column, set())
        rows = [row for row in rows if row not in told]
        self.add(ANY, column, rows, [""] * len(rows))

    def __iter__(self) -> Iterator[Fault]:
        """By the row in which each begins."""
        return iter(sorted(self._found.values(), key=lambda fault: fault.cells[0]))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def message(self, places: Callable[[Collection[int]], dict[int, str]]) -> str:
        """All of them in a sentence; `places` says where rows are in the file."""
        faults = list(self)
        shown = faults[:_COLUMNS]
        where = places({row for fault in shown for row, _ in fault.cells})
        parts = []
        for fault in shown:
            cells = [
                f"{where[row]}, column {fault.column!r}: {f'got {text!r}' if text else 'the cell is missing'}"
                for row, text in fault.cells
            ]
            more = fault.total - len(cells)
            cells[-1] += f" (and {more} more in this column)" if more else ""
            cells[-1] += "" if fault.expected == ANY else f", expected {fault.expected}"
            parts += cells
        if len(faults) > len(shown):
            parts.append(f"and so in {len(faults) - len(shown)} more columns")
        return "; ".join(parts) + "."
