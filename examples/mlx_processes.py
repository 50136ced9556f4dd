"""Rows that are spread over processes, and MLX's arrays: each reduces its own, and only triangles travel.

With two processes on this machine: ``mlx.launch --backend ring -n 2 python examples/mlx_processes.py``. Alone it runs,
too. A process that dies ends all of them, with a warning of ``mlx.launch`` (whose exit code is 0) and without an
answer. Start anew; where rows are dear, save the reduction of each process now and then, with pickle.
"""

from dataclasses import replace

import mlx.core as mx
import numpy as np

from lstsq import reduce_rows

world = mx.distributed.init()


def blocks():
    """The blocks of rows of this process: here they are made, and usually they are read from its own files."""
    rng = np.random.default_rng(world.rank())
    for _ in range(100):
        a = rng.standard_normal((1000, 3)).astype(np.float32)
        yield mx.array(a), mx.array(a @ np.float32([1, 2, 3]) + rng.standard_normal(1000).astype(np.float32))


mine = sum(reduce_rows(a, b) for a, b in blocks())
# Every process has the same columns, so that what is left has the same shapes: 3x3, 3 and 1.
with mx.stream(mx.cpu):  # It is in double precision.
    of_all = [mx.distributed.all_gather(part[None]) for part in (mine.a, mine.b, mine.left, mx.array(mine.rows))]
    total = sum(replace(mine, a=a, b=b, left=left, rows=int(rows)) for a, b, left, rows in zip(*of_all))
    mx.eval(x := total.solve().x)
if world.rank() == 0:
    print(f"{world.size()} processes, {total.rows} rows: x = {np.array(x).round(1)}")
