"""Least squares on JAX arrays: compiled, mapped and differentiated."""

import jax
import jax.numpy as jnp

from lstsq import lstsq

jax.config.update("jax_enable_x64", True)

t = jnp.array([0.0, 1.0, 2.0, 3.0, 4.0])
y = jnp.array([1.1, 2.9, 5.2, 7.1, 8.8])
a = jnp.stack([jnp.ones(5), t], axis=1)

# Nothing about the result's shapes depends on a value, so it traces.
x = jax.jit(lambda a, y: lstsq(a, y).x)(a, y)
print(f"y = {x[0]:.2f} + {x[1]:.2f} t")
assert jnp.allclose(x, jnp.array([1.1, 1.96]))

# vmap over a hundred perturbed problems.
noise = 0.1 * jax.random.normal(jax.random.key(0), (100, 5))
slopes = jax.vmap(lambda e: lstsq(a, y + e).x[1])(noise)
print(f"slope {slopes.mean():.3f} ± {slopes.std():.3f}")
assert jnp.allclose(slopes.std(), 0.1 / jnp.sqrt(10), rtol=0.2)

# How the slope answers to each observation: (t - mean) / Σ(t - mean)².
gradient = jax.grad(lambda y: lstsq(a, y).x[1])(y)
print("d slope / d y =", gradient)
assert jnp.allclose(gradient, (t - 2) / 10)

# The gradient is right where the singular values are equal, and where the matrix is rank-deficient (here 2 of 3).
of_matrix = jax.grad(lambda a: lstsq(a, jnp.ones(3)).x.sum())
at_identity, at_deficient = of_matrix(jnp.eye(3)), of_matrix(jnp.arange(1.0, 10.0).reshape(3, 3))
print("at the identity:", at_identity.tolist())
print("at 1..9 in 3×3: ", (12 * at_deficient).round(9).tolist(), "/ 12")
assert jnp.allclose(at_identity, -1)
assert jnp.allclose(12 * at_deficient, jnp.array([[-1, 0, 1], [0, 0, 0], [1, 0, -1]]))
