"""White-box tests of the frontend: what the conformance suite, which sees only backends, does not look at."""

import dataclasses
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from typing import ClassVar

import array_api_strict
import jax
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

import lstsq as package
from lstsq import LinAlgError, LstsqResult, Solution, _contract, _registry, backends, explain, lstsq
from lstsq_jax import JaxBackend
from lstsq_mlx import MlxBackend
from lstsq_numpy import NumpyBackend

RNG = np.random.default_rng(0)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestImport:
    def test_imports_no_array_library_but_numpy(self):
        heavy = "import sys, lstsq; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
        imported = set(run_python(heavy).split())
        assert "numpy" in imported
        assert not imported & {"jax", "jaxlib", "mlx", "torch", "scipy", "array_api_strict", "pytest"}

    def test_solving_with_numpy_imports_no_other_library(self):
        solve = "lstsq.lstsq([[1.0], [2.0]], [3.0, 6.0])"
        code = f"import sys, lstsq; {solve}; print('jax' in sys.modules, 'mlx' in sys.modules)"
        assert run_python(code) == "False False"

    def test_linalg_error_is_numpys(self):
        assert package.LinAlgError is np.linalg.LinAlgError


class TestPromotion:
    @pytest.mark.parametrize(
        ("a", "b", "default", "expected"),
        [
            ("float32", "float32", "float64", "float32"),
            ("float32", "float64", "float32", "float64"),
            ("int64", "float32", "float64", "float64"),
            ("int64", "float32", "float32", "float32"),
            ("bool", "uint8", "float64", "float64"),
            ("float16", "bfloat16", "float64", "float32"),
            ("complex64", "float32", "float64", "complex64"),
            ("complex64", "float64", "float32", "complex128"),
            ("int32", "complex64", "float32", "complex64"),
        ],
    )
    def test_rule(self, a, b, default, expected):
        assert _contract.promote(a, b, default) == expected
        assert _contract.promote(b, a, default) == expected

    @pytest.mark.parametrize("dtype", ["longdouble", "object", "str", "datetime64[s]"])
    def test_refuses_what_has_no_floating_equivalent(self, dtype):
        if dtype == "longdouble" and np.dtype(dtype) == np.dtype("float64"):
            dtype = "object"
        a = np.ones((2, 1)).astype(dtype)
        with pytest.raises(TypeError, match="expected a bool, integer"):
            lstsq(a, np.ones(2))


class TestCutoff:
    def test_double_precision_grows_with_the_matrix_and_single_stops_at_16(self):
        for dtype, eps in (("float64", 2.0**-52), ("complex128", 2.0**-52)):
            assert _contract.cutoff(None, dtype, 1000, 3) == 1000 * eps
        for dtype, eps in (("float32", 2.0**-23), ("complex64", 2.0**-23)):
            assert _contract.cutoff(None, dtype, 1000, 3) == 16 * eps
            assert _contract.cutoff(None, dtype, 2, 5) == 5 * eps

    def test_a_given_number_stands_and_a_negative_one_is_eps(self):
        assert _contract.cutoff(0.25, "float64", 10, 10) == 0.25
        assert _contract.cutoff(0.0, "float64", 10, 10) == 0.0

    def test_a_negative_number_is_the_machine_precision_of_lapack(self):
        for rcond in (-1.0, -1, -0.5, float("-inf"), np.float32(-1)):
            assert explain(np.eye(2), np.ones(2), rcond).rcond == 2.0**-53
            assert explain(np.eye(2, dtype=np.float32), np.ones(2, np.float32), rcond).rcond == 2.0**-24
        for dtype, eps in (("float64", 2.0**-53), ("complex128", 2.0**-53), ("float32", 2.0**-24)):
            assert _contract.cutoff(-1.0, dtype, 10, 10) == eps
        # Between the two that could be meant.
        a = np.diag([1.0, 1.5 * 2.0**-53])
        assert (lstsq(a, np.ones(2), -1).rank, lstsq(a, np.ones(2), 2.0**-52).rank) == (2, 1)

    @pytest.mark.parametrize(
        "rcond", [np.float32(0.5), np.array(0.5), jnp.asarray(0.5), mx.array(0.5), array_api_strict.asarray(0.5), 1]
    )
    def test_any_number_will_do(self, rcond):
        for a in (np.diag([1.0, 0.25]), mx.array([[1.0, 0.0], [0.0, 0.25]])):
            assert explain(a, [1.0, 1.0], rcond).rcond == float(rcond)
            assert lstsq(a, [1.0, 1.0], rcond).rank == (1 if float(rcond) == 0.5 else 0)

    @pytest.mark.parametrize(
        "rcond", ["warn", "0.5", [1, 2], object(), 1j, np.complex64(1), mx.array(1j), np.array("0.5")]
    )
    def test_what_is_no_number_is_a_type_error(self, rcond):
        with pytest.raises(TypeError, match="expected a number or None"):
            lstsq(np.eye(2), np.ones(2), rcond)

    @pytest.mark.parametrize("xp", [np, jnp, mx])
    def test_one_for_each_matrix_is_refused(self, xp):
        for shape in ((1,), (3,), (3, 1)):
            with pytest.raises(TypeError, match=r"rcond has shape .*; expected one number, which holds for the whole"):
                lstsq(xp.ones((3, 4, 2)), xp.ones(4), xp.ones(shape))

    def test_nan_is_an_error(self):
        for nan in (float("nan"), np.float32("nan"), mx.array(float("nan"))):
            with pytest.raises(ValueError, match="rcond is NaN"):
                lstsq(np.eye(2), np.ones(2), nan)


