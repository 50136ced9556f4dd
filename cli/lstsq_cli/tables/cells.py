"""Columns of pyarrow as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lstsq_cli.problems import NumpyArray
from lstsq_cli.tables.faults import NUMBER, Faults
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import NUMBERS, TEXT

#: What stands for a missing cell in text: what pandas and pyarrow take for one.
MISSING = (
    "", "nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "#NA", "#N/A", "<NA>", "null", "NULL", "None",
)  # fmt: skip
_TRUTHS = pa.array(["true", "false"])


def kind(type_: Any) -> str:
    """What a column of this type holds: see `table`."""
    if pa.types.is_dictionary(type_):
        return kind(type_.value_type)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return TEXT
    if (
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
    ):
        return NUMBERS
    return str(type_)


class Cells:
    """Makes numbers of cells, as the user says that numbers are written."""

    def __init__(self, reading: Reading):
        self._decimal, self._thousands = reading.decimal, reading.thousands
        groups = rf"|\d{{1,3}}([{reading.thousands}]\d{{3}})+" if reading.thousands else ""
        point = rf"[{reading.decimal}]"
        number = rf"((\d+{groups})({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"
        self._number = rf"^[+-]?({number}|(?i:inf(inity)?))$"

    def are_numbers(self, texts: Any) -> bool:
        """Whether there are numbers or truth values among the cells, or nothing but missing ones."""
        texts = _trimmed(texts)
        return texts.null_count == len(texts) or bool(pc.any(pc.or_(self._is_number(texts), _is_truth(texts))).as_py())

    def all_numbers(self, texts: Sequence[str]) -> bool:
        """Whether each of these cells is a number, a truth value or missing."""
        cells = _trimmed(pa.array(texts, pa.string()))
        return bool(pc.all(pc.fill_null(pc.or_(self._is_number(cells), _is_truth(cells)), True)).as_py())

    def block(
        self, cells: Sequence[Any], names: Sequence[str], levels: Sequence[Sequence[str] | None], faults: Faults
    ) -> NumpyArray:
        """Columns beside each other: numbers, or indices into levels where there are any."""
        return np.column_stack(
            [
                self.numbers(column, name, faults) if among is None else self.codes(column, among)
                for column, name, among in zip(cells, names, levels)
            ]
        )

    def numbers(self, cells: Any, column: str, faults: Faults) -> NumpyArray:
        """The cells of a column, NaN where one is missing or is no number; the latter are told to `faults`."""
        if pa.types.is_dictionary(cells.type):
            cells = cells.dictionary_decode()
        if kind(cells.type) == TEXT:
            return self._parsed(cells, column, faults)
        if pa.types.is_null(cells.type):
            return np.full(len(cells), np.nan)
        if pa.types.is_boolean(cells.type):
            cells = cells.cast(pa.int8())
        if pa.types.is_decimal(cells.type):
            cells = cells.cast(pa.float64())
        # Of integers with missing cells pyarrow makes float64, with NaN for them.
        numbers: NumpyArray = cells.to_numpy(zero_copy_only=False)
        return numbers

    def codes(self, cells: Any, levels: Sequence[str]) -> NumpyArray:
        """The indices of the cells in `levels`, NaN where one is missing."""
        found = pc.index_in(as_text(cells), value_set=pa.array(levels, pa.string()))
        codes: NumpyArray = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return codes

    def _parsed(self, texts: Any, column: str, faults: Faults) -> NumpyArray:
        if self._decimal == "." and not self._thousands:
            try:
                plain: NumpyArray = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
            except pa.ArrowInvalid:
                pass  # Spaces, a plus sign, True, or what is no number.
            else:
                return plain
        texts = _trimmed(texts)
        is_number, is_truth = self._is_number(texts), _is_truth(texts)
        bad = np.flatnonzero(pc.invert(pc.or_(is_number, is_truth)).fill_null(False).to_numpy(zero_copy_only=False))
        if bad.size:
            faults.add(NUMBER, column, bad.tolist(), texts.take(pa.array(bad[:3])).to_pylist())
        written = texts
        if self._thousands:
            written = pc.replace_substring(written, self._thousands, "")
        if self._decimal != ".":
            written = pc.replace_substring(written, self._decimal, ".")
        written = pc.if_else(is_number, pc.utf8_ltrim(written, characters="+"), pa.scalar(None, written.type))
        try:
            numbers = written.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # A number beyond the range.
            numbers = np.array([np.nan if cell is None else float(cell) for cell in written.to_pylist()])
        is_true = pc.equal(pc.utf8_lower(texts), "true")
        truths, true = (mask.fill_null(False).to_numpy(zero_copy_only=False) for mask in (is_truth, is_true))
        found: NumpyArray = np.where(truths, true, numbers)
        return found

    def _is_number(self, texts: Any) -> Any:
        return pc.match_substring_regex(texts, self._number)


def as_text(cells: Any) -> Any:
    """The cells as text, as they are shown; those that are missing as null."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    return _trimmed(cells.cast(pa.string()))


def _trimmed(texts: Any) -> Any:
    """Without the spaces around, and null where nothing, or a word for nothing, is left."""
    texts = pc.utf8_trim_whitespace(texts.cast(pa.string()))
    return pc.if_else(pc.is_in(texts, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), texts)


def _is_truth(texts: Any) -> Any:
    """Null where the text is."""
    found = pc.is_in(pc.utf8_lower(texts), value_set=_TRUTHS)
    return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), found)
