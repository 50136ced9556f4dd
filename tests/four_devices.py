"""JAX arrays spread over four devices. Run by `test_jax_sharding` in a process that has them."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lstsq import lstsq, reduce_rows, residual

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="run by test_jax_sharding, with four devices")


class Mesh(NamedTuple):
    """Four devices in a square."""

    devices: Any
    #: Whether shardings are part of types, which is the default of `jax.make_mesh`, or XLA's choice.
    explicit: bool
    #: Whether the mesh is set for all arrays that are made.
    in_force: bool


@pytest.fixture(
    scope="module",
    params=[(True, True), (True, False), (False, False)],
    ids=["explicit, in force", "explicit", "auto"],
)
def mesh(request):
    explicit, in_force = request.param
    devices = jax.make_mesh((2, 2), ("i", "j"), axis_types=(AxisType.Explicit if explicit else AxisType.Auto,) * 2)
    with jax.enable_x64(True), jax.set_mesh(devices) if in_force else nullcontext():
        yield Mesh(devices, explicit, in_force)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def put(mesh, array, *spec):
    return jax.device_put(
        array, NamedSharding(mesh.devices, PartitionSpec(*(None if axis == "-" else axis for axis in spec)))
    )


def assert_same(got, expected):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def oracle(a, b):
    """The answer of NumPy's arrays, which XLA need not compile."""
    return lstsq(np.asarray(a), np.asarray(b), backend="numpy")


ANSWERS = {
    "batch": ((4, 6, 3), "i", (4, 6, 2), "i"),
    "batch of wide": ((4, 3, 6), "i", (4, 3, 2), "i"),
    "one matrix": ((6, 3), "", (4, 6, 2), "i"),
    "one matrix, two axes": ((6, 3), "", (4, 4, 6, 2), "ij"),
    "one matrix, second axis": ((6, 3), "", (3, 4, 6, 2), "-j"),
    "one matrix, right-hand sides": ((6, 3), "", (3, 6, 4), "--i"),
    "rows": ((8, 3), "i", (8,), "i"),
    "columns": ((8, 4), "-i", (8, 2), "--"),
    "one right-hand side": ((4, 6, 3), "i", (6,), ""),
    "two shardings": ((4, 6, 3), "i", (4, 6, 2), "j"),
    "batch and right-hand sides": ((4, 6, 3), "i", (4, 6, 2), "--i"),
    "outer": ((4, 1, 6, 3), "i", (1, 2, 6, 2), "-j"),
    "K = 0": ((4, 6, 3), "i", (4, 6, 0), "i"),
    "M = 0": ((4, 0, 3), "i", (4, 0, 2), "i"),
    "N = 0": ((4, 6, 0), "i", (4, 6, 2), "i"),
}
DERIVED = ("batch", "one matrix, two axes", "two shardings")


def problem(mesh, name):
    """The operands here and there."""
    shape_a, spec_a, shape_b, spec_b = ANSWERS[name]
    a, b = random(*shape_a), random(*shape_b, seed=1)
    return (jnp.asarray(a), jnp.asarray(b)), (put(mesh, a, *spec_a), put(mesh, b, *spec_b))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(mesh, name):
    here, there = problem(mesh, name)
    assert_same(lstsq(*there), oracle(*here))


@pytest.mark.parametrize("backend", ["jax", "numpy"])
@pytest.mark.parametrize("name", ["one matrix, two axes", "K = 0", "N = 0"])
def test_answers_without_singular_values(mesh, name, backend):
    here, there = problem(mesh, name)
    got = lstsq(*there, singular_values=False, backend=backend)
    assert got.s is None
    assert_same(got[:3], oracle(*here)[:3])


