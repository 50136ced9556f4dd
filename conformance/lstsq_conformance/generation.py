"""From cases and claims to tests: what is legal for the backend is generated, and nothing else.

A test of the suite takes `target` and, where it wants them, `case`, `dtype` and `driver`, or `device`, a kind of device
that the backend claims and that is here. Its marks say the rest:

``contract(row)``
    The row of the contract that it proves; failures name it.
``cases(*tags)``
    Once for each case with all of these tags.
``dtypes(*names)``
    Only these of the claimed dtypes.
``solved_in_double``
    Only for the dtypes that the backend claims to solve in double precision.
``factorizes``
    Only for the dtypes that the backend claims to factorise.
``claims(*transforms)``
    Only where the backend claims all of these transformations.
``nonfinite(kind)``
    Only where the backend claims this answer to non-finite input.
``library(feature)``
    Only where the library has it: a dtype, or one of those in `Target.library_has`.
``traced_rcond``
    Only where the backend claims to take a cutoff that is traced.
``may_decline``
    Only for the drivers that may decline to answer; a test without it is not for these.
``batches``
    Only where the backend claims to solve batches. (Tests with a `batch`, or an `a_shape` or a `b_shape` of more than
    two dimensions, need no mark.)
``costly``
    In the quick selection for double precision alone, because a compiling library compiles for each dtype.
``thorough``
    Not in the quick selection.

Under pytest-xdist with ``--dist loadgroup`` the cases of one shape and dtype share a process, and so do the other tests
of one file and dtype: what a compiling library has compiled belongs to a process.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lstsq
from lstsq import Backend
from lstsq_conformance import cases
from lstsq_conformance.rows import ROWS
from lstsq_conformance.target import Target

_PACKAGE = Path(__file__).parent
#: About a gigabyte of compiled functions, and a fifth of the maps that Linux allows a process (vm.max_map_count).
_MANY_MAPS = 12_000
_MARKS = (
    "contract(row): the row of the contract that this test proves",
    "cases(*tags): run for each case of the registry with these tags",
    "dtypes(*names): run for these dtypes only",
    "solved_in_double: run for the dtypes that the backend claims to solve in double precision",
    "factorizes: run for the dtypes that the backend claims to factorise",
    "claims(*transforms): generated only where the backend claims these transformations",
    "nonfinite(kind): generated only where the backend claims this answer to non-finite input",
    "library(feature): generated only where the library has it",
    "traced_rcond: generated only where the backend claims to take a traced cutoff",
    "may_decline: run for the drivers that may decline to answer, and no others",
    "batches: generated only where the backend claims to solve batches",
    "costly: in the quick selection for double precision alone",
    "thorough: left out of the quick selection",
    "unclaimed: set on what is not to be generated",
)


class KnownFailure(NamedTuple):
    """One line of an xfail file."""

    pattern: str
    reason: str

    def matches(self, item: pytest.Item) -> bool:
        """Whether it is about this test; ``*`` stands for anything."""
        name = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
        return re.fullmatch(re.escape(self.pattern).replace(r"\*", ".*"), name) is not None


class StaleKnownFailure(pytest.Item):
    """A test that fails, in the place of a line of the xfail file that is about no test.

    (Not a usage error: raised while pytest-xdist collects, it would be reported as an internal one.)
    """

    def runtest(self) -> None:
        """Fail."""
        pytest.fail(
            f"the known failure {self.name!r} matches no test of this backend; remove it from the file.", pytrace=False
        )


class Suite:
    """The pytest plugin of one run: its target, its tests, its report.

    The target is the backend that the options name, or the one that is given.
    """

    def __init__(self, config: pytest.Config, target: Target | None = None):
        self.quick: bool = config.getoption("lstsq_quick")
        self.known_failures = _read_xfail(config.getoption("lstsq_xfail"))
        self.narrowed = bool(self.quick or config.getoption("lstsq_driver") or config.getoption("lstsq_dtype"))
        self.grouped = config.pluginmanager.hasplugin("xdist")
        contexts = ExitStack()
        config.add_cleanup(contexts.close)
        self.target, self.device = _find_target(config, contexts) if target is None else (target, "")
        self.finished = 0
        for line in _MARKS:
            config.addinivalue_line("markers", line)

    def pytest_report_header(self) -> str:
        """Say what is proved, and what is therefore not."""
        target = self.target
        return (
            f"lstsq: backend {target.backend.name}"
            + (f" on {target.namespace}" if target.namespace else "")
            + (f", device {self.device}" if self.device else "")
            + f"; drivers {', '.join(target.drivers)}; dtypes {', '.join(target.dtypes)}; "
            f"transforms {', '.join(target.claims.transforms) or 'none claimed'}"
            + ("" if target.claims.batches else "; no batches")
            + ("; quick selection" if self.quick else "")
        )

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a test its cases, dtypes and drivers, or devices."""
        if metafunc.module.__name__.partition(".")[0] != __package__:
            return
        if "device" in metafunc.fixturenames:
            none = [pytest.param(None, marks=pytest.mark.unclaimed)]
            metafunc.parametrize("device", list(self.target.devices) or none)
        names = [name for name in ("case", "dtype", "driver") if name in metafunc.fixturenames]
        if not names or any(mark.args[0] == names for mark in metafunc.definition.iter_markers("parametrize")):
            return
        rows = list(dict.fromkeys(self._rows(names, metafunc.definition)))
        if not rows:
            # An empty list would be a skip; what is not claimed is not a test.
            rows = [(None,) * len(names)]
            metafunc.parametrize(names, [pytest.param(*row, marks=pytest.mark.unclaimed) for row in rows])
            return
        ids = ["-".join(value.name if isinstance(value, cases.Case) else str(value) for value in row) for row in rows]
        metafunc.parametrize(names, rows, ids=ids)

    def _rows(self, names: Sequence[str], definition: pytest.Item) -> Iterator[tuple[Any, ...]]:
        tags = [tag for mark in definition.iter_markers("cases") for tag in mark.args]
        dtypes = [
            dtype
            for dtype in self.target.dtypes
            if all(dtype in mark.args for mark in definition.iter_markers("dtypes"))
            and (not definition.get_closest_marker("solved_in_double") or dtype in self.target.claims.solved_in_double)
            and (not definition.get_closest_marker("factorizes") or self.target.factorizes(dtype))
        ]
        if self.quick and definition.get_closest_marker("costly"):
            dtypes = [dtype for dtype in dtypes if dtype in ("float64", "complex128")] or dtypes
        chosen: list[cases.Case | None] = [None]
        if "case" in names:
            chosen = [case for case in cases.select(*tags, quick=self.quick) if self._is_within_reach(case)]
        declining = definition.get_closest_marker("may_decline") is not None
        drivers = [name for name in self.target.drivers if (name in self.target.claims.declines) == declining]
        for case in chosen:
            for dtype in dtypes:
                if case is not None and dtype not in case.dtypes:
                    continue
                for driver in drivers:
                    if self.target.accepts(dtype, driver):
                        row = {"case": case, "dtype": dtype, "driver": driver}
                        yield tuple(row[name] for name in names)

    def _is_within_reach(self, case: cases.Case) -> bool:
        return "subnormal" not in case.tags or self.target.library_has("subnormals")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop what is not claimed, mark what is known to fail."""
        ours = [item for item in items if item.path.parent == _PACKAGE]
        whole = {item.path for item in ours} == set(_PACKAGE.glob("test_*.py")) and not self.narrowed
        ours = [item for item in ours if self._is_generated(item)]
        for item in ours:
            item.user_properties.append(("contract_row", _row(item)))
            if self.grouped:
                _keep_together(item)
        for known in self.known_failures:
            matched = [item for item in ours if known.matches(item)]
            if whole and not matched:
                ours.append(StaleKnownFailure.from_parent(ours[0].session, name=known.pattern))
            for item in matched:
                item.add_marker(pytest.mark.xfail(reason=known.reason, strict=True))
        items[:] = [item for item in items if item.path.parent != _PACKAGE] + ours

    def pytest_runtest_teardown(self) -> None:
        """See to it, now and then, that what was compiled does not fill the process."""
        self.finished += 1
        if self.finished % 50 == 0:
            _forget_compiled()

    def _is_generated(self, item: pytest.Item) -> bool:
        claims = self.target.claims
        transforms = {name for mark in item.iter_markers("claims") for name in mark.args}
        nonfinite = {mark.args[0] for mark in item.iter_markers("nonfinite")}
        features = {mark.args[0] for mark in item.iter_markers("library")}
        return (
            item.get_closest_marker("unclaimed") is None
            and all(self.target.library_has(feature) for feature in features)
            and transforms <= set(claims.transforms)
            and nonfinite <= {claims.nonfinite}
            and (claims.batches or not _is_of_a_batch(item))
            and (item.get_closest_marker("factorizes") is None or self.target.factorizes(self.target.dtype))
            and (item.get_closest_marker("traced_rcond") is None or getattr(claims, "traced_rcond", False))
            and not (self.quick and item.get_closest_marker("thorough"))
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Name the broken row beside a failure."""
        report = yield
        row = dict(item.user_properties).get("contract_row")
        if report.failed and isinstance(row, str):
            report.sections.append(("Contract row", f"{row}: {ROWS[row]}"))
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the broken rows."""
        failed = terminalreporter.stats.get("failed", []) + terminalreporter.stats.get("error", [])
        counts = Counter(dict(report.user_properties).get("contract_row") for report in failed)
        if counts:
            terminalreporter.section(f"broken rows of the contract: {self.target.backend.name}")
        for row, text in ROWS.items():
            if counts[row]:
                terminalreporter.line(f"{row} ({counts[row]} failures): {text}")


def _forget_compiled() -> None:
    """Have JAX forget its functions. They take up to 80 memory maps and 3 MB each; out of maps, a process dies."""
    jax, maps = sys.modules.get("jax"), Path("/proc/self/maps")
    if jax is not None and maps.exists() and maps.read_bytes().count(b"\n") > _MANY_MAPS:
        jax.clear_caches()


def _is_of_a_batch(item: pytest.Item) -> bool:
    """By its mark, or by the shapes that it is for."""
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    shapes: list[Any] = [given.get(name, ()) for name in ("a_shape", "b_shape")]
    return bool(item.get_closest_marker("batches") or given.get("batch") or any(len(shape) > 2 for shape in shapes))


def _keep_together(item: pytest.Item) -> None:
    """Let pytest-xdist run in one process what shares work: a case is solved once, and a shape compiled once."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    case, dtype = parameters.get("case"), parameters.get("dtype")
    group = item.path.stem
    if isinstance(case, cases.Case) and not item.get_closest_marker("costly"):
        # The shape is in the names of most; the few others are their own group.
        shape = re.search(r"\d+x\d+", case.name)
        group = shape[0] if shape else case.name
    item.add_marker(pytest.mark.xdist_group(f"{group} {dtype}"))


