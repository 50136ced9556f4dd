"""What the user can put right: told in a sentence, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A message for the user: what was got, what was expected, what to do. Ends the command with exit code 2."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message without its full stop, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return without_full_stop(lines[0]) if lines else type(error).__name__


def without_full_stop(sentence: str) -> str:
    """The sentence, to go on from; three dots at its end stay."""
    return sentence if sentence.endswith("...") else sentence.removesuffix(".")
