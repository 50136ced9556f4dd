"""`backend=` of another library: what comes back, and what is refused because the other library cannot follow."""

from contextlib import contextmanager
from typing import ClassVar

import jax
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

from lstsq import _registry, lstsq
from lstsq_mlx import MlxBackend

A, B = mx.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), mx.array([1.0, 3.0, 4.0])


@pytest.mark.parametrize("backend", ["numpy", "jax", "mlx", "array_api"])
def test_results_can_be_written_to(backend):
    """JAX's own buffers, which NumPy only looks into, cannot."""
    a, b = np.array([[1, 2], [3, 4], [5, 7]], np.float32), np.ones((3, 2), np.float32)
    for one, other in ((a, b), (a, b[:, 0]), (np.stack([a, a]), b), (a, np.stack([b, b])), (a[:, :0], b)):
        for array in lstsq(one, other, backend=backend):
            assert not isinstance(array, np.ndarray) or array.flags.writeable


def total(a, b, backend="numpy"):
    return mx.sum(lstsq(a, b, backend=backend).x)


class TestMlx:
    """MLX itself converts an array in a derivative, and takes the numbers for constants: the derivative would be 0."""

    TRANSFORMED: ClassVar = {
        "grad by a": lambda f: mx.grad(f)(A, B),
        "grad by b": lambda f: mx.grad(f, argnums=1)(A, B),
        "grad by a, b constant": lambda f: mx.grad(lambda a: f(a, B))(A),
        "grad by a factor": lambda f: mx.grad(lambda t: f(A, t * B))(mx.array(2.0)),
        "value_and_grad": lambda f: mx.value_and_grad(f)(A, B),
        "vjp": lambda f: mx.vjp(f, [A, B], [mx.array(1.0)]),
        "jvp": lambda f: mx.jvp(f, [A, B], [A, B]),
        "vmap": lambda f: mx.vmap(f)(mx.stack([A, A]), mx.stack([B, B])),
        "vmap over b": lambda f: mx.vmap(f, in_axes=(None, 0))(A, mx.stack([B, B])),
        "compile": lambda f: mx.compile(f)(A, B),
        "checkpoint": lambda f: mx.grad(mx.checkpoint(f))(A, B),
        "custom_function": lambda f: mx.grad(mx.custom_function(f))(A, B),
        "second order": lambda f: mx.grad(lambda a: mx.sum(mx.grad(f)(a, B) ** 2))(A),
        "outer grad alone": lambda f: mx.grad(lambda t: mx.grad(lambda u: u * f(t * A, B))(mx.array(1.0)))(
            mx.array(2.0)
        ),
        "grad in vmap": lambda f: mx.vmap(mx.grad(f), in_axes=(None, 0))(A, mx.stack([B, B])),
        "evaluated inside": lambda f: mx.grad(lambda a: _evaluated(f, 2 * a))(A),
    }

    @pytest.mark.parametrize("backend", ["numpy", "jax", "array_api"])
    @pytest.mark.parametrize("case", TRANSFORMED)
    def test_a_transformation_is_refused(self, case, backend):
        with pytest.raises(TypeError, match=r"a transformation of MLX .* cannot follow it to another library"):
            self.TRANSFORMED[case](lambda a, b: total(a, b, backend))

    @pytest.mark.parametrize("case", [case for case in TRANSFORMED if case != "evaluated inside"])
    def test_its_own_backend_follows(self, case):
        self.TRANSFORMED[case](lambda a, b: total(a, b, None))

    @pytest.mark.parametrize("batch", [(), (2,)])
    def test_what_a_transformation_does_not_touch_is_converted(self, batch):
        a, b = mx.broadcast_to(A, (*batch, 3, 2)), B
        once = total(a, b).item()
        assert mx.grad(lambda t: t * total(a, b))(mx.array(1.0)).item() == pytest.approx(once)
        assert mx.compile(lambda t: t * total(a, b))(mx.array(2.0)).item() == pytest.approx(2 * once)

    def test_lists_of_traced_numbers_are_refused(self):
        for f in (lambda t: total(A, [t, 2 * t, t], None), lambda t: total([[t], [t], [2 * t]], B, None)):
            with pytest.raises(TypeError, match="a transformation of MLX"):
                mx.grad(f)(mx.array(1.0))


def _evaluated(f, a):
    mx.eval(a)
    return f(a, B)


