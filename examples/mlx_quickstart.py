"""Least squares on MLX arrays: lazy, compiled, in float32 and float64."""

import mlx.core as mx
import numpy as np

from lstsq import lstsq

t = mx.array([0.0, 1.0, 2.0, 3.0, 4.0])
y = mx.array([1.1, 2.9, 5.2, 7.1, 8.8])
a = mx.stack([mx.ones(5), t], axis=1)

# The call only records the problem; it is solved when a result is read.
x, residuals, rank, s = lstsq(a, y)
print(f"y = {x[0].item():.2f} + {x[1].item():.2f} t, residual {residuals.item():.3f}, rank {rank.item()}")
assert np.allclose(x, [1.1, 1.96])

# Inside mx.compile, as any other operation.
predict = mx.compile(lambda a, y: a @ lstsq(a, y).x)
print("fitted:", predict(a, y))
assert np.allclose(predict(a, y), 1.1 + 1.96 * np.arange(5))

# float32 is solved in double precision and rounded once: at condition 1e5 the answer is still right to 6 digits.
u = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)))[0]
graded = (u * [1.0, 1e-2, 1e-5]).astype(np.float32)
x = lstsq(mx.array(graded), mx.array(graded.sum(axis=1, dtype=np.float64).astype(np.float32))).x
exact = np.linalg.lstsq(graded.astype(float), graded.sum(axis=1, dtype=np.float64).astype(np.float32), rcond=None)[0]
print("at condition 1e5, in float32:", x, "in double:", exact)
assert np.allclose(x, exact, rtol=1e-6)

# float64 lives on the CPU.
with mx.stream(mx.cpu):
    deficient = lstsq(mx.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=mx.float64), mx.ones(3, dtype=mx.float64))
    print("rank", deficient.rank.item(), "shortest solution", np.asarray(deficient.x))
    assert np.allclose(deficient.x, [-1 / 2, 0, 1 / 2])
