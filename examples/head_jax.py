"""Training through a closed-form least-squares head, in JAX: the last layer is solved for, and never trained.

The same as `head_mlx.py`, which explains it: features from a small network, weights on them by `lstsq` at every step,
and the gradient of the loss on other points through the solution. Here the whole training is one compiled loop.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lstsq import lstsq

STEPS, WIDTH, RATE = 300, 12, 0.01

rng = np.random.default_rng(0)
t = rng.uniform(-1, 1, (200, 1)).astype(np.float32)
y = np.sin(6 * t) * np.exp(-2 * t**2) + 0.3 * t
known, other = (jnp.asarray(t[:100]), jnp.asarray(y[:100])), (jnp.asarray(t[100:]), jnp.asarray(y[100:]))
start = [3 * rng.normal(size=(WIDTH, 1)), rng.uniform(-2, 2, WIDTH), 0.3 * rng.normal(size=(WIDTH, 1))]
weight, bias, head = (jnp.asarray(array, jnp.float32) for array in start)


def features(parameters, t):
    """One hidden layer: (..., 1) to (..., WIDTH)."""
    return jnp.tanh(t @ parameters["weight"].T + parameters["bias"])


def solved(parameters, t, y):
    """Mean square on `t`, with the head that fits the known points best."""
    head = lstsq(features(parameters, known[0]), known[1]).x
    return ((features(parameters, t) @ head - y) ** 2).mean()


def trained(parameters, t, y):
    """Mean square on `t`, with the head as it stands."""
    return ((features(parameters, t) @ parameters["head"] - y) ** 2).mean()


def train(parameters, loss, points):
    """Losses on the other points, before each step of Adam (Kingma and Ba 2015, without bias correction)."""

    def step(carry, _):
        parameters, mean, square = carry
        gradient = jax.grad(loss)(parameters, *points)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, square, gradient)
        moved = jax.tree.map(lambda p, m, v: p - RATE * m / (jnp.sqrt(v) + 1e-8), parameters, mean, square)
        return (moved, mean, square), loss(parameters, *other)

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return jax.lax.scan(step, (parameters, zeros, zeros), length=STEPS)[1]


first = {"weight": weight, "bias": bias}
with_solved, with_trained = train(first, solved, other), train({**first, "head": head}, trained, known)
print(f"{'step':>5} {'solved head':>12} {'trained head':>13}    mean square error")
for i in (0, 10, 100, STEPS - 1):
    print(f"{i:5} {with_solved[i]:12.2e} {with_trained[i]:13.2e}")
assert with_solved[-1] < 0.1 * with_solved[0]
assert with_solved[-1] < 0.01 * with_trained[-1]
