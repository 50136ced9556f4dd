"""Output that ends in no error: on consoles of every encoding, and where nobody reads it to the end."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

#: Marks that not every encoding has, and a plain one of the same width, so that tables stay straight.
_PLAIN = {
    "–": "-", "−": "-", "…": ".", "·": ".", "×": "x", "÷": "/", "±": "+", "‖": "|", "≤": "<", "≥": ">", "→": ">",
    "✓": "+", "✗": "x", "σ": "s", "µ": "u", "κ": "k", "ε": "e", "ᴴ": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
    "─": "-", "━": "-", "│": "|", "┃": "|", "═": "=", "╭": "+", "╮": "+", "╯": "+", "╰": "+", "┼": "+", "╸": "-",
    "╺": "-",
}  # fmt: skip


def prepare() -> None:
    """From now on, what an encoding does not have is written as what is nearest to it."""
    codecs.register_error("lstsq.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lstsq.plain")


def flush() -> None:
    """Write what is left; in silence where the reader (`| head`) has gone."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads()


def nobody_reads() -> None:
    """Whoever read our output has gone: the interpreter must not try to flush it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_nearest, error.object[error.start : error.end])), error.end


def _nearest(character: str) -> str:
    """The mark's plain one, the letter or digit without what is around it, or a question mark."""
    plain = _PLAIN.get(character) or unicodedata.normalize("NFKD", character)[:1]
    return plain if plain.isascii() else "?"
