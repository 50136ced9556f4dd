"""The door for NumPy's arrays: as they lie in memory, whatever their strides, against the NumPy backend."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from operation import run_python

from lstsq import LinAlgError, explain, lstsq
from lstsq_native import NativeBackend
from lstsq_native._backend import core

DRIVERS = ("auto", "gelsd", "qr", "svd")
DTYPES = ("float32", "float64", "complex64", "complex128")


def assert_as_numpy(a, b, driver="auto", rcond=None):
    """The same problem on the oracle; these matrices are well conditioned, or what is cut off is far below."""
    got, want = lstsq(a, b, rcond, driver=driver, backend="native"), lstsq(a, b, rcond, backend="numpy")
    eps = np.finfo(got.x.dtype).eps
    np.testing.assert_array_equal(got.rank, want.rank)
    assert type(got.rank) is type(want.rank)
    scale = np.abs(want.x).max(initial=0)
    np.testing.assert_allclose(got.x, want.x, rtol=0, atol=2000 * eps * scale)
    np.testing.assert_allclose(got.s, want.s, rtol=0, atol=200 * eps * want.s.max(initial=0))
    size = (np.abs(np.asarray(b)) ** 2).sum(-2 if np.ndim(b) > 1 else None).max()
    np.testing.assert_allclose(got.residuals, want.residuals, rtol=0, atol=2000 * eps * size)
    for one, other in zip(got, want):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "k"), [((1, 1), 1), ((10, 3), 2), ((3, 10), 1), ((70, 70), 1), ((500, 20), 3), ((5, 6, 2), 2)]
)
def test_random_problems(draw, shape, k, dtype, driver):
    a, b = draw(*shape, dtype=dtype), draw(*shape[:-1], k, dtype=dtype)
    assert_as_numpy(a, b, driver)
    if min(shape[-2:]) > 1:
        a[..., -1] = a[..., 0]
        assert_as_numpy(a, b, driver, 1e-4)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "every second": lambda a: np.repeat(np.repeat(a, 2, -1), 2, -2)[..., ::2, ::2],
    "backwards": lambda a: np.flip(np.flip(a, (-1, -2)).copy(), (-1, -2)),
    "a slice": lambda a: np.pad(a, [(0, 0)] * (a.ndim - 2) + [(1, 2), (3, 1)])[..., 1:-2, 3:-1],
    "batch last": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0) if a.ndim > 2 else a.T.copy().T,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "a field": lambda a: np.rec.fromarrays([a, np.zeros(a.shape, "i4")], names="field, other")["field"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(30, 4), (4, 30), (20, 20), (40, 8, 3), (3, 300, 40)])
def test_layouts(draw, shape, dtype, layout):
    a, b = draw(*shape, dtype=dtype), draw(*shape[:-1], 2, dtype=dtype)
    lies = LAYOUTS[layout]
    before = a.copy()
    for driver in ("auto", "svd"):
        want = core().solve(a, b, 1e-6, driver, True)
        for got in (core().solve(lies(a), b, 1e-6, driver, True), core().solve(lies(a), lies(b), 1e-6, driver, True)):
            for one, other in zip(got, want):
                atol = 3000 * np.finfo(dtype).eps * np.abs(other).max()
                np.testing.assert_allclose(one, other, rtol=0, atol=atol)
    np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize("driver", DRIVERS)
def test_strides_of_zero(draw, driver):
    a, b = draw(12, 3), draw(12, 2)
    want = core().solve(a, b, 1e-6, driver, True)
    got = core().solve(np.broadcast_to(a, (4, 12, 3)), np.broadcast_to(b, (4, 12, 2)), 1e-6, driver, True)
    for one, other in zip(got, want):
        np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=1e-12, atol=1e-13)
    assert_as_numpy(np.broadcast_to(a[:, :1], (12, 3)), b, driver)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("driver", [*DRIVERS, "cholesky"])
def test_without_singular_values_all_else_is_the_same(draw, driver, dtype):
    for shape in ((10, 3), (3, 10), (90, 90), (30, 8, 4)):
        a, b = draw(*shape, dtype=dtype), draw(*shape[:-1], 2, dtype=dtype)
        *with_s, s = core().solve(a, b, 1e-6, driver, True)
        *without, none = core().solve(a, b, 1e-6, driver, False)
        assert none is None
        assert s is not None
        for one, other in zip(without, with_s):
            np.testing.assert_allclose(one, other, rtol=0, atol=30 * np.finfo(dtype).eps * np.abs(other).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
@pytest.mark.parametrize("condition", [1, 4, 7.9, 8.1, 60, 1e4])
def test_singular_values_of_tall_matrices(draw, condition, scale, dtype):
    """On both sides of the condition up to which they come from the Gram matrix, and with columns of unlike sizes.

    LAPACK's own, with which these are compared, are off by up to 12 eps of the largest. From the Gram matrix, the last
    condition's would be off by thousands.
    """
    for m, n in ((5000, 20), (4000, 200)):
        u, v = np.linalg.qr(draw(m, n))[0], np.linalg.qr(draw(n, n))[0]
        a = ((u * np.geomspace(condition, 1, n)) @ v.T).astype(dtype)
        a[:, -1] *= scale
        want = np.linalg.svd(a.astype("float64"), compute_uv=False)
        s = core().solve(a, draw(m, 1, dtype=dtype), 1e-14, "auto", True)[3]
        np.testing.assert_allclose(s, want, rtol=0, atol=(32 * 2.0**-52 + np.finfo(dtype).eps) * want[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n"), [(32, 8), (24, 8), (23, 8), (64, 16), (3, 1), (200, 60)])
def test_singular_values_of_batches(draw, m, n, dtype):
    """Conditions on both sides of the one up to which they come from the triangle of the solution, in one batch."""
    count = 60
    u, v = np.linalg.qr(draw(count, m, n))[0], np.linalg.qr(draw(count, n, n))[0]
    values = np.geomspace(1, 1 / np.tile([1, 5, 7.99, 8.01, 1e3, 1e6], 10), n, axis=-1)
    a = ((u * values[:, None, :]) @ v).astype(dtype)
    a[7], a[8, :, -1] = 0, a[8, :, 0]
    want = np.linalg.svd(a.astype("float64"), compute_uv=False)
    rank, s = core().solve(a, draw(count, m, 2, dtype=dtype), 1e-9, "auto", True)[2:]
    np.testing.assert_allclose(s, want, rtol=0, atol=16 * 2.0**-52 + np.finfo(dtype).eps)
    np.testing.assert_array_equal(rank, [0 if i == 7 else n - 1 if i == 8 and n > 1 else n for i in range(count)])


@pytest.mark.parametrize("driver", DRIVERS)
def test_many_threads(draw, driver):
    problems = [(draw(30 + i, 10), draw(30 + i, 2)) for i in range(24)]

    def solve(problem):
        return core().solve(*problem, 1e-6, driver, True)

    wanted = list(map(solve, problems))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(solve, problems * 4))
    for got, want in zip(answers, wanted * 4):
        for one, other in zip(got, want):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_both_doors_at_once(draw):
    """Each has threads of its own; neither waits for the other for ever."""
    import mlx.core as mx

    a, b = draw(20_000, 16), draw(20_000, 1)
    want = lstsq(a, b, backend="numpy").x

    def by_mlx(_):
        return np.array(lstsq(mx.array(a, dtype=mx.float64), mx.array(b, dtype=mx.float64)).x)

    def by_numpy(_):
        return lstsq(a, b, backend="native").x

    with ThreadPoolExecutor(4) as pool:
        answers = [future for _ in range(8) for future in (pool.submit(by_mlx, 0), pool.submit(by_numpy, 0))]
        for answer in answers:
            np.testing.assert_allclose(answer.result(timeout=100), want, rtol=1e-10)


def test_the_gil_is_free_while_lapack_runs():
    """LAPACK is made to wait for another Python thread, which could not run if the solve kept the GIL."""
    out = run_python(
        """
        import threading
        import numpy as np
        from substitute import calls, watch
        from lstsq_native._backend import core

        solving, answered = threading.Event(), threading.Event()

        def wait_for_the_other():
            solving.set()
            answered.wait()

        def answer():
            solving.wait()
            answered.set()

        watch("dgelsd", meanwhile=wait_for_the_other)
        threading.Thread(target=answer).start()
        core().solve(np.eye(4), np.ones((4, 1)), 1e-14, "gelsd", True)
        print(*calls)
        """
    )
    assert out.strip() == "dgelsd"


@pytest.mark.parametrize("setting", ["blas", "kernels"])
def test_gram_matrices_by_blas_where_that_is_chosen(setting):
    out = run_python(
        f"""
        import os
        os.environ["LSTSQ_SINGLE_GRAM"] = "{setting}"
        import numpy as np
        from substitute import calls, watch
        watch("ssyrk", "sgemm")
        from lstsq import lstsq
        rng = np.random.default_rng(0)
        for m, n in ((1000, 150), (150, 1000)):
            a, b = rng.standard_normal((m, n), dtype=np.float32), rng.standard_normal((m, 3), dtype=np.float32)
            for lies in (a, np.asfortranarray(a), a[::-1]):
                x = lstsq(lies, b, backend="native", singular_values=False).x
                want = np.linalg.lstsq(lies.astype(float), b.astype(float), rcond=None)[0]
                assert np.linalg.norm(x - want) <= 1e-7 * np.linalg.norm(want), (m, n, lies.strides)
        print(*sorted(set(calls)))
        """
    )
    assert out.split() == (["sgemm", "ssyrk"] if setting == "blas" else [])


def test_not_converged_is_an_error():
    out = run_python(
        """
        import numpy as np
        from substitute import watch
        watch("dgelsd", "dgesdd", "dgesvd", failing=True)
        from lstsq import LinAlgError, lstsq
        for driver in ("gelsd", "svd", "qr", "auto"):
            try:
                lstsq(np.ones((4, 3)), np.ones(4), driver=driver, backend="native")
            except LinAlgError as error:
                print(error)
        """
    )
    lines = out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("no decomposition of a converged") for line in lines)


def test_what_is_not_finite(draw):
    a, b = draw(6, 20, 3), draw(6, 20, 2)
    want = lstsq(a, b, backend="numpy")
    b[2, 5, 1] = np.nan
    for driver in DRIVERS:
        got = lstsq(a, b, driver=driver, backend="native")
        assert np.isnan(got.x[2, :, 1]).all()
        assert np.isnan(got.residuals[2, 1])
        got.x[2, :, 1], got.residuals[2, 1] = want.x[2, :, 1], want.residuals[2, 1]
        np.testing.assert_allclose(got.x, want.x, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got.residuals, want.residuals, rtol=1e-12)
    a[4, 3, 1] = -np.inf
    for driver in (*DRIVERS, "cholesky"):
        with pytest.raises(LinAlgError, match=r"a holds -inf at index \(4, 3, 1\)"):
            lstsq(a, b, driver=driver, backend="native")


def test_no_certificate_no_answer():
    result = lstsq(np.ones((5, 2)), np.ones(5), driver="cholesky", backend="native")
    for part in (result.x, result.residuals, result.s):
        assert np.isnan(part).all()
    assert result.rank == 0
    a = np.ones((2, 5, 2))
    a[1, 3, 0] = np.inf
    with pytest.raises(LinAlgError, match=r"a holds inf at index \(1, 3, 0\)"):
        lstsq(a, np.ones((2, 5, 1)), driver="cholesky", backend="native")


@pytest.mark.parametrize(
    ("a", "b", "rcond", "driver", "error", "message"),
    [
        (np.ones(3), np.ones((3, 1)), 0.1, "qr", ValueError, "expected a"),
        (np.ones((3, 2)), np.ones((4, 1)), 0.1, "qr", ValueError, "expected a"),
        (np.ones((2, 3, 2)), np.ones((1, 3, 1)), 0.1, "qr", ValueError, "batch dimensions"),
        (np.ones((2, 3, 2)), np.ones(3), 0.1, "qr", ValueError, "batch dimensions"),
        (np.ones((3, 0)), np.ones((3, 1)), 0.1, "qr", ValueError, "no dimension 0"),
        (np.ones((3, 2)), np.ones((3, 1), "f4"), 0.1, "qr", ValueError, "one dtype"),
        (np.ones((3, 2), "f2"), np.ones((3, 1), "f2"), 0.1, "qr", TypeError, "float32"),
        (np.ones((3, 2), object), np.ones((3, 1), object), 0.1, "qr", TypeError, "float32"),
        ([[1.0]], np.ones((1, 1)), 0.1, "qr", TypeError, "no array"),
        (np.ones((3, 2)), np.ones((3, 1)), -0.1, "qr", ValueError, "rcond"),
        (np.ones((3, 2)), np.ones((3, 1)), np.nan, "qr", ValueError, "rcond"),
        (np.ones((3, 2)), np.ones((3, 1)), 0.1, "lu", ValueError, "auto, cholesky, gelsd, qr or svd"),
        (np.broadcast_to(1.0, (60_000, 60_000)), np.ones((60_000, 1)), 0.1, "gelsd", ValueError, "64-bit"),
    ],
)
def test_refusals(a, b, rcond, driver, error, message):
    with pytest.raises(error, match=message):
        core().solve(a, b, rcond, driver, True)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 1)), ValueError, "M >= N >= 1"),
        (np.ones((3, 0)), np.ones((3, 1)), ValueError, "M >= N >= 1"),
        (np.ones((3, 2)), np.ones((4, 1)), ValueError, "expected a"),
        (np.ones((3, 2)), np.ones(3), ValueError, "expected a"),
        (np.ones((3, 2)), np.ones((3, 1), "f4"), ValueError, "one dtype"),
        (np.ones((3, 2), complex), np.ones((3, 1), complex), TypeError, "float32 or float64"),
        ([[1.0]], np.ones((1, 1)), TypeError, "no array"),
    ],
)
def test_refusals_of_rows(a, b, error, message):
    with pytest.raises(error, match=message):
        core().reduce(a, b)


def test_rows_that_the_core_leaves_to_lapack():
    for number in (np.nan, np.inf, 1e200, 1e-200):
        a, b = np.full((5, 2), number), np.ones((5, 1))
        assert core().reduce(a, b) is None
    for number, left in ((1e200, True), (1e-200, True), (np.nan, False), (np.inf, False), (0.0, False)):
        assert (core().reduce(np.ones((5, 2)), np.full((5, 1), number)) is None) == left


def graded(m, n, condition, dtype="float64"):
    rng = np.random.default_rng(m + n)
    u, v = (np.linalg.qr(rng.standard_normal((size, n)))[0] for size in (m, n))
    return (u * np.geomspace(1, 1 / condition, n) @ v).astype(dtype), rng.standard_normal(m).astype(dtype)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            *graded(500, 20, 10),
            r"by a Gram matrix .*, condition at most \d.*; \d+ refinement steps?, (each of )?which leaves",
        ),
        (*graded(300, 100, 10, "float32"), r"kernels answered by a Gram matrix"),
        (*graded(300, 300, 10), r"kernels answered by an LU factorisation"),
        (*graded(300, 20, 1e14), r"kernels declined: the singular values are not provably above the cutoff"),
        (np.ones((30, 3)), np.ones(30), r"kernels declined: the singular values are not"),
        (np.ones((9, 3), complex) + np.eye(9, 3), np.ones((9, 2), complex), r"kernels answered by"),
    ],
)
def test_what_ran_is_told(a, b, said):
    first, *others = explain(a, b, backend="native", run=True).ran
    assert re.search(said, first)
    declined = "declined" in first
    assert others[0].startswith("qr answered" if declined else "rank ")
    # What is told is what is so: the kernels alone give no answer where they decline.
    rank = lstsq(a, b, backend="native", driver="cholesky").rank
    assert (rank == 0) == declined
    alone = explain(a, b, backend="native", driver="cholesky", run=True).ran
    assert ("nothing answered" in alone) == declined


def test_what_ran_is_told_of_a_batch():
    a, b = np.stack([np.eye(5, 3), np.ones((5, 3)), 2 * np.eye(5, 3)]), np.ones((5, 1))
    first = explain(a, b, backend="native", run=True).ran[0]
    assert first.startswith("the certified kernels answered for 2 of 3 matrices; where not, qr answered")
    assert explain(a, b, backend="native", driver="svd", run=True).ran[0] == "svd answered"


def test_refusals_of_reports():
    for a, b, error in ((np.ones((2, 3, 1)), np.ones((2, 3, 1)), ValueError), ([[1.0]], np.ones((1, 1)), TypeError)):
        with pytest.raises(error):
            core().report(a, b, 0.0)


def test_importing_the_package_imports_nothing_heavy():
    run_python(
        """
        import sys
        import lstsq_native
        assert lstsq_native.NativeBackend().capabilities.drivers
        assert not {"mlx", "mlx.core", "lstsq_native._core", "scipy"} & set(sys.modules)
        """
    )


def test_mlx_is_not_needed():
    run_python(
        """
        import sys
        sys.modules["mlx"] = sys.modules["mlx.core"] = None
        import numpy as np
        from lstsq import lstsq
        assert lstsq(np.eye(2), np.ones(2), backend="native").rank == 2
        """
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ('sys.modules["scipy.linalg.cython_lapack"] = None', "pip install --upgrade scipy"),
        ('sys.modules["lstsq_native._core"] = None', "pip install --force-reinstall . ./backends/native"),
    ],
)
def test_one_message_says_what_to_install(break_it, message):
    out = run_python(
        f"""
        import sys
        {break_it}
        from lstsq_native import NativeBackend
        print(NativeBackend().unavailable())
        """
    )
    assert message in out


def test_answers_may_be_written_to(draw):
    for array in core().solve(draw(2, 5, 3), draw(2, 5, 2), 1e-6, "auto", True):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.flags.owndata


def test_available():
    assert NativeBackend().unavailable() is None