class Known(JaxBackend):
    """A backend that needs the value of the cutoff."""

    name = "known"
    capabilities = dataclasses.replace(JaxBackend.capabilities, traced_rcond=False)


class Traced(JaxBackend):
    """A backend that does not, with the part of a solver that the tests look at."""

    name = "traced"
    capabilities = dataclasses.replace(JaxBackend.capabilities, traced_rcond=True)

    def solve(self, a, b, rcond, driver):
        s = jnp.linalg.svd(a, compute_uv=False)
        return Solution(b[..., : a.shape[-1], :], b[..., 0, :], (s > rcond * s[..., :1]).sum(-1), s)


class TestTracedCutoff:
    A, B = np.diag([1.0, 0.25, 0.0625]).astype(np.float32), np.ones(3, np.float32)

    @pytest.fixture(params=[Traced, Known])
    def backend(self, request, monkeypatch):
        found, installed = request.param(), _registry.get_backend
        monkeypatch.setattr(_registry, "get_backend", lambda name: found if name == "test" else installed(name))
        return found

    def rank(self, a, b, rcond):
        return lstsq(a, b, rcond, backend="test").rank

    @pytest.mark.parametrize("backend", [Traced], indirect=True)
    @pytest.mark.parametrize("batch", [False, True])
    def test_reaches_a_backend_that_takes_it(self, backend, batch):
        b = np.stack([self.B, self.B]) if batch else self.B
        b = jnp.asarray(b)[..., None] if batch else jnp.asarray(b)
        for rcond, rank in ((0.5, 1), (0.1, 2), (0, 3)):
            assert np.all(jax.jit(self.rank)(self.A, b, rcond) == rank)
        ranks = jax.vmap(lambda rcond: self.rank(jnp.asarray(self.A), b, rcond))(jnp.asarray([0.5, 0.1, 0.0]))
        assert np.all(np.moveaxis(np.asarray(ranks), 0, -1) == [1, 2, 3])
        compiled = jax.jit(lambda rcond: explain(jnp.asarray(self.A), b, rcond, backend="test").rcond * 2)
        assert compiled(0.25) == 0.5

    def test_that_is_known_is_a_plain_number_for_every_backend(self, backend):
        seen = []
        solve = type(backend).solve
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(backend), "solve", lambda self, *args: seen.append(args[2]) or solve(self, *args))
            for rcond in (jnp.asarray(0.5), np.float32(0.5), 0.5):
                assert self.rank(jnp.asarray(self.A), jnp.asarray(self.B), rcond) == 1
        assert [type(rcond) for rcond in seen] == [float] * 3

    @pytest.mark.parametrize("backend", [Known], indirect=True)
    def test_is_refused_by_a_backend_that_needs_its_value(self, backend):
        with pytest.raises(TypeError, match="rcond is an array that a transformation traces, and the known backend"):
            jax.jit(self.rank)(self.A, self.B, 0.5)

    def test_is_refused_by_mlx(self):
        a, b = mx.array(self.A), mx.array(self.B)
        needs = pytest.raises(TypeError, match="a transformation traces, and the mlx backend needs its value")
        with needs:
            mx.compile(lambda rcond: lstsq(a, b, rcond).x)(mx.array(0.5))
        with needs:
            mx.vmap(lambda rcond: lstsq(a, b, rcond).x)(mx.array([0.5, 0.1]))
        with pytest.raises(TypeError, match="a transformation traces, and the numpy backend needs its value"):
            mx.compile(lambda r: lstsq(a, b, r, backend="numpy").x)(mx.array(0.5))

    def test_in_a_derivative_is_a_constant(self):
        """The rank does not depend on it but at jumps."""
        a, b = mx.array(self.A), mx.array(self.B)
        value, slope = mx.value_and_grad(lambda rcond: mx.sum(lstsq(a, b, rcond).x))(mx.array(0.5))
        assert (value.item(), slope.item()) == (pytest.approx(1), 0)

    @pytest.mark.parametrize("backend", [Traced], indirect=True)
    def test_that_is_complex_is_no_number(self, backend):
        with pytest.raises(TypeError, match="expected a number or None"):
            jax.jit(self.rank)(self.A, self.B, 1j)


