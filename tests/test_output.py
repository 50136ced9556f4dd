"""What the command line prints, on every console, and what it leaves behind."""

import io
import json
import os
import re
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import lstsq
from lstsq_cli import app, output

pytest.importorskip("pyarrow")


def run(monkeypatch, encoding, *arguments):
    """The exit code, and what a console of this encoding shows."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["lstsq", *map(str, arguments)])
    code = app.run()
    streams[1].flush()
    return code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "größe.csv"
    path.write_text("größe,Δ,y\n1,2,3\n2,4,5\n3,6,9\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "ascii"])
def test_no_encoding_ends_the_output(monkeypatch, table, encoding):
    code, shown, complained = run(monkeypatch, encoding, "fit", table)
    assert (code, complained) == (0, "")
    name, missing = ("größe", "?") if encoding != "ascii" else ("große".replace("ß", "?").replace("ö", "o"), "?")
    delta = "Δ" if encoding == "utf-8" else missing
    assert f"{name}, {delta} depend on each other" in " ".join(shown.split())
    assert ("σ₁" in shown) == (encoding == "utf-8")
    assert ("s1" in shown) == (encoding != "utf-8")
    code, _, complained = run(monkeypatch, encoding, "fit", table, "--target", "Ω")
    assert code == 2
    assert "there is no column" in complained


def test_plain_marks_have_the_width_of_those_they_stand_for():
    assert {len(mark) for mark in output._PLAIN} == {len(plain) for plain in output._PLAIN.values()} == {1}
    assert all(plain.isascii() for plain in output._PLAIN.values())


def test_every_mark_of_the_command_line_has_a_plain_one():
    """No question marks where the sources themselves print something."""
    from pathlib import Path

    import lstsq_cli

    text = "".join(path.read_text(encoding="utf-8") for path in Path(lstsq_cli.__file__).parent.rglob("*.py"))
    marks = {mark for mark in text if not mark.isascii() and mark not in "\u00a0\u202f"}
    assert {mark for mark in marks if output._nearest(mark) == "?"} == set()


@pytest.mark.skipif(os.name != "posix", reason="a shell")
@pytest.mark.parametrize("arguments", ["fit {table}", "fit {table} --json", "--help"])
def test_nobody_reads(table, arguments):
    command = f"{sys.executable} -m lstsq_cli {arguments.format(table=table)} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_version():
    result = CliRunner().invoke(app.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"lstsq {lstsq.__version__}\n")


def test_backends_names_nothing_twice(monkeypatch):
    shown = CliRunner().invoke(app.app, ["backends"]).stdout
    _, _, below = shown.partition("\n\n")
    named = [re.split(r": | is missing", line)[0] for line in below.splitlines() if line]
    assert len(named) == len(set(named))
    from lstsq_cli import backends

    find_spec = backends.importlib.util.find_spec
    lacking = ("pytest", "hypothesis")
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None if name in lacking else find_spec(name))
    shown = CliRunner().invoke(app.app, ["backends"]).stdout
    assert shown.count("lstsq conformance") == 1
    assert "lstsq conformance is missing: pip install pytest hypothesis" in shown


@pytest.mark.parametrize("setting", ["garbage", "-1", "2.5", "4 "])
def test_a_number_of_threads_that_is_none_is_told(monkeypatch, setting):
    monkeypatch.setenv("LSTSQ_NUM_THREADS", setting)
    result = CliRunner().invoke(app.app, ["backends"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"lstsq: LSTSQ_NUM_THREADS: got {setting!r}, expected a number of threads")


@pytest.mark.parametrize("setting", ["", "0", "2"])
def test_a_number_of_threads(monkeypatch, setting):
    monkeypatch.setenv("LSTSQ_NUM_THREADS", setting)
    assert CliRunner().invoke(app.app, ["backends", "--json"]).exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_process_that_measures_memory_dies_with_its_parent(tmp_path):
    """The one that wants to know is killed, and so cannot end the other."""
    begun = tmp_path / "begun"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.orig_argv[1:3] == ['-m', 'lstsq_cli.compare.peak']:\n"
        "    import numpy, os, pathlib, time\n"
        "    def load(path):\n"
        f"        pathlib.Path({str(begun)!r}).write_text(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "    numpy.load = load\n"
    )
    code = (
        "from lstsq_cli import problems, solvers\n"
        "from lstsq_cli.compare import peak\n"
        "peak.measure(problems.random(4, 2, 10, 0), solvers.Solver('numpy', None, 'gelsd'), None)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    while not (begun.exists() and begun.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    child = int(begun.read_text())
    parent.kill()
    parent.wait()
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        # Where nobody collects it, it stays as a zombie.
        if _is_zombie(child):
            return
        time.sleep(0.05)
    os.kill(child, 9)
    pytest.fail("it lives on")


def _is_zombie(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_json_of_the_command_line_is_ascii(table):
    result = CliRunner().invoke(app.app, ["fit", str(table), "--json"])
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["columns"] == ["größe", "Δ"]
