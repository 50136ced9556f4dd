"""How fast rows in blocks are reduced, beside making or reading the blocks, and how much memory that takes.

``python benchmarks/rows_in_blocks.py --rows 200_000_000``, with one thread of BLAS. Each round makes (or reads, with
``--file``) all blocks alone, and then once more to reduce them, so that both are measured under the same load. The
answer is compared with one in float64: normal equations of the same rows, which are well-conditioned here.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lstsq import Reduction, reduce_rows

COLUMNS = 16
TRUTH = np.arange(1.0, COLUMNS + 1)


def made(rows: int, block_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of random float32 rows, and right-hand sides with noise."""
    rng = np.random.Generator(np.random.SFC64(0))
    truth = TRUTH.astype(np.float32)
    for first in range(0, rows, block_rows):
        count = min(block_rows, rows - first)
        a = rng.random((count, COLUMNS), dtype=np.float32)
        yield a, a @ truth + rng.random(count, dtype=np.float32)


def read(rows: int, block_rows: int, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same from a file, whose last column is the right-hand side."""
    with path.open("rb") as file:
        for first in range(0, rows, block_rows):
            count = min(block_rows, rows - first)
            block = np.fromfile(file, np.float32, count * (COLUMNS + 1)).reshape(count, COLUMNS + 1)
            yield block[:, :COLUMNS], block[:, COLUMNS]


def main() -> None:
    """Measure, and print a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--block-rows", type=int, default=2**16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--backend", help="native or numpy; by default the one that lstsq would use")
    parser.add_argument("--file", type=Path, help="write the rows there first, and then read them")
    given = parser.parse_args()

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if given.file:
            return read(given.rows, given.block_rows, given.file)
        return made(given.rows, given.block_rows)

    if given.file:
        with given.file.open("wb") as file:
            for a, b in made(given.rows, given.block_rows):
                np.concatenate([a, b[:, None]], axis=1).tofile(file)
    for _ in range(given.rounds):
        start = time.perf_counter()
        for a, _b in blocks():
            a[0, 0]
        alone = time.perf_counter() - start
        start = time.perf_counter()
        total = sum(reduce_rows(a, b, backend=given.backend) for a, b in blocks())
        assert isinstance(total, Reduction)
        x = total.solve().x
        both = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{given.rows:_} rows: blocks alone {alone:.2f} s, with their reduction {both:.2f} s: {alone / both:.2f} "
            f"of the speed; at most {peak:.0f} MB resident"
        )
    gram, right = np.zeros((COLUMNS, COLUMNS)), np.zeros(COLUMNS)
    for a, b in blocks():
        wide = a.astype(float)
        gram, right = gram + wide.T @ wide, right + wide.T @ b.astype(float)
    reference = np.linalg.solve(gram, right).astype(np.float32)
    print(f"the answer differs from that in float64 by {np.abs(x - reference).max() / np.abs(reference).max():.1e}")


if __name__ == "__main__":
    main()
