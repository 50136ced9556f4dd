"""What is refused, what fails, and what the messages say."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from operation import DRIVERS, run_python

from lstsq_mlx._native import native


@pytest.mark.parametrize(
    ("a", "b", "rcond", "driver", "message"),
    [
        (mx.ones((3,)), mx.ones((3, 1)), 0.1, "qr", "expected"),
        (mx.ones((3, 2)), mx.ones((4, 1)), 0.1, "qr", r"\(3,2\).*\(4,1\)"),
        (mx.ones((2, 3, 2)), mx.ones((3, 3, 1)), 0.1, "qr", "batch dimensions that broadcast"),
        (mx.ones((3, 0)), mx.ones((3, 1)), 0.1, "qr", "none of them 0"),
        (mx.ones((3, 2), dtype=mx.float16), mx.ones((3, 1), dtype=mx.float16), 0.1, "qr", "float16"),
        (mx.ones((3, 2)), mx.ones((3, 1), dtype=mx.complex64), 0.1, "qr", "complex64"),
        (mx.ones((3, 2)), mx.ones((3, 1)), -0.1, "qr", "rcond = -0.1"),
        (mx.ones((3, 2)), mx.ones((3, 1)), float("nan"), "qr", "rcond = nan"),
        (mx.ones((3, 2)), mx.ones((3, 1)), 0.1, "lu", "auto, cholesky, gelsd, qr or svd"),
    ],
)
def test_refusals(a, b, rcond, driver, message):
    with pytest.raises(ValueError, match=message):
        native().lstsq(a, b, rcond, driver)
    if rcond == 0.1:
        with pytest.raises(ValueError, match=message):
            native().runs_on_gpu(a, b, driver)


@pytest.mark.skipif(native().lapack_integer_bits() == 64, reason="SciPy's LAPACK has 64-bit integers: no such limit")
@pytest.mark.parametrize(
    ("driver", "m", "n", "k"),
    [
        ("gelsd", 60_000, 60_000, 1),
        ("svd", 21_000, 21_000, 1),
        ("qr", 60_000, 60_000, 1),
        ("auto", 60_000, 60_000, 1),
        ("gelsd", 3, 2, 2**30),
    ],
)
def test_sizes_beyond_the_integers_of_lapack(driver, m, n, k):
    """Refused while the graph is built: these arrays would take more memory than there is."""
    a, b = mx.broadcast_to(mx.array(1.0), (m, n)), mx.broadcast_to(mx.array(1.0), (m, k))
    with pytest.raises(ValueError, match=r"2147483647.*64-bit"):
        native().lstsq(a, b, 1e-6, driver)


def test_long_matrices_have_no_such_limit():
    a, b = mx.broadcast_to(mx.array(1.0), (10**9, 8)), mx.broadcast_to(mx.array(1.0), (10**9, 1))
    for driver in ("auto", "qr"):
        native().lstsq(a, b, 1e-6, driver)


SOLVE = """
import mlx.core as mx
import numpy as np
from substitute import calls, watch
from lstsq_mlx._native import native

a = np.arange(1.0, 13.0).reshape(4, 3)

def solve(driver):
    answer = native().lstsq(mx.array(a, dtype=mx.float64), mx.ones((4, 1), dtype=mx.float64), 1e-10, driver)
    return [np.array(out) for out in answer]
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_another_driver_is_tried_when_one_does_not_converge(driver):
    out = run_python(
        SOLVE
        + f"""
watch("dgelsd", "dgesdd", failing=True)
watch("dgesvd")
x, residuals, rank, s = solve({driver!r})
print(calls)
np.testing.assert_allclose(x, np.linalg.pinv(a) @ np.ones((4, 1)), atol=1e-12)
np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), atol=1e-12)
assert rank == 2
"""
    )
    assert out.strip() == str([*([] if driver == "svd" else ["dgelsd"]), "dgesdd", "dgesvd"])


@pytest.mark.parametrize("driver", DRIVERS)
def test_nan_when_none_converges(driver):
    run_python(
        SOLVE
        + f"""
watch("dgelsd", "dgesdd", "dgesvd", failing=True)
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


@pytest.mark.skipif(native().has_cuda(), reason="for a machine without CUDA")
def test_without_cuda_no_kernel_is_looked_for():
    run_python(
        """
        import sys
        opened = []
        sys.addaudithook(lambda event, what: opened.append(str(what[0])) if event == "open" else None)
        import mlx.core as mx
        from lstsq import explain, lstsq
        from lstsq_mlx._native import native
        a, b = mx.random.normal((5, 8, 3)), mx.ones((5, 8, 2))
        mx.eval(*lstsq(a, b), mx.grad(lambda a: lstsq(a, b).x.sum())(a))
        assert not native().runs_on_gpu(a, b, "auto")
        assert "GPU" not in str(explain(a, b, run=True))
        assert any("lstsq_mlx" in name for name in opened)
        # Of that package the class of the backend alone is loaded, as of every backend that is installed.
        assert not [name for name in opened if name.endswith(".cu")]
        assert not [name for name in sys.modules if name.startswith(("lstsq_array_api.", "cuda"))]
        """
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ('import mlx.core; mlx.core.__version__ = "0.1.2"', "0.1.2 is installed; run `pip install 'mlx"),
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
