"""A page of HTML in one file: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { --ink: #1f2933; --soft: #616e7c; --line: #d9dee3; --good: #1b7f4b; --bad: #b42335; --wash: #f5f7f9; --link: #0b5cad }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 84rem; color: var(--ink); background: white;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem }
p { margin: .4rem 0; max-width: 60rem }
.soft, figcaption, .notes { color: var(--soft); font-size: .9rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white }
td.text { white-space: normal; min-width: 16rem } th.text, td.text { text-align: left }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600 }
tbody tr:hover td { background: var(--wash) }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 } .dim { color: var(--soft) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem 2.5rem; align-items: start }
figure { margin: 0 } figure img { width: 100%; max-width: 40rem; height: auto; display: block }
figcaption { margin-top: .25rem; max-width: 40rem }
a { color: var(--link) } details { margin: .5rem 0; border-left: 3px solid var(--line); padding-left: .75rem }
summary { cursor: pointer; overflow-wrap: anywhere } pre { overflow-x: auto; background: var(--wash); padding: .75rem; font-size: .82rem }
:target { background: #fff6d6 }
"""


def document(title: str, body: Iterable[str]) -> str:
    """The whole page; `body` is HTML, `title` is not."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=True)


def cell(text: str, kind: str = "") -> str:
    """A cell of a table: text, and how it is meant: good, bad, dim, text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{escape(text)}</td>"


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
