"""How a long problem scales whose rows lie on several devices, solved by JAX: ``python benchmarks/sharded_rows.py``.

The same problem is solved on one device, on two, on four, as many as there are, in turns, compiled. Each answer is
compared with the one that made the right-hand side.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lstsq import lstsq


def main() -> None:
    """Measure, and print a line for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

    counts = [count for count in (1, 2, 4, 8) if count <= jax.device_count()]
    truth = jnp.arange(1.0, given.columns + 1)
    solve = jax.jit(lambda a, b: lstsq(a, b).x)

    def make(count: int) -> tuple[jax.Array, jax.Array]:
        mesh = jax.make_mesh((count,), ("rows",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
        by_rows = NamedSharding(mesh, PartitionSpec("rows"))  # type: ignore[no-untyped-call]

        def rows() -> tuple[jax.Array, jax.Array]:
            a = jax.random.normal(jax.random.key(0), (given.rows, given.columns), given.dtype)
            return a, (a @ truth).astype(given.dtype)

        a, b = jax.jit(rows, out_shardings=(by_rows, by_rows))()
        return a, b

    problems = {count: make(count) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(given.rounds + 1):
        for count, problem in problems.items():
            start = time.perf_counter()
            x = solve(*problem).block_until_ready()
            if turn:  # The first one compiles.
                times[count].append(time.perf_counter() - start)
            error = float(abs(x - truth).max() / abs(truth).max())
            if error > 1e-5:
                raise SystemExit(f"on {count} devices the answer is off by {error:.1e}")
    medians = {count: statistics.median(each) for count, each in times.items()}
    for count, seconds in medians.items():
        print(
            f"{given.rows}×{given.columns} {given.dtype}, {count} × {jax.devices()[0].device_kind}: "
            f"{1e3 * seconds:.2f} ms, {medians[1] / seconds:.2f} times as fast as one"
        )


if __name__ == "__main__":
    main()
