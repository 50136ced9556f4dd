"""Reads a problem from a file: CSV, .npy, .npz or Parquet."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lstsq_cli.errors import UserError, first_line
from lstsq_cli.problems import NumpyArray, Problem

FORMATS = ".csv, .tsv, .txt, .npy, .npz, .parquet"


def read(path: Path, target: str | None, drop: Sequence[str], intercept: bool) -> Problem:
    """Read the file, and split its columns into the matrix and the target.

    Parameters
    ----------
    path : Path
        The file; its name's ending says which format.
    target : str, optional
        The column that is b: a name, or an index from 0 (negative: from the end). By default the last.
    drop : sequence of str
        Columns that are left out, named in the same way.
    intercept : bool
        Whether to put a column of ones first.

    Raises
    ------
    UserError
        If the file cannot be read, or is not a table of finite numbers with these columns.
    """
    if path.is_dir() or not path.exists():
        raise UserError(f"{path}: {'this is a folder' if path.is_dir() else 'there is no such file'}.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: the ending {path.suffix!r} says no format that is read; expected {FORMATS}.")
    try:
        problem = reader(path, target, drop)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UserError(f"{path}: it cannot be read as {path.suffix}: {first_line(error)}.") from error
    if intercept:
        a = np.column_stack([np.ones(len(problem.a), problem.a.dtype), problem.a])
        problem = Problem(problem.name, a, problem.b, ("intercept", *problem.columns))
    if 0 in problem.a.shape:
        raise UserError(
            f"{path}: nothing to solve: {problem.a.shape[0]} rows and {problem.a.shape[1]} columns besides b."
        )
    return problem


# Which columns.


def _choose(path: Path, names: Sequence[str], target: str | None, drop: Sequence[str]) -> tuple[int, list[int]]:
    """The index of the target, and those of the matrix's columns."""
    chosen = _index(path, names, "-1" if target is None else target, "--target")
    dropped = {_index(path, names, name, "--drop") for name in drop}
    if chosen in dropped:
        raise UserError(f"{path}: the column {names[chosen]!r} is the target, and --drop leaves it out.")
    kept = [i for i in range(len(names)) if i != chosen and i not in dropped]
    if not kept:
        raise UserError(f"{path}: no column is left for the matrix; the columns are {_listed(names)}.")
    return chosen, kept


