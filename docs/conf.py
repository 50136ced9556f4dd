"""How the documentation is built: Sphinx, with pages in MyST Markdown. ``nox -s docs`` runs it."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import lstsq

ROOT = Path(__file__).resolve().parents[1]

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


def plot(built: str, words: str, command: str) -> str:
    """The plot with its caption where it has been made, else how to make it."""
    source = ROOT / "build" / built
    if not source.exists():
        return f"*(The plot is made by `{command}`; it was not when these pages were built.)*"
    folder = ROOT / "docs" / "_plots"
    folder.mkdir(exist_ok=True)
    shutil.copy(source, folder)
    return f"![{words}](_plots/{source.name})"


support_table = runpy.run_path(str(ROOT / "docs" / "support_table.py"))["render"]()

myst_substitutions = {
    "support_table": support_table,
    "accuracy_plot": plot("accuracy/accuracy.png", "Error against condition number", "nox -s docs"),
    "benchmark_plot": plot("bench/bench.png", "Time over the floor of the machine", "nox -s bench"),
    "stereo_picture": plot("examples/photometric_stereo.png", "A ball on a rippled floor", "nox -s examples"),
}