@pytest.mark.parametrize("name", DERIVED)
def test_compiled_with_gradients(mesh, name):
    here, there = problem(mesh, name)

    @jax.jit
    def everything(a, b, rcond):
        gradients = jax.grad(lambda a, b: sum(map(jnp.sum, lstsq(a, b, rcond)[:2])), (0, 1))(a, b)
        return lstsq(a, b, rcond), gradients

    assert_same(everything(*there, 0.2), everything(*here, 0.2))


def test_results_are_sharded_as_the_batch_is(mesh):
    if not mesh.explicit:
        return  # XLA chooses.
    _, there = problem(mesh, "one matrix, two axes")
    for result in (lstsq(*there), jax.jit(lstsq)(*there)):
        specs = [tuple(jax.typeof(array).sharding.spec) for array in result]
        assert specs == [("i", "j", None, None), ("i", "j", None), ("i", "j"), ("i", "j", None)]


def test_lists(mesh):
    a, b = random(4, 6, 3), random(4, 3, 2)
    numbers, rows = [1, 2, 3, 4, 5, 6.5], [[1, 2], [1, 3], [1, 5]]
    assert_same(lstsq(put(mesh, a, "i"), numbers), oracle(a, np.array(numbers)))
    assert_same(lstsq(rows, put(mesh, b, "i")), oracle(np.array(rows, float), b))


def test_mapped(mesh):
    (a, b), there = problem(mesh, "batch")
    assert_same(jax.jit(jax.vmap(lstsq))(*there), oracle(a, b))
    if mesh.in_force or not mesh.explicit:  # Otherwise JAX itself maps over explicit axes in compiled functions only.
        assert_same(jax.vmap(lstsq)(*there), oracle(a, b))


def test_transposes_and_second_derivatives(mesh):
    here, there = problem(mesh, "batch")

    @jax.jit
    def both(a, b):
        transposed = jax.linear_transpose(lambda b: lstsq(a, b).x, b)(lstsq(a, b).x)[0]
        second = jax.jvp(jax.grad(lambda a: (lstsq(a, b).x ** 2).sum()), (a,), (a,))[1]
        return transposed, second

    assert_same(both(*there), both(*here))


def test_another_backend(mesh):
    a, b = random(6, 3), random(4, 4, 6, 2, seed=1)
    got = lstsq(put(mesh, a), put(mesh, b, "i", "j"), backend="numpy")
    assert_same(got, oracle(a, b))
    assert len(got.x.devices()) == 4


def test_nothing_is_transferred_without_a_word(mesh):
    a, b = put(mesh, random(6, 3)), put(mesh, random(4, 6, 2, seed=1), "i")
    with jax.transfer_guard("disallow"):
        got = lstsq(a, b, 0.1)
    assert_same(got, lstsq(jnp.asarray(np.asarray(a)), jnp.asarray(np.asarray(b)), 0.1))


def test_weights_and_a_residual(mesh):
    a, b = random(4, 6, 3), random(4, 6, 2, seed=1)
    weights = np.arange(6.0) % 3
    expected = lstsq(jnp.asarray(a), jnp.asarray(b), weights=weights.tolist())
    placed = put(mesh, a, "i"), put(mesh, b, "i")
    assert_same(lstsq(*placed, weights=jnp.asarray(weights)), expected)
    if mesh.explicit:
        with pytest.raises(TypeError, match="nor is their residual found"):
            residual(placed[0], expected.x, placed[1])
    else:
        assert_same((residual(placed[0], expected.x, placed[1]),), (jnp.asarray(b - a @ np.asarray(expected.x)),))


def test_inside_shard_map(mesh):
    a, b = random(4, 6, 3), random(4, 6, 2, seed=1)

    def gradients(a, b):
        return jax.grad(lambda a: lstsq(a, b).x.sum())(a), lstsq(a, b).residuals

    spec = PartitionSpec("i")
    mapped = jax.shard_map(gradients, mesh=mesh.devices, in_specs=(spec, spec), out_specs=(spec, spec))
    expected = jax.jit(gradients)(jnp.asarray(a), jnp.asarray(b))
    assert_same(jax.jit(mapped)(put(mesh, a, "i"), put(mesh, b, "i")), expected)


