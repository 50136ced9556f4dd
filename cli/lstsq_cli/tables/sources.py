"""Which format a FILE is in, and what comes from standard input."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lstsq_cli.errors import UserError, first_line
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import Table

FORMATS = ".csv, .tsv, .txt (also .gz), .npy, .npz, .parquet, .arrow, .feather"

#: How a file that is no text begins, and the ending that its name would have.
_BEGINNINGS = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\xff\xff\xff\xff": ".arrow",
    b"\x1f\x8b": ".csv.gz",
}


def open_table(path: Path, reading: Reading, folder: Path) -> Table:
    """The table in a file, or what comes from standard input, where the path is ``-``.

    Parameters
    ----------
    path : Path
        The ending of its name says which format; from standard input, the first bytes do.
    reading : Reading
        How it is to be read.
    folder : Path
        A place for what has to be put aside, as long as the table is read.

    Raises
    ------
    UserError
        If there is no such file, or it is no table.
    """
    name = str(path)
    if name == "-":
        path, name, ending = _put_aside(folder)
    elif path.is_dir() or not path.exists():
        raise UserError(f"{path}: {'this is a folder' if path.is_dir() else 'there is no such file'}.")
    else:
        suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
        ending = "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    opener = _OPENERS.get(ending)
    if opener is None:
        raise UserError(f"{name}: the ending {ending!r} says no format that is read; expected {FORMATS}.")
    try:
        return opener(path, name, reading, folder)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise UserError(f"{name}: tables are read by pyarrow; run `pip install pyarrow`.") from error
    except (OSError, EOFError) as error:
        raise UserError(f"{name}: it cannot be read as {ending}: {first_line(error)}.") from error


def _put_aside(folder: Path) -> tuple[Path, str, str]:
    """Standard input in a file: a table is read more than once, where something is wrong or categories are wanted."""
    path, name = folder / "input", "standard input"
    if path.exists():
        raise UserError("standard input can be read once; got - twice.")
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("- is standard input; expected a table there, as of `... | lstsq fit -`.")
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    with path.open("rb") as file:
        beginning = file.read(8)
    ending = next((ending for start, ending in _BEGINNINGS.items() if beginning.startswith(start)), ".csv")
    return path, name, ending


def _text(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables.text import TextTable

    return TextTable(path, name, False, reading)


def _compressed_text(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables.text import TextTable

    try:
        return TextTable(path, name, True, reading)
    except gzip.BadGzipFile as error:
        raise UserError(f"{name}: it is no file of gzip: {first_line(error)}.") from error


def _npy(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables import arrays

    return arrays.npy(path, name, reading)


def _npz(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables import arrays

    return arrays.npz(path, name, reading, Path(tempfile.mkdtemp(dir=folder)))


def _parquet(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables.arrow import ParquetTable

    return ParquetTable(path, name, reading)


def _arrow(path: Path, name: str, reading: Reading, folder: Path) -> Table:
    from lstsq_cli.tables.arrow import ArrowTable

    return ArrowTable(path, name, reading)


_OPENERS: dict[str, Callable[[Path, str, Reading, Path], Table]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), _text),
    **dict.fromkeys((".csv.gz", ".tsv.gz", ".txt.gz"), _compressed_text),
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    **dict.fromkeys((".arrow", ".arrows", ".feather"), _arrow),
}
