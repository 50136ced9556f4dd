"""The reduction of a square matrix for the certified way: L U with partial pivoting, and bounds measured with probes.

M⁻¹, what the factors do, is not trusted: nothing is assumed of the growth of pivots. Probes (`_probes`) bound ‖E‖,
E = I − M⁻¹ A, and, by powers of M⁻¹ M⁻ᴴ and Aᴴ A, which lose less of a factor, ‖M⁻¹‖ and ‖A‖. Where they meet A they
are divided by its Frobenius norm, as if that were 1. Then ‖A⁻¹‖ <= ‖M⁻¹‖ / (1 − ‖E‖), and refinement contracts by ‖E‖.

So the factors of a matrix of single precision may be of single precision, too, and what they do is still measured in
double. The bound of ‖E‖ is then near 1 for a random matrix of 2000 columns. But E is nearly of rank one, from the
direction of the smallest singular value to another that is nearly orthogonal to it, and that of ‖E²‖ is much smaller.
Where it is needed two steps are taken for one: they are a step with M₂⁻¹ = M⁻¹ (2 I − A M⁻¹), and I − M₂⁻¹ A = E². From
(I − E)⁻¹ = (I + E) (I − E²)⁻¹ comes ‖A⁻¹‖ <= ‖M⁻¹‖ (1 + ‖E‖) / (1 − ‖E²‖).

References
----------
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lstsq._arithmetic import adjoint, is_complex
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._certified import CONTRACTION, Bounds, Reduction
from lstsq_array_api._matrix import Matrix
from lstsq_array_api._probes import bound_of_square, probes
from lstsq_array_api._values import of_square

#: How often M⁻ᴴ and M⁻¹ in turn, and A and Aᴴ, are applied to the probes.
POWERS = (6, 6)
#: The same for factors of single precision, whose bounds may be larger: what they do not certify is factorised again.
POWERS_IN_SINGLE = (3, 5)
#: The largest bound of ‖E‖ with which ‖E²‖ is of use.
LARGEST = 8.0
#: The norm of a matrix whose factors are of single precision is at most this, and at least one over this.
RANGE_IN_SINGLE = 2.0**50


def reduce(xp: Any, matrix: Matrix, in_single: bool = False) -> Reduction:
    """The reduction of square matrices ``(B, N, N)``; `in_single`, by factors of their own single precision."""
    factorised = matrix.given() if in_single else matrix.whole()
    of_inverse, of_norm = POWERS_IN_SINGLE if in_single else POWERS
    size = matrix.norm()[:, :, None]
    divisor = xp.where(size > 0, size, xp.ones_like(size))
    solve, solve_adjoint = lacking.factor_square(xp, factorised, matrix.working)
    twice = None

    def times_defect(v: Array) -> Array:
        return v - solve(matrix.times(v))

    def step(r: Array) -> Array:
        once = solve(r)
        return once if twice is None else once + xp.where(twice, times_defect(once), xp.zeros_like(once))

    z = probes(xp, factorised)
    image = times_defect(z)
    defect = of_step = bound_of_square(xp, image)
    needed = (defect > CONTRACTION**2) & (defect < LARGEST**2)
    if in_single and bool(xp.any(needed)):
        of_step = xp.where(needed, bound_of_square(xp, times_defect(image)), defect)
        twice = needed[:, :, None]
    inverse = z
    for i in range(of_inverse):
        inverse = (solve if i % 2 else solve_adjoint)(inverse * divisor)
    # For the bound of a norm products in single precision are exact enough.
    of_reals = xp.real(factorised).dtype if is_complex(factorised) else factorised.dtype
    norm, unit = xp.astype(z, factorised.dtype), xp.astype(divisor, of_reals)
    for i in range(of_norm):
        norm = lacking.matmul(xp, adjoint(xp, factorised) if i % 2 else factorised, norm) / unit
    norm = xp.astype(bound_of_square(xp, norm), size.dtype)
    facts = [defect, of_step, bound_of_square(xp, inverse), norm, size[:, :, 0]]

    def bounds(xp: Any, facts: Sequence[Array]) -> Bounds:
        defect, of_step, inverse, norm, size = facts
        rho = xp.sqrt(of_step)
        inverse = inverse ** (1 / (2 * of_inverse)) * (1 + xp.sqrt(defect)) / (1 - rho)
        norm = xp.minimum(norm ** (1 / (2 * of_norm)), xp.ones_like(norm))
        if in_single:
            in_range = (size <= RANGE_IN_SINGLE) & (size >= 1 / RANGE_IN_SINGLE)
            rho = xp.where(in_range, rho, xp.full_like(rho, math.inf))
        # In the units of the caller; the condition number from below is at least 1, and no more is known for certain.
        return Bounds(rho, norm * size, inverse / size, xp.ones_like(rho), size, size, False)

    def singular_values(bounds: Bounds, good: Array) -> Array:
        return of_square(xp, matrix.whole(), bounds, good, matrix.single)

    return Reduction(step, False, facts, bounds, None, singular_values)
