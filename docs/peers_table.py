"""Writes the table of comparison.md that says which rows of the contract each function keeps; a command makes it.

``nox -s lint -- peers`` installs the libraries and runs it: ``lstsq conformance --peers --json``, some minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("comparison.md")
BEGIN, END = "<!-- table of the peers: written by docs/peers_table.py -->", "<!-- end of the table of the peers -->"
#: Of a message that fails a test: as much as fits a line.
LENGTH = 110


def measured() -> dict[str, Any]:
    """What the command says, as JSON."""
    command = [sys.executable, "-m", "lstsq_cli", "conformance", "--peers", "--json"]
    told: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return told


def render(told: dict[str, Any]) -> str:
    """The table in Markdown, a line for each function, and the first failing test of each cell below it."""
    cells = {(cell["backend"], cell["row"]): cell for cell in told["cells"]}
    rows = list(dict.fromkeys(cell["row"] for cell in told["cells"]))
    rows = [row for row in order() if row in rows]
    versions = dict.fromkeys(told["versions"].values())
    lines = [f"Of {', '.join(versions)}; the suite's quick selection, in float32 and float64.", ""]
    lines += ["| | " + " | ".join(rows) + " |", "| --- |" + " --- |" * len(rows)]
    for function in told["versions"]:
        words = [cell(function, row, cells.get((function, row), {})) for row in rows]
        lines.append(f"| `{function}` | " + " | ".join(words) + " |")
    lines += ["", "The first test that fails, of each:", ""]
    for (function, row), found in sorted(cells.items(), key=lambda item: place(item[0], told, rows)):
        if found.get("failures"):
            first = found["failures"][0]
            said = f"`{first['test']}`: `{shortened(first['message'])}`"
            lines.append(f'- <a id="{anchor(function, row)}"></a>`{function}`, {row}: {said}')
    return "\n".join(lines)


def order() -> Iterator[str]:
    """The rows of the contract, in its order."""
    from lstsq_conformance.rows import ROWS

    yield from ROWS


def place(key: tuple[str, str], told: dict[str, Any], rows: list[str]) -> tuple[int, int]:
    """Where a cell stands in the table."""
    return list(told["versions"]).index(key[0]), rows.index(key[1])


def cell(function: str, row: str, found: dict[str, Any]) -> str:
    """Whether all tests passed, or how many did not, with a link to the first; a dash where there is none."""
    passed, failed = found.get("passed", 0), found.get("failed", 0)
    if failed:
        return f'<a href="#{anchor(function, row)}">✗&nbsp;{failed}/{passed + failed}</a>'
    return f"✓&nbsp;{passed}" if passed else "–"


def anchor(function: str, row: str) -> str:
    """The name of the place that a cell links to."""
    return f"{function} {row}".lower().replace(" ", "-").replace(".", "-")


def shortened(message: str) -> str:
    """The first lines of a message as one, without what Markdown would read."""
    line = " ".join(message.replace("`", "'").split())
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"


def replace(text: str, table: str) -> str:
    """The text with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(replace(PAGE.read_text(), render(measured())))
