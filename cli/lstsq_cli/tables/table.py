"""What a table of every format can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.faults import Faults

#: What a column holds; anything else is the name of its type, of which no numbers are made.
NUMBERS, TEXT = "numbers", "text"


class Table(ABC):
    """A table in a file. Its columns are counted from 0; its rows, too, without a line of names."""

    #: What messages call it.
    name: str
    #: Of the columns, and whether the file says them.
    names: Sequence[str]
    named: bool
    #: What each column holds.
    kinds: Sequence[str]
    #: Columns that number the rows, such as the index of pandas.
    index: Collection[int] = ()
    #: Columns that are known to be b; empty where the user says so.
    targets: Sequence[int] = ()
    #: How many rows there are, where the file says so.
    rows: int | None = None

    @abstractmethod
    def blocks(
        self, columns: Sequence[int], rows: int, levels: Mapping[int, Sequence[str]], faults: Faults
    ) -> Iterator[NumpyArray]:
        """The cells of these columns as numbers, ``(rows, len(columns))`` at a time, the last block less.

        NaN is a missing cell. A column that `levels` has becomes indices into them. What is no number is NaN, too, and
        told to `faults`.
        """

    @abstractmethod
    def distinct(self, column: int, most: int) -> set[str]:
        """The different cells of a column, without the missing ones; no more are looked for if there are too many."""

    @abstractmethod
    def read(self) -> float:
        """How much of the file has been read, from 0 to 1."""

    def places(self, rows: Collection[int]) -> dict[int, str]:
        """Where these rows are in the file."""
        return {row: f"row {row} (counted from 0)" for row in rows}
