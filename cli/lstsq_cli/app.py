"""The commands, their options, and how they end: 0, 1 for a failed conformance run, 2 for what the user can mend."""

from __future__ import annotations

import enum
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lstsq_cli import about, output
from lstsq_cli.errors import UserError, first_line
from lstsq_cli.tables.reading import Reading

if TYPE_CHECKING:
    from lstsq_cli.conformance.suite import Matrix

app = typer.Typer(
    help="Least squares on every array library: fit data, compare solvers, prove a backend, see what is there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Dtype(str, enum.Enum):
    """The dtypes that are solved in."""

    float32 = "float32"
    float64 = "float64"
    complex64 = "complex64"
    complex128 = "complex128"


class Device(str, enum.Enum):
    """The kinds of device."""

    cpu = "cpu"
    gpu = "gpu"
    cuda = "cuda"

    @property
    def kind(self) -> str:
        """What backends call it."""
        return "gpu" if self is Device.cuda else self.value


# How a table is read, wherever a command takes one.
Target = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The column that is b: a name, or an index from 0. Default: the last."),
]
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out (repeatable).")]
Intercept = Annotated[bool, typer.Option("--intercept", help="Put a column of ones first.")]
Categorical = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Make a column of zeros and ones of each different cell (repeatable)."),
]
NumericOnly = Annotated[bool, typer.Option("--numeric-only", help="Leave out columns that hold no numbers.")]
DropMissing = Annotated[bool, typer.Option("--drop-missing", help="Leave out rows that miss a cell.")]
Encoding = Annotated[str, typer.Option(metavar="NAME", help="The encoding of text: latin-1, cp1252, ...")]
Decimal = Annotated[str, typer.Option(metavar="CHARACTER", help="The decimal point of text: . or ,")]
Thousands = Annotated[
    str | None,
    typer.Option(metavar="CHARACTER", help="What stands between groups of digits in text: , . ' _ or a space."),
]
ProblemOf = Annotated[
    str | None,
    typer.Option("--problem", metavar="INDEX", help="Which problem of a batch: 3, or 0,3 for two dimensions."),
]