def _row(item: pytest.Item) -> str:
    mark = item.get_closest_marker("contract")
    if mark is None or mark.args[0] not in ROWS:
        raise pytest.UsageError(f"{item.nodeid} names no row of the contract; mark it contract(row), row from rows.py.")
    return str(mark.args[0])


def _find_target(config: pytest.Config, contexts: ExitStack) -> tuple[Target, str]:
    """The target, and the name of the device that was asked for."""
    name, namespace = config.getoption("lstsq_backend"), config.getoption("lstsq_namespace")
    try:
        backend = lstsq.get_backend(name)
    except ValueError as error:
        raise pytest.UsageError(f"--lstsq-backend: {error}") from error
    reason = backend.unavailable()
    if reason is not None:
        raise pytest.UsageError(f"--lstsq-backend {name}: {reason}")
    claims = backend.capabilities
    drivers = _choose("--lstsq-driver", config.getoption("lstsq_driver"), (claims.default_driver, *claims.drivers))
    dtypes = _choose("--lstsq-dtype", config.getoption("lstsq_dtype"), claims.dtypes)
    device = _find_device(backend, namespace, config.getoption("lstsq_device"))
    put = None if device is None else contexts.enter_context(backend.on_device(device))
    target = Target(backend, namespace, drivers, dtypes, put)
    for dtype in dtypes:
        _check_round_trip(target, dtype)
    return target, "" if device is None else str(device)


