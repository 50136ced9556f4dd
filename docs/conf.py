"""How the documentation is built: Sphinx, with pages in MyST Markdown. ``nox -s docs`` runs it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

import lstsq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import console  # noqa: E402 (a module beside this one)

#: Where the commands of a page are run, and what they write is put.
PAGES = ROOT / "docs" / "_plots" / "pages"

project = "lstsq"
author = "the authors of lstsq"
project_copyright = "the authors of lstsq"
version = release = lstsq.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_plots"]
nitpicky = False

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"lstsq {release}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_extra_path = [str(PAGES)]


def plot(built: str, words: str, command: str) -> str:
    """The plot with its caption where it has been made, else how to make it."""
    source = ROOT / "build" / built
    if not source.exists():
        return f"*(The plot is made by `{command}`; it was not when these pages were built.)*"
    folder = ROOT / "docs" / "_plots"
    folder.mkdir(exist_ok=True)
    shutil.copy(source, folder)
    return f"![{words}](_plots/{source.name})"


myst_substitutions = {
    "accuracy_plot": plot("accuracy/accuracy.png", "Error against condition number", "nox -s docs"),
    "benchmark_plot": plot("bench/bench.png", "Time over the floor of the machine", "nox -s bench"),
    "compare_page": ' (<a href="page.html">this one, of the command below</a>)',
    "stereo_picture": plot("examples/photometric_stereo.png", "A ball on a rippled floor", "nox -s examples"),
}


def print_whole(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what the commands on the page of the command line print now in the place of its outlines; they must fit."""
    if page == "command_line":
        source[0] = re.sub(r"^```console\n(.*?)^```$", run_block, source[0], flags=re.MULTILINE | re.DOTALL)


def run_block(block: re.Match[str]) -> str:
    """The commands of a block, each with its output."""
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "COLUMNS": "100", "PATH": commands, "JAX_ENABLE_X64": "0"}
    session = [f"$ {command}\n{printed}" for command, printed in console.run(block[1], PAGES, environment)]
    # As text: a line of a table that begins with # would be coloured as a command.
    return "".join(["```text\n", *session, "```"])


def setup(app: Sphinx) -> None:
    """Connect the above."""
    PAGES.mkdir(parents=True, exist_ok=True)
    app.connect("source-read", print_whole)
