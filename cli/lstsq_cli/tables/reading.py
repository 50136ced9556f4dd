"""How the user wants a table read: the options of the commands that take FILEs."""

from __future__ import annotations

from dataclasses import dataclass

from lstsq_cli.errors import UserError

#: What may stand between groups of three digits; the last two are spaces that do not break.
THOUSANDS = (",", ".", "'", "_", " ", "\u00a0", "\u202f")


@dataclass(frozen=True)
class Reading:
    """The options, by their names on the command line; columns are names, or indices from 0.

    Raises
    ------
    UserError
        If one of them is not possible.
    """

    target: str | None = None
    drop: tuple[str, ...] = ()
    intercept: bool = False
    #: Columns whose different cells become columns of zeros and ones.
    categorical: tuple[str, ...] = ()
    weights: str | None = None
    #: Leave out columns that hold no numbers, and rows that miss a cell.
    numeric_only: bool = False
    drop_missing: bool = False
    #: How text is written: the name of a codec, and characters.
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    #: Which problem of a batch, "3" or "0,3".
    problem: str | None = None

    def __post_init__(self) -> None:
        """Find out before anything is read."""
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise UserError(
                f"--encoding: there is no {self.encoding!r}; expected utf-8, latin-1, cp1252 or another of Python's."
            ) from error
        if self.decimal not in (".", ","):
            raise UserError(f"--decimal: got {self.decimal!r}, expected '.' or ','.")
        if self.thousands is not None and (self.thousands not in THOUSANDS or self.thousands == self.decimal):
            listed = " ".join(repr(mark) for mark in THOUSANDS[:5] if mark != self.decimal)
            raise UserError(f"--thousands: got {self.thousands!r}, expected one of {listed}.")
