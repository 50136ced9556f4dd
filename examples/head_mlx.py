"""Training through a closed-form least-squares head, in MLX: the last layer is solved for, and never trained.

A small network turns t into features; the weights on them that fit the known points best come from `lstsq` at every
step, and the loss is measured on other points. Its gradient goes through the solution x to the features (Golub and
Pereyra 1973; as a head for networks, Bertinetto et al. 2019). The same network with an ordinary last layer, trained for
as many steps, is the comparison. `head_jax.py` is the same in JAX.

References
----------
G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
variables separate", SIAM J. Numer. Anal. 10 (1973).
L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi, "Meta-learning with differentiable closed-form solvers",
ICLR 2019.
"""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from lstsq import lstsq

STEPS, WIDTH, RATE = 300, 12, 0.01

rng = np.random.default_rng(0)
t = rng.uniform(-1, 1, (200, 1)).astype(np.float32)
y = np.sin(6 * t) * np.exp(-2 * t**2) + 0.3 * t
known, other = (mx.array(t[:100]), mx.array(y[:100])), (mx.array(t[100:]), mx.array(y[100:]))
start = [3 * rng.normal(size=(WIDTH, 1)), rng.uniform(-2, 2, WIDTH), 0.3 * rng.normal(size=(WIDTH, 1))]
weight, bias, head = (mx.array(array.astype(np.float32)) for array in start)


class Features(nn.Module):
    """One hidden layer: (..., 1) to (..., WIDTH)."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = weight, bias

    def __call__(self, t):
        """The features of each point."""
        return mx.tanh(t @ self.weight.T + self.bias)


class Network(Features):
    """The same layer with an ordinary linear head."""

    def __init__(self):
        super().__init__()
        self.head = head


def solved(model, t, y):
    """Mean square on `t`, with the head that fits the known points best."""
    head = lstsq(model(known[0]), known[1]).x
    return ((model(t) @ head - y) ** 2).mean()


def trained(model, t, y):
    """Mean square on `t`, with the head as it stands."""
    return ((model(t) @ model.head - y) ** 2).mean()


def train(model, loss, points):
    """Losses on the other points, before each step of Adam."""
    optimizer, losses = optim.Adam(learning_rate=RATE), []
    step = nn.value_and_grad(model, loss)
    for _ in range(STEPS):
        _, gradients = step(model, *points)
        losses.append(loss(model, *other).item())
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
    return losses


with_solved, with_trained = train(Features(), solved, other), train(Network(), trained, known)
print(f"{'step':>5} {'solved head':>12} {'trained head':>13}    mean square error")
for i in (0, 10, 100, STEPS - 1):
    print(f"{i:5} {with_solved[i]:12.2e} {with_trained[i]:13.2e}")
assert with_solved[-1] < 0.1 * with_solved[0]
assert with_solved[-1] < 0.01 * with_trained[-1]
