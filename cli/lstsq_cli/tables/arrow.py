"""Parquet, Arrow and Feather: tables whose columns have types."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pyarrow import compute as pc

from lstsq_cli.errors import UserError, first_line
from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.cells import Cells, as_text, kind
from lstsq_cli.tables.faults import Faults
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import Table

#: So many bytes of each column are read from the disk at once; without it, all of a row group.
_BUFFER = 1 << 20
#: So many rows at a time are looked through for different cells.
_MANY = 1 << 16


class _Columns(Table):
    """What both have in common: a schema, and batches of some columns."""

    named = True

    def __init__(self, path: Path, name: str, reading: Reading):
        self.name = name
        self._path, self._cells, self._done = path, Cells(reading), 0.0
        try:
            schema = self._schema()
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self.names = list(schema.names)
        self.kinds = [kind(type_) for type_ in schema.types]
        self.index = _index(schema)

    def blocks(
        self, columns: Sequence[int], rows: int, levels: Mapping[int, Sequence[str]], faults: Faults
    ) -> Iterator[NumpyArray]:
        """As of every table."""
        names, among = [self.names[i] for i in columns], [levels.get(i) for i in columns]
        for batch in self._batches(columns, rows):
            try:
                block = self._cells.block(batch, names, among, faults)
            except pa.ArrowNotImplementedError as error:
                raise self._unreadable(error) from error
            yield block

    def distinct(self, column: int, most: int) -> set[str]:
        """As of every table."""
        found: set[str] = set()
        for (cells,) in self._batches([column], _MANY):
            found |= set(pc.unique(as_text(cells)).drop_null().to_pylist())
            if len(found) > most:
                break
        return found

    def read(self) -> float:
        """As of every table."""
        return self._done

    def _batches(self, columns: Sequence[int], rows: int) -> Iterator[list[Any]]:
        try:
            yield from self._read(columns, rows)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _schema(self) -> Any:
        raise NotImplementedError

    def _read(self, columns: Sequence[int], rows: int) -> Iterator[list[Any]]:
        raise NotImplementedError

    def _unreadable(self, error: Exception) -> UserError:
        raise NotImplementedError


class ParquetTable(_Columns):
    """A file of Parquet, of which a few pages of each column are in memory at a time."""

    def _schema(self) -> Any:
        with self._open() as file:
            self.rows, schema = file.metadata.num_rows, file.schema_arrow
        # pyarrow takes the columns of a file by their names.
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise UserError(f"{self.name}: several columns are called {twice[0]!r}; expected a name for each.")
        return schema

    def _read(self, columns: Sequence[int], rows: int) -> Iterator[list[Any]]:
        done = 0
        with self._open() as file:
            labels = [self.names[i] for i in columns]
            for batch in file.iter_batches(batch_size=rows, columns=labels):
                done += len(batch)
                self._done = done / self.rows if self.rows else 1.0
                # By name, since pyarrow gives the columns in the order of the file.
                yield [batch.column(label) for label in labels]

    def _open(self) -> Any:
        return pyarrow.parquet.ParquetFile(self._path, pre_buffer=False, buffer_size=_BUFFER)

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.name}: it cannot be read as Parquet: {first_line(error)}.")


class ArrowTable(_Columns):
    """A file of Arrow's, as Feather's is, or a stream in a file; a batch of it is in memory at a time."""

    def _schema(self) -> Any:
        # What a file ends with, a stream does not have.
        try:
            with self._open_file() as reader:
                self._count, schema = reader.num_record_batches, reader.schema
        except pa.ArrowInvalid:
            self._count = None
            with self._open_stream() as reader:
                schema = reader.schema
        return schema

    def _read(self, columns: Sequence[int], rows: int) -> Iterator[list[Any]]:
        for batch in self._stream() if self._count is None else self._batches_of_file(self._count):
            for start in range(0, len(batch), rows):
                part = batch.slice(start, rows)
                yield [part.column(i) for i in columns]

    def _batches_of_file(self, count: int) -> Iterator[Any]:
        for number in range(count):
            # Opened anew: pages of a mapping stay in memory as long as it does.
            with self._open_file() as reader:
                yield reader.get_batch(number)
            self._done = (number + 1) / count

    def _stream(self) -> Iterator[Any]:
        with self._open_stream() as reader:
            yield from reader

    @contextlib.contextmanager
    def _open_file(self) -> Iterator[Any]:
        # Mapped: a batch may be larger than memory.
        with pa.memory_map(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            yield reader

    @contextlib.contextmanager
    def _open_stream(self) -> Iterator[Any]:
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
            yield reader

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.name}: it cannot be read as Arrow or Feather: {first_line(error)}.")


def _index(schema: Any) -> set[int]:
    """The columns that pandas made of a table's index."""
    told = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    labels = {label for label in told.get("index_columns", ()) if isinstance(label, str)}
    return {i for i, name in enumerate(schema.names) if name in labels or name.startswith("__index_level_")}
