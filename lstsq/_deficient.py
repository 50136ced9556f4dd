"""What `lstsq(..., on_deficient=...)` says of a rank below min(M, N): nothing, a warning or an error."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.linalg import LinAlgError

from lstsq._backend import Array, Backend

WAYS = ("ignore", "warn", "raise")


class LstsqRankWarning(np.exceptions.RankWarning):
    """The columns (or, of a wide matrix, the rows) depend on each other: the rank is below ``min(M, N)``.

    `lstsq` gives it where it is called with ``on_deficient="warn"``. It is a `numpy.exceptions.RankWarning`, so that a
    filter for the warnings of `numpy.polyfit` is one for these.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from lstsq import LstsqRankWarning, lstsq
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     result = lstsq(np.ones((3, 2)), np.ones(3), on_deficient="warn")
    >>> caught[0].category is LstsqRankWarning
    True
    """


def require_way(on_deficient: str) -> None:
    """Refuse any other word."""
    if not isinstance(on_deficient, str) or on_deficient not in WAYS:
        raise ValueError(f"on_deficient is {on_deficient!r}; expected one of {', '.join(map(repr, WAYS))}.")


def report(ranks: Array, home: Backend, full: int, on_deficient: str, ridge: bool) -> None:
    """Warn of a rank below `full`, or raise. `home` is the backend that knows the array; a lazy library computes here.

    With a `ridge` it decides about what the data leave open.

    Raises
    ------
    LinAlgError
        If a rank is below `full` and the caller wants an error.
    TypeError
        If the rank is not known yet.
    """
    rank = home.known(ranks)
    if rank is None:
        raise TypeError(
            f"on_deficient={on_deficient!r} asks for the value of the rank, which is not known inside a transformation "
            "(grad, vmap, jit, compile ...); expected arrays with numbers. Leave it out there, and look at the rank "
            "that is returned."
        )
    deficient = np.argwhere(rank < full)
    if len(deficient) == 0:
        return
    place = tuple(int(i) for i in deficient[0])
    where = f" at index {place} ({len(deficient)} of {rank.size} matrices are deficient)" if rank.ndim else ""
    message = (
        f"a has rank {rank[place]}{where}; expected min(M, N) = {full}. By the cutoff, columns or rows depend on each "
        "other (or a number is not finite): "
    )
    if ridge:
        message += (
            "the data leave a part of x open, and the ridge decides about it. Drop what depends on others, or pass "
            'on_deficient="ignore" if that is what the ridge is for.'
        )
    else:
        message += (
            "x is the shortest of many best solutions. Drop what depends on others, pass a smaller rcond, or pass "
            'on_deficient="ignore" if the shortest is what you want.'
        )
    if on_deficient == "raise":
        raise LinAlgError(message)
    warnings.warn(message, LstsqRankWarning, stacklevel=3)