class TestShapes:
    @pytest.mark.parametrize(
        ("batch_a", "batch_b", "folded"),
        [
            ((), (), ()),
            ((), (4,), (0,)),
            ((), (2, 3), (0, 1)),
            ((3,), (2, 3), (0,)),
            ((2, 1), (2, 3), (1,)),
            ((2, 3), (3,), ()),
            ((2, 3), (2, 1), ()),
            ((2, 1, 3), (1, 4, 3), (1,)),
            ((1,), (1,), ()),
        ],
    )
    def test_broadcasting_equals_a_loop_and_folds_what_shares_a_matrix(self, batch_a, batch_b, folded):
        a = RNG.standard_normal((*batch_a, 5, 3))
        b = RNG.standard_normal((*batch_b, 5, 2))
        batch = np.broadcast_shapes(batch_a, batch_b)
        plan = _contract.plan(a.shape, b.shape, "float64", "float64", "float64", None, "gelsd")
        assert plan.folded == folded
        x, residuals, rank, s = lstsq(a, b)
        assert (x.shape, residuals.shape, rank.shape, s.shape) == ((*batch, 3, 2), (*batch, 2), batch, (*batch, 3))
        full_a = np.broadcast_to(a, (*batch, 5, 3))
        full_b = np.broadcast_to(b, (*batch, 5, 2))
        for i in np.ndindex(batch):
            alone = np.linalg.lstsq(full_a[i], full_b[i])
            np.testing.assert_allclose(x[i], alone[0], rtol=1e-12)
            np.testing.assert_allclose(residuals[i], alone[1], rtol=1e-12)
            np.testing.assert_allclose(s[i], alone[3], rtol=1e-12)
        assert np.all(rank == 3)

    def test_a_vector_stays_a_vector_over_a_batch_of_matrices(self):
        a, b = RNG.standard_normal((4, 2, 5, 3)), RNG.standard_normal(5)
        x, residuals, rank, s = lstsq(a, b)
        assert (x.shape, residuals.shape, rank.shape, s.shape) == ((4, 2, 3), (4, 2, 1), (4, 2), (4, 2, 3))
        np.testing.assert_allclose(x[1, 1], np.linalg.lstsq(a[1, 1], b)[0], rtol=1e-12)

    @pytest.mark.parametrize(
        ("a_shape", "b_shape", "message"),
        [
            ((3,), (3,), r"a has shape \(3,\); expected a matrix"),
            ((3, 2), (), r"b has shape \(\)"),
            ((3, 2), (4,), "a has 3 rows .* and b has 4"),
            ((5, 3, 2), (5, 3), "write a batch of vectors .* as"),
            ((2, 3, 2), (5, 3, 1), "do not broadcast"),
        ],
    )
    def test_errors_say_what_was_given_and_expected(self, a_shape, b_shape, message):
        with pytest.raises(LinAlgError, match=message):
            lstsq(np.ones(a_shape), np.ones(b_shape))

    def test_results_can_be_written_to(self):
        for a_shape, b_shape in [((5, 3), (4, 5, 2)), ((5, 0), (5,)), ((3, 5, 0), (5, 2)), ((5, 3), (5, 0))]:
            for array in lstsq(np.ones(a_shape), np.ones(b_shape)):
                assert not isinstance(array, np.ndarray) or array.flags.writeable

    @pytest.mark.parametrize(
        ("a_shape", "b_shape"),
        [
            ((0, 3), (0,)),
            ((0, 3), (0, 2)),
            ((3, 0), (3,)),
            ((3, 0), (3, 2)),
            ((0, 0), (0, 2)),
            ((3, 2), (3, 0)),
            ((2, 3), (2, 0)),
            ((0, 3), (0, 0)),
        ],
    )
    def test_empty_agrees_with_numpy(self, a_shape, b_shape):
        a, b = np.ones(a_shape) + np.arange(a_shape[1]), np.ones(b_shape)
        ours, numpys = lstsq(a, b), np.linalg.lstsq(a, b)
        np.testing.assert_allclose(ours.x, numpys[0], atol=1e-12)
        assert ours.x.shape == numpys[0].shape
        assert ours.rank == numpys[2]
        # One of the values is zero but for rounding.
        np.testing.assert_allclose(ours.s, numpys[3], rtol=1e-14, atol=1e-14)
        assert ours.residuals.shape == ((1,) if b.ndim == 1 else (b.shape[1],))

    @pytest.mark.parametrize("xp", [np, jnp, mx, array_api_strict])
    def test_without_columns_what_is_left_of_a_bad_column_is_nan(self, xp):
        """Even where it is infinite, as in the backends; and what is finite and overflows is inf."""
        b = xp.asarray(np.array([[1, np.inf, np.nan, -np.inf, 2e30]] * 3, np.float32))
        x, residuals, rank, s = lstsq(xp.zeros((3, 0)), b)
        np.testing.assert_array_equal(np.asarray(residuals)[:4], [3, np.nan, np.nan, np.nan])
        assert np.isinf(np.asarray(residuals)[4]) or xp in (np, array_api_strict)  # Their zeros are float64.
        assert (x.shape, np.asarray(rank), s.shape) == ((0, 5), 0, (0,))

    def test_empty_batches(self):
        x, residuals, rank, s = lstsq(np.ones((0, 5, 3)), np.ones((5, 2)))
        assert (x.shape, residuals.shape, rank.shape, s.shape) == ((0, 3, 2), (0, 2), (0,), (0, 3))


