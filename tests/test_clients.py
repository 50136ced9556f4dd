"""The plugin that puts our function in the place of others': what it replaces, and that its list is strict."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
#: What has imported the function by its name has ours, too.
CLIENT = """
import inspect
import numpy as np
from numpy.linalg import lstsq

def test_is_ours():
    assert np.linalg.lstsq is lstsq
    assert lstsq.__module__ == "swap"
    assert lstsq(np.ones((3, 1)), 2 * np.ones(3))[0].round(9) == 2

def test_polyfit_calls_it():
    assert inspect.unwrap(np.polyfit).__globals__["lstsq"] is lstsq

def test_fails():
    assert False
"""


def run(folder: Path, known: str) -> tuple[int, str]:
    """The tests above in a copy of the folder, with this list."""
    plugin = folder / "clients"
    plugin.mkdir()
    for name in ("swap.py", "pytest.ini"):
        (plugin / name).write_text((CLIENTS / name).read_text())
    (plugin / "known_failures.txt").write_text(known)
    (folder / "test_client.py").write_text(CLIENT)
    path = os.pathsep.join([str(plugin), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-c", plugin / "pytest.ini", "--swap", "numpy", folder / "test_client.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_listed_may_fail_and_the_rest_is_run_on_ours(tmp_path):
    code, said = run(tmp_path, "test_client::test_fails # it is made so\n")
    assert (code, "2 passed, 1 xfailed" in said) == (0, True), said


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("", "1 failed, 2 passed"),
        ("test_client::test_* # passes after all\n", "XPASS(strict)"),
        ("test_client::test_of_long_ago # nobody remembers\n", "no test is called test_client::test_of_long_ago"),
        ("test_client::test_fails\n", "expected a test, ` # ` and a reason"),
    ],
)
def test_the_list_is_strict(tmp_path, known, message):
    code, said = run(tmp_path, known)
    assert code != 0
    assert message in said
