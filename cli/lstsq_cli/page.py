"""A page of HTML in one file: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import html
import importlib.resources
import re
from collections.abc import Iterable, Sequence

from lstsq_cli import about

#: A name of more characters than these is broken where the page is narrow.
_LONG = 24


def document(title: str, body: Iterable[str]) -> str:
    """The whole page, with what it was made by below; `body` is HTML, `title` is not."""
    style = (importlib.resources.files("lstsq_cli") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Else a browser asks for it where the page lies.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + _made_by()
        + "\n</body>\n</html>\n"
    )


def _made_by() -> str:
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>" for name, told in about.lines(about.about()))
    return f'\n<footer>\n<h2>Made by</h2>\n<dl class="soft">\n{rows}\n</dl>\n</footer>'


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=True)


def prose(text: str) -> str:
    """Text as HTML, in which what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def cell(text: str, kind: str = "") -> str:
    """A cell of a table, and how it is meant: good, bad, dim; or text, which is prose."""
    kinds = f"{kind} long".strip() if len(text) > _LONG else kind
    attribute = f' class="{kinds}"' if kinds else ""
    return f"<td{attribute}>{prose(text) if kind == 'text' else escape(text)}</td>"


def table(head: Sequence[str], rows: Iterable[Iterable[str]], *, prose: bool = False) -> str:
    """A table that scrolls sideways where the page is narrow; the rows are made of `cell`. Of `prose`, or numbers."""
    kind = ' class="text"' if prose else ""
    heads = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text in head)
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def figure(svg: str, title: str, caption: str) -> str:
    """A plot in a section of its own; as an image, so that the names inside one plot cannot meet those of another."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f"<section><h2>{escape(title)}</h2>\n"
        f'<figure><img alt="{escape(title)}: {escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure></section>"
    )
