"""Plot the error of every solver against the condition number, from 1 to 1e16, where the exact answer is known.

The matrices are products ``C L U`` of small integers, L and U triangular with ones on their diagonals, so that nothing
is rounded, neither in single precision nor in double, and so that the condition number can be as large as one likes.
Each row of C appears twice, the second time three times as large. The solution x0 is of small integers, too; the
right-hand side is ``A x0``, or ``A x0 + r`` with an r that is ``3 w`` at a row and ``-w`` at the one three times as
large, so that r is orthogonal to the columns of A. Either way x0 is the exact solution, and no reference solver is
needed. The condition number is that of the Gram matrix, inverted in rational arithmetic.

The two rows must not be equal: a solver that treats equal rows alike makes the same rounding error E in both, and where
their residuals are w and -w, ``Eᵀ r`` is zero, and with it the part of the error that grows with the square of the
condition number. Of such problems a plot shows who treats equal rows alike, and not who is precise.

The cutoff is the smallest that is allowed: the question is how precisely a solver computes, and not what it drops.

Run it with ``nox -s docs``, or by itself: ``python benchmarks/accuracy.py --out build/accuracy``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstsq_cli import peers as adapters
from lstsq_cli.peers import Peer

NDArray = np.ndarray[Any, Any]

#: Above zero, since LAPACK takes 0 to mean eps, and a number in both precisions.
RCOND = 1e-30
ROWS, COLUMNS = 40, 10
#: Of the functions that people use, those that are drawn.
PEERS = ("numpy", "scipy gelsd", "scipy gelsy", "jax", "torch gels", "torch gelsy", "torch gelsd")
#: Powers of ten of the condition number, and problems for each.
DECADES, PROBLEMS = range(17), 5
#: The largest integer below which every other is a float32.
EXACT = 2**24


class Problem(NamedTuple):
    """A matrix of integers, two right-hand sides, their common solution and the condition number."""

    a: NDArray
    consistent: NDArray
    inconsistent: NDArray
    x: NDArray
    condition: float


class Solver(NamedTuple):
    """One line of the plot: x from a and b, all of them NumPy arrays."""

    name: str
    ours: bool
    solve: Callable[[NDArray, NDArray], NDArray]


def problems(seed: int = 0) -> list[Problem]:
    """For each decade those of a random sample whose condition number comes nearest to it."""
    rng = np.random.default_rng(seed)
    sample = [made for height in range(15) for _ in range(40) if (made := problem(rng, height)) is not None]
    return [
        near
        for decade in DECADES
        for near in sorted(sample, key=lambda made: abs(math.log10(made.condition) - decade))[:PROBLEMS]
    ]


def problem(rng: np.random.Generator, height: int) -> Problem | None:
    """A problem whose triangular factors are of integers up to this height; None if a number has too many digits."""
    half = ROWS // 2
    core = np.linalg.qr(rng.normal(size=(half, COLUMNS)))[0]
    c = np.rint(60 * core).astype(np.int64)
    lower = np.tril(rng.integers(-height, height + 1, (COLUMNS, COLUMNS)), -1) + np.eye(COLUMNS, dtype=np.int64)
    upper = np.triu(rng.integers(-height, height + 1, (COLUMNS, COLUMNS)), 1) + np.eye(COLUMNS, dtype=np.int64)
    top = c @ lower @ upper
    x = rng.integers(1, 10, COLUMNS) * rng.choice([-1, 1], COLUMNS)
    fitted = top @ x
    size = max(1, int(0.1 * np.abs(fitted).mean()))
    w = rng.integers(-size, size + 1, half)
    order = rng.permutation(ROWS)
    a = np.concatenate([top, 3 * top])[order]
    consistent = np.concatenate([fitted, 3 * fitted])[order]
    inconsistent = np.concatenate([fitted + 3 * w, 3 * fitted - w])[order]
    if max(np.abs(a).max(), np.abs(inconsistent).max(), np.abs(consistent).max()) >= EXACT:
        return None
    a, consistent, inconsistent, x = (array.astype(float) for array in (a, consistent, inconsistent, x))
    return Problem(a, consistent, inconsistent, x, condition(top))


def condition(a: NDArray) -> float:
    """The condition number of a matrix of integers, correct to many digits however large it is."""
    columns = [[int(number) for number in column] for column in a.T]
    gram = [[sum(p * q for p, q in zip(one, other)) for other in columns] for one in columns]
    largest = np.linalg.norm(np.array(gram, dtype=float), 2)
    smallest = 1 / np.linalg.norm(np.array(inverse(gram), dtype=float), 2)
    return float(np.sqrt(largest / smallest))


def inverse(matrix: list[list[int]]) -> list[list[Fraction]]:
    """The inverse of a positive definite matrix, exactly: by Gauss and Jordan, where all divisions leave no rest.

    References
    ----------
    E. H. Bareiss (1968), Sylvester's identity and multistep integer-preserving Gaussian elimination, section 3.
    """
    n, pivot = len(matrix), 1
    rows = [[*row, *(int(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        before, pivot = pivot, rows[i][i]
        for j in range(n):
            if j != i:
                rows[j] = [(pivot * p - rows[j][i] * q) // before for p, q in zip(rows[j], rows[i])]
    # Now the pivot is the determinant.
    return [[Fraction(number, pivot) for number in row[n:]] for row in rows]


def solvers() -> list[Solver]:
    """Every solver that is installed: ours with every driver, then the peers."""
    return [*ours(), *peers()]


def ours() -> list[Solver]:
    """Each backend of our own with each of its drivers, the default first."""
    import lstsq

    def with_driver(backend: str, driver: str) -> Callable[[NDArray, NDArray], NDArray]:
        return lambda a, b: np.asarray(lstsq.lstsq(a, b, RCOND, driver=driver, backend=backend).x)

    return [
        Solver(f"lstsq {info.name} {driver}", True, with_driver(info.name, driver))
        for info in lstsq.backends()
        if info.available and info.name in ("numpy", "jax", "mlx")
        for driver in info.drivers
    ]


def peers() -> list[Solver]:
    """The existing functions, where float64 is switched on."""
    if importlib.util.find_spec("jax"):
        import jax

        config: Any = jax.config
        config.update("jax_enable_x64", True)
    return [Solver(peer.name, False, with_peer(peer)) for peer in adapters.installed() if peer.name in PEERS]


def with_peer(peer: Peer) -> Callable[[NDArray, NDArray], NDArray]:
    """The function on NumPy's arrays; where it says that the rank is deficient there is no answer: an error of 1."""
    import lstsq

    host, function = lstsq.get_backend(peer.host), peer.load()

    def solve(a: NDArray, b: NDArray) -> NDArray:
        try:
            x = function(host.from_numpy(a), host.from_numpy(b[:, None]), RCOND if peer.cutoff else None).x
        except (np.linalg.LinAlgError, RuntimeError):  # torch's LinAlgError is a RuntimeError.
            return np.zeros(a.shape[1])
        return np.asarray(host.to_numpy(x))[:, 0]

    return solve


