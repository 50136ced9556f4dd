"""Settings of a whole process that a test may change: each test finds them as a user's new process has them."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def settings_of_the_process(monkeypatch):
    """`lstsq compare`, the demo and the benchmarks switch JAX's double precision on and choose MLX's device."""
    mlx = sys.modules.get("mlx.core")
    device = mlx and mlx.default_device()
    monkeypatch.delenv("JAX_ENABLE_X64", raising=False)
    yield
    if jax := sys.modules.get("jax"):
        jax.config.update("jax_enable_x64", False)
    if mlx:
        mlx.set_default_device(device)


@pytest.fixture(params=[False, True], ids=["single", "double"])
def x64(request):
    """JAX without double precision, and with it."""
    with pytest.importorskip("jax").enable_x64(request.param):
        yield request.param


@pytest.fixture
def double():
    """JAX with double precision."""
    with pytest.importorskip("jax").enable_x64(True):
        yield


@pytest.fixture(scope="module")
def unoptimised():
    """XLA compiles faster. For tests of what it is asked; what its optimisations do, test_backend_jax sees."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    # What was compiled so is not for other tests.
    jax.clear_caches()
