"""Least squares over Dask's arrays on two workers, beside `dask.array.linalg.lstsq`.

``python benchmarks/dask_rows.py --rows 10_000_000``. The chunks are made by the workers, once and kept by them. Both
solve in turn; then a column is the sum of two others.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

import lstsq


def seconds(client: Client, result: tuple[Any, ...]) -> tuple[float, list[Any]]:
    """How long all of the results take, and what they are."""
    start = time.perf_counter()
    found = client.gather(client.compute(list(result)))
    return time.perf_counter() - start, found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--chunk-rows", type=int, default=250_000)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    truth = np.arange(1.0, given.columns + 1).astype(given.dtype)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        chunks = (given.chunk_rows, given.columns)
        a = da.random.default_rng(0).random((given.rows, given.columns), dtype=given.dtype, chunks=chunks).persist()
        b = (a @ truth).persist()
        wait([a, b])
        for _ in range(given.rounds):
            theirs, _x = seconds(client, da.linalg.lstsq(a, b))
            ours, (x, _residuals, rank, _s) = seconds(client, tuple(lstsq.lstsq(a, b)))
            print(
                f"{given.rows:_} x {given.columns} {given.dtype}: da.linalg.lstsq {theirs:.2f} s, lstsq {ours:.2f} s "
                f"({ours / theirs:.2f} of it); rank {rank}, error {np.abs(x - truth).max():.1e}"
            )
        deficient = da.concatenate([a[:, :-1], a[:, :1] + a[:, 1:2]], axis=1).rechunk({1: -1})
        for name, solve in (("da.linalg.lstsq", da.linalg.lstsq), ("lstsq", lstsq.lstsq)):
            x, _, rank, _ = dask.compute(*solve(deficient, b))
            print(f"a column that is the sum of two others: {name} finds rank {rank}, |x| {np.linalg.norm(x):.3g}")


if __name__ == "__main__":
    main()
