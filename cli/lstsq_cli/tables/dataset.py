"""One or several FILEs as one problem, in blocks of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lstsq_cli import interrupt
from lstsq_cli.errors import UserError
from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables import layout as layouts
from lstsq_cli.tables import sources
from lstsq_cli.tables.faults import ANY, FINITE, NUMBER, WEIGHT, Fault, Faults
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import TEXT, Table

#: A block holds about so many numbers (32 MB), and no more rows than these.
_NUMBERS, _ROWS = 1 << 22, 1 << 16

#: Other ways to write numbers, which are named where they would read a cell.
_OTHER_WAYS: tuple[dict[str, Any], ...] = (
    {"decimal": ",", "thousands": None},
    {"decimal": ".", "thousands": ","},
    {"decimal": ",", "thousands": "."},
)


class Dataset:
    """A problem whose rows are in files.

    Attributes
    ----------
    layout : Layout
        Which columns are used.
    rows : int
        How many rows have been handed out by `blocks`.
    dropped : int
        How many were left out, for a missing cell.
    weightless : int
        How many were left out, for a weight of zero.
    """

    def __init__(self, tables: Sequence[Table], reading: Reading):
        self._tables, self._reading = tables, reading
        self.layout = layouts.choose(tables, reading)
        self._places = [layouts.elsewhere(table, tables[0], self.layout) for table in tables]
        self.rows = self.dropped = self.weightless = 0

    @property
    def name(self) -> str:
        """What messages and pages call it."""
        first = self._tables[0].name
        return first if len(self._tables) == 1 else f"{first} and {len(self._tables) - 1} more"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all."""
        return tuple(table.name for table in self._tables)

    @property
    def weights(self) -> str | None:
        """The name of the column of weights."""
        return None if self.layout.weights is None else self._tables[0].names[self.layout.weights]

    @property
    def block_rows(self) -> int:
        """How many rows make a block, if nobody says otherwise."""
        n = len(self.layout.columns) + len(self.layout.targets)
        # Adding a block costs as much as reducing twice as many rows as there are columns.
        return max(4 * n, min(_ROWS, _NUMBERS // n))

    def blocks(
        self, block_rows: int | None = None, told: Callable[[float], None] = lambda part: None
    ) -> Iterator[tuple[NumpyArray, NumpyArray]]:
        """The rows of the matrix and of b, with weights scaled, so many at a time (the last ones of a file: fewer).

        Parameters
        ----------
        block_rows : int, optional
            How many.
        told : callable
            Told now and then which part of all files has been read, from 0 to 1.

        Raises
        ------
        UserError
            If a file is damaged, or a cell of a used column is no finite number, or, without --drop-missing, missing.
            All such cells of a file are in one message, and no block comes after the first.
        """
        self.rows = self.dropped = self.weightless = 0
        for done, (table, place) in enumerate(zip(self._tables, self._places)):
            faults = Faults()
            levels = {
                place[i]: self.layout.levels[column]
                for i, column in enumerate(self.layout.used)
                if column in self.layout.levels
            }
            rows = block_rows or self.block_rows
            pieces = table.blocks(place, rows, levels, faults)
            for piece in _regrouped(self._usable(pieces, place, table, faults), rows):
                told((done + table.read()) / len(self._tables))
                if not faults:
                    yield self._split(piece)
            if faults:
                raise UserError(self._advised(table, faults))

    def nothing(self) -> UserError:
        """What is said where `blocks` gave no row."""
        left_out = [
            f"{count} {why}"
            for count, why in ((self.dropped, "missed a cell"), (self.weightless, "had the weight 0"))
            if count
        ]
        told = " and ".join(left_out) or "the file has none"
        return UserError(f"{self.name}: nothing to solve: 0 rows are left, {told}.")

    def _usable(
        self, pieces: Iterator[NumpyArray], place: Sequence[int], table: Table, faults: Faults
    ) -> Iterator[NumpyArray]:
        """Rows without missing cells; what else is wrong is told to `faults`."""
        names = [table.names[i] for i in place]
        weights = len(place) - 1 if self.layout.weights is not None else None
        first = 0
        while True:
            faults.begin(first)
            piece = next(pieces, None)
            if piece is None:
                return
            first += len(piece)
            missing = np.isnan(piece)
            if missing.any():
                rows = missing.any(axis=1)
                if not self._reading.drop_missing:
                    for column in np.flatnonzero(missing.any(axis=0)).tolist():
                        bad = np.flatnonzero(missing[:, column])
                        faults.add_missing(names[column], bad.tolist())
                self.dropped += int(rows.sum())
            else:
                rows = None
            wild = np.isinf(piece)
            for column in np.flatnonzero(wild.any(axis=0)).tolist():
                bad = np.flatnonzero(wild[:, column])
                faults.add(FINITE, names[column], bad.tolist(), [f"{piece[row, column]:g}" for row in bad[:3]])
            if weights is not None:
                below = np.flatnonzero(piece[:, weights].real < 0)
                if below.size:
                    shown = [f"{piece[row, weights].real:g}" for row in below[:3]]
                    faults.add(WEIGHT, names[weights], below.tolist(), shown)
            yield piece if rows is None else piece[~rows]

    def _split(self, piece: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        """The matrix and b of a piece whose columns are those used."""
        layout = self.layout
        if layout.weights is not None:
            # In double precision: a row that is scaled in single precision is rounded.
            piece = piece.astype(np.result_type(piece, np.float64))
            weight = piece[:, -1].real
            piece = piece[weight > 0]
            self.weightless += int((weight == 0).sum())
            root = np.sqrt(weight[weight > 0])[:, None]
        n = len(layout.matrix)
        columns: list[NumpyArray] = [np.ones((len(piece), 1), piece.dtype)] if layout.intercept else []
        if layout.levels:
            for i, column in enumerate(layout.matrix):
                if column in layout.levels:
                    codes = np.arange(layout.omitted[column], len(layout.levels[column]))
                    columns.append((piece[:, [i]] == codes).astype(piece.dtype))
                else:
                    columns.append(piece[:, [i]])
        else:
            columns.append(piece[:, :n])
        a = columns[0] if len(columns) == 1 else np.hstack(columns)
        b = piece[:, n : n + len(layout.targets)]
        self.rows += len(a)
        return (a, b) if layout.weights is None else (root * a, root * b)

    def _advised(self, table: Table, faults: Faults) -> str:
        """What is wrong with the cells of a table, and what can be done about it."""
        advice = dict.fromkeys(self._advice(fault, table) for fault in faults)
        return f"{table.name}, {faults.message(table.places)} {' '.join(advice)}"

    def _advice(self, fault: Fault, table: Table) -> str:
        if fault.expected == ANY:
            return "--drop-missing leaves such rows out."
        leave_out = f"--drop {fault.column!r} leaves the column out"
        if fault.expected == NUMBER:
            from lstsq_cli.tables.cells import Cells

            texts = [text for _, text in fault.cells]
            for options in _OTHER_WAYS:
                if Cells(replace(self._reading, **options)).all_numbers(texts):
                    named = " ".join(f"--{option} {character}" for option, character in options.items() if character)
                    return f"{named} reads numbers like {texts[0]}."
            if table.kinds[list(table.names).index(fault.column)] == TEXT:
                return (
                    f"{leave_out}, --numeric-only all columns of text, and --categorical {fault.column!r} makes "
                    "indicators of it."
                )
        return f"Mend the file, or {leave_out}." if fault.expected != WEIGHT else "Mend the file."


@contextlib.contextmanager
def opened(paths: Sequence[Path], reading: Reading) -> Iterator[Dataset]:
    """The data of these files, as long as the block of the `with` statement lasts.

    Raises
    ------
    UserError
        If one cannot be read, or they do not belong together, or the columns are not there.
    """
    with interrupt.temporary_folder() as folder:
        yield Dataset([sources.open_table(path, reading, folder) for path in paths], reading)


def _regrouped(pieces: Iterator[NumpyArray], rows: int) -> Iterator[NumpyArray]:
    """Pieces of so many rows, the last one less."""
    waiting: list[NumpyArray] = []
    count = 0
    for piece in pieces:
        while len(piece):
            part = piece[: rows - count]
            piece = piece[rows - count :]
            waiting.append(part)
            count += len(part)
            if count == rows:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                waiting, count = [], 0
    if count:
        yield np.concatenate(waiting)
