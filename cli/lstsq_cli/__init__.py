"""The command line: ``lstsq fit``, ``lstsq compare``, ``lstsq conformance`` and ``lstsq backends``.

The files, in reading order:

`app`
    The commands and their options.
`tables`
    A folder: tables from files, block by block.
`fit`
    A folder for this command, which reads them so.
`problems`, `data`
    The problem to compare on: drawn, from NIST, or from a file.
`solvers`, `timing`
    Who can solve it; how calls are timed.
`compare`, `conformance`
    Folders for these two commands; each tells its files.
`backends`
    What is installed and what is missing.
`interrupt`, `errors`
    What ends a command early.
`text`, `page`, `output`
    How numbers, pages and the output are written.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command ``lstsq``."""
    try:
        from lstsq_cli import interrupt

        interrupt.watch()
        from lstsq_cli.app import run
    except ModuleNotFoundError as error:
        # Only typer and rich are needed for every command; a defect of our own keeps its traceback.
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f"lstsq: the command line needs {error.name}; run `pip install typer rich`.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # Before the watch began, or where there is none.
        print("lstsq: interrupted.", file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
