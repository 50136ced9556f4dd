"""The functions that a least-squares solution is made of, each with its derivative, to any order.

Throughout, ``a (..., M, N)`` has ``M >= N``: a wide problem is solved with the adjoint of its matrix. The factors ``f``
of `a` come along with it to spare a second decomposition. They are no independent variable, and their tangents are
ignored.

Derivation. Write A = U S Vᴴ. K is the set of singular values that are kept and D the rest, zero or cut off. Then

    Q = V_K V_Kᴴ      the projection on the kept right singular vectors,
    P = (A Q)⁺        the pseudo-inverse of the kept part,
    G = P Pᴴ          so that G M = Q and G Aᴴ = P, where
    M = AᴴA           which commutes with Q.

The derivative of Q. Q² = Q leaves dQ only the blocks between K and D: dQ = Z + Zᴴ with Z = (I − Q) Z Q. Differentiating
M Q = Q M gives M Z − Z M = −(I − Q) dM Q. In the basis V, for i in K and j in D, that is

    Z_ji = dM_ji / (σi² − σj²),

which never compares two values of the same set: whether values are equal, zero or cut off does not matter, as long as
none changes sets. `rotation` is this map C ↦ Z for any C in the place of dM, written S(C) below.

The derivative of P. A P is the projection U_K U_Kᴴ, so that P is the solution x below for b = I, without I formed:

    dP = −P dA P + G (dAᴴ − dAᴴ A P + Zᴴ Aᴴ − Zᴴ M P) + Z P.

`solve`, x = P b. Here x = Q x and M x = Q Aᴴ b. With r = b − A x, the first gives (I − Q) dx = dQ x = Z x. The second,
differentiated and multiplied by G, gives Q dx = G (dAᴴ b + Aᴴ db + dQ Aᴴ b − dM x). In it G dQ = G Zᴴ, and
Zᴴ Aᴴ b = Zᴴ Aᴴ r because Zᴴ Q = 0. Together

    dx = P (db − dA x) + G (dAᴴ r + Zᴴ Aᴴ r) + Z x.

For full rank Z = 0, and this is Golub and Pereyra (1973), equation 4.12, applied to b. For deficient rank without a
nonzero value in D, S(dM) = (I − Q) dAᴴ Pᴴ, which is their third term.

`solve_adjoint`, x = Pᴴ c, the minimum-norm solution of Aᴴ x = c. With u = P x = G c we have x = A u, u = Q u and
M u = Q c. With r = c − Aᴴ x the same two steps give (I − Q) du = Z u and Q du = G (dc + Zᴴ r − dM u), hence

    dx = Pᴴ (dc − dAᴴ x + Zᴴ r) + (dA u − Pᴴ Aᴴ dA u) + A Z u.

`squares`, ρ = ‖b − A x‖². Were x free, the derivative with respect to it would be −2 Re rᴴ A dx. It vanishes for dx in
the range of Q, since x is a minimum there (Danskin 1966). What is left comes from (I − Q) dx = Z x:

    dρ = 2 Re rᴴ (db − dA x) − 2 Re (Aᴴ r)ᴴ Z x.

`squares_adjoint`, ρ = ‖c − Aᴴ x‖² = cᴴ (I − Q) c, with r = (I − Q) c and Q c = Aᴴ x:

    dρ = 2 Re rᴴ dc − cᴴ dQ c = 2 Re rᴴ (dc − Z Aᴴ x).

`singular_values`. dσi = Re uiᴴ dA vi. Among equal values this is the derivative of their symmetric functions.

Second order. The rules are made of P, Q, A, products and S, so JAX differentiates them again. In a rule, what has a
tangent for its argument must be an operation that JAX can transpose, since that is how it derives reverse mode; it
would look through a `custom_jvp` there, and find constant factors. So P is a matrix, and S(C) is the solution Z of a
linear equation, to which JAX applies the implicit function theorem:

    Z − (I − Q) Z Q + (I − Q)(Z' M − M Z') Q = (I − Q) C Q    with Z' = (I − Q) Z Q.

`singular_vectors`, for the second derivatives of singular values alone. Let T = Uᴴ dA V = H + K, H Hermitian and K
skew. Differentiating A = U S Vᴴ gives, for i ≠ j,

    (Uᴴ dU)_ij = H_ij / (σj − σi) + K_ij / (σj + σi),
    (Vᴴ dV)_ij = H_ij / (σj − σi) − K_ij / (σj + σi),

and the second terms alone for i = j. The first, by which pairs of vectors turn together, is left out where values are
(almost) equal: it has no limit there, and cancels from the sum of these values. So second derivatives are right for
distinct values, and for functions that depend on equal values through their sum.

References
----------
G. H. Golub and V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, SIAM J. Numer. Anal. 10 (1973), 413-432, section 4.
J. M. Danskin, The theory of max-min, with applications, SIAM J. Appl. Math. 14 (1966), 641-664.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lstsq_jax._factor import Factors, adjoint, matmul

Primals = tuple[Any, ...]

#: Differences of singular values up to this times N eps are taken for zero, in second derivatives. Those that should be
#: zero come out at some eps; a difference of d has a relative error of eps / d, at most a hundredth beyond this limit.
NOISE = 100


@jax.custom_jvp
def solve(f: Factors, a: jax.Array, b: jax.Array) -> jax.Array:
    """``P b``: minimise ``‖b − a x‖`` over the kept directions, for ``b (..., M, K)``."""
    x = _apply(f, b)
    return x + _apply(f, b - matmul(a, x))  # One step of iterative refinement.


@jax.custom_jvp
def solve_adjoint(f: Factors, a: jax.Array, c: jax.Array) -> jax.Array:
    """``Pᴴ c``: the minimum-norm solution of ``aᴴ x = c``, for ``c (..., N, K)``."""
    x = _apply_adjoint(f, c)
    return x + _apply_adjoint(f, c - matmul(adjoint(a), x))


@jax.custom_jvp
def pinv(f: Factors, a: jax.Array) -> jax.Array:
    """P (..., N, M)."""
    return matmul(f.v * f.inverse[..., None, :], adjoint(f.u))


@jax.custom_jvp
def projection(f: Factors, a: jax.Array) -> jax.Array:
    """Q (..., N, N)."""
    v = jnp.where(f.keep[..., None, :], f.v, 0)
    return matmul(v, adjoint(v))


def rotation(f: Factors, a: jax.Array, c: jax.Array) -> jax.Array:
    """``S(c)``: how the kept directions turn when ``aᴴ a`` changes by ``c (..., N, N)``. Linear in `c`."""
    gram = matmul(adjoint(a), a)
    q = projection(f, a)

    def block(z: jax.Array) -> jax.Array:
        zq = matmul(z, q)
        return zq - matmul(q, zq)

    def equation(z: jax.Array) -> jax.Array:
        inside = block(z)
        return z - inside + block(matmul(inside, gram) - matmul(gram, inside))

    def solution(_: Any, rhs: jax.Array) -> jax.Array:
        # In the basis V the equation is diagonal, and outside the block (D, K) it is z = rhs.
        in_block = ~f.keep[..., :, None] & f.keep[..., None, :]
        i, j = f.s[..., None, :], f.s[..., :, None]
        rhs_in_basis = matmul(adjoint(f.v), matmul(rhs, f.v))
        z_in_basis = rhs_in_basis / jnp.where(in_block, (i - j) * (i + j), 1).astype(rhs.dtype)
        return matmul(f.v, matmul(z_in_basis, adjoint(f.v)))

    def transposed_solution(_: Any, rhs: jax.Array) -> jax.Array:
        return solution(_, rhs.conj()).conj()

    z: jax.Array = lax.custom_linear_solve(equation, block(c), solution, transposed_solution)
    return z


@jax.custom_jvp
def squares(f: Factors, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    """The sums of squares of ``b − a x (..., M, K)`` at ``x = solve(f, a, b)``."""
    return _sum_of_squares(b - matmul(a, x))


@jax.custom_jvp
def squares_adjoint(f: Factors, a: jax.Array, c: jax.Array, x: jax.Array) -> jax.Array:
    """The sums of squares of ``c − aᴴ x (..., N, K)`` at ``x = solve_adjoint(f, a, c)``."""
    return _sum_of_squares(c - matmul(adjoint(a), x))


@jax.custom_jvp
def singular_values(f: Factors, a: jax.Array) -> jax.Array:
    """The singular values of `a`, descending."""
    return f.s


@jax.custom_jvp
def singular_vectors(f: Factors, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The left and right singular vectors of `a`, as columns."""
    return f.u, f.v


