"""Three problems on real data, solved through one function on the arrays of every library that is installed.

Two are from NIST's Statistical Reference Datasets, whose coefficients are certified to 15 digits. Longley's is the
classic hard one: six economic series that rise together. The third is rank-deficient: plant weights (Dobson 1983) on a
constant and an indicator for each of three groups, which sum to the constant; the minimum-norm solution is known from
the group means.

Run it with ``nox -s demo``.
"""

from __future__ import annotations

import csv
import importlib
import statistics
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import lstsq
from lstsq_cli import timing
from lstsq_conformance.nist import load

Array = Any
Matrix = np.ndarray[Any, np.dtype[np.float64]]


class Problem(NamedTuple):
    """A problem with its known answer, to 15 digits or exactly."""

    name: str
    a: Matrix
    b: Matrix
    x: list[Fraction]
    residual: Fraction
    rank: int


def nist(name: str) -> Problem:
    """One of NIST's linear regression problems."""
    data = load(name)
    x = [Fraction(number) for number in data.certified]
    return Problem(name, data.a, data.b, x, Fraction(data.certified_residual), len(x))


def plant_growth() -> Problem:
    """Weights on a constant and three group indicators: four unknowns, rank three."""
    with (Path(__file__).parent / "plant_growth.csv").open() as file:
        rows = [(row["group"], Fraction(row["weight"])) for row in csv.DictReader(file)]
    groups = sorted({group for group, _ in rows})
    a = np.array([[1.0, *(float(group == other) for other in groups)] for group, _ in rows])
    means = {group: statistics.mean(weight for other, weight in rows if other == group) for group in groups}
    # constant + effect = mean in every group; of these solutions, the shortest has its constant at sum / (groups + 1).
    constant = sum(means.values(), Fraction(0)) / (len(groups) + 1)
    x = [constant, *(means[group] - constant for group in groups)]
    residual = sum(((weight - means[group]) ** 2 for group, weight in rows), Fraction(0))
    return Problem("Plants", a, np.array([float(weight) for _, weight in rows]), x, residual, len(groups))


class Library(NamedTuple):
    """An array library, and how a user of it makes an array of float64."""

    name: str
    backend: str
    asarray: Callable[[Matrix], Array]


def libraries() -> tuple[list[Library], list[str]]:
    """The libraries that can be used here, and a sentence for each one that cannot."""
    found, missing = [], []
    unavailable = {info.name: info.reason for info in lstsq.backends() if not info.available}
    installed = {info.name for info in lstsq.backends()}
    for name, backend, module, prepare in [
        ("NumPy", "numpy", "numpy", use_numpy),
        ("JAX", "jax", "jax", use_jax),
        ("MLX", "mlx", "mlx.core", use_mlx),
        ("array-api strict", "array_api", "array_api_strict", use_standard),
        ("torch", "torch", "torch", use_standard),
    ]:
        if backend not in installed:
            missing.append(f"{name}: the backend {backend!r} is not installed")
        elif backend in unavailable:
            missing.append(f"{name}: {unavailable[backend]}")
        else:
            try:
                library = importlib.import_module(module)
            except ImportError as error:
                missing.append(f"{name}: {error}")
            else:
                found.append(Library(name, backend, prepare(library)))
    return found, missing


def use_numpy(np: Any) -> Callable[[Matrix], Array]:
    """NumPy's arrays are what we start from."""
    return np.asarray  # type: ignore[no-any-return]


def use_jax(jax: Any) -> Callable[[Matrix], Array]:
    """JAX makes everything float32 unless told otherwise."""
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray  # type: ignore[no-any-return]


def use_mlx(mx: Any) -> Callable[[Matrix], Array]:
    """MLX has float64 on the CPU alone, and where it is asked for."""
    mx.set_default_device(mx.cpu)
    return lambda array: mx.array(array, dtype=mx.float64)


def use_standard(xp: Any) -> Callable[[Matrix], Array]:
    """The array-API standard's own function."""
    return xp.asarray  # type: ignore[no-any-return]


class Answer(NamedTuple):
    """What one library says to one problem, as NumPy arrays, and how long a call takes."""

    x: Matrix
    residual: float
    rank: int
    driver: str
    seconds: float


