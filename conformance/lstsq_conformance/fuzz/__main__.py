"""Solve random problems with every driver, and hold each answer against a decomposition in extended precision.

Failures of the runs before are tried first. What fails is made small and kept as a file. The exit code is 1 if anything
failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lstsq
from lstsq_conformance.fuzz.judge import Judge, Verdict
from lstsq_conformance.fuzz.kept import keep, kept
from lstsq_conformance.fuzz.problems import Group, draw
from lstsq_conformance.fuzz.shrink import shrink
from lstsq_conformance.fuzz.solve import MODES, verdict
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.target import Target

#: Problems of one shape: so many that a library that compiles for each shape does other things, too.
GROUP = 250
#: How often a line says how far it is, where there is no bar.
_LINES = 20


class Failure(NamedTuple):
    """What went wrong, as the table at the end counts it."""

    backend: str
    driver: str
    mode: str
    dtype: str
    kind: str


class Trial(NamedTuple):
    """One way to solve a group of problems."""

    target: Target
    driver: str
    mode: str

    def failure(self, judge: Judge, kind: str) -> Failure:
        """The failure of this kind."""
        return Failure(self.target.backend.name, self.driver, self.mode, judge.dtype, kind)

    def verdict(self, judge: Judge) -> Verdict:
        """How right it is."""
        return verdict(self.target, self.driver, self.mode, judge)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options, targets = _options(arguments)
    print(f"seed {options.seed}, {options.count} problems; {'; '.join(map(_described, targets))}", flush=True)
    found = _replay(options.folder, targets)
    done = number = unjudged = 0
    with _progress(options.count) as advance:
        while done < options.count:
            seed = [options.seed, number]
            group = _drawn(seed, targets, options.count - done)
            judge = Judge(group)
            for trial in _trials(targets, judge):
                _record(trial, judge, seed, found, options)
            unjudged += int(np.sum(~judge.converged))
            done, number = done + len(group.a), number + 1
            advance(len(group.a), sum(found.values()))
    if unjudged:
        print(f"{unjudged} problems were not judged: their decomposition did not converge")
    print(f"{done} problems, {sum(found.values())} failures")
    for failure, count in sorted(found.items()):
        print(f"{count:8d}  " + "  ".join(failure))
    return 1 if found else 0


def _replay(folder: Path, targets: list[Target]) -> Counter[Failure]:
    """Try what failed before."""
    found: Counter[Failure] = Counter()
    for path, group in kept(folder):
        judge = Judge(group)
        for trial in _trials(targets, judge):
            result = trial.verdict(judge)
            if result.wrong().any():
                kind, ratio = result.worst(int(np.argmax(result.wrong())))
                found[trial.failure(judge, kind)] += 1
                print(f"{path}: {' '.join(trial.failure(judge, kind))}, ratio {ratio:.3g}", flush=True)
    return found


def _drawn(seed: list[int], targets: list[Target], at_most: int) -> Group:
    rng = np.random.default_rng(seed)
    dtypes = sorted({dtype for target in targets for dtype in target.dtypes})
    return draw(rng, str(rng.choice(dtypes)), min(GROUP, at_most))


def _trials(targets: list[Target], judge: Judge) -> Iterator[Trial]:
    for target in targets:
        for driver in target.drivers:
            if judge.dtype in target.dtypes and target.accepts(judge.dtype, driver):
                for mode in MODES:
                    yield Trial(target, driver, mode)


def _record(trial: Trial, judge: Judge, seed: list[int], found: Counter[Failure], options: argparse.Namespace) -> None:
    """Count the failures of one way to solve, and keep the first of each kind."""
    result = trial.verdict(judge)
    for i in map(int, np.flatnonzero(result.wrong())):
        kind, ratio = result.worst(i)
        failure = trial.failure(judge, kind)
        found[failure] += 1
        if found[failure] > options.keep:
            continue

        def fails(group: Group, kind: str = kind) -> bool:
            return bool((getattr(trial.verdict(Judge(group)), kind) > LIMIT).any())

        alone = judge.group[i : i + 1]
        small = shrink(alone if fails(alone) else judge.group, fails)
        about = {**failure._asdict(), "ratio": ratio if np.isfinite(ratio) else "inf", "seed": [*seed, i]}
        path = keep(options.folder, small, about)
        print(f"{path}: {' '.join(failure)}, ratio {ratio:.3g}, {small.a.shape}", flush=True)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int, int], None]]:
    """A function to call with how many more are done and how many failures there are; a bar on a terminal."""
    try:
        from rich.progress import Progress
    except ImportError:
        bar = None
    else:
        bar = Progress() if sys.stdout.isatty() else None
    if bar is not None:
        with bar:
            task = bar.add_task("problems", total=count)
            yield lambda more, failures: bar.update(task, advance=more, description=f"{failures} failures")
        return
    done = 0

    def line(more: int, failures: int) -> None:
        nonlocal done
        if (done + more) * _LINES // count > done * _LINES // count:
            print(f"{done + more} of {count} problems, {failures} failures", flush=True)
        done += more

    yield line


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, list[Target]]:
    parser = argparse.ArgumentParser("python -m lstsq_conformance.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many problems (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed draws the same problems (default: another each time)")
    parser.add_argument(
        "--backend",
        action="append",
        help="NAME, or NAME:LIBRARY where it serves several; repeatable (default: all that are available)",
    )
    parser.add_argument("--driver", action="append", help="only this one; repeatable")
    parser.add_argument("--dtype", action="append", help="only this one; repeatable")
    parser.add_argument(
        "--folder", type=Path, default=Path("fuzz-failures"), help="where failures are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--keep", type=int, default=3, help="how many failures of a kind to keep in each run (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.count < 0:
        parser.error(f"--count is {options.count}; expected 0, which only tries what is kept, or more")
    if options.seed is None:
        options.seed = secrets.randbelow(10**9)
    try:
        return options, _targets(options)
    except ValueError as error:
        parser.error(str(error))


def _targets(options: argparse.Namespace) -> list[Target]:
    targets = []
    for given in options.backend or [info.name for info in lstsq.backends() if info.available]:
        name, _, library = given.partition(":")
        backend = lstsq.get_backend(name)
        reason = backend.unavailable()
        if reason is not None:
            raise ValueError(f"--backend {name}: {reason}")
        claims = backend.capabilities
        # The one backend that serves any library has to be told one, which this project's own tests run on.
        library = library or ("array_api_strict" if "*" in backend.serves else "")
        drivers = _chosen("--driver", options.driver, (claims.default_driver, *claims.drivers), name)
        dtypes = _chosen("--dtype", options.dtype, claims.dtypes, name)
        target = Target(backend, library or None, drivers, dtypes)
        target.dtypes = tuple(dtype for dtype in dtypes if _is_kept(target, dtype))
        targets.append(target)
    return targets


def _chosen(option: str, asked: list[str] | None, claimed: tuple[str, ...], backend: str) -> tuple[str, ...]:
    unknown = sorted(set(asked or ()) - set(claimed))
    if unknown:
        raise ValueError(
            f"{option} {', '.join(unknown)} is not claimed by the {backend} backend; it claims "
            f"{', '.join(dict.fromkeys(claimed))}. Name the backends for which it is meant with --backend."
        )
    return tuple(dict.fromkeys(asked or claimed))


def _is_kept(target: Target, dtype: str) -> bool:
    """Whether the library, as it is set up, takes this dtype and leaves it as it is."""
    try:
        return str(target.numpy(target.array(np.zeros(1, dtype))).dtype) == dtype
    except (TypeError, ValueError):
        return False


def _described(target: Target) -> str:
    return f"{target.backend.name} ({', '.join(target.drivers)}; {', '.join(target.dtypes)})"


if __name__ == "__main__":
    sys.exit(main())
