"""The reduction of a square matrix for the certified way: L U with partial pivoting, and bounds measured with probes.

M⁻¹, what the factors do, is not trusted: nothing is assumed of the growth of pivots. Probes (`_probes`) bound ‖E‖,
E = I − M⁻¹ A, and, by powers of M⁻¹ M⁻ᴴ and Aᴴ A, which lose less of a factor, ‖M⁻¹‖ and ‖A‖. Where they meet A they
are divided by its Frobenius norm, as if that were 1. Then ‖A⁻¹‖ <= ‖M⁻¹‖ / (1 − ‖E‖), and refinement contracts by ‖E‖.

References
----------
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstsq._arithmetic import adjoint
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._certified import Bounds, Reduction
from lstsq_array_api._matrix import Matrix
from lstsq_array_api._probes import bound_of_square, probes
from lstsq_array_api._values import of_square

#: How often M⁻¹ M⁻ᴴ and Aᴴ A are applied to the probes.
POWER = 3


def reduce(xp: Any, matrix: Matrix) -> Reduction:
    """The reduction of square matrices ``(B, N, N)``."""
    a = matrix.whole()
    size = xp.linalg.vector_norm(a, axis=(-2, -1), keepdims=True)
    divisor = xp.where(size > 0, size, xp.ones_like(size))
    solve, solve_adjoint = lacking.factor_square(xp, a)
    z = probes(xp, a)
    a_adjoint = adjoint(xp, a)
    left = z - solve(xp.matmul(a, z))
    powers = [z, z]
    for _ in range(POWER):
        powers = [
            solve(solve_adjoint(powers[0] * divisor) * divisor),
            xp.matmul(a_adjoint, xp.matmul(a, powers[1]) / divisor) / divisor,
        ]
    facts = [bound_of_square(xp, v) for v in (left, *powers)] + [size[:, :, 0]]

    def bounds(xp: Any, facts: Sequence[Array]) -> Bounds:
        left, inverse, norm, size = facts
        rho = xp.sqrt(left)
        root = 1 / (4 * POWER)
        inverse = inverse**root / (1 - rho)
        norm = xp.minimum(norm**root, xp.ones_like(norm))
        # In the units of the caller; the condition number from below is at least 1, and no more is known for certain.
        return Bounds(rho, norm * size, inverse / size, xp.ones_like(rho), size, size, False)

    def singular_values(bounds: Bounds, good: Array) -> Array:
        return of_square(xp, a, bounds, good, matrix.single)

    return Reduction(solve, facts, bounds, None, None, singular_values)
