"""Backends over the JAX backend, each wrong in one way that only transformations show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstsq import Solution
from lstsq_jax import JaxBackend


class _OwnGradient(JaxBackend):
    """x has a derivative of its own, by the terms of Golub and Pereyra that a subclass keeps."""

    #: Whether the third term is there: how the row space turns, at deficient rank.
    third_term = True
    #: Whether singular values that are cut off count in it.
    truncated = True

    def solve(self, a: Any, b: Any, rcond: float, driver: str) -> Solution:
        import jax
        import jax.numpy as jnp

        solve = super().solve
        third_term, truncated = self.third_term, self.truncated

        def adjoint(matrix: Any) -> Any:
            return jnp.conj(jnp.swapaxes(matrix, -1, -2))

        @jax.custom_jvp
        def solution(a: Any, b: Any) -> Any:
            return solve(a, b, rcond, driver).x

        @solution.defjvp
        def _tangent(primals: Any, tangents: Any) -> Any:
            (a, b), (da, db) = primals, tangents
            u, s, vh = jnp.linalg.svd(jax.lax.stop_gradient(a), full_matrices=False)
            kept = s > rcond * s[..., :1]
            inverse = jnp.where(kept, 1 / jnp.where(kept, s, 1), 0)
            pinv = adjoint(vh) @ (inverse[..., None] * adjoint(u))
            x = solution(a, b)
            r = b - a @ x
            dx = pinv @ (db - da @ x) + pinv @ (adjoint(pinv) @ (adjoint(da) @ r))
            if third_term and not truncated:
                turned = adjoint(da) @ (adjoint(pinv) @ x)
                dx = dx + turned - pinv @ (a @ turned)
            return x, dx

        return solve(a, b, rcond, driver)._replace(x=solution(a, b))


class NoThirdTerm(_OwnGradient):
    name = "planted-no-third-term"
    third_term = False


class TruncatedForgotten(_OwnGradient):
    """As if what is cut off were zero: Golub and Pereyra's three terms, and no more."""

    name = "planted-truncated-forgotten"
    truncated = False


class WrongAxis(JaxBackend):
    """A vmap that takes the first axis, whichever it is told."""

    name = "planted-wrong-axis"

    def transform(self, name: str) -> Callable[..., Any]:
        import jax

        if name != "vmap":
            return super().transform(name)

        def vmap(f: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
            axes = tuple(None if axis is None else 0 for axis in in_axes) if isinstance(in_axes, tuple) else in_axes
            return jax.vmap(f, axes)

        return vmap
