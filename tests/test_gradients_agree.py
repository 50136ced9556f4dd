"""JAX's and MLX's derivatives, found in two different ways, are the same in double precision."""

import jax
import mlx.core as mx
import numpy as np
import pytest

from lstsq import factorize, get_backend, pinv
from lstsq_conformance.points import OUTPUTS, WRITTEN, functional, point
from lstsq_conformance.target import Target

EPS = 2.0**-52
NAMES = (*WRITTEN, "one of 1e-3 truncated 5x3", "three equal 5x4")


@pytest.fixture(scope="module")
def targets():
    with jax.enable_x64(True), mx.stream(mx.cpu):
        yield [Target(get_backend(name), name, ("auto",), ("float64",)) for name in ("jax", "mlx")]


def gradients(target, at, output):
    """With respect to a and to b."""
    value = functional(target, at, output, "float64", target.claims.default_driver)
    native = target.array(at.a), target.array(at.b)
    return [target.numpy(target.transform("grad")(value, argument)(*native)) for argument in (0, 1)]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
def test_jax_and_mlx_agree(targets, name, output):
    at = point(name, "float64")
    for one, other in zip(*(gradients(target, at, output) for target in targets)):
        assert np.isfinite(one).all()
        smallest = np.linalg.svd(at.a, compute_uv=False)[at.rank - 1] if at.rank else 1.0
        np.testing.assert_allclose(one, other, rtol=0, atol=1000 * EPS * max(1, abs(one).max()) / min(1, smallest))


def test_jax_and_mlx_agree_on_a_pseudoinverse(targets):
    """Of rank one, where half of the singular values are equal, at zero."""
    at = point("rank one 3x5", "float64")
    weights = np.random.default_rng(0).standard_normal((5, 3))
    for function in (pinv, lambda a: factorize(a).pinv()):
        found = []
        for target in targets:
            w = target.array(weights)

            def value(a, w=w, xp=target.xp, function=function):
                return xp.sum(w * function(a))

            found.append(target.numpy(target.transform("grad")(value)(target.array(at.a))))
        assert abs(found[0]).max() > 0.1
        np.testing.assert_allclose(*found, rtol=0, atol=1000 * EPS * max(1, abs(found[0]).max()))
