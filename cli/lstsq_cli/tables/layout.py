"""Which columns of a table are the matrix, the target and the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lstsq_cli.errors import UserError
from lstsq_cli.tables.reading import Reading
from lstsq_cli.tables.table import NUMBERS, TEXT, Table

#: More different cells than these are no categories.
_LEVELS = 1000


@dataclass(frozen=True)
class Layout:
    """Columns by their indices."""

    matrix: tuple[int, ...]
    targets: tuple[int, ...]
    weights: int | None
    #: The different cells of categorical columns.
    levels: Mapping[int, tuple[str, ...]]
    #: How many levels each of those leaves out: one where it would repeat the column of ones.
    omitted: Mapping[int, int]
    intercept: bool
    #: The names of the columns of the matrix and of b.
    columns: tuple[str, ...]
    target: tuple[str, ...]
    #: Columns that are not used though nobody said so, and why.
    left_out: tuple[str, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """What is read: the matrix, the targets, the weights."""
        return (*self.matrix, *self.targets, *([] if self.weights is None else [self.weights]))


def choose(tables: Sequence[Table], reading: Reading) -> Layout:
    """The layout of the first table; the others are given the same columns elsewhere.

    Raises
    ------
    UserError
        If a column is not there, holds no numbers, or has two tasks; or the target cannot be guessed.
    """
    table = tables[0]
    names = table.names
    dropped = {_index(table, name, "--drop") for name in reading.drop}
    categorical = {_index(table, name, "--categorical") for name in reading.categorical}
    weights = None if reading.weights is None else _index(table, reading.weights, "--weights")
    left_out: list[str] = []
    if reading.target is not None:
        if table.targets:
            raise UserError(f"{table.name}: --target is for tables; the arrays a and b say what is what.")
        targets: Sequence[int] = [_index(table, reading.target, "--target")]
    else:
        targets = table.targets
    free = [i for i in range(len(names)) if i not in dropped and i != weights and i not in targets]
    for i in free:
        if i in table.index and i not in categorical:
            left_out.append(f"{names[i]!r}: it numbers the rows")
        elif reading.numeric_only and table.kinds[i] != NUMBERS and i not in categorical:
            left_out.append(f"{names[i]!r}: it holds {table.kinds[i]}")
        else:
            continue
        dropped.add(i)
    free = [i for i in free if i not in dropped]
    if not targets:
        targets = [_guessed(table, free, categorical)]
        free.remove(targets[0])
    others = set() if weights is None else {weights}
    for option, columns in (("--weights", others), ("--categorical", categorical), ("--drop", dropped)):
        for column in sorted(columns):
            if column in targets:
                raise UserError(f"{table.name}: the column {names[column]!r} is the target, and {option} names it too.")
            if column in dropped and option != "--drop":
                raise UserError(f"{table.name}: the column {names[column]!r} is named by {option} and by --drop.")
    for column in others & categorical:
        raise UserError(f"{table.name}: the column {names[column]!r} is named by --weights and by --categorical.")
    _check_kinds(table, [i for i in (*free, *targets, *others) if i not in categorical])
    if not free and not reading.intercept:
        raise UserError(
            f"{table.name}: no column is left for the matrix; the columns are {_listed(names)}. --intercept puts a "
            "column of ones there."
        )
    levels = {i: _levels(tables, names[i], i, table) for i in free if i in categorical}
    omitted, ones = {}, reading.intercept
    for i in levels:
        # All levels of a category together are a column of ones.
        omitted[i], ones = int(ones), True
    shown = [*(["intercept"] if reading.intercept else [])]
    for i in free:
        shown += [f"{names[i]}={level}" for level in levels[i][omitted[i] :]] if i in levels else [names[i]]
    return Layout(
        tuple(free), tuple(targets), weights, levels, omitted, reading.intercept, tuple(shown),
        tuple(names[i] for i in targets), tuple(left_out),
    )  # fmt: skip


def elsewhere(table: Table, first: Table, layout: Layout) -> tuple[int, ...]:
    """Where this table has the columns that are used.

    Raises
    ------
    UserError
        If its columns are not those of the first table.
    """
    if len(table.names) != len(first.names) or tuple(table.targets) != tuple(first.targets):
        raise UserError(
            f"{table.name}: it has {len(table.names)} columns, and {first.name} has {len(first.names)}; expected the "
            "same in all files."
        )
    # Of a file without names, such as `split` makes, the columns are those of the first one.
    if not table.named or list(table.names) == list(first.names):
        return layout.used
    other = [name for name in table.names if name not in first.names]
    if other or len(set(table.names)) != len(table.names):
        told = f"it has a column {other[0]!r}" if other else "its columns are in another order, and two have one name"
        raise UserError(f"{table.name}: {told}; expected the columns of {first.name}: {_listed(first.names)}.")
    return tuple(table.names.index(first.names[i]) for i in layout.used)


def _guessed(table: Table, free: Sequence[int], categorical: set[int]) -> int:
    """The last column, where that is plausible."""
    candidates = [i for i in free if i not in categorical]
    if not candidates:
        raise UserError(
            f"{table.name}: no column is left for b; the columns are {_listed(table.names)}. Say which, with --target."
        )
    if all(table.kinds[i] != NUMBERS for i in candidates):
        raise UserError(
            f"{table.name}: no column holds numbers; the columns are {_listed(table.names)}. Expected cells with a "
            "comma, a semicolon, a tab or | between them, and a column of numbers for b."
        )
    last = candidates[-1]
    if table.kinds[last] != NUMBERS:
        raise UserError(
            f"{table.name}: which column is b? The last, {table.names[last]!r}, holds {table.kinds[last]}; say it with "
            f"--target, one of {_listed([table.names[i] for i in candidates if table.kinds[i] == NUMBERS])}."
        )
    return last


def _check_kinds(table: Table, columns: Sequence[int]) -> None:
    """Columns of types of which no numbers can be made; text may hold numbers, and is looked at cell by cell."""
    bad = [i for i in columns if table.kinds[i] not in (NUMBERS, TEXT)]
    if bad:
        told = ", ".join(f"{table.names[i]!r} holds {table.kinds[i]}" for i in bad)
        raise UserError(
            f"{table.name}: column {told}; expected numbers. Leave it out with --drop {table.names[bad[0]]!r}, or all "
            "such columns with --numeric-only."
        )


def _levels(tables: Sequence[Table], name: str, column: int, first: Table) -> tuple[str, ...]:
    found: set[str] = set()
    for table in tables:
        named = table.named and table.names.count(name) == 1
        found |= table.distinct(table.names.index(name) if named else column, _LEVELS)
    if len(found) > _LEVELS:
        raise UserError(
            f"{first.name}: --categorical: the column {name!r} has more than {_LEVELS} different cells; expected fewer."
        )
    try:
        return tuple(sorted(found, key=float))
    except ValueError:
        return tuple(sorted(found))


def _index(table: Table, wanted: str, option: str) -> int:
    names = table.names
    places = [i for i, name in enumerate(names) if name == wanted]
    if len(places) > 1:
        raise UserError(
            f"{table.name}: {option}: {len(places)} columns are called {wanted!r}; expected one of their indices, "
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
            f"{table.name}: {option}: there is no column {wanted!r}; expected one of {_listed(names)}, or an index "
            f"from 0 to {len(names) - 1}."
        )
    return index % len(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 20 else ", ".join([*names[:19], f"... ({len(names)} in all)"])
