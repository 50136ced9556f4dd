"""JAX's and MLX's derivatives, found in two different ways, are the same in double precision."""

import jax
import mlx.core as mx
import numpy as np
import pytest

from lstsq import get_backend
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
