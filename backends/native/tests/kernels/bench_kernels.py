"""Micro-benchmark of the kernels against torch, interleaved: ``python bench_kernels.py [float32|float64] [--cpu]``.

``--cpu`` compares CPU time on one thread, which a shared machine disturbs less than wall time.
"""

import os
import sys
import time

if "--cpu" in sys.argv:
    for variable in (
        "LSTSQ_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ):
        os.environ[variable] = "1"

import numpy as np
from kernels import instruction_set, solve, solve_batch, thread_count

from lstsq_cli.timing import in_turns, median, whole

# rows, columns, right-hand sides, torch's fastest driver, the ratio wanted in float32
SINGLE = [
    (100000, 64, 1, "gels", 5), (1000000, 8, 1, "gelsd", 4), (20000, 512, 1, "gelsy", 2.5),
    (1024, 1024, 1, "gelsy", 1.2), (2000, 2000, 1, "gels", 1), (512, 20000, 1, "gels", 2),
    (5000, 1000, 100, "gels", 1.2),
]  # fmt: skip
BATCHES = [(10000, 32, 8, 1, 6), (4096, 64, 16, 4, 6), (512, 256, 32, 1, 4), (50000, 8, 4, 1, 10)]


def compare(name, ours, peer, target, note=""):
    clock = time.thread_time if "--cpu" in sys.argv else time.perf_counter
    times = in_turns({call: whole(call, clock) for call in (ours, peer)}, rounds=3)
    mine, theirs = (median(times[call]) * 1e3 for call in (ours, peer))
    print(
        f"{name:24} {mine:9.2f} ms  torch {theirs:9.2f} ms  ratio {theirs / mine:6.2f}  wanted {target:g} {note}",
        flush=True,
    )


def main() -> None:
    import torch  # an optional peer

    dtype = np.dtype(next((arg for arg in sys.argv[1:] if arg.startswith("float")), "float32"))
    rng = np.random.default_rng(0)
    print(instruction_set(), thread_count(), "threads,", dtype)
    for m, n, k, driver, target in SINGLE:
        a, b = rng.standard_normal((m, n), dtype=dtype), rng.standard_normal((m, k), dtype=dtype)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        answer = solve(a, b, residuals=False)
        note = "" if answer.status == 0 else f"NOT CERTIFIED {answer.status}"
        wanted = target if dtype == np.float32 else max(1, target / 2)
        compare(
            f"{m}x{n}, {k}", lambda a=a, b=b: solve(a, b, residuals=False),
            lambda ta=ta, tb=tb, driver=driver: torch.linalg.lstsq(ta, tb, driver=driver), wanted, note,
        )  # fmt: skip
    for count, m, n, k, target in BATCHES:
        a, b = rng.standard_normal((count, m, n), dtype=dtype), rng.standard_normal((count, m, k), dtype=dtype)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        ok = solve_batch(a, b, residuals=False)[2]
        compare(
            f"{count}x({m}x{n}), {k}", lambda a=a, b=b: solve_batch(a, b, residuals=False),
            lambda ta=ta, tb=tb: torch.linalg.lstsq(ta, tb, driver="gels"), target, f"certified {ok.mean():.4f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
