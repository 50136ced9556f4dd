"""`array_namespace` answers for every library that is served."""

import array_api_compat.numpy
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

from lstsq import array_namespace


def test_each_library_has_its_own():
    assert array_namespace(mx.ones(2), mx.ones(3)) is mx
    assert array_namespace(jnp.ones(2)) is jnp
    assert array_namespace(np.ones(2)) is array_api_compat.numpy


def test_what_is_no_array_joins_the_others():
    assert array_namespace([1.0], 2.0, mx.ones(2)) is mx
    assert array_namespace([1.0], 2.0) is array_api_compat.numpy


def test_two_libraries_are_refused():
    with pytest.raises(TypeError, match="got arrays of jax and mlx; expected one library"):
        array_namespace(mx.ones(2), jnp.ones(2))


def test_what_a_solver_would_misread_is_refused():
    with pytest.raises(TypeError, match="masked entries"):
        array_namespace(np.ma.masked_equal([1, 2], 2))


def test_nothing_has_none():
    with pytest.raises(TypeError, match="was given no array"):
        array_namespace()