@solve.defjvp
def _solve_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a, b), (_, da, db) = primals, tangents
    x = solve(f, a, b)
    r = b - matmul(a, x)
    z = rotation(f, a, _d_gram(a, da))
    p = pinv(f, a)
    normal = matmul(adjoint(da), r) + matmul(adjoint(z), matmul(adjoint(a), r))
    return x, matmul(p, db - matmul(da, x) + matmul(adjoint(p), normal)) + matmul(z, x)


@solve_adjoint.defjvp
def _solve_adjoint_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a, c), (_, da, dc) = primals, tangents
    x = solve_adjoint(f, a, c)
    r = c - matmul(adjoint(a), x)
    p = pinv(f, a)
    u = matmul(p, x)
    z = rotation(f, a, _d_gram(a, da))
    da_u = matmul(da, u)
    moved = dc - matmul(adjoint(da), x) + matmul(adjoint(z), r) - matmul(adjoint(a), da_u)
    return x, matmul(adjoint(p), moved) + da_u + matmul(a, matmul(z, u))


@pinv.defjvp
def _pinv_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a), (_, da) = primals, tangents
    p = pinv(f, a)
    z = rotation(f, a, _d_gram(a, da))
    normal = adjoint(da) + matmul(adjoint(z), adjoint(a))
    normal = normal - matmul(matmul(normal, a), p)
    return p, matmul(p, matmul(adjoint(p), normal) - matmul(da, p)) + matmul(z, p)