class TestResult:
    def test_answers_to_torchs_names(self):
        for xp in (np, jnp, mx):
            result = lstsq(xp.eye(3), xp.ones(3))
            assert result.solution is result.x
            assert result.singular_values is result.s
            assert len(result) == 4


class Counted(NumpyBackend):
    """A backend that leaves `s` out where it may, and says which way it was asked."""

    name = "counted"
    serves = ("nothing",)
    asked: ClassVar[list[str]] = []

    def solve(self, a, b, rcond, driver):
        self.asked.append("solve")
        return super().solve(a, b, rcond, driver)

    def solve_without_s(self, a, b, rcond, driver):
        self.asked.append("solve_without_s")
        return super().solve(a, b, rcond, driver)._replace(s=None)


class TestWithoutSingularValues:
    SHAPES = (((5, 3), (5, 2)), ((5, 3), (5,)), ((5, 3), (4, 5, 2)), ((5, 3), (2, 5, 0)), ((0, 3), (0, 2)))

    @pytest.mark.parametrize("backend", [None, "numpy", "jax", "mlx", "array_api"])
    @pytest.mark.parametrize("xp", [np, jnp, mx, array_api_strict])
    def test_s_is_none_and_the_rest_is_the_same(self, xp, backend):
        for a_shape, b_shape in self.SHAPES:
            a, b = (xp.asarray(RNG.standard_normal(shape).astype(np.float32)) for shape in (a_shape, b_shape))
            full, got = lstsq(a, b, backend=backend), lstsq(a, b, singular_values=False, backend=backend)
            assert (got.s, got.singular_values, len(got)) == (None, None, 4)
            for one, other in zip(got[:3], full[:3]):
                assert (type(one), one.dtype) == (type(other), other.dtype)
                np.testing.assert_array_equal(one, other)

    def test_a_backend_that_gains_by_it_is_asked_so(self, monkeypatch):
        found, installed = Counted(), _registry.get_backend
        monkeypatch.setattr(_registry, "get_backend", lambda name: found if name == "counted" else installed(name))
        for xp in (np, mx):
            for shape in ((5, 3), (2, 5, 3)):
                Counted.asked.clear()
                lstsq(xp.ones(shape), xp.ones(5), backend="counted")
                assert lstsq(xp.ones(shape), xp.ones(5), singular_values=False, backend="counted").s is None
                assert Counted.asked == ["solve", "solve_without_s"]

    def test_nothing_asks_a_lazy_backend_for_them(self, monkeypatch):
        """What comes back from another library is not read, so that it is never computed."""
        read = []
        monkeypatch.setattr(MlxBackend, "to_numpy", lambda self, array: read.append(array.shape) or np.asarray(array))
        lstsq(np.ones((5, 3)), np.ones((5, 2)), singular_values=False, backend="mlx")
        assert read == [(3, 2), (2,), ()]

    def test_an_error_is_the_same(self):
        with pytest.raises(LinAlgError, match="a holds nan"):
            lstsq(np.full((3, 2), np.nan), np.ones(3), singular_values=False, backend="numpy")

    def test_in_jax_none_is_a_result_like_any_other(self):
        def solve(a, b):
            return lstsq(a, b, singular_values=False)

        a, b = jnp.asarray(RNG.standard_normal((2, 5, 3))), jnp.asarray(RNG.standard_normal((2, 5, 1)))
        for result in (jax.jit(solve)(a, b), jax.vmap(solve)(a, b), jax.jit(jax.vmap(solve))(a, b)):
            assert isinstance(result, LstsqResult)
            assert result.s is None
            np.testing.assert_allclose(result.x, lstsq(a, b).x, rtol=1e-5)
        gradient = jax.grad(lambda a, keep: lstsq(a, b, singular_values=keep).x.sum())
        np.testing.assert_allclose(gradient(a, False), gradient(a, True), rtol=1e-5)


