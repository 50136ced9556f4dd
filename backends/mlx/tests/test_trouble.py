"""What is refused, what fails, and what the messages say."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import mlx.core as mx
import numpy as np
import pytest
from conftest import DRIVERS
from lstsq_mlx._native import native


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("a", "b", "rcond", "driver", "message"),
    [
        (mx.ones((3,)), mx.ones((3, 1)), 0.1, "qr", "expected"),
        (mx.ones((3, 2)), mx.ones((4, 1)), 0.1, "qr", r"\(3,2\).*\(4,1\)"),
        (mx.ones((2, 3, 2)), mx.ones((3, 3, 1)), 0.1, "qr", "same batch"),
        (mx.ones((3, 0)), mx.ones((3, 1)), 0.1, "qr", "none of them 0"),
        (mx.ones((3, 2), dtype=mx.float16), mx.ones((3, 1), dtype=mx.float16), 0.1, "qr", "float16"),
        (mx.ones((3, 2)), mx.ones((3, 1), dtype=mx.complex64), 0.1, "qr", "complex64"),
        (mx.ones((3, 2)), mx.ones((3, 1)), -0.1, "qr", "rcond = -0.1"),
        (mx.ones((3, 2)), mx.ones((3, 1)), float("nan"), "qr", "rcond = nan"),
        (mx.ones((3, 2)), mx.ones((3, 1)), 0.1, "cholesky", "auto, gelsd, qr, svd"),
    ],
)
def test_refusals(a, b, rcond, driver, message):
    with pytest.raises(ValueError, match=message):
        native().lstsq(a, b, rcond, driver)


@pytest.mark.skipif(native().lapack_integer_bits() == 64, reason="SciPy's LAPACK has 64-bit integers: no such limit")
@pytest.mark.parametrize(
    ("driver", "m", "n", "k"),
    [("gelsd", 60_000, 60_000, 1), ("svd", 21_000, 21_000, 1), ("qr", 60_000, 60_000, 1), ("gelsd", 3, 2, 2**30)],
)
def test_sizes_beyond_the_integers_of_lapack(driver, m, n, k):
    """Refused while the graph is built: these arrays would take more memory than there is."""
    a, b = mx.broadcast_to(mx.array(1.0), (m, n)), mx.broadcast_to(mx.array(1.0), (m, k))
    with pytest.raises(ValueError, match=r"2147483647.*64-bit"):
        native().lstsq(a, b, 1e-6, driver)


def test_long_matrices_have_no_such_limit():
    a, b = mx.broadcast_to(mx.array(1.0), (10**9, 8)), mx.broadcast_to(mx.array(1.0), (10**9, 1))
    native().lstsq(a, b, 1e-6, "qr")


# LAPACK's routines, replaced by some that say they did not converge, before the backend takes them from SciPy.
FAILING = """
import ctypes
import numpy as np
import scipy.linalg.cython_lapack as lapack
import mlx.core as mx
from lstsq_mlx._native import native

api = ctypes.pythonapi
api.PyCapsule_New.restype, api.PyCapsule_New.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
kept, calls = [], []

def fail(name, lwork_at, argument_count):
    real = lapack.__pyx_capi__[name]
    signature = api.PyCapsule_GetName(real)
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * argument_count)
    original = prototype(api.PyCapsule_GetPointer(real, signature))

    def routine(*arguments):
        if ctypes.c_int32.from_address(arguments[lwork_at]).value == -1:
            return original(*arguments)  # the workspace query
        calls.append(name)
        ctypes.c_int32.from_address(arguments[-1]).value = 1

    kept.extend([signature, prototype(routine)])
    address = ctypes.cast(kept[-1], ctypes.c_void_p)
    lapack.__pyx_capi__[name] = api.PyCapsule_New(address, signature, None)

def solve(driver):
    a = np.arange(1.0, 13.0).reshape(4, 3)
    return [np.array(out) for out in native().lstsq(mx.array(a, dtype=mx.float64), mx.ones((4, 1), dtype=mx.float64), 1e-10, driver)]
"""
GELSD, GESDD, GESVD = 'fail("dgelsd", 11, 14)', 'fail("dgesdd", 11, 14)', 'fail("dgesvd", 12, 14)'


@pytest.mark.parametrize("driver", DRIVERS)
def test_another_driver_is_tried_when_one_does_not_converge(driver):
    out = run_python(
        FAILING
        + f"""
{GELSD}
{GESDD}
x, residuals, rank, s = solve({driver!r})
print(calls)
np.testing.assert_allclose(x, np.linalg.pinv(np.arange(1.0, 13.0).reshape(4, 3)) @ np.ones((4, 1)), atol=1e-12)
assert rank == 2
np.testing.assert_allclose(s, np.linalg.svd(np.arange(1.0, 13.0).reshape(4, 3), compute_uv=False), atol=1e-12)
"""
    )
    assert out.split("\n")[0] == str(["dgesdd"] if driver == "svd" else ["dgelsd", "dgesdd"])


@pytest.mark.parametrize("driver", DRIVERS)
def test_nan_when_none_converges(driver):
    run_python(
        FAILING
        + f"""
{GELSD}
{GESDD}
{GESVD}
x, residuals, rank, s = solve({driver!r})
assert np.isnan(x).all() and np.isnan(residuals).all() and np.isnan(s).all() and rank == 0
"""
    )


def test_importing_is_light():
    run_python(
        """
        import sys
        import lstsq_mlx
        assert not {"mlx", "mlx.core", "lstsq_mlx._core", "scipy"} & set(sys.modules)
        backend = lstsq_mlx.MlxBackend()
        assert backend.capabilities.drivers
        assert not {"mlx.core", "scipy"} & set(sys.modules)
        """
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ('import mlx.core; mlx.core.__version__ = "0.1.2"', "0.1.2 is installed; run `pip install 'lstsq-mlx' 'mlx=="),
        ('sys.modules["scipy.linalg.cython_lapack"] = None', "pip install --upgrade scipy"),
        ('sys.modules["lstsq_mlx._core"] = None', "pip install"),
        ('sys.modules["mlx.core"] = None', "pip install"),
        (
            "import scipy.linalg.cython_lapack as m; m.__pyx_capi__.pop('dgelsd')",
            "scipy.linalg.cython_lapack has no routine dgelsd",
        ),
    ],
)
def test_one_message_says_what_to_install(break_it, message):
    out = run_python(
        f"""
        import sys
        {break_it}
        from lstsq_mlx import MlxBackend
        print(MlxBackend().unavailable())
        try:
            MlxBackend().solve(None, None, 0.1, "auto")
        except ImportError as error:
            print(error)
        """
    )
    reason, raised = out.strip().split("\n")
    assert message in reason
    assert reason == raised


def test_conversion_keeps_every_dtype():
    from lstsq_mlx import MlxBackend

    backend = MlxBackend()
    for dtype in ("bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"):
        array = np.ones((2, 3), dtype=dtype)
        assert backend.to_numpy(backend.from_numpy(array)).dtype == array.dtype
    with pytest.raises(TypeError, match="complex128"):
        backend.from_numpy(np.ones(2, dtype=np.complex128))
