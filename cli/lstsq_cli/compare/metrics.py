"""How good an answer is, as numbers that need no other solver: computed by NumPy in double precision.

The matrix that an answer is held against is A with the singular values at or below the cutoff set to zero: that is the
problem that the contract says is solved.

References
----------
B. Waldén, R. Karlson and J. Sun, Optimal backward perturbation bounds for the linear least squares problem, Numer.
Linear Algebra Appl. 2 (1995).
J. F. Grcar, M. A. Saunders and Z. Su, Estimates of optimal backward perturbations for linear least squares problems,
Stanford SOL 2007-1, section 1: the estimate that is used here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstsq_cli.problems import NumpyArray
from lstsq_conformance.ranges import scaled


class Stick(NamedTuple):
    """What answers to one problem are measured with: its matrix, and NumPy's singular value decomposition of it."""

    a: NumpyArray
    b: NumpyArray
    #: Exponents of two that `a` and `b` were divided by, so that no square overflows.
    a_exponent: int
    b_exponent: int
    s: NumpyArray
    vh: NumpyArray
    rank: int


class Metrics(NamedTuple):
    """Of one answer; the worst of its right-hand sides."""

    #: ``‖b - a x‖``, over all right-hand sides.
    residual: float
    #: How far A must be moved, relative to its size, for this x to solve the moved problem exactly.
    backward_error: float
    #: ``‖aᴴ r‖ / (‖a‖ ‖r‖)``: the cosine of the angle between the residual and the range of A, as it were.
    optimality: float
    #: The share of x that A does not see, and a solution of minimum norm does not have.
    excess: float


def make_stick(a: NumpyArray, b: NumpyArray, rcond: float) -> Stick:
    """Decompose the matrix in double precision, whatever its dtype."""
    exponents = [int(np.frexp(np.abs(array).max())[1]) for array in (a, b)]
    a, b = (scaled(array, -exponent) for array, exponent in zip((a, b), exponents))
    core = np.linalg.qr(a, mode="r") if a.shape[0] > a.shape[1] else a
    _, s, vh = np.linalg.svd(core, full_matrices=False)
    rank = int(np.count_nonzero(s > rcond * s[0]))
    return Stick(a, b, exponents[0], exponents[1], s, vh, rank)


def judge(stick: Stick, x: NumpyArray) -> Metrics:
    """Measure one solution ``x (N, K)``."""
    a, b, s = stick.a, stick.b, stick.s[: stick.rank]
    vh = stick.vh[: stick.rank]
    x = scaled(x, stick.a_exponent - stick.b_exponent)
    r = b - a @ x
    r_norm, x_norm = np.linalg.norm(r, axis=0), np.linalg.norm(x, axis=0)
    gradient = vh @ (a.conj().T @ r)
    largest = s[0] if stick.rank else 1.0
    optimality = _ratio(np.linalg.norm(gradient, axis=0), largest * r_norm)
    # ‖ (‖r‖² I + ‖x‖² AᵀA)^(-1/2) Aᵀ r ‖ in the basis of the right singular vectors, where it is a division.
    shares = _ratio(np.abs(gradient), np.hypot(r_norm, s[:, None] * x_norm))
    backward = np.linalg.norm(shares, axis=0) / (np.linalg.norm(s) if stick.rank else 1.0)
    unseen = np.linalg.norm(x - vh.conj().T @ (vh @ x), axis=0)
    return Metrics(
        residual=float(np.ldexp(np.linalg.norm(r_norm), stick.b_exponent)),
        backward_error=float(backward.max()),
        optimality=float(optimality.max()),
        excess=float(_ratio(unseen, x_norm).max()),
    )


def digits(x: NumpyArray, y: NumpyArray, eps: float) -> float:
    """In how many decimal digits the worst coefficient of `x` agrees with that of `y`, at most those of the dtype.

    A coefficient that is below 10 eps of the largest counts as zero: its digits are rounding.
    """
    sizes = np.maximum(np.abs(x), np.abs(y))
    told = sizes > 10 * eps * sizes.max(initial=0.0)
    most = float(-np.log10(eps))
    with np.errstate(invalid="ignore"):
        apart = float(np.max(np.abs(x - y)[told] / sizes[told], initial=0.0))
    if np.isnan(x).any() or np.isnan(y).any() or np.isnan(apart):
        return 0.0
    return most if apart == 0 else float(np.clip(-np.log10(apart), 0, most))


def digits_of_residuals(residuals: NumpyArray, norms: NumpyArray, eps: float) -> float:
    """The same of the norms that these sums of squares say, the worst of the right-hand sides."""
    with np.errstate(invalid="ignore"):
        apart = _ratio(np.abs(np.sqrt(residuals.astype(float)) - norms), norms)
    worst = float(np.max(apart, initial=0.0))
    return float(np.clip(-np.log10(max(worst, eps)), 0, None)) if np.isfinite(worst) else 0.0


def _ratio(numerator: NumpyArray, denominator: NumpyArray) -> NumpyArray:
    """The quotient, where nothing over nothing is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numerator == 0, 0.0, numerator / denominator)
