"""The right answer to weighted and penalised least squares without any rounding: in Python's fractions.

Floating-point numbers are fractions, and so are the weights, whose roots are never taken:

    G x = A^H W b,    G = A^H W A + P

which is consistent, and is solved by elimination for the x of least norm. It is for problems of a few rows.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lstsq_conformance.ranges import joined, parts
from lstsq_conformance.reference import NumpyArray, eps_of
from lstsq_conformance.reference_extended import real_form

Matrix = list[list[Fraction]]
_Numbers = tuple[tuple[int, ...], bytes]


class Weighted(NamedTuple):
    """The answer to one problem, rounded to double precision, and what rounding may do to it."""

    x: NumpyArray
    #: The weighted sum of squares of each column.
    squares: NumpyArray
    rank: int
    #: What errors of 1 in the numbers of A and b, relative to the largest of their row, do to each column of x.
    changes: NumpyArray
    #: The length of ``|b| + |a| |x|`` with the weights: what roundings of the residual are relative to.
    lengths: NumpyArray


def solve(a: NumpyArray, b: NumpyArray, weights: NumpyArray, ridge: NumpyArray | float = 0.0) -> Weighted:
    """Solve ``(M, N)``, ``(M, K)`` with weights ``(M,)`` and a ridge, one number or ``(N,)``.

    A row of weight 0 may hold anything.
    """
    counted = weights > 0
    a, b, weights = a[counted], b[counted], weights[counted]
    penalties = np.broadcast_to(np.asarray(ridge, float), a.shape[1:])
    if np.iscomplexobj(a):
        found = _solve(
            *map(_key, (real_form(a), np.concatenate(parts(b), axis=-2), np.tile(weights, 2), np.tile(penalties, 2)))
        )
        return found._replace(x=joined(np.split(found.x, 2)), rank=found.rank // 2)
    return _solve(*map(_key, (a, b, weights, penalties)))


def _key(array: NumpyArray) -> _Numbers:
    """The shape and the numbers, by which a problem is solved once for all drivers."""
    return array.shape, np.asarray(array, float).tobytes()


def _array(key: _Numbers) -> NumpyArray:
    shape, numbers = key
    return np.asarray(np.frombuffer(numbers).reshape(shape))


@functools.lru_cache(maxsize=256)
def _solve(of_a: _Numbers, of_b: _Numbers, of_weights: _Numbers, of_penalties: _Numbers) -> Weighted:
    a, b, weights, penalties = map(_array, (of_a, of_b, of_weights, of_penalties))
    (m, n), k = a.shape, b.shape[1]
    rows, right, w, p = (_fractions(array) for array in (a, b, weights[:, None], penalties[:, None]))
    weighted = [[w[i][0] * number for number in rows[i]] for i in range(m)]
    gram = _product(_transpose(weighted), rows) if m else [[Fraction(0)] * n for _ in range(n)]
    _, rank = _eliminate(gram, n)
    for j in range(n):
        gram[j][j] += p[j][0]
    slopes = _product(_transpose(weighted), right) if m else [[Fraction(0)] * k for _ in range(n)]
    # The responses of x to each b, and x itself.
    solved = _shortest(gram, [slopes[j] + [weighted[i][j] for i in range(m)] for j in range(n)])
    x = [row[:k] for row in solved]
    left = [[right[i][c] - sum(rows[i][j] * x[j][c] for j in range(n)) for c in range(k)] for i in range(m)]
    squares = [float(sum(w[i][0] * left[i][c] ** 2 for i in range(m))) for c in range(k)]
    answer, response = (np.array(part, float).reshape(n, -1) for part in (x, [row[k:] for row in solved]))
    inverse = np.array(_shortest(gram, _shortest(gram, gram)), float).reshape(n, n)
    changes = _changes(a, b, weights, answer, response, inverse, np.array(left, float).reshape(m, k))
    terms = np.abs(b) + np.abs(a) @ np.abs(answer)
    return Weighted(answer, np.array(squares), rank, changes, np.sqrt(weights @ terms**2))


def _changes(
    a: NumpyArray,
    b: NumpyArray,
    weights: NumpyArray,
    x: NumpyArray,
    response: NumpyArray,
    inverse: NumpyArray,
    left: NumpyArray,
) -> NumpyArray:
    """To first order, by ``dx = G^+ (A^H W (db - dA x) + dA^H W r)``, and what dA turns of the null space.

    `response` is ``G^+ A^H W``, and `inverse` ``G^+``.
    """
    lengths = np.linalg.norm(a, axis=1)
    norms = np.linalg.norm(x, axis=0)
    of_rows = np.linalg.norm(response, axis=0) @ (np.abs(b) + lengths[:, None] * norms)
    of_residual = np.linalg.norm(inverse, 2) * (lengths * weights) @ np.abs(left)
    s = np.linalg.svd(a / np.where(lengths > 0, lengths, 1)[:, None], compute_uv=False)
    turned = s[0] / s[s > 1e-10 * s[0]][-1] if len(s) and s[0] > 0 else 0.0
    return np.asarray(of_rows + of_residual + turned * norms)


def roundings(truth: Weighted, size: int, inside: str, dtype: str) -> NumpyArray:
    """What roundings inside and one of the result may do to each column of x: the unit of its error."""
    return np.asarray(size * eps_of(inside) * truth.changes + eps_of(dtype) * np.linalg.norm(truth.x, axis=0))


def _fractions(array: NumpyArray) -> Matrix:
    return [[Fraction(float(number)) for number in row] for row in array]


def _transpose(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a)]


def _product(a: Matrix, b: Matrix) -> Matrix:
    columns = _transpose(b)
    return [[sum((p * q for p, q in zip(row, column)), Fraction(0)) for column in columns] for row in a]


def _shortest(gram: Matrix, right: Matrix) -> Matrix:
    """The solutions of least norm of ``gram x = right``, which is consistent: those in the range, ``x = gram y``."""
    n = len(gram)
    work, _ = _eliminate([row + beside for row, beside in zip(_product(gram, gram), right)], n)
    count = len(right[0]) if right else 0
    y = [[Fraction(0)] * count for _ in range(n)]
    for row in work:
        pivot = next((j for j in range(n) if row[j] != 0), None)
        if pivot is not None:
            y[pivot] = [Fraction(number, row[pivot]) for number in row[n:]]
    return _product(gram, y)


def _eliminate(matrix: Matrix, n: int) -> tuple[list[list[int]], int]:
    """What Gauss and Jordan make of the first n columns, and the rank.

    Rows are multiplied to be of whole numbers: a divisor is found for a row, and not for each difference of fractions.
    """
    work = []
    for fractions in matrix:
        common = math.lcm(*(number.denominator for number in fractions))
        work.append([number.numerator * (common // number.denominator) for number in fractions])
    done = 0
    for column in range(n):
        pivot = next((i for i in range(done, len(work)) if work[i][column] != 0), None)
        if pivot is None:
            continue
        work[done], work[pivot] = work[pivot], work[done]
        for i in range(len(work)):
            if i != done and work[i][column] != 0:
                of_row, of_pivot = work[i][column], work[done][column]
                row = [of_pivot * p - of_row * q for p, q in zip(work[i], work[done])]
                divisor = math.gcd(*row) or 1
                work[i] = [number // divisor for number in row]
        done += 1
    return work, done