@projection.defjvp
def _projection_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a), (_, da) = primals, tangents
    z = rotation(f, a, _d_gram(a, da))
    return projection(f, a), z + adjoint(z)


@squares.defjvp
def _squares_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a, b, x), (_, da, db, _) = primals, tangents
    r = b - matmul(a, x)
    turned = matmul(rotation(f, a, _d_gram(a, da)), x)
    d = _real_dot(r, db - matmul(da, x)) - _real_dot(matmul(adjoint(a), r), turned)
    return squares(f, a, b, x), 2 * d


@squares_adjoint.defjvp
def _squares_adjoint_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a, c, x), (_, da, dc, _) = primals, tangents
    fitted = matmul(adjoint(a), x)
    turned = matmul(rotation(f, a, _d_gram(a, da)), fitted)
    return squares_adjoint(f, a, c, x), 2 * _real_dot(c - fitted, dc - turned)


@singular_values.defjvp
def _singular_values_jvp(primals: Primals, tangents: Primals) -> tuple[jax.Array, jax.Array]:
    (f, a), (_, da) = primals, tangents
    u, v = singular_vectors(f, a)
    return singular_values(f, a), _real_dot(u, matmul(da, v))


@singular_vectors.defjvp
def _singular_vectors_jvp(primals: Primals, tangents: Primals) -> tuple[Primals, Primals]:
    (f, a), (_, da) = primals, tangents
    (u, v), s = singular_vectors(f, a), singular_values(f, a)
    da_v = matmul(da, v)
    t = matmul(adjoint(u), da_v)
    hermitian, skew = (t + adjoint(t)) / 2, (t - adjoint(t)) / 2
    noise = NOISE * s.shape[-1] * float(np.finfo(s.dtype).eps) * s[..., :1, None]
    i, j = s[..., :, None], s[..., None, :]
    together = _divide_above(noise, hermitian, j - i)
    apart = _divide_above(noise, skew, j + i)
    du = matmul(u, together + apart) + _divide_above(noise, da_v - matmul(u, t), j)
    dv = matmul(v, together - apart)
    return (u, v), (du, dv)


def _apply(f: Factors, b: jax.Array) -> jax.Array:
    return matmul(f.v, f.inverse[..., None] * matmul(adjoint(f.u), b))


def _apply_adjoint(f: Factors, c: jax.Array) -> jax.Array:
    return matmul(f.u, f.inverse[..., None] * matmul(adjoint(f.v), c))


def _divide_above(noise: jax.Array, numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient where the denominator is more than noise, and zero elsewhere."""
    large = jnp.abs(denominator) > noise
    return jnp.where(large, numerator / jnp.where(large, denominator, 1).astype(numerator.dtype), 0)


def _d_gram(a: jax.Array, da: jax.Array) -> jax.Array:
    half = matmul(adjoint(a), da)
    return half + adjoint(half)


def _sum_of_squares(r: jax.Array) -> jax.Array:
    return _real_dot(r, r)


def _real_dot(p: jax.Array, q: jax.Array) -> jax.Array:
    """``Re pᴴ q``, column by column."""
    return (p.conj() * q).real.sum(-2)
