"""Runs the commands of a block of a page, and holds what they print against what the page says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path


def run(block: str, folder: Path, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Run each command in turn; what was run, and what it printed.

    Where the block has `...`, anything may stand, and any white space for white space.

    Raises
    ------
    ValueError
        If a command prints something else, or ends with another exit code than 0.
    """
    session = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        parts = (r"\s+".join(map(re.escape, part.split())) for part in expected.split("..."))
        if done.returncode or not re.fullmatch(".*".join(parts), done.stdout.strip(), re.DOTALL):
            raise ValueError(f"{command}: exit code {done.returncode}; expected\n{expected}\ngot\n{done.stdout}")
        session.append((command, done.stdout))
    return session
