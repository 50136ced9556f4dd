"""The documentation is true: every code block on every page is run, and prints the same on every machine."""

import ast
import doctest
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lstsq_cli import peers

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXAMPLE = ROOT / "examples" / "scipy_backend"
CONSOLE = runpy.run_path(str(ROOT / "docs" / "console.py"))


def blocks(page, *languages):
    """The code blocks of a page in these languages, in order, with their language."""
    found = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found if language in languages]


@pytest.fixture
def environment(tmp_path):
    """Where a page is run: an empty folder, with `lstsq` on the path and the example backend installed beside it."""
    installed = tmp_path / "installed"
    project = (EXAMPLE / "pyproject.toml").read_text()
    (name,), (version,) = (re.findall(rf'^{key} = "(.*)"$', project, re.MULTILINE) for key in ("name", "version"))
    ((group, backend, class_),) = re.findall(
        r'^\[project.entry-points."(.*)"\]\n(\w+) = "(.*)"$', project, re.MULTILINE
    )
    information = installed / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{backend} = {class_}\n")
    shutil.copy(EXAMPLE / "lstsq_scipy.py", installed)
    folder = tmp_path / "page"
    folder.mkdir()
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": path, "PATH": commands, "COLUMNS": "100", "JAX_ENABLE_X64": "0"},
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_of_a_language_that_is_checked_here(page):
    text = page.read_text()
    languages = set(re.findall(r"^```(\S+)$", text, re.MULTILINE))
    directives = {language for language in languages if language.startswith("{")}
    assert directives <= {"{toctree}", "{eval-rst}", "{include}", "{literalinclude}"}
    assert languages - directives <= {"python", "console", "sh", "text"}
    assert all(block.startswith(">>> ") for _, block in blocks(page, "python"))
    assert all(block.startswith("$ ") for _, block in blocks(page, "console"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_prints_what_it_says(page, environment):
    """The blocks of a page in one session, as a reader would paste them."""
    script = environment["cwd"] / "page.txt"
    script.write_text("\n".join(text for _, text in blocks(page, "python")))
    ran = subprocess.run([sys.executable, "-m", "doctest", script], capture_output=True, text=True, **environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_commands_print_what_they_say(environment):
    """Those of the page of the command line are run where the pages are built, which needs their whole output."""
    pages = [page for page in PAGES if blocks(page, "console")]
    assert "command_line" in {page.stem for page in pages}
    for _, text in [block for page in pages if page.stem != "command_line" for block in blocks(page, "console")]:
        assert CONSOLE["run"](text, environment["cwd"], environment["env"])


@pytest.mark.parametrize("command", ["echo other", "false"])
def test_what_is_not_on_the_page_is_an_error(environment, command):
    with pytest.raises(ValueError, match="expected"):
        CONSOLE["run"](f"$ {command}\none\n", environment["cwd"], environment["env"])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.stem)
def test_shell_commands_are_those_of_a_readme(page):
    """What installs is not run here; the READMEs' own commands are, by nox."""
    readmes = (ROOT / "README.md").read_text() + (EXAMPLE / "README.md").read_text()
    assert [text for _, text in blocks(page, "sh") if text not in readmes] == []


def docstrings():
    """The docstrings in the sources of what is shipped, with the file that each is in."""
    for folder in ("lstsq", "backends", "conformance", "cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    yield path, ast.get_docstring(node) or ""


def printing():
    """Each example of the pages, the README and the docstrings that prints something: where, the code, the output."""
    texts = [*((page, page.read_text()) for page in (ROOT / "README.md", *PAGES)), *docstrings()]
    for path, text in texts:
        # The fence that ends a block would be taken for the end of its last output.
        for example in doctest.DocTestParser().get_examples(re.sub(r"^```$", "", text, flags=re.MULTILINE)):
            if example.want and example.exc_msg is None:
                yield path.relative_to(ROOT), example.source.strip(), example.want


EXAMPLES = list(printing())


def test_numbers_are_rounded_before_they_are_printed():
    """The last digits of a float depend on the processor and on BLAS. NumPy's `print` rounds, Python's does not."""
    unrounded = r"\.(tolist|item)\(\)|\bfloat\("
    floats = r"\d\.\d|nan|inf"
    assert [
        (path, code)
        for path, code, output in EXAMPLES
        if re.search(unrounded, code) and re.search(floats, output) and "round" not in code
    ] == []


def test_a_zero_that_is_printed_has_no_sign():
    """What is rounded to 0 may be -0: adding 0.0 after the rounding makes it 0."""
    zero = r"(?<![\d.])0\.0*(?!\d)"
    rounded = r"round\(\d+\)"
    assert [
        (path, code)
        for path, code, output in EXAMPLES
        if re.search(zero, output) and re.search(rounded, code) and not re.search(rounded + r" \+ 0\.0\)", code)
    ] == []


def test_examples_are_found():
    assert {str(path) for path, *_ in EXAMPLES} >= {"README.md", "docs/contract.md", "lstsq/_api.py"}


def test_known_failures_are_written_as_the_suite_reads_them(tmp_path):
    """The one block that is neither code nor command is a line of an xfail file."""
    from lstsq_conformance.generation import _read_xfail

    ((_, text),) = [block for page in PAGES for block in blocks(page, "text")]
    file = tmp_path / "known_failures.txt"
    file.write_text(text)
    (known,) = _read_xfail(file)
    assert known.reason
    assert known.pattern.startswith("test_nist.py::")


def test_support_table_is_what_the_backends_claim():
    replace = runpy.run_path(str(ROOT / "docs" / "support_table.py"))["replace"]
    contract = (ROOT / "docs" / "contract.md").read_text()
    assert replace(contract) == contract, "stale: run `nox -s lint -- table`"


def test_table_of_the_peers_has_the_known_faults():
    """It takes minutes to make, and is made by `nox -s lint -- peers`; here is what must be in it."""
    script = runpy.run_path(str(ROOT / "docs" / "peers_table.py"))
    page = (ROOT / "docs" / "comparison.md").read_text()
    table = page.partition(script["BEGIN"])[2].partition(script["END"])[0]
    head, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert set(head) <= set(script["order"]())
    cells = {line[0].strip("`"): dict(zip(head, line[1:])) for line in lines}
    assert {peer.label for peer in peers.PEERS} >= set(cells) >= {"numpy.linalg", "jax.numpy", "dask.array"}
    for function, row in (
        ("numpy.linalg", "residuals"),  # Left out at deficient rank, and for wide matrices.
        ("scipy.linalg gelsd", "cutoff"),  # eps, whatever the shape.
        ("jax.numpy", "gradients"),  # At equal singular values.
        ("torch.linalg gels", "solution"),  # At deficient rank.
        ("dask.array", "solution"),
    ):
        assert "✗" in cells[function][row], (function, row)
    # Each failure is linked to what failed.
    places = set(re.findall(r'<a id="([^"]+)"', table))
    assert set(re.findall(r'<a href="#([^"]+)"', table)) == places


def test_table_of_the_peers_is_made_of_what_the_command_says():
    script = runpy.run_path(str(ROOT / "docs" / "peers_table.py"))
    failure = {"test": "test_a.py::test_b[c]", "message": "no `luck`\n  at all"}
    told = {
        "versions": {"numpy.linalg": "numpy 2.4.6", "scipy.linalg gelsd": "scipy 1.17.1"},
        "cells": [
            {"backend": "numpy.linalg", "row": "cutoff", "passed": 3, "failed": 1, "failures": [failure]},
            {"backend": "numpy.linalg", "row": "shapes", "skipped": 3, "failures": []},
            {"backend": "scipy.linalg gelsd", "row": "shapes", "passed": 2, "failures": []},
        ],
    }
    assert script["render"](told).splitlines() == [
        "Of numpy 2.4.6, scipy 1.17.1; the suite's quick selection, in float32 and float64.",
        "",
        "| | shapes | cutoff |",
        "| --- | --- | --- |",
        '| `numpy.linalg` | – | <a href="#numpy-linalg-cutoff">✗&nbsp;1/4</a> |',
        "| `scipy.linalg gelsd` | ✓&nbsp;2 | – |",
        "",
        "The first test that fails, of each:",
        "",
        "- <a id=\"numpy-linalg-cutoff\"></a>`numpy.linalg`, cutoff: `test_a.py::test_b[c]`: `no 'luck' at all`",
    ]
    page = f"before {script['BEGIN']} old {script['END']} after"
    once = script["replace"](page, "new")
    assert once == script["replace"](once, "new")
    assert "old" not in once


def test_every_linked_page_exists():
    pages = {page.name for page in PAGES}
    links = {link.partition("#")[0] for page in PAGES for link in re.findall(r"\]\(([^)]+)\)", page.read_text())}
    assert {link for link in links if "://" not in link} <= pages
