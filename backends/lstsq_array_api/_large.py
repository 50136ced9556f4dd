"""The reduction of a tall matrix of many columns on a processor: Cholesky, and bounds measured with probes.

The time is in the products. So of the Gram matrix G, its columns divided by their norms, only the blocks on and below
the diagonal are formed; of a matrix of single precision in that, at twice the speed; and G⁻¹ is never formed. What the
triangle does, M⁻¹ = L⁻ᴴ L⁻¹, is not trusted: probes (`_probes`) bound ‖E‖, E = I − M⁻¹ G, with products of A itself in
double precision, and, by a power of it, ‖D M⁻¹ D‖, where D divides by the norms. Refinement contracts by ‖E‖. M⁻¹ is
Hermitian, and so is S = I − M^(-1/2) G M^(-1/2), which has the eigenvalues of E: G⁻¹ is at most M⁻¹ / (1 − ‖E‖), and
‖A⁺‖² at most ‖D M⁻¹ D‖ / (1 − ‖E‖).

References
----------
E. Carson, N. J. Higham and S. Pranesh, Three-precision GMRES-based iterative refinement for least squares problems,
SIAM J. Sci. Comput. 42 (2020), A4063-A4083: a preconditioner of low precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lstsq._arithmetic import is_complex
from lstsq._backend import Array
from lstsq_array_api import _certified
from lstsq_array_api import _lacking as lacking
from lstsq_array_api._certified import Bounds, Reduction
from lstsq_array_api._matrix import Matrix
from lstsq_array_api._probes import bound_of_square, probes

#: How often D M⁻¹ D is applied to the probes.
POWER = 3


def reduce(xp: Any, matrix: Matrix, in_single: bool) -> Reduction:
    """The reduction of tall matrices ``(B, M, N)``; `in_single`, by a Gram matrix of their own single precision."""
    gram = matrix.lower_gram(in_single)
    diagonal = xp.linalg.diagonal(gram)
    squares = xp.astype(xp.real(diagonal) if is_complex(gram) else diagonal, xp.float64, copy=False)
    scale = 1 / xp.sqrt(squares)[:, :, None]
    as_gram = xp.astype(scale, xp.float32) if in_single else scale
    triangle = lacking.cholesky(xp, gram * as_gram * xp.matrix_transpose(as_gram))
    solve = lacking.solver_of_definite(xp, xp.astype(triangle, matrix.working, copy=False))

    def step(cross: Array) -> Array:
        return solve(scale * cross)

    z = probes(xp, gram)
    defect = z - solve(scale * matrix.adjoint_times(matrix.times(scale * z)))
    # No power of these leaves the range.
    relative = scale / xp.max(scale, axis=1, keepdims=True)
    power = z
    for _ in range(POWER):
        power = relative * solve(relative * power)
    facts = [bound_of_square(xp, v) for v in (defect, power)]
    facts += [find(squares, axis=1, keepdims=True) for find in (xp.min, xp.max, xp.sum)]
    if not in_single:  # The blocks above the diagonal are not there.
        facts[-1] = math.sqrt(2) * xp.linalg.vector_norm(gram, axis=(-2, -1))[:, None]

    def bounds(xp: Any, facts: Sequence[Array]) -> Bounds:
        defect, power, shortest, longest, norm = facts
        rho, shortest = xp.sqrt(defect), xp.sqrt(shortest)
        inverse = xp.sqrt(power ** (1 / (2 * POWER)) / (1 - rho)) / shortest
        # The condition number is at least 1, and no more is known for certain.
        return Bounds(rho, xp.sqrt(norm), inverse, xp.ones_like(rho), shortest, xp.sqrt(longest), True)

    def singular_values(_: Bounds, good: Array) -> Array:
        return _certified.singular_values(xp, matrix, *matrix.gram(), good)

    return Reduction(step, True, facts, bounds, scale, singular_values)