def _find_device(backend: Backend, namespace: str | None, asked: str | None) -> Any:
    """The device to put arrays on, or None to leave that to the library."""
    if asked is None:
        return None
    kind, claimed = {"cuda": "gpu"}.get(asked, asked), backend.capabilities.devices
    if kind not in claimed:
        raise pytest.UsageError(
            f"--lstsq-device: {asked} is not claimed by the backend; it claims {', '.join(claimed)}."
        )
    found = backend.devices(namespace)
    if kind not in found:
        raise pytest.UsageError(
            f"--lstsq-device {asked}: {namespace or backend.name} finds no {kind} on this machine; it finds "
            f"{', '.join(found) or 'no device at all'}. Run it where there is one, with a build of the library for it."
        )
    return found[kind]


def _choose(option: str, asked: list[str] | None, claimed: tuple[str, ...]) -> tuple[str, ...]:
    unknown = set(asked or ()) - set(claimed)
    if unknown:
        raise pytest.UsageError(
            f"{option}: {', '.join(sorted(unknown))} is not claimed by the backend; it claims "
            f"{', '.join(dict.fromkeys(claimed))}."
        )
    return tuple(dict.fromkeys(asked or claimed))


def _check_round_trip(target: Target, dtype: str) -> None:
    backend = target.backend
    try:
        returned = target.numpy(target.array(np.zeros(1, dtype))).dtype
    except Exception as error:
        raise pytest.UsageError(
            f"the {backend.name} backend claims {dtype}, and cannot convert such an array from NumPy and back "
            f"({error}). Set the library up for it, or prove less: --lstsq-dtype float32 --lstsq-dtype complex64."
        ) from error
    if returned != dtype:
        raise pytest.UsageError(
            f"the {backend.name} backend claims {dtype}, and its library made {returned} of such an array. "
            "Set the library up for it, or prove less: --lstsq-dtype float32 --lstsq-dtype complex64."
        )


def _read_xfail(path: str | None) -> list[KnownFailure]:
    if path is None:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise pytest.UsageError(f"--lstsq-xfail: cannot read {path}: {error}") from error
    known = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, separator, reason = line.partition(" # ")
        if not separator or not reason.strip():
            raise pytest.UsageError(
                f"{path}, line {number}: got {line!r}; expected a pattern such as `test_values.py::test_rank*`, then "
                "' # ', then the reason."
            )
        known.append(KnownFailure(pattern.strip(), reason.strip()))
    return known
