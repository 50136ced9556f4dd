"""The reduction of a square matrix for the certified way: L U with partial pivoting, and bounds measured with probes.

A is divided by its Frobenius norm. M⁻¹, what the factors do, is not trusted: nothing is assumed of the growth of
pivots. For z of independent normal numbers the mean of ‖B z‖² is ‖B‖_F² >= ‖B‖². So a hundred times the mean of eight
probes is a bound of ‖B‖², which is too low with a chance below 2·10⁻⁷ (Dixon 1983; χ² with eight degrees of freedom).
This bounds ‖E‖, E = I − M⁻¹ A, and, by powers of M⁻¹ M⁻ᴴ and Aᴴ A, which lose less of a factor, ‖M⁻¹‖ and ‖A‖. Then
‖A⁻¹‖ <= ‖M⁻¹‖ / (1 − ‖E‖), and refinement contracts by ‖E‖.

References
----------
J. D. Dixon, Estimating extremal eigenvalues and condition numbers of matrices, SIAM J. Numer. Anal. 20 (1983), 812-814.
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._arithmetic import adjoint, is_complex
from lstsq_array_api._certified import Bounds, Reduction

#: Probes, by how much their mean is multiplied, and how often M⁻¹ M⁻ᴴ and Aᴴ A are applied to them.
PROBES = 8
SAFETY = 100.0
POWER = 3


def reduce(xp: Any, a: Array) -> Reduction:
    """The reduction of square matrices ``a (B, N, N)`` in double precision."""
    size = xp.linalg.vector_norm(a, axis=(-2, -1), keepdims=True)
    divisor = xp.where(size > 0, size, xp.ones_like(size))
    a = a / divisor
    solve, solve_adjoint = lacking.factor_square(xp, a)
    z = _probes(xp, a)
    a_adjoint = adjoint(xp, a)
    left = z - solve(xp.matmul(a, z))
    powers = [z, z]
    for _ in range(POWER):
        powers = [solve(solve_adjoint(powers[0])), xp.matmul(a_adjoint, xp.matmul(a, powers[1]))]
    facts = [_mean_square(xp, v) for v in (left, *powers)] + [size[:, :, 0]]

    def bounds(xp: Any, facts: Sequence[Array]) -> Bounds:
        left, inverse, norm, size = facts
        rho = xp.sqrt(SAFETY * left)
        root = 1 / (4 * POWER)
        inverse = (SAFETY * inverse) ** root / (1 - rho)
        norm = xp.minimum((SAFETY * norm) ** root, xp.ones_like(norm))
        # In the units of the caller; the condition number from below is at least 1, and no more is known for certain.
        return Bounds(rho, norm * size, inverse / size, xp.ones_like(rho), size, size)

    def singular_values(_: Bounds, good: Array) -> Array:
        good = lacking.to_device(xp, good, a)[:, None, None]
        return xp.linalg.svdvals(xp.where(good, a * divisor, lacking.identity(xp, a)))

    def correct(r: Array) -> Array:
        return solve(r / divisor)

    return Reduction(correct, facts, bounds, None, singular_values)


def _probes(xp: Any, like: Array) -> Array:
    """Normal numbers ``(1, N, 8)``, always the same and chosen without knowledge of any matrix."""
    random = np.random.default_rng(20)
    z = random.standard_normal((1, like.shape[-1], PROBES))
    if is_complex(xp, like):
        z = (z + 1j * random.standard_normal(z.shape)) / np.sqrt(2)
    shape = (like.shape[0], like.shape[-1], PROBES)
    return xp.broadcast_to(lacking.to_device(xp, z, like), shape)


def _mean_square(xp: Any, probes: Array) -> Array:
    return (xp.linalg.vector_norm(probes, axis=(-2, -1)) ** 2 / PROBES)[:, None]
