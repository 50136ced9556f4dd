"""NumPy's own files: .npy is a table, .npz has the arrays a and b."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstsq_cli.errors import UserError, first_line
from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.faults import Faults
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import NUMBERS, Table

#: So many rows at a time are looked through for different cells.
_MANY = 1 << 16


class ArrayTable(Table):
    """Columns of one array, or of several beside each other, which are mapped into memory block by block."""

    named = False

    def __init__(self, name: str, arrays: Sequence[_Mapped]):
        self.name = name
        self._arrays, self._done = arrays, 0.0
        self.rows = arrays[0].shape[0]
        self.kinds = [NUMBERS] * sum(array.shape[1] for array in arrays)
        self.names = [f"column {i}" for i in range(len(self.kinds))]

    def blocks(
        self, columns: Sequence[int], rows: int, levels: Mapping[int, Sequence[str]], faults: Faults
    ) -> Iterator[NumpyArray]:
        """As of every table."""
        for start in range(0, self.rows or 0, rows):
            block = self._block(columns, start, start + rows)
            for place, column in enumerate(columns):
                if column in levels:
                    block[:, place] = _codes(block[:, place], levels[column])
            self._done = min(1.0, (start + rows) / self.rows) if self.rows else 1.0
            yield block

    def distinct(self, column: int, most: int) -> set[str]:
        """As of every table."""
        found: set[str] = set()
        for start in range(0, self.rows or 0, _MANY):
            numbers = np.unique(self._block([column], start, start + _MANY))
            found |= {_shown(number) for number in numbers[~np.isnan(numbers)]}
            if len(found) > most:
                break
        return found

    def read(self) -> float:
        """As of every table."""
        return self._done

    def _block(self, columns: Sequence[int], start: int, stop: int) -> NumpyArray:
        parts, first = [], 0
        for array in self._arrays:
            mine = [i - first for i in columns if first <= i < first + array.shape[1]]
            parts.append(array.rows(start, stop)[:, mine])
            first += array.shape[1]
        block = parts[0] if len(parts) == 1 else np.hstack(parts)
        # A block may be given NaN and indices later on.
        return block if block.dtype.kind in "fc" else block.astype(float)


class _Mapped:
    """An array in a .npy file, mapped anew for each block: pages of a mapping stay in memory as long as it does."""

    def __init__(self, path: Path, name: str, what: str):
        self._path = path
        self._place: tuple[int, ...] = ()
        try:
            array = self._map()
        except (ValueError, EOFError) as error:
            raise UserError(f"{name}: {what} is no array of numbers (it is damaged, or holds objects).") from error
        if array.dtype.kind not in "biufc":
            raise UserError(f"{name}: {what} has dtype {array.dtype}, expected numbers.")
        self.shape: tuple[int, ...] = array.shape

    def choose(self, place: tuple[int, ...]) -> None:
        """Take one matrix of a batch."""
        self._place = place
        self.shape = self.shape[len(place) :]

    def as_columns(self) -> None:
        """Take a vector for a matrix of one column."""
        self.shape = (*self.shape, 1)

    def rows(self, start: int, stop: int) -> NumpyArray:
        array = self._map()[self._place]
        rows: NumpyArray = array[start:stop]
        return rows[:, None] if rows.ndim == 1 else rows

    def _map(self) -> Any:
        # An empty array cannot be mapped.
        with contextlib.suppress(ValueError):
            return np.load(self._path, mmap_mode="r", allow_pickle=False)
        return np.load(self._path, allow_pickle=False)


def npy(path: Path, name: str, reading: Reading) -> ArrayTable:
    """The table in a .npy file.

    Raises
    ------
    UserError
        If it is none.
    """
    array = _Mapped(path, name, "the file")
    _choose(name, [array], len(array.shape) - 2, reading)
    if len(array.shape) != 2:
        raise UserError(
            f"{name}: got an array of shape {array.shape}, expected (rows, columns), the target among them."
        )
    return ArrayTable(name, [array])


def npz(path: Path, name: str, reading: Reading, folder: Path) -> ArrayTable:
    """The arrays a and b of a .npz file, which are unpacked into the folder: what is packed cannot be mapped.

    Raises
    ------
    UserError
        If there are none, or they do not belong together.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist()]
            if not {"a", "b"} <= set(names):
                raise UserError(f"{name}: got the arrays {', '.join(names) or '(none)'}; expected a and b.")
            a, b = (_Mapped(Path(archive.extract(f"{array}.npy", folder)), name, array) for array in "ab")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise UserError(f"{name}: it is no .npz file of numbers: {first_line(error)}.") from error
    _choose(name, [a, b], len(a.shape) - 2, reading)
    if len(a.shape) != 2 or len(b.shape) not in (1, 2) or a.shape[0] != b.shape[0]:
        raise UserError(
            f"{name}: got a of shape {a.shape} and b of shape {b.shape}; expected (M, N), and (M,) or (M, K)."
        )
    if len(b.shape) == 1:
        b.as_columns()
    table = ArrayTable(name, [a, b])
    n, k = a.shape[1], b.shape[1]
    table.names = [*(f"x{i}" for i in range(n)), *(f"b{i}" if k > 1 else "b" for i in range(k))]
    table.targets = range(n, n + k)
    return table


def _choose(name: str, arrays: Sequence[_Mapped], batch: int, reading: Reading) -> None:
    """Take the problem that --problem names, where there is a batch of them."""
    shapes = " and ".join(str(array.shape) for array in arrays)
    if batch <= 0:
        if reading.problem is not None:
            raise UserError(f"{name}: --problem is for a batch of problems; got {shapes}, which is one.")
        return
    sizes = arrays[0].shape[:batch]
    example = ",".join("0" * batch)
    if reading.problem is None:
        raise UserError(
            f"{name}: got {shapes}, a batch of problems; expected one. --problem {example} takes the first."
        )
    try:
        place = tuple(int(part) for part in reading.problem.split(","))
    except ValueError:
        place = ()
    if len(place) != batch or not all(-size <= i < size for i, size in zip(place, sizes)):
        raise UserError(
            f"{name}: --problem: got {reading.problem!r}, expected an index for each of {sizes}: {example}."
        )
    for array in arrays:
        if array.shape[:batch] != sizes:
            raise UserError(f"{name}: got {shapes}; expected the same batch in both.")
        array.choose(place)


def _codes(numbers: NumpyArray, levels: Sequence[str]) -> NumpyArray:
    places = {level: float(i) for i, level in enumerate(levels)}
    return np.array([places.get(_shown(number), np.nan) for number in numbers])


def _shown(number: Any) -> str:
    return f"{number:.17g}" if np.isreal(number) else str(number)