class TestNumpyResid:
    def test_works_without_singular_values(self):
        for n, size in ((3, 1), (5, 0)):
            result = lstsq(np.eye(5, n), np.ones(5), numpy_resid=True, singular_values=False)
            assert (result.residuals.shape, result.s) == ((size,), None)

    @pytest.mark.parametrize(("m", "n", "rank"), [(5, 3, 3), (5, 3, 2), (3, 3, 3), (3, 5, 3), (5, 0, 0)])
    @pytest.mark.parametrize("vector", [True, False])
    def test_is_numpys_rule(self, m, n, rank, vector):
        a = RNG.standard_normal((m, rank)) @ RNG.standard_normal((rank, n))
        b = RNG.standard_normal(m) if vector else RNG.standard_normal((m, 2))
        ours, numpys = lstsq(a, b, numpy_resid=True).residuals, np.linalg.lstsq(a, b)[1]
        assert ours.shape == numpys.shape
        np.testing.assert_allclose(ours, numpys, rtol=1e-10)

    def test_refuses_a_batch(self):
        with pytest.raises(LinAlgError, match="NumPy's rule for one problem"):
            lstsq(np.ones((2, 3, 1)), np.ones(3), numpy_resid=True)


class TestDispatch:
    def test_lists_are_numpys(self):
        result = lstsq([[1, 1], [1, 2], [1, 3]], [1, 2, 2])
        assert isinstance(result, LstsqResult)
        assert isinstance(result.x, np.ndarray)
        np.testing.assert_allclose(result.x, [2 / 3, 1 / 2])

    def test_a_list_beside_an_array_joins_its_library(self):
        assert isinstance(lstsq(mx.ones((3, 1)), [1.0, 2.0, 3.0]).x, mx.array)
        assert lstsq([[1.0], [1.0]], np.ones(2)).x.shape == (1,)

    def test_masked_arrays_are_refused(self):
        masked = np.ma.masked_greater(np.array([[1.0], [2.0], [3.0]]), 2)
        for operands in (
            (masked, np.ones(3)),
            (np.ones((3, 1)), masked),
            (masked, [1, 2, 3]),
            ([[1], [2], [3]], masked),
        ):
            with pytest.raises(TypeError, match="mask"):
                lstsq(*operands)
        with pytest.raises(TypeError, match="mask"):
            lstsq(np.ones((3, 1)), [masked[:1], masked[1:2], masked[2:]])

    def test_unknown_names_list_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown backend 'nonesuch'; installed backends: .*numpy"):
            lstsq(np.eye(2), np.ones(2), backend="nonesuch")
        with pytest.raises(ValueError, match=r"unknown driver 'qrx' for the numpy backend; its drivers: gelsd"):
            lstsq(np.eye(2), np.ones(2), driver="qrx", backend="numpy")
        with pytest.raises(ValueError, match=r"its drivers: auto, cholesky, gelsd, qr, svd\."):
            lstsq(mx.eye(2), mx.ones(2), driver="qrx")

    @pytest.mark.parametrize(("name", "drivers"), [("jax", "svd, native"), ("array_api", "auto, cholesky, svd")])
    def test_gelsd_is_refused_where_there_is_no_lapack(self, name, drivers):
        expected = f"unknown driver 'gelsd' for the {name} backend; its drivers: {drivers}."
        with pytest.raises(ValueError, match=re.escape(expected)):
            lstsq(np.eye(2, dtype=np.float32), np.ones(2, np.float32), driver="gelsd", backend=name)

    def test_a_refusal_follows_the_settings_of_the_library(self):
        """What was solved under one setting is refused under another, and the other way round."""
        for shape in ((7, 3), (8, 3)):
            with jax.enable_x64(True):
                a, b = jnp.ones(shape), jnp.ones(shape[0])
                if shape == (7, 3):
                    assert lstsq(a, b).x.dtype == np.float64
            with jax.enable_x64(False), pytest.raises(TypeError, match="float64 while jax_enable_x64 is off"):
                lstsq(a, b)
            with jax.enable_x64(False), pytest.raises(TypeError, match="float64 while jax_enable_x64 is off"):
                explain(a, b)
            with jax.enable_x64(True):
                assert lstsq(a, b).x.dtype == np.float64

    def test_the_dtypes_of_two_libraries_are_not_compared(self):
        """Some warn then; here warnings are errors."""
        a, b = np.ones((9, 3)), np.ones(9)
        for backend in ("mlx", "numpy", "array_api"):
            lstsq(a, b, backend=backend)
            lstsq(array_api_strict.asarray(a), array_api_strict.asarray(b), backend=backend)

    def test_backends_lists_claims(self):
        numpy_info = next(info for info in backends() if info.name == "numpy")
        assert numpy_info.available
        assert numpy_info.version == package.__version__
        assert numpy_info.drivers[0] == "gelsd"
        assert next(info for info in backends() if info.name == "mlx").drivers[0] == "auto"

    def test_explain_gives_reasons(self):
        told = explain(np.ones((4, 3, 2), np.float32), np.ones((3, 5)), backend="numpy")
        assert (told.backend, told.driver, told.dtype) == ("numpy", "gelsd", "float64")
        assert "promote to float64" in str(told)

    def test_explain_says_what_ran(self):
        a, b = np.diag([1.0, 1e-3, 1e-9]), np.ones(3)
        assert explain(a, b, backend="numpy").ran == ()
        told = explain(a, b, 1e-6, backend="numpy", run=True)
        assert told.ran == (
            "gelsd answered",
            "rank 2 of 3; condition 1e+03 of what is kept",
            "the smallest singular value that counts is 0.001 s_max, and the largest that does not 1e-09 s_max; "
            "the cutoff is 1e-06 s_max",
        )
        assert str(told).endswith("ran:\n  " + "\n  ".join(told.ran))
        assert (
            explain(a, b, backend="numpy", driver="svd", run=True).ran[0].startswith("the singular value decomposition")
        )
        # LAPACK takes a cutoff of 1 for eps.
        assert "gelsd kept 3 singular values and the cutoff 0" in explain(a, b, 1.0, backend="numpy", run=True).ran[0]
        batch = explain(np.stack([a, 0 * a]), np.ones((3, 2)), 1e-6, backend="numpy", run=True)
        assert batch.ran == ("gelsd answered", "rank 0 to 2 of 3")
        assert explain(np.ones((0, 3)), np.ones(0), run=True).ran == ()

    def test_explain_solves_where_lstsq_does(self, monkeypatch):
        """What needs no work before it is solved outside of the backend's context: on another device, maybe."""
        inside, places = [], []

        class Placed(NumpyBackend):
            @contextmanager
            def context(self):
                inside.append(True)
                yield
                inside.pop()

            def solve(self, a, b, rcond, driver):
                places.append(("solve", bool(inside)))
                return super().solve(a, b, rcond, driver)

            def ran(self, *arguments):
                places.append(("ran", bool(inside)))
                return super().ran(*arguments)

        found = Placed()
        monkeypatch.setattr(_registry, "get_backend", lambda name: found)
        for a, within in ((np.eye(2), False), (np.eye(2, dtype=int), True)):
            places.clear()
            lstsq(a, np.ones((2, 1)), backend="placed")
            explain(a, np.ones((2, 1)), backend="placed", run=True)
            assert places == [("solve", within), ("solve", within), ("ran", within)]

    def test_explain_raises_what_lstsq_raises(self):
        with pytest.raises(LinAlgError, match="a has 3 rows"):
            explain(np.ones((3, 2)), np.ones(4))