def solve(problem: Problem, libraries: list[Library]) -> list[Answer]:
    """Solve on the arrays of each library; the time is that from its arrays to a solution that can be read."""
    reading = [reader(problem, library) for library in libraries]
    times = timing.in_turns({i: timing.whole(read_x) for i, (read_x, _) in enumerate(reading)}, rounds=5)
    return [read_all(timing.median(times[i])) for i, (_, read_all) in enumerate(reading)]


def reader(problem: Problem, library: Library) -> tuple[Callable[[], Matrix], Callable[[float], Answer]]:
    """What solves for x, and what solves for the whole answer, which is told its time."""
    a, b = library.asarray(problem.a), library.asarray(problem.b)
    to_numpy = lstsq.get_backend(library.backend).to_numpy

    def read_x() -> Matrix:
        return to_numpy(lstsq.lstsq(a, b).x)

    def read_all(seconds: float) -> Answer:
        x, residuals, rank, _ = lstsq.lstsq(a, b)
        driver = lstsq.explain(a, b).driver
        return Answer(to_numpy(x), to_numpy(residuals).item(), to_numpy(rank).item(), driver, seconds)

    return read_x, read_all


def digits(value: float, exact: Fraction) -> float:
    """How many digits of `value` agree with `exact`, which is known to 15."""
    error = abs((Fraction(value) - exact) / exact)
    return 15.0 if error == 0 else float(np.clip(-np.log10(float(error)), 0, 15))


def apart(x: Matrix, y: Matrix) -> float:
    """The largest relative difference of a coefficient."""
    return float(np.max(np.abs(x - y) / np.maximum(np.abs(x), np.abs(y))))


def fitted(value: float, width: int) -> str:
    """As many digits of `value`, up to 15, as the width takes."""
    forms = (f"{value:.{precision}g}" for precision in range(15, 0, -1))
    return next((form for form in forms if len(form) <= width), f"{value:.0e}")


def section(table: Table, problem: Problem, answers: list[Answer], width: int) -> None:
    """Add the rows of one problem."""
    m, n = problem.a.shape
    table.add_row(f"[bold]{problem.name}[/] {m}×{n}")
    for i, exact in enumerate(problem.x):
        table.add_row(f"  x[{i}]", *(fitted(value, width) for value in [float(exact), *(y.x[i] for y in answers)]))
    table.add_row("  residual", *(fitted(v, width) for v in [float(problem.residual), *(y.residual for y in answers)]))
    table.add_row("  rank", str(problem.rank), *(str(answer.rank) for answer in answers))
    agreement = (min(map(digits, answer.x, problem.x)) for answer in answers)
    table.add_row("  digits", "", *(f"[bold green]{number:.1f}[/]" for number in agreement))
    furthest = (max((apart(answer.x, other.x) for other in answers), default=0.0) for answer in answers)
    table.add_row("  apart", "", *(f"{distance:.0e}" for distance in furthest))
    table.add_row("  time", "", *(f"{answer.seconds * 1e3:.3f} ms" for answer in answers), end_section=True)


def main() -> None:
    """Solve every problem on every library and print the table."""
    console = Console(highlight=False)
    found, missing = libraries()
    label, between = 13, len(" │ ")
    width = min((console.width - label) // (len(found) + 1) - between, 18)
    title = f"lstsq {lstsq.__version__}: one function, the arrays of {len(found)} libraries"
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("", width=label, no_wrap=True)
    problems = [nist("Longley"), nist("Norris"), plant_growth()]
    answers = [solve(problem, found) for problem in problems]
    table.add_column("known answer", justify="right", width=width, vertical="bottom")
    for library, answer in zip(found, answers[0]):
        words = library.name.split()
        name = library.name if max(map(len, words)) <= width else library.name.replace("-", "-\n")
        table.add_column(f"{name}\n[dim]{answer.driver}[/]", justify="right", width=width, vertical="bottom")
    for problem, solved in zip(problems, answers):
        section(table, problem, solved, width)
    console.print(table)
    console.print(
        "[dim]digits: in which the worst coefficient agrees with the known answer, at most 15. apart: largest relative "
        "difference of a coefficient from that of any other library. time: median of 25 calls in turns, in float64.[/]"
    )
    for sentence in missing:
        console.print(f"not here: {sentence}", style="yellow")


if __name__ == "__main__":
    main()