def test_results_stay_on_the_device_of_the_input(mesh):
    if mesh.in_force:
        return  # JAX then refuses arrays of other devices than the mesh's.
    device = jax.devices()[2]
    a, b = jax.device_put(random(6, 3), device), jax.device_put(random(4, 6, 2, seed=1), device)
    for result in (lstsq(a, b), lstsq(a, b[..., :0]), lstsq(a[:0], b[:, :0]), lstsq(a, [1] * 6)):
        for array in result:
            assert array.devices() == {device}


def test_rows_in_blocks(mesh):
    a, b = random(8, 3), random(8, 2)
    blocks = [[put(mesh, array[rows], "i", "-") for array in (a, b)] for rows in (slice(4), slice(4, None))]

    def solve(blocks):
        return tuple(sum(reduce_rows(*block) for block in blocks).solve())

    for function in (solve, jax.jit(solve)):
        if mesh.explicit:
            with pytest.raises(TypeError, match="whose sharding is explicit are not reduced"):
                function(blocks)
        else:
            assert_same(function(blocks), tuple(oracle(a, b)))


@pytest.mark.parametrize("spec", [("i", "-"), ("ij", "-"), ("i", "j")])
def test_rows_are_reduced_where_they_lie(mesh, spec):
    from lstsq_jax._reduce import reduce_rows as reduce_where_they_lie

    if mesh.explicit:
        return  # Refused: the test before this one.
    spec = [tuple(axis) if len(axis) > 1 else axis for axis in spec]
    a, b = random(4096, 4) / 64, random(4096, 2) / 64
    a[:, 3] = a[:, 0]
    rows, right = put(mesh, a, *spec), put(mesh, b, "j", "-")
    assert_same(tuple(reduce_rows(rows, right).solve()), tuple(oracle(a, b)))
    by_rows = [put(mesh, array, spec[0], "-") for array in (a, b)]
    assert_only_triangles_travel(reduce_where_they_lie, *by_rows)


@pytest.mark.parametrize("spec", [("i", "-"), ("ij", "-")])
def test_rows_are_solved_where_they_lie(mesh, spec):
    """One long matrix, and one that is wide, with their gradients, compiled."""
    spec = [tuple(axis) if len(axis) > 1 else axis for axis in spec]
    a, b = random(4096, 4) / 64, random(4096, 2) / 64
    a[:, 3] = a[:, 0]

    @jax.jit
    def everything(a, b):
        return tuple(lstsq(a, b)), jax.grad(lambda a, b: sum(map(jnp.sum, lstsq(a, b)[:2])), (0, 1))(a, b)

    rows, right = put(mesh, a, *spec), put(mesh, b, *spec)
    assert_same(everything(rows, right), everything(jnp.asarray(a), jnp.asarray(b)))
    columns, short = put(mesh, a.T, *spec[::-1]), put(mesh, b[:4])
    assert_same(everything(columns, short), everything(jnp.asarray(a.T), jnp.asarray(b[:4])))
    if mesh.explicit and mesh.in_force and jax.default_backend() != "cpu":
        return  # JAX cannot compile that there; XLA then brings the rows together.
    assert_only_triangles_travel(everything, rows, right)
    assert_only_triangles_travel(everything, columns, short)


def assert_only_triangles_travel(function, *arrays):
    """Of what travels nothing is larger than a triangle of 4 columns from each of four devices."""
    text = function.lower(*arrays).compile().as_text()
    travels = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    found = re.findall(rf"= (\(?[^=]*?\)?) ({travels})(?:-start)?\(", text)
    sizes = [math.prod(map(int, shape.split(","))) for what, _ in found for shape in re.findall(r"\[([\d,]+)\]", what)]
    assert "all-gather" in {kind for _, kind in found}
    assert max(sizes) <= 4 * 4 * 4, found
