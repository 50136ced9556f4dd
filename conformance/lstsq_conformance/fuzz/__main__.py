"""The command line: ``python -m lstsq_conformance.fuzz --count 1000000``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

import lstsq
from lstsq_conformance.fuzz.judge import KINDS, Judge, Verdict
from lstsq_conformance.fuzz.kept import keep, kept
from lstsq_conformance.fuzz.problems import Group, draw
from lstsq_conformance.fuzz.shrink import shrink
from lstsq_conformance.fuzz.solve import MODES, verdict
from lstsq_conformance.ratios import LIMIT
from lstsq_conformance.target import Target

#: Problems of one shape: enough that a library that compiles for each shape computes more than it compiles.
GROUP = 250


def main(arguments: list[str] | None = None) -> int:
    """Run, and say what was found; the exit code."""
    options = _options(arguments)
    targets = _targets(options)
    print(f"seed {options.seed}, {options.count} problems; " + "; ".join(map(_described, targets)), flush=True)
    found: Counter[tuple[str, str, str, str, str]] = Counter()
    lines: list[str] = []
    for path, group in kept(options.folder):
        for target, driver, mode, result in _verdicts(targets, Judge(group)):
            if result.wrong().any():
                kind, ratio = _worst(result, int(np.argmax(result.wrong())))
                found[target.backend.name, driver, mode, group.dtype, kind] += 1
                lines.append(f"{path}: {target.backend.name} {driver}, {mode}: {kind} ratio {ratio:.3g}")
    done = number = unjudged = 0
    begun = said = time.monotonic()
    while done < options.count:
        rng = np.random.default_rng([options.seed, number])
        number += 1
        dtypes = sorted({dtype for target in targets for dtype in target.dtypes})
        dtype = str(rng.choice(dtypes))
        group = draw(rng, dtype, min(GROUP, options.count - done), finite=not options.nonfinite)
        judge = Judge(group)
        unjudged += int(np.sum(~judge.converged))
        done += len(group.a)
        for target, driver, mode, result in _verdicts(targets, judge):
            for i in np.flatnonzero(result.wrong()):
                kind, ratio = _worst(result, int(i))
                key = target.backend.name, driver, mode, dtype, kind
                found[key] += 1
                if found[key] <= options.keep:
                    small = _smallest(group, judge, int(i), target, driver, mode, kind)
                    about = {
                        "backend": target.backend.name, "driver": driver, "mode": mode, "kind": kind,
                        "ratio": ratio if np.isfinite(ratio) else "inf", "seed": [options.seed, number - 1, int(i)],
                    }  # fmt: skip
                    path = keep(options.folder, small, about)
                    lines.append(f"{path}: {' '.join(key)} ratio {ratio:.3g}, shape {small.a.shape}")
                    print(lines[-1], flush=True)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{done} of {options.count} problems, {sum(found.values())} failures, {said - begun:.0f} s", flush=True)
    if unjudged:
        print(f"{unjudged} of {done} problems were not judged: the reference did not converge")
    print(f"{done} problems, {sum(found.values())} failures")
    for key, count in sorted(found.items()):
        print(f"{count:8d}  " + "  ".join(key))
    return 1 if found else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m lstsq_conformance.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many problems (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="the first number of every seed (default: from the clock)")
    parser.add_argument(
        "--backend", action="append", help="NAME or NAME:LIBRARY, repeatable (default: every one that is available)"
    )
    parser.add_argument("--driver", action="append", help="only these drivers")
    parser.add_argument("--dtype", action="append", help="only these dtypes")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-failures"), help="where failures are kept")
    parser.add_argument("--keep", type=int, default=3, help="how many failures of one kind to shrink and keep")
    parser.add_argument("--nonfinite", action="store_true", help="put NaN and inf into some")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = time.time_ns() % 10**9
    return options


def _targets(options: argparse.Namespace) -> list[Target]:
    names = options.backend or [info.name for info in lstsq.backends() if info.available]
    targets = []
    for given in names:
        name, _, library = given.partition(":")
        backend = lstsq.get_backend(name)
        claims = backend.capabilities
        drivers = tuple(dict.fromkeys((*claims.drivers, claims.default_driver)))
        drivers = tuple(driver for driver in drivers if not options.driver or driver in options.driver)
        dtypes = tuple(dtype for dtype in claims.dtypes if not options.dtype or dtype in options.dtype)
        if not library and backend.serves == ("*",):
            library = "array_api_strict"
        target = Target(backend, library or None, drivers, dtypes)
        target.dtypes = tuple(dtype for dtype in dtypes if _is_kept(target, dtype))
        targets.append(target)
    return targets


def _is_kept(target: Target, dtype: str) -> bool:
    """Whether the library, as it is set up, takes this dtype and leaves it as it is."""
    try:
        return str(target.numpy(target.array(np.zeros(1, dtype))).dtype) == dtype
    except (TypeError, ValueError):
        return False


def _described(target: Target) -> str:
    return f"{target.backend.name} ({', '.join(target.drivers)}; {', '.join(target.dtypes)})"


def _verdicts(targets: list[Target], judge: Judge):
    dtype = judge.group.dtype
    for target in targets:
        for driver in target.drivers:
            if dtype in target.dtypes and target.accepts(dtype, driver):
                for mode in MODES:
                    yield target, driver, mode, verdict(target, driver, mode, judge)


def _worst(result: Verdict, i: int) -> tuple[str, float]:
    """The first kind that is wrong, and its ratio."""
    return next((kind, float(ratios[i])) for kind, ratios in zip(KINDS, result) if ratios[i] > LIMIT)


def _smallest(group: Group, judge: Judge, i: int, target: Target, driver: str, mode: str, kind: str) -> Group:
    def fails(candidate: Group) -> bool:
        result = verdict(target, driver, mode, Judge(candidate))
        return bool((getattr(result, kind) > LIMIT).any())

    alone = group[i : i + 1]
    return shrink(alone if fails(alone) else group, fails)


if __name__ == "__main__":
    sys.exit(main())
