"""Bounds of norms that are measured with probes.

For z of independent normal numbers the mean of ‖B z‖² is ‖B‖_F² >= ‖B‖². So a hundred times the mean of eight probes
is a bound of ‖B‖², which is too low with a chance below 2·10⁻⁷ (Dixon 1983; χ² with eight degrees of freedom).

References
----------
J. D. Dixon, Estimating extremal eigenvalues and condition numbers of matrices, SIAM J. Numer. Anal. 20 (1983), 812-814.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstsq._arithmetic import is_complex
from lstsq._backend import Array
from lstsq_array_api import _lacking as lacking

PROBES = 8
#: By how much the mean is multiplied.
SAFETY = 100.0


def probes(xp: Any, like: Array) -> Array:
    """Normal numbers ``(B, N, 8)`` for ``like (B, M, N)``: always the same, chosen without knowledge of any matrix."""
    random = np.random.default_rng(20)
    z = random.standard_normal((1, like.shape[-1], PROBES))
    if is_complex(like):
        z = (z + 1j * random.standard_normal(z.shape)) / np.sqrt(2)
    shape = (like.shape[0], like.shape[-1], PROBES)
    return xp.broadcast_to(lacking.to_device(xp, z, like), shape)


def bound_of_square(xp: Any, images: Array) -> Array:
    """The bound ``(B, 1)`` of the square of a norm, from the images ``(B, M, 8)`` of the probes."""
    return (xp.linalg.vector_norm(images, axis=(-2, -1)) ** 2 * (SAFETY / PROBES))[:, None]