def _index(path: Path, names: Sequence[str], wanted: str, option: str) -> int:
    places = [i for i, name in enumerate(names) if name == wanted]
    if len(places) > 1:
        raise UserError(
            f"{path}: {option}: {len(places)} columns are called {wanted!r}; expected one of their indices, "
            f"{', '.join(map(str, places))}."
        )
    if places:
        return places[0]
    try:
        index = int(wanted)
    except ValueError:
        index = len(names)
    if not -len(names) <= index < len(names):
        raise UserError(
            f"{path}: {option}: there is no column {wanted!r}; expected one of {_listed(names)}, or an index from 0 to "
            f"{len(names) - 1}."
        )
    return index % len(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 20 else ", ".join([*names[:19], f"... ({len(names)} in all)"])


def _split(path: Path, table: NumpyArray, names: Sequence[str], chosen: int, kept: list[int]) -> Problem:
    return Problem(path.name, table[:, kept], table[:, [chosen]], tuple(names[i] for i in kept))


# CSV.


def _read_csv(path: Path, target: str | None, drop: Sequence[str]) -> Problem:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        # Of two that are as frequent the comma is a decimal one.
        delimiter = max(";\t,", key=head.count)
        first = next(csv.reader(file, delimiter=delimiter), None)
    if not first:
        raise UserError(f"{path}: the file is empty; expected a table of numbers, with or without a line of names.")
    named = not all(_is_number(cell) for cell in first)
    if named and all(_is_number(cell.replace(",", ".", 1)) for cell in first):
        comma = next(cell for cell in first if "," in cell)
        raise UserError(f"{path}, line 1: got {comma!r}, expected a number with a decimal point, or names of columns.")
    names = [cell.strip() for cell in first] if named else [f"column {i}" for i in range(len(first))]
    chosen, kept = _choose(path, names, target, drop)
    used = [*kept, chosen]
    try:
        with warnings.catch_warnings():
            # That there is no line of data is said below.
            warnings.simplefilter("ignore", UserWarning)
            table = np.loadtxt(
                path, delimiter=delimiter, skiprows=int(named), usecols=used, quotechar='"', comments=None,
                encoding="utf-8-sig", ndmin=2,
            )  # fmt: skip
    except ValueError as error:
        for message in _faults(path, delimiter, named, names, used):
            raise UserError(message) from error
        raise UserError(f"{path}: {first_line(error)}.") from error
    if not np.isfinite(table).all():
        # The table knows no line numbers: blank lines and quoted line breaks are gone.
        for message in _faults(path, delimiter, named, names, used):
            raise UserError(message)
    return Problem(path.name, table[:, :-1], table[:, -1:], tuple(names[i] for i in kept))


def _faults(path: Path, delimiter: str, named: bool, names: Sequence[str], used: list[int]) -> Iterator[str]:
    """What is wrong with the file, cell by cell."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for number, row in enumerate(reader):
            if (named and number == 0) or not row:
                continue
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(names):
                yield f"{where}: got {len(row)} cells, expected {len(names)}, as in the first line."
                continue
            for i in used:
                cell = row[i].strip()
                if not cell:
                    yield (
                        f"{where}, column {names[i]!r}: the cell is empty, expected a number. Drop such rows from the "
                        f"file, or the column with --drop {names[i]!r}."
                    )
                elif not _is_number(cell):
                    decimal_comma = _is_number(cell.replace(",", ".", 1))
                    mend = "write it with a decimal point" if decimal_comma else "mend the cell"
                    yield (
                        f"{where}, column {names[i]!r}: got {cell!r}, expected a number. Leave the column out with "
                        f"--drop {names[i]!r}, or {mend}."
                    )
                elif not np.isfinite(float(cell)):
                    yield f"{where}, column {names[i]!r}: got {cell!r}, expected a finite number. Drop such rows."


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# NumPy's own formats.


def _read_npy(path: Path, target: str | None, drop: Sequence[str]) -> Problem:
    try:
        table = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path}: it is no .npy file of numbers (it is damaged, or holds objects).") from error
    _check_numbers(path, "the array", table)
    if table.ndim != 2:
        raise UserError(
            f"{path}: got an array of shape {table.shape}, expected (rows, columns), the target among them."
        )
    names = [f"column {i}" for i in range(table.shape[1])]
    _check_finite(path, table, names)
    return _split(path, table, names, *_choose(path, names, target, drop))


def _read_npz(path: Path, target: str | None, drop: Sequence[str]) -> Problem:
    if target is not None or drop:
        raise UserError(f"{path}: --target and --drop are for tables; an .npz file has the arrays a and b.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not {"a", "b"} <= set(archive.files):
                raise UserError(f"{path}: got the arrays {', '.join(archive.files) or '(none)'}; expected a and b.")
            a, b = archive["a"], archive["b"]
    except (ValueError, BadZipFile) as error:
        raise UserError(f"{path}: it is no .npz file of numbers (it is damaged, or holds objects).") from error
    for name, array in (("a", a), ("b", b)):
        _check_numbers(path, name, array)
    if a.ndim != 2 or b.ndim not in (1, 2) or len(a) != len(b):
        raise UserError(
            f"{path}: got a of shape {a.shape} and b of shape {b.shape}; expected (M, N), and (M,) or (M, K)."
        )
    b = b[:, None] if b.ndim == 1 else b
    names = [f"x{i}" for i in range(a.shape[1])]
    _check_finite(path, a, [f"column {i} of a" for i in range(a.shape[1])])
    _check_finite(path, b, [f"column {i} of b" for i in range(b.shape[1])])
    return Problem(path.name, a, b, tuple(names))


def _check_numbers(path: Path, name: str, array: NumpyArray) -> None:
    if array.dtype.kind not in "biufc":
        raise UserError(f"{path}: {name} has dtype {array.dtype}, expected numbers.")


def _check_finite(path: Path, table: NumpyArray, names: Sequence[str]) -> None:
    finite = np.isfinite(table)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise UserError(
            f"{path}, row {row} (counted from 0), {names[column]}: got {table[row, column]}, expected a finite number. "
            "Drop such rows."
        )


# Parquet.


def _read_parquet(path: Path, target: str | None, drop: Sequence[str]) -> Problem:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: Parquet is read by pyarrow; run `pip install pyarrow`.") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        chosen, kept = _choose(path, names, target, drop)
        table = file.read(columns=[names[i] for i in (*kept, chosen)])
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: it cannot be read as Parquet: {first_line(error)}.") from error
    columns = [_numbers(path, names[i], table.column(names[i])) for i in (*kept, chosen)]
    stacked = np.column_stack(columns)
    _check_finite(path, stacked, [f"column {names[i]!r}" for i in (*kept, chosen)])
    return Problem(path.name, stacked[:, :-1], stacked[:, -1:], tuple(names[i] for i in kept))


def _numbers(path: Path, name: str, column: Any) -> NumpyArray:
    if column.null_count:
        row = next(i for i, value in enumerate(column) if not value.is_valid)
        raise UserError(f"{path}, row {row} (counted from 0), column {name!r}: the cell is empty. Drop such rows.")
    numbers: NumpyArray = column.to_numpy()
    if numbers.dtype == object and str(column.type).startswith("decimal"):
        numbers = numbers.astype(float)
    if numbers.dtype.kind not in "biuf":
        raise UserError(
            f"{path}, column {name!r}: it holds {column.type}, expected numbers; the first is {column[0].as_py()!r}. "
            f"Leave it out with --drop {name!r}."
        )
    return numbers


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
