"""Least squares on NumPy arrays: one problem, a batch of them, and one that has no unique solution."""

import numpy as np

from lstsq import explain, lstsq

# A line through five points: the columns of `a` are 1 and t.
t = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
y = np.array([1.1, 2.9, 5.2, 7.1, 8.8])
a = np.stack([np.ones(5), t], axis=1)
x, residuals, rank, s = lstsq(a, y)
print(f"y = {x[0]:.2f} + {x[1]:.2f} t, residual {residuals[0]:.3f}, rank {rank}, singular values {s.round(3)}")
assert np.allclose(x, [1.1, 1.96])

# Three series over the same points are three columns, factorised once. Residuals are per column.
many = lstsq(a, np.stack([y, 2 * y, np.sin(t)], axis=1))
print("shapes of x and residuals:", many.x.shape, many.residuals.shape)
assert np.allclose(many.x[:, 1], 2 * x)

# A batch of matrices, with batch dimensions that broadcast.
rng = np.random.default_rng(0)
batch = lstsq(rng.normal(size=(4, 1, 20, 3)), rng.normal(size=(6, 20, 2)))
print("a batch:", batch.x.shape, batch.residuals.shape, batch.rank.shape, batch.s.shape)
assert batch.x.shape == (4, 6, 3, 2)

# More unknowns than equations: of all solutions, the shortest.
shortest = lstsq(np.array([[2.0, 3.0]]), np.array([8.0])).x
print("the shortest solution of 2u + 3v = 8:", shortest)
assert np.allclose(shortest, [16 / 13, 24 / 13])

print(explain(a, y))
