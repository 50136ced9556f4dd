"""The README is true, and so are the pages for contributors: code, commands, sessions, files, figures, versions."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lstsq

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [text for language, text in BLOCKS if language == "sh"]
KERNELS = ROOT / "backends" / "native" / "src" / "kernels"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", KERNELS / "README.md"]
#: A session installs what a page may import, but for torch, whose download is for `conformance -- torch`.
HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_every_block_is_of_a_language_that_is_checked_here():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert README.count("```") == 2 * len(BLOCKS)


def test_the_first_page_is_short_and_shows_four_libraries():
    assert len(README.splitlines()) < 120
    imported = [re.findall(r"^>>> import (\w+)", text, re.MULTILINE) for text in PYTHON]
    assert imported == [["numpy"], ["jax"], ["torch"], ["mlx"]]


@pytest.mark.parametrize("block", PYTHON, ids=[text.splitlines()[0].removeprefix(">>> import ") for text in PYTHON])
def test_code_block_prints_what_it_says(block, tmp_path):
    """Each in a process of its own, as a reader would paste it."""
    if "import torch" in block and not HAS_TORCH:
        pytest.skip("torch is not installed here: `nox -s conformance -- torch` runs this")
    script = tmp_path / "block.txt"
    script.write_text(block)
    ran = subprocess.run([sys.executable, "-m", "doctest", script], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert block.startswith(">>> ")


def test_ci_runs_the_test_command_and_nothing_else():
    demo, tests = SHELL[:2]
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in script if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', tests.strip()]
    assert demo.strip() == tests.strip() + " -s demo"
    assert f"```sh\n{tests}```" in (ROOT / "CONTRIBUTING.md").read_text()


def test_every_session_that_is_named_exists():
    """Wherever a command of nox is written: its session, and the kind of run that it names."""
    noxfile = (ROOT / "noxfile.py").read_text()
    bodies = re.findall(r"^@nox\.session.*\ndef (\w+)\(.*\n((?:    .*\n|\n)+)", noxfile, re.MULTILINE)
    kinds = {
        session: set(re.findall(r'"(\w+)"', "".join(re.findall(r" kind\((.*)\)", body)))) for session, body in bodies
    }
    kinds["conformance"] |= {info.name for info in lstsq.backends()}
    sources = [
        path for folder in ("backends", "clients", "docs", "tests", ".github") for path in (ROOT / folder).rglob("*")
    ]
    named = [
        (path.name, session, kind)
        for path in [*ROOT.glob("*.*"), *sources]
        if path.suffix in (".md", ".py", ".txt", ".toml", ".yml") and path != Path(__file__)
        for session, kind in re.findall(r"\bnox -s (\w+)(?: -P \S+)?(?: -- (\w+)(?=[\s`\"]))?", path.read_text())
    ]
    assert {name for name, *_ in named} >= {"README.md", "CONTRIBUTING.md", "ci.yml", "wheels.yml", "leak.py"}
    assert [where for where in named if where[1] not in kinds] == []
    assert [where for where in named if where[2] and where[2] not in kinds[where[1]]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_exists(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_folder_is_on_the_map():
    """The map in CONTRIBUTING.md names each folder of what is shipped, and none that is not there."""
    _, _, rest = (ROOT / "CONTRIBUTING.md").read_text().partition("## The map")
    named = re.findall(r"^ *- \[`([\w/.]+/)`\]\(", rest.partition("\n## ")[0], re.MULTILINE)
    shipped = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert shipped is not None
    packages = [package.partition("/")[0] + "/" for package in re.findall(r'"(.+?)"', shipped[1])]
    backends = [f"backends/{path.parent.name}/" for path in (ROOT / "backends").glob("lstsq_*/__init__.py")]
    assert "lstsq/" in packages
    assert "backends/lstsq_numpy/" in backends
    assert [name for name in packages + backends if name not in named and name != "backends/"] == []
    assert [name for name in named if not (ROOT / name).is_dir()] == []


def test_every_file_of_the_kernels_is_in_their_readme():
    named = set(re.findall(r"`(\w[\w-]*\.(?:cpp|h))`", (KERNELS / "README.md").read_text()))
    assert named == {path.name for path in KERNELS.iterdir() if path.suffix in (".cpp", ".h")}


def test_times_are_those_of_the_page_of_speed():
    """The first page shows some of its rows."""
    rows = re.findall(r"^\| .*×.*\|$", README, re.MULTILINE)
    page = (ROOT / "docs" / "speed.md").read_text().splitlines()
    assert rows
    assert [row for row in rows if row not in page] == []


def test_versions_agree():
    (mlx,) = set(re.findall(r'"mlx==([\d.]+)"', (ROOT / "backends" / "native" / "pyproject.toml").read_text()))
    assert set(re.findall(r"mlx (\d+\.\d+\.\d+)", README)) == {mlx}
    newest = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == lstsq.__version__
    assert {info.version for info in lstsq.backends() if info.name in ("numpy", "native", "mlx")} == {lstsq.__version__}