def measure(chosen: list[Solver], made: list[Problem]) -> list[dict[str, Any]]:
    """The median error of each solver in each decade, for each precision and kind of right-hand side."""
    rows = []
    for dtype in ("float32", "float64"):
        for kind in ("consistent", "inconsistent"):
            for solver in chosen:
                errors = [error(solver, problem, dtype, kind) for problem in made]
                for i in range(0, len(made), PROBLEMS):
                    middle = float(np.median([problem.condition for problem in made[i : i + PROBLEMS]]))
                    rows.append(
                        {"solver": solver.name, "ours": solver.ours, "dtype": dtype, "kind": kind, "condition": middle}
                        | {"error": float(np.median(errors[i : i + PROBLEMS]))}
                    )
    return rows


def error(solver: Solver, problem: Problem, dtype: str, kind: str) -> float:
    """``‖x - x0‖ / ‖x0‖``, with the answer as it is returned; 1 if it is not even finite."""
    b = getattr(problem, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = solver.solve(problem.a.astype(dtype), b.astype(dtype)).astype(float)
    distance = float(np.linalg.norm(x - problem.x) / np.linalg.norm(problem.x))
    return distance if math.isfinite(distance) else 1.0


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Four panels: single and double precision, without and with a residual."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["solver"] for row in rows))
    figure, axes = plt.subplots(2, 2, figsize=(11, 9.5), sharex=True, sharey="row")
    kappa = np.logspace(0, 16, 50)
    for line, dtype in zip(axes, ("float32", "float64")):
        eps = float(np.finfo(dtype).eps)
        for axis, kind in zip(line, ("consistent", "inconsistent")):
            axis.loglog(kappa, np.minimum(kappa * eps, 1), color="0.6", linestyle=":", linewidth=1.5, label="κ eps")
            if kind == "inconsistent":
                axis.loglog(kappa, np.minimum(kappa**2 * eps, 1), "--", color="0.6", linewidth=1, label="κ² eps")
            for i, name in enumerate(names):
                some = [r for r in rows if (r["solver"], r["dtype"], r["kind"]) == (name, dtype, kind)]
                mine = some[0]["ours"]
                axis.loglog(
                    [row["condition"] for row in some],
                    [min(max(row["error"], eps / 30), 3) for row in some],
                    "-" if mine else "x:",
                    color=f"C{i % 10}" if mine else plt.get_cmap("Dark2")(i % 8),
                    markersize=5,
                    # From wide to narrow, so that of lines that coincide each shows.
                    linewidth=max(6 - 0.85 * i, 1) if mine else 1,
                    solid_capstyle="round",
                    label=name,
                )
            axis.axhline(eps / 30, color="0.8", linewidth=0.8, zorder=0)
            axis.text(1e16, eps / 30, "exact", fontsize=8, color="0.4", ha="right", va="bottom")
            axis.set_title(f"{dtype}, b {'=' if kind == 'consistent' else '≠'} A x")
            axis.set_ylim(eps / 60, 5)
            axis.grid(alpha=0.25)
        line[0].set_ylabel("relative error of x")
    for axis in axes[1]:
        axis.set_xlabel("condition number κ")
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, and write accuracy.json and accuracy.png."""
    parser = argparse.ArgumentParser(description="Plot the error of every solver against the condition number.")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"), help="folder (default: %(default)s)")
    out: Path = parser.parse_args().out
    rows = measure(solvers(), problems())
    out.mkdir(parents=True, exist_ok=True)
    (out / "accuracy.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    plot(rows, out / "accuracy.png")
    print(f"written: {out / 'accuracy.json'}, {out / 'accuracy.png'}")


if __name__ == "__main__":
    main()
