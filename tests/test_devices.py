"""Operands on one device and on two, and the devices that backends find on this machine."""

from __future__ import annotations

import types

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstsq import Backend, get_backend, lstsq

DEVICES = [array_api_strict.Device(name) for name in ("device1", "device2")]


def operands(*devices):
    """A matrix and a vector, on a device each."""
    return array_api_strict.eye(3, device=devices[0]), array_api_strict.ones(3, device=devices[-1])


class TestTwoDevices:
    @pytest.mark.parametrize("options", [{}, {"backend": "numpy"}, {"singular_values": False}])
    def test_are_refused_with_both_names(self, options):
        for first, second in (DEVICES, DEVICES[::-1]):
            with pytest.raises(TypeError, match="expected one device") as error:
                lstsq(*operands(first, second), **options)
            assert str(error.value).startswith(f"a is on the device {first} and b on {second};")

    def test_are_refused_where_nothing_is_to_be_solved(self):
        a, b = operands(*DEVICES)
        with pytest.raises(TypeError, match=r"device1.*device2"):
            lstsq(a[:0, :], b[:0])


class TestOneDevice:
    """Another than the library's default one."""

    def test_has_the_results(self):
        a, b = operands(DEVICES[0])
        for result in (
            lstsq(a, b),
            lstsq(a, b, singular_values=False),
            lstsq(a, b, driver="svd"),
            lstsq(a, b, backend="numpy"),
            lstsq(a[None, ...], b[:, None]),
            lstsq(a[:0, :], b[:0]),
            lstsq(a, b[:, None][:, :0]),
        ):
            assert {array.device for array in result if array is not None} == {DEVICES[0]}

    def test_is_joined_by_what_is_no_array(self):
        a, b = operands(DEVICES[0])
        for result in (lstsq(a, [1, 2, 3.5]), lstsq([[1, 2, 3]] * 3, b), lstsq(a, [np.float64(1), np.ones(()), 2])):
            assert {array.device for array in result} == {DEVICES[0]}


def test_jax_moves_what_nobody_has_put_on_a_device():
    backend, device = get_backend("jax"), jax.devices()[0]
    assert backend.device(jnp.ones(3)) is None
    assert backend.device(jax.device_put(jnp.ones(3), device)) == device
    seen = []
    jax.jit(lambda array: (seen.append(backend.device(array)), array)[1])(jax.device_put(jnp.ones(3), device))
    assert seen == [None]


class TestDevicesOfThisMachine:
    def test_the_first_of_each_kind(self):
        class Library(Backend):
            def from_numpy(self, array, namespace=None):
                return array

            def namespace(self, array):
                found = [None, "meta", "cpu:0", "cuda:0", "cuda:1"]
                return types.SimpleNamespace(
                    __array_namespace_info__=lambda: types.SimpleNamespace(devices=lambda: found)
                )

        assert Library().devices() == {"cpu": "cpu:0", "gpu": "cuda:0"}

    def test_a_library_that_can_make_no_array_has_none(self):
        assert get_backend("array_api").devices("no_such_library") == {}

    @pytest.mark.parametrize("name", ["numpy", "jax", "mlx"])
    def test_there_is_always_the_processor(self, name):
        assert "cpu" in get_backend(name).devices()

    def test_arrays_go_there(self):
        with get_backend("array_api").on_device(DEVICES[1]) as put:
            assert put(array_api_strict.ones(3)).device == DEVICES[1]
