"""Reads a problem from a file, all of it into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lstsq_cli.problems import Problem
from lstsq_cli.tables import dataset
from lstsq_cli.tables.reading import Reading


def read(path: Path, reading: Reading) -> Problem:
    """Read the file, and split its columns into the matrix and the target.

    Parameters
    ----------
    path : Path
        The file; its name's ending says which format. ``-`` is standard input.
    reading : Reading
        Which columns are what, and how cells are written.

    Raises
    ------
    UserError
        If the file cannot be read, or is not a table of finite numbers with these columns.
    """
    with dataset.opened([path], reading) as data:
        blocks = list(data.blocks())
        layout = data.layout
        if not data.rows:
            raise data.nothing()
        return Problem(
            Path(data.name).name,
            np.concatenate([a for a, _ in blocks]),
            np.concatenate([b for _, b in blocks]),
            layout.columns,
            target=", ".join(layout.target),
            dropped=data.dropped,
            left_out=layout.left_out,
        )
