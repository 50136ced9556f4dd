"""Commands with planted backends, run one after another by one process: most of a run's time is that of its imports.

A command that changes what is in that process, such as data that are kept for the next, is for a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

PLANTED = Path(__file__).with_name("planted")

#: Reads lines with a folder and arguments; answers each with a line, the exit code and what was printed.
_SERVER = """
import contextlib, io, json, os, sys
from {module} import main
for line in sys.stdin:
    folder, arguments = json.loads(line)
    os.chdir(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
    print(json.dumps([int(code), output.getvalue()]), flush=True)
"""


class Run(Protocol):
    """Runs the command with these arguments in this folder; returns its exit code, and what it has printed."""

    def __call__(self, *arguments: str, cwd: Path) -> tuple[int, str]: ...


@contextmanager
def served(module: str) -> Iterator[Run]:
    """A process that calls `main` of this module for each run. It ends with the context."""
    path = os.pathsep.join([str(PLANTED), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-c", _SERVER.format(module=module)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        asked, answered = server.stdin, server.stdout

        def run(*arguments: str, cwd: Path) -> tuple[int, str]:
            print(json.dumps([str(cwd), arguments]), file=asked, flush=True)
            line = answered.readline()
            assert line, f"the process that ran {arguments} has died"
            code, output = json.loads(line)
            return code, output

        yield run
        asked.close()
