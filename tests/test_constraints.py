"""constraints.txt is current: it has what pyproject.toml asks for, at the version that is pinned there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = [ROOT / "pyproject.toml", ROOT / "backends" / "native" / "pyproject.toml"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
HELD = re.findall(r"^([a-z0-9.-]+)==(\S+)", CONSTRAINTS, re.MULTILINE)


def requirements():
    """Each string in both projects that names a distribution with a version: its name and what follows."""
    for project in PROJECTS:
        for name, rest in re.findall(r'"([A-Za-z0-9.-]+)(?:\[\w+\])?((?:==|>=)[^"]*)"', project.read_text()):
            yield name.lower(), rest


def test_every_requirement_is_held_in_place():
    names = {name for name, _ in requirements()}
    assert names >= {"numpy", "jax", "scipy", "mlx", "pytest", "hatchling", "scikit-build-core"}
    assert names - {name for name, _ in HELD} == set(), "stale: run `nox -s lint -- constraints`"


def test_pins_agree():
    pinned = {(name, rest[2:].partition(";")[0]) for name, rest in requirements() if rest.startswith("==")}
    assert pinned
    assert pinned - set(HELD) == set(), "stale: run `nox -s lint -- constraints`"


def test_nothing_is_there_twice_for_one_python():
    """Of one name there is one line, or lines whose markers tell the Pythons apart."""
    lines = [line for line in CONSTRAINTS.splitlines() if "==" in line and not line.startswith("#")]
    names = [line.partition("==")[0] for line in lines]
    assert all("python_full_version" in line for line, name in zip(lines, names) if names.count(name) > 1)