class TestJax:
    @pytest.mark.parametrize("backend", ["numpy", "mlx", "array_api"])
    @pytest.mark.parametrize("transform", [jax.grad, jax.jit, jax.vmap, jax.jacfwd, jax.linearize])
    def test_a_transformation_is_refused(self, transform, backend):
        def f(t):
            return lstsq(jnp.eye(3) * t, jnp.ones(3), backend=backend).x.sum()

        with pytest.raises(TypeError, match=r"a transformation of JAX .* cannot follow it to another library"):
            transform(f)(jnp.ones(2)) if transform is jax.vmap else (
                transform(f, 1.0) if transform is jax.linearize else transform(f)(1.0)
            )

    def test_what_a_transformation_does_not_touch_is_converted(self):
        assert jax.grad(lambda t: t * lstsq(jnp.eye(3), jnp.ones(3), backend="mlx").x.sum())(1.0) == pytest.approx(3)

    def test_lists_of_traced_numbers_are_refused(self):
        with pytest.raises(TypeError, match="a transformation of JAX"):
            jax.grad(lambda t: lstsq(jnp.eye(2), [t, 2 * t]).x.sum())(1.0)


class Guarded(MlxBackend):
    """MLX where, as with a default device that lacks a dtype, nothing may be run outside of the context."""

    inside = 0
    used: ClassVar[set[str]] = set()

    @contextmanager
    def context(self):
        with super().context():
            type(self).inside += 1
            try:
                yield
            finally:
                type(self).inside -= 1

    def check(self, name):
        self.used.add(name)
        assert self.inside, f"{name} is run outside of the backend's context"

    def namespace(self, array):
        backend, mx = self, super().namespace(array)

        class Namespace:
            def __getattr__(self, name):
                found = getattr(mx, name)
                if callable(found) and not isinstance(found, type):
                    backend.check(name)
                return found

        return Namespace()

    def zeros(self, shape, dtype, like):
        self.check("zeros")
        return super().zeros(shape, dtype, like)

    def from_numpy_like(self, array, like):
        self.check("from_numpy_like")
        return super().from_numpy_like(array, like)


def double(*shape):
    """float64, which a GPU does not have, and no operation of MLX to make it."""
    return mx.array(np.sqrt(np.arange(1.0, 1 + np.prod(shape))).reshape(shape), dtype=mx.float64)


@pytest.fixture
def guarded(monkeypatch):
    backend = Guarded()
    owner = _registry.Owner(backend, "mlx", backend.namespace(A))
    find = _registry.owner
    monkeypatch.setattr(_registry, "owner", lambda array: owner if isinstance(array, mx.array) else find(array))
    backend.used.clear()
    return backend


CALLS = {
    "canonical": lambda: lstsq(double(5, 3), double(5)),
    "cast": lambda: lstsq(double(5, 3), mx.ones(5)),
    "integers": lambda: lstsq(mx.ones((5, 3), dtype=mx.int32), double(5)),
    "folded": lambda: lstsq(double(5, 3), double(2, 5, 2)),
    "vector for a batch": lambda: lstsq(double(2, 5, 3), double(5)),
    "no right-hand side": lambda: lstsq(double(5, 3), double(2, 5, 0)),
    "no column": lambda: lstsq(double(5, 0), double(2, 5, 2)),
    "no row": lambda: lstsq(double(0, 2), double(2, 0, 2)),
    "list": lambda: lstsq(double(5, 3), [1, 2, 3, 4, 5.5]),
    "numpy_resid": lambda: lstsq(double(3, 3), double(3), numpy_resid=True),
    "elsewhere": lambda: lstsq(double(2, 5, 3), double(5), backend="numpy"),
    "vmap": lambda: mx.vmap(lambda b: lstsq(double(5, 3), b).x)(mx.ones((4, 5))),
    "compile": lambda: mx.compile(lambda a, b: lstsq(a, b).x)(double(2, 5, 3), double(5)),
    "grad": lambda: mx.grad(lambda a, b: mx.sum(lstsq(a, b).x))(mx.ones((2, 5, 3)), mx.ones((5, 1))),
}

#: MLX's operation broadcasts by itself, and is given these by the frontend as they are.
AS_THEY_ARE = {"canonical", "folded", "vector for a batch", "compile", "grad"}


@pytest.mark.parametrize("call", CALLS)
def test_the_frontend_works_in_the_context_of_the_backend(guarded, call):
    expected = CALLS[call]()
    assert bool(guarded.used) == (call not in AS_THEY_ARE)
    assert guarded.inside == 0
    mx.eval(expected)


def test_the_guard_bites(guarded):
    with pytest.raises(AssertionError, match="reshape is run outside"):
        guarded.namespace(A).reshape(A, (2, 3))
