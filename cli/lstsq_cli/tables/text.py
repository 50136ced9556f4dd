"""CSV: a table as text, with or without a line of names."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.csv
from pyarrow import compute as pc

from lstsq_cli.errors import UserError, first_line
from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.cells import MISSING, Cells, as_text
from lstsq_cli.tables.faults import Faults
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import NUMBERS, TEXT, Table

#: So many bytes of the file are parsed at a time. Smaller costs time, larger memory.
_BLOCK = 1 << 20
#: So many rows say what a column holds.
_FEW = 1000
_DELIMITERS = ";\t,|"


class TextTable(Table):
    """A file of text, perhaps compressed by gzip. Each cell is parsed as its column is read, and not before.

    Raises
    ------
    UserError
        If it is empty, or is not in the encoding.
    """

    def __init__(self, path: Path, name: str, compressed: bool, reading: Reading):
        self.name = name
        self._path, self._compressed, self._reading = path, compressed, reading
        self._encoding = "utf-8-sig" if codecs.lookup(reading.encoding).name == "utf-8" else reading.encoding
        self._cells = Cells(reading)
        self._size, self._file = path.stat().st_size, None
        with self._open() as file:
            try:
                marks = _DELIMITERS.replace(reading.decimal, "")
                lines = itertools.islice(file, _FEW)
                head = next((line for line in lines if any(mark in line for mark in marks)), "")
                # What groups digits comes last; of two that are as frequent the comma is a decimal one.
                likely = [mark for mark in marks if mark != reading.thousands and mark in head]
                self._delimiter = max(likely or marks, key=head.count)
                file.seek(0)
                first = next((row for row in csv.reader(file, delimiter=self._delimiter) if row), None)
            except UnicodeError as error:
                raise self._in_another_encoding() from error
            except csv.Error as error:
                raise UserError(f"{name}: it cannot be read as CSV: {first_line(error)}.") from error
        if first is None:
            raise UserError(f"{name}: the file is empty; expected a table of numbers, with or without a line of names.")
        self._block = max(_BLOCK, 16 * len(head))
        self.named = not self._cells.all_numbers(first)
        if self.named and all(_like_a_number(cell) for cell in first):
            shown = next(cell for cell in first if not self._cells.all_numbers([cell]))
            raise UserError(
                f"{name}, line 1: got {shown!r}, expected a number with a decimal point, or names of columns. "
                "--decimal , reads a comma as the decimal point."
            )
        self.names = [cell.strip() for cell in first] if self.named else [f"column {i}" for i in range(len(first))]
        # pandas writes its index without a name, and reads it as "Unnamed: 0".
        self.index = {0} if self.named and self.names[0] in ("", "Unnamed: 0") else set()
        few = next(self._batches(range(len(first))), [pa.nulls(0, pa.string())] * len(first))
        self.kinds = [NUMBERS if self._cells.are_numbers(column[:_FEW]) else TEXT for column in few]

    def blocks(
        self, columns: Sequence[int], rows: int, levels: Mapping[int, Sequence[str]], faults: Faults
    ) -> Iterator[NumpyArray]:
        """As of every table."""
        names, among = [self.names[i] for i in columns], [levels.get(i) for i in columns]
        for batch in self._batches(columns):
            yield self._cells.block(batch, names, among, faults)

    def distinct(self, column: int, most: int) -> set[str]:
        """As of every table."""
        found: set[str] = set()
        for (cells,) in self._batches([column]):
            found |= set(pc.unique(as_text(cells)).drop_null().to_pylist())
            if len(found) > most:
                break
        return found

    def read(self) -> float:
        """As of every table."""
        return self._file.tell() / self._size if self._file is not None and self._size else 1.0

    def places(self, rows: Collection[int]) -> dict[int, str]:
        """As of every table."""
        wanted, places, last = set(rows), {}, max(rows, default=-1)
        for row, (line, _) in enumerate(self._lines(), -int(self.named)):
            if row in wanted:
                places[row] = f"line {line}"
            if row >= last:
                break
        return {row: places.get(row, f"row {row} (counted from 0)") for row in rows}

    def _batches(self, columns: Sequence[int]) -> Iterator[list[Any]]:
        """The cells of these columns as text, some megabytes at a time."""
        labels = [f"f{i}" for i in range(len(self.names))]
        with pa.OSFile(str(self._path)) as file:
            self._file = file
            stream = pa.CompressedInputStream(file, "gzip") if self._compressed else file
            try:
                reader = pyarrow.csv.open_csv(
                    stream,
                    pyarrow.csv.ReadOptions(
                        # pyarrow decodes UTF-8 by itself, and knows its mark at the beginning.
                        encoding="utf8" if self._encoding == "utf-8-sig" else self._encoding,
                        block_size=self._block,
                        autogenerate_column_names=True,
                    ),
                    pyarrow.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                    pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(labels, pa.string()),
                        include_columns=[labels[i] for i in columns],
                        null_values=list(MISSING),
                        strings_can_be_null=True,
                    ),
                )
                skipped = not self.named
                for batch in reader:
                    # The line of names is read as a row.
                    yield batch.columns if skipped else [column[1:] for column in batch.columns]
                    skipped = True
            except UnicodeError as error:
                raise self._in_another_encoding() from error
            except (pa.ArrowException, OSError) as error:
                raise self._unreadable(error) from error
            finally:
                self._file = None

    def _unreadable(self, error: Exception) -> UserError:
        if "UTF8" in str(error):
            return self._in_another_encoding()
        for line, row in self._lines():
            if len(row) != len(self.names):
                return UserError(
                    f"{self.name}, line {line}: got {len(row)} cells, expected {len(self.names)}, as in the first line."
                )
        return UserError(f"{self.name}: it cannot be read as CSV: {first_line(error)}.")

    def _in_another_encoding(self) -> UserError:
        with self._open_bytes() as file:
            likely = "--encoding latin-1 or --encoding cp1252"
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    likely = "--encoding utf-16"
                try:
                    line.decode(self._encoding)
                except UnicodeError as error:
                    shown = getattr(error, "object", line)[getattr(error, "start", 0) :][:1].hex()
                    return UserError(
                        f"{self.name}, line {number}: the byte 0x{shown} is no {self._reading.encoding}; expected text "
                        f"in that encoding. Name the file's, such as {likely}."
                    )
        return UserError(f"{self.name}: it is not in the encoding {self._reading.encoding}; give its --encoding.")

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Each row, the line of names too, with the number of the line that it ends in; as far as they can be read."""
        with self._open("replace") as file, contextlib.suppress(csv.Error, OSError, EOFError):
            reader = csv.reader(file, delimiter=self._delimiter)
            for row in reader:
                if row:
                    yield reader.line_num, row

    def _open(self, errors: str = "strict") -> IO[str]:
        options = {"encoding": self._encoding, "errors": errors, "newline": ""}
        if self._compressed:
            return cast("IO[str]", gzip.open(self._path, "rt", **options))  # type: ignore[call-overload]
        return self._path.open(**options)  # type: ignore[call-overload,no-any-return]

    def _open_bytes(self) -> IO[bytes]:
        return cast("IO[bytes]", gzip.open(self._path)) if self._compressed else self._path.open("rb")


def _like_a_number(cell: str) -> bool:
    """Whether it is one for a human: with a decimal comma, say."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return not cell.strip()
    return True
