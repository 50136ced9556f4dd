"""The README is true: its code runs, its commands are CI's, its table of backends and its versions are current."""

import re
import runpy
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


def test_every_block_is_of_a_language_that_is_checked_here():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert README.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", PYTHON, ids=[text.splitlines()[0].removeprefix(">>> import ") for text in PYTHON])
def test_code_block_prints_what_it_says(block, tmp_path):
    """Each in a process of its own, as a reader would paste it."""
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


def test_every_session_that_is_named_exists():
    named = set(re.findall(r"nox -s (\w+)", README))
    sessions = set(re.findall(r"^def (\w+)\(session: nox\.Session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert named
    assert named <= sessions


def test_every_linked_file_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_support_table_is_what_the_backends_claim():
    replace = runpy.run_path(str(ROOT / "docs" / "support_table.py"))["replace"]
    assert replace(README) == README, "stale: run `nox -s readme`"


def test_versions_agree():
    (mlx,) = set(re.findall(r'"mlx==([\d.]+)"', (ROOT / "backends" / "native" / "pyproject.toml").read_text()))
    assert set(re.findall(r"mlx (\d+\.\d+\.\d+)", README)) == {mlx}
    newest = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == lstsq.__version__
    assert {info.version for info in lstsq.backends() if info.name in ("numpy", "native", "mlx")} == {lstsq.__version__}