class TestRegistry:
    def stranger(self, tmp_path, name, body):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lstsq.backends]\n{name} = {name}:Stranger\n")
        (tmp_path / f"{name}.py").write_text(body)
        return f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"

    def test_a_strangers_backend_is_found_by_its_entry_point(self, tmp_path):
        start = self.stranger(
            tmp_path,
            "strange",
            "from lstsq_numpy import NumpyBackend\n"
            "class Array(list): pass\n"
            "class Stranger(NumpyBackend):\n    name = 'strange'\n    serves = ('strange',)\n",
        )
        code = start + (
            "import lstsq, numpy as np\n"
            "print('strange' in [i.name for i in lstsq.backends()])\n"
            "print(lstsq.explain(np.eye(2), np.ones(2), backend='strange').backend)\n"
            "print(lstsq.lstsq(np.eye(2), np.ones(2), backend='strange').x)\n"
        )
        assert run_python(code).splitlines() == ["True", "strange", "[1. 1.]"]

    def test_a_broken_backend_breaks_no_other(self, tmp_path):
        start = self.stranger(tmp_path, "broken", "raise ImportError('no libfoo: install foo')\n")
        code = start + (
            "import warnings; warnings.simplefilter('ignore')\n"
            "import lstsq, numpy as np\n"
            "print(lstsq.lstsq(np.eye(2), np.ones(2)).x)\n"
            "print(next(i.reason for i in lstsq.backends() if i.name == 'broken'))\n"
        )
        assert run_python(code).splitlines() == ["[1. 1.]", "it cannot be loaded: no libfoo: install foo"]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
