"""Singular values of matrices of full rank from Hermitian eigenvalues, which libraries find several times faster.

Of a Gram matrix the eigenvalues are the squares: a rounding error of u ‖A‖² in σ² is one of u ‖A‖² / σ in σ, which is
nothing to single precision while σ is not much smaller than ‖A‖. In double precision A = U H is decomposed instead
(the polar decomposition, by QDWH: products and Cholesky triangles alone), and the eigenvalues of H are taken.

U is not trusted, and the condition number that the iteration needs is only a guide. If UᴴU = I then the singular values
σ of A are those of B = Uᴴ A = H + K, H Hermitian and K skew, and if H is positive definite, with eigenvalues λ, then

    λᵢ <= σᵢ (Fan and Hoffman)  and  Σ σᵢ² = Σ λᵢ² + ‖K‖_F²,  so that  0 <= σᵢ − λᵢ <= ‖K‖_F² / (2 λᵢ)  for each i.

References
----------
K. Fan and A. J. Hoffman, Some metric inequalities in the space of matrices, Proc. Amer. Math. Soc. 6 (1955), 111-116.
Y. Nakatsukasa, Z. Bai and F. Gygi, Optimizing Halley's iteration for computing the matrix polar decomposition, SIAM J.
Matrix Anal. Appl. 31 (2010), 2700-2720, section 3. Y. Nakatsukasa and N. J. Higham, Stable and efficient spectral
divide and conquer algorithms for the symmetric eigenvalue decomposition and the SVD, SIAM J. Sci. Comput. 35 (2013),
A1325-A1349, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstsq._arithmetic import adjoint
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking

#: The unit roundoff of double precision, in which all of this is computed.
UNIT = 2.0**-53
#: What an error may be of an answer in single precision: a sixteenth of its own rounding.
SINGLE = 2.0**-28
#: Columns up to which nothing is won.
SMALL = 64
#: Steps of the iteration after which it has converged whatever the matrix is.
STEPS = 12


def of_square(xp: Any, a: Array, bounds: Any, good: Array, single: bool) -> Array:
    """The singular values, descending, ``(B, N)``, of square matrices ``a (B, N, N)``, where they are `good` ``(B,)``.

    With `single` they go to single precision. `bounds` are those of `_certified`.
    """
    certified = lacking.to_host(good)
    identity = lacking.identity(xp, a)
    a = xp.where(lacking.to_device(xp, certified, a)[:, None, None], a, identity)
    n = a.shape[-1]
    values = from_gram(xp, _product(xp, a, a), n, single) if n > SMALL and single else None
    if values is None and n > SMALL and not lacking.is_on_cpu(a):
        norm, inverse = (
            np.where(certified, lacking.to_host(v), 1.0).reshape(-1, 1) for v in (bounds.norm, bounds.inverse)
        )
        values = from_polar(xp, a, norm, norm * inverse)
    return lacking.svdvals(xp, a) if values is None else values


def from_gram(xp: Any, gram: Array, additions: int, single: bool) -> Array | None:
    """The singular values, descending, ``(B, N)``, from the Gram matrices ``(B, N, N)`` of matrices of full rank.

    None if rounding may have moved one too far: by a sixteenth of the rounding of single precision, which they go to
    with `single`, or in double precision by more than twice what it does to the largest. So many `additions` are behind
    an entry, and errors count as independent (Higham and Mary 2019).
    """
    squares = xp.flip(lacking.eigenvalues(xp, gram), axis=-1)
    ends = lacking.to_host(xp.concat([squares[:, :1], squares[:, -1:]], axis=1))
    rounding = 8 * (math.sqrt(gram.shape[-1]) + math.sqrt(additions)) * UNIT
    # An error of σ² is in σ half of itself over σ.
    smallest = rounding / (2 * (SINGLE if single else 2 * rounding))
    return xp.sqrt(squares) if np.all(ends[:, 1] >= smallest**2 * ends[:, 0]) else None


def from_polar(xp: Any, a: Array, norm: np.ndarray[Any, Any], condition: np.ndarray[Any, Any]) -> Array | None:
    """The singular values, descending, ``(B, N)``, of square matrices ``a (B, N, N)`` of full rank.

    `norm` and `condition`, ``(B, 1)``, are at least ‖A‖ and ‖A‖ ‖A⁻¹‖. None where the proof fails.
    """
    identity = lacking.identity(xp, a)
    u = a / lacking.to_device(xp, norm, a)[:, :, None]
    for x, y, z in _weights(1 / float(np.max(condition))):
        triangle = lacking.cholesky(xp, identity + z * _product(xp, u, u))
        inverse = lacking.inverse_of_triangle(xp, triangle, identity)
        u = (y / z) * u + (x - y / z) * lacking.matmul(xp, u, _product(xp, inverse, inverse))
    u = 1.5 * u - 0.5 * lacking.matmul(xp, u, _product(xp, u, u))
    b = _product(xp, u, a)
    skew, hermitian = (b - adjoint(xp, b)) / 2, (b + adjoint(xp, b)) / 2
    values = xp.flip(lacking.eigenvalues(xp, hermitian), axis=-1)
    facts = [
        values[:, :1],
        values[:, -1:],
        xp.linalg.vector_norm(skew, axis=(-2, -1))[:, None],
        xp.linalg.vector_norm(identity - _product(xp, u, u), axis=(-2, -1))[:, None],
    ]
    largest, smallest, of_skew, defect = lacking.to_host(xp.concat(facts, axis=1)).T
    proven = (smallest > 0) & (of_skew**2 <= 2 * UNIT * smallest * largest) & (defect <= 8 * a.shape[-1] * UNIT)
    return values if np.all(proven) else None


def _product(xp: Any, a: Array, b: Array) -> Array:
    return lacking.matmul(xp, adjoint(xp, a), b)


def _weights(smallest: float) -> Iterator[tuple[float, float, float]]:
    """The weights of the steps of QDWH for singular values from `smallest` to 1, until all are 1."""
    l = smallest
    for _ in range(STEPS):
        if abs(1 - l) < 4 * UNIT:
            return
        square = l * l
        d = (4 * (1 - square) / square**2) ** (1 / 3)
        root = math.sqrt(1 + d)
        x = root + math.sqrt(8 - 4 * d + 8 * (2 - square) / (square * root)) / 2
        y = (x - 1) ** 2 / 4
        z = x + y - 1
        yield x, y, z
        l = min(1.0, l * (x + y * square) / (1 + z * square))