def run() -> int:
    """Run the command line; the exit code."""
    output.prepare()
    try:
        code = app(prog_name="lstsq", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2 if end.code else 0
    finally:
        output.flush()
    return code if isinstance(code, int) else 0


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command end with a message instead of a traceback, where the user can do something about it."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except UserError as error:
            _say(str(error))
        except KeyboardInterrupt:
            _say("interrupted.")
        except MemoryError as error:
            _say(f"out of memory: {first_line(error)}")
        except BrokenPipeError:
            output.nobody_reads()

    return wrapper


def _say(message: str) -> None:
    print(f"lstsq: {message}", file=sys.stderr)
    raise typer.Exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        import lstsq

        print(f"lstsq {lstsq.__version__}")
        raise typer.Exit


@app.callback()
@told
def every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See that the settings that every command heeds are possible."""
    threads = os.environ.get("LSTSQ_NUM_THREADS", "")
    if threads and not threads.isdecimal():
        raise UserError(
            f"LSTSQ_NUM_THREADS: got {threads!r}, expected a number of threads, or nothing for one on each core."
        )


@app.command()
@told
def compare(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A table (.csv, .npy, .parquet, .arrow, ...), or .npz with a and b; - is standard input.",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    drop: Drop = None,
    intercept: Intercept = False,
    categorical: Categorical = None,
    numeric_only: NumericOnly = False,
    drop_missing: DropMissing = False,
    encoding: Encoding = "utf-8",
    decimal: Decimal = ".",
    thousands: Thousands = None,
    problem_: ProblemOf = None,
    nist: Annotated[str | None, typer.Option(metavar="NAME", help="A problem of NIST's: Longley, Norris, ...")] = None,
    random: Annotated[
        tuple[int, int] | None, typer.Option(metavar="M N", help="A random problem of M rows and N columns.")
    ] = None,
    cond: Annotated[
        float | None, typer.Option(help="Condition number of the random matrix. Default: 100.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the random problem. Default: 0.", min=0, show_default=False)
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this backend, or library such as cupy (repeatable).")
    ] = None,
    driver: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this driver (repeatable).")] = None,
    peers: Annotated[
        bool | None,
        typer.Option(
            "--peers/--no-peers",
            help="The other libraries' own functions, too. Default: where no --backend and no --driver is named.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(help="What to solve on. Default: where each library puts its arrays.", case_sensitive=False),
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="What to solve in. Default: the file's, or float64.", case_sensitive=False)
    ] = None,
    rcond: Annotated[
        float | None, typer.Option(help="A singular value is zero if at most this times the largest. Default: lstsq's.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Timed calls of each solver. Default: 3 to 25, about two seconds.", min=1)
    ] = None,
    memory: Annotated[bool, typer.Option(help="Measure memory, each solver in a process of its own.")] = True,
    rows: Annotated[int, typer.Option(help="At most this many coefficients in the terminal.", min=2)] = 12,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots.")] = None,
) -> None:
    """Solve one problem with every solver that is installed, and say who is right, to how many digits, and how fast.

    The problem is a FILE, or --nist NAME, or --random M N.
    """
    if sum(source is not None for source in (file, nist, random)) != 1:
        raise UserError("expected one problem: a FILE, or --nist NAME, or --random M N.")
    reading = Reading(
        target, tuple(drop or ()), intercept, tuple(categorical or ()), None, numeric_only, drop_missing, encoding,
        decimal, thousands, problem_,
    )  # fmt: skip
    if file is None and reading != Reading():
        raise UserError("--target, --drop, --intercept and the other options of tables are for a FILE.")
    if random is None and (cond is not None or seed is not None):
        raise UserError("--cond and --seed are for --random M N.")
    if rcond is not None and rcond != rcond:
        raise UserError("--rcond: got nan, expected a number.")
    if html is not None:
        _check_writable(html, file)
        from lstsq_cli.compare import page

    from lstsq_cli import data, problems, solvers
    from lstsq_cli.compare import comparison

    if file is not None:
        problem = data.read(file, reading)
    elif nist is not None:
        problem = problems.nist(nist)
    elif random is not None:
        condition = 100.0 if cond is None else cond
        problem = problems.random(*random, condition, seed or 0, dtype.value if dtype else "float64")
    problem = problem.astype(dtype.value if dtype else problems.default_dtype(problem))
    kind = device.kind if device else None
    found, refused = solvers.find(backend or [], driver or [], problem.a.dtype.name, kind)
    if peers if peers is not None else not (backend or driver):
        theirs, without = solvers.find_peers(problem.a.dtype.name, kind)
        found, refused = found + theirs, refused + without
    with _Progress(f"{len(found)} solvers") as progress:
        result = comparison.compare(problem, found, refused, rcond, repeats, memory, progress.step)
    if not result.entries:
        raise UserError(f"no solver found an answer ({'; '.join(solvers.gathered(result.absent))}).")
    try:
        if html is not None:
            _write(html, page.page(result))
    finally:
        # Also where the page could not be written.
        if json_:
            print(json.dumps({**comparison.to_json(result), "made_by": about.about()}, allow_nan=False))
        else:
            from lstsq_cli.compare import tables

            tables.show(result, Console(highlight=False), rows)


@app.command()
@told
def fit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Tables (.csv, .npy, .parquet, .arrow, ...), or .npz with a and b; - is standard input. "
            "Several are one data set.",
            show_default=False,
        ),
    ],
    target: Target = None,
    drop: Drop = None,
    intercept: Intercept = False,
    categorical: Categorical = None,
    weights: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The weight of each row: 1 / variance, or how often it counts.")
    ] = None,
    numeric_only: NumericOnly = False,
    drop_missing: DropMissing = False,
    encoding: Encoding = "utf-8",
    decimal: Decimal = ".",
    thousands: Thousands = None,
    problem: ProblemOf = None,
    rcond: Annotated[
        float | None, typer.Option(help="A singular value is zero if at most this times the largest. Default: lstsq's.")
    ] = None,
    block_rows: Annotated[
        int | None, typer.Option(help="How many rows are in memory at a time. Default: 32 MB of them.", min=1)
    ] = None,
    rows: Annotated[int, typer.Option(help="At most this many coefficients in the terminal.", min=1)] = 100,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
) -> None:
    """Fit data in files, which may be larger than memory: coefficients, standard errors, rank, condition.

    The rows are read and reduced in blocks. Many FILEs are one data set.
    """
    if rcond is not None and rcond != rcond:
        raise UserError("--rcond: got nan, expected a number.")
    reading = Reading(
        target, tuple(drop or ()), intercept, tuple(categorical or ()), weights, numeric_only, drop_missing, encoding,
        decimal, thousands, problem,
    )  # fmt: skip
    if html is not None:
        for file in files:
            _check_writable(html, file)

    from lstsq_cli.fit import estimate
    from lstsq_cli.tables import dataset

    with dataset.opened(files, reading) as data, _Reading(data.name) as progress:
        result = estimate.fit(data, rcond, block_rows, progress.step)
    try:
        if html is not None:
            from lstsq_cli.fit import page

            _write(html, page.page(result))
    finally:
        # Also where the page could not be written.
        if json_:
            print(json.dumps({**estimate.to_json(result), "made_by": about.about()}, allow_nan=False))
        else:
            from lstsq_cli.fit import terminal

            terminal.show(result, Console(highlight=False), rows)


@app.command()
@told
def conformance(
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The backend to prove (repeatable). Default: all that are installed."),
    ] = None,
    driver: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this driver (repeatable).")] = None,
    dtype: Annotated[list[Dtype] | None, typer.Option(help="Only this dtype (repeatable).")] = None,
    device: Annotated[
        Device | None,
        typer.Option(help="Put every array there. Default: where each library puts it.", case_sensitive=False),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The library whose arrays to use, where the backend serves several: torch, ..."
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Hold other libraries' functions to the contract, and not our backends."),
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one of them: 'scipy.linalg', 'torch.linalg gels' (repeatable)."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Every case, not the quick selection.")] = False,
    xfail: Annotated[
        Path | None, typer.Option(help="The backend's known failures, with reasons.", exists=True, dir_okay=False)
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes to run the tests in (needs pytest-xdist).", min=1)] = 1,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
) -> None:
    """Hold backends to the contract, and show what each supports. Exit code 1 if a test fails."""
    if html is not None:
        _check_writable(html, xfail)
    from lstsq_cli import solvers
    from lstsq_cli.conformance import suite

    if peers or peer:
        if backend or driver or device or namespace or xfail:
            raise UserError("--peers takes no --backend, --driver, --device, --namespace and --xfail.")
        _hold_peers(peer or [], [one.value for one in dtype or []], full, jobs, json_, html)
        return
    if namespace is not None:
        if not backend or len(backend) != 1:
            raise UserError("--namespace is for one --backend that serves several libraries, such as array_api.")
        chosen: list[tuple[str, str | None]] = [(solvers.serving(backend[0], namespace), namespace)]
    else:
        chosen = solvers.subjects(backend or [])
    subjects = solvers.available(chosen, all_wanted=bool(backend))
    matrix = suite.Matrix(full=full)
    for subject in subjects:
        with _Progress(subject[1] or subject[0]) as progress:
            dtypes = [one.value for one in dtype or []]
            kind = device.kind if device else None
            suite.run(matrix, subject, driver or [], dtypes, kind, xfail, jobs, progress.step)
    _show_matrix(matrix, json_, html)
    if matrix.failed:
        raise typer.Exit(1)


def _hold_peers(names: list[str], dtypes: list[str], full: bool, jobs: int, json_: bool, html: Path | None) -> None:
    from lstsq_cli import solvers
    from lstsq_cli.conformance import suite

    matrix = suite.Matrix(full=full, of_peers=True)
    for chosen in solvers.named_peers(names):
        with _Progress(chosen.label) as progress:
            # Complex numbers take as long again, and say the same.
            suite.run_peer(matrix, chosen, dtypes or ["float32", "float64"], jobs, progress.step)
    _show_matrix(matrix, json_, html)


def _show_matrix(matrix: Matrix, json_: bool, html: Path | None) -> None:
    from lstsq_cli.conformance import suite, tables

    try:
        if html is not None:
            from lstsq_cli.conformance import page

            _write(html, page.page(matrix))
    finally:
        # Also where the page could not be written.
        if json_:
            print(json.dumps({**suite.to_json(matrix), "made_by": about.about()}))
        else:
            tables.show(matrix, Console(highlight=False))


@app.command()
@told
def backends(json_: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False) -> None:
    """List what is installed, with versions, and what is missing, with how to get it."""
    from lstsq_cli import backends as survey

    if json_:
        print(json.dumps({**survey.to_json(), "made_by": about.about()}))
    else:
        survey.show(Console(highlight=False))


class _Progress:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, title: str):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(title, total=None)
        self._done = -1

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, label: str, left: int | None = None) -> None:
        """Something begins; `left`, where it is known by now, is how many beginnings there are from here on."""
        self._done += 1
        self._bar.update(self._task, description=label, completed=self._done)
        if left is not None:
            self._bar.update(self._task, total=self._done + left)


class _Reading:
    """A bar on stderr, where that is a terminal: which part of the files has been read, and how many rows that were."""

    def __init__(self, title: str):
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[rows]} rows"), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(title, total=1.0, rows=0)

    def __enter__(self) -> _Reading:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, part: float, rows: int) -> None:
        """So much has been read."""
        self._bar.update(self._task, completed=part, rows=f"{rows:,}")


def _check_writable(path: Path, data: Path | None = None) -> None:
    """Find out before the work, and not after it; and that it would not be written over the data."""
    if data is not None and path.exists() and data.exists() and path.samefile(data):
        raise UserError(f"--html {path}: this is the FILE that is read; expected the name of another.")
    parent = path.absolute().parent
    if path.is_dir() or not parent.is_dir() or not os.access(path if path.exists() else parent, os.W_OK):
        raise UserError(f"--html {path}: it cannot be written; expected the name of a file in an existing folder.")


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path}: it cannot be written: {first_line(error)}.") from error
    print(f"lstsq: wrote {path}", file=sys.stderr)
