"""White-box tests of the array-API backend."""

from __future__ import annotations

import importlib
import types

import array_api_compat
import numpy as np
import pytest
from gpus import first_gpu

from lstsq import lstsq
from lstsq_array_api import ArrayApiBackend, _certified, _lacking, _matrix, _solve, _values

BACKEND = ArrayApiBackend()
CUPY_HAS_A_GPU = first_gpu("array_api", "cupy") is not None


@pytest.fixture(params=[name for name in ArrayApiBackend.namespaces if name != "cupy" or CUPY_HAS_A_GPU])
def namespace(request):
    pytest.importorskip(request.param)
    return request.param


def solve(namespace, a, b, rcond=1e-14):
    solution = BACKEND.solve(BACKEND.from_numpy(a, namespace), BACKEND.from_numpy(b, namespace), rcond, "svd")
    return [BACKEND.to_numpy(array) for array in solution]


@pytest.mark.parametrize("dtype", BACKEND.capabilities.dtypes)
def test_single_precision_is_solved_in_double(namespace, dtype):
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((rows, 5)))[0] for rows in (50, 5))
    a = ((u * np.logspace(0, -5, 5)) @ v.T).astype(dtype)
    b = rng.standard_normal((50, 1)).astype(dtype)
    x, residuals, rank, s = solve(namespace, a, b)
    assert (x.dtype, residuals.dtype, rank.dtype) == (np.dtype(dtype), s.dtype, np.int32)
    assert s.dtype == a.real.dtype
    np.testing.assert_allclose(x, np.linalg.lstsq(a.astype("complex128"), b, 1e-14)[0], rtol=1e-6)


def test_each_matrix_and_each_right_hand_side_keeps_its_trouble_to_itself(namespace):
    a, b = np.stack([np.eye(3)] * 4), np.ones((4, 3, 2))
    a[1, 0, 0], b[2, 0, 1] = np.inf, np.nan
    a[3, 2, 2] = 0
    x, residuals, rank, s = solve(namespace, a, b)
    lost = np.array([[False, False], [True, True], [False, True], [False, False]])
    np.testing.assert_array_equal(np.isnan(x), np.broadcast_to(lost[:, None], x.shape))
    np.testing.assert_array_equal(np.isnan(residuals), lost)
    np.testing.assert_array_equal(np.isnan(s), np.broadcast_to(np.arange(4)[:, None] == 1, s.shape))
    np.testing.assert_array_equal(rank, [3, 0, 3, 2])
    np.testing.assert_array_equal(x[2, :, 0], [1, 1, 1])
    np.testing.assert_array_equal(x[3, :, 0], [1, 1, 0])


@pytest.mark.parametrize("bad", [complex(0, np.nan), complex(np.inf, 0), complex(1, -np.inf)])
def test_of_a_complex_number_that_is_lost_both_parts_are_nan(namespace, bad):
    a, b = np.eye(3) + 1j, np.ones((3, 3)) + 1j
    clean = solve(namespace, a, b)
    b[1, 1] = bad
    x, residuals, rank, s = solve(namespace, a, b)
    for part in (x.real, x.imag, residuals[None]):
        np.testing.assert_array_equal(np.isnan(part), np.broadcast_to([False, True, False], part.shape))
    np.testing.assert_array_equal(x[:, ::2], clean[0][:, ::2])
    np.testing.assert_array_equal((rank, *s), (clean[2], *clean[3]))


@pytest.mark.parametrize("rcond", [1.0, np.inf])
def test_everything_is_zero_from_rcond_1_on(namespace, rcond):
    x, residuals, rank, _ = solve(namespace, np.eye(3), np.ones((3, 1)), rcond)
    assert rank == 0
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(residuals, 3)


@pytest.mark.parametrize("size", [1e-300, 1e300])
@pytest.mark.parametrize("shape", [(6, 2), (3, 3), (2, 6)])
def test_nothing_overflows_in_between(namespace, size, shape):
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal(shape), rng.standard_normal((shape[1], 2))
    expected = np.linalg.pinv(a) @ a @ x
    got, _, rank, s = solve(namespace, a * size, a @ x * size)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(s / size, np.linalg.svd(a, compute_uv=False), rtol=1e-14)
    assert rank == min(shape)


def times_2_to(exponent, array):
    """Each part alone, since a complex product makes NaN of an infinite part."""
    if np.iscomplexobj(array):
        product = np.empty_like(array)
        product.real, product.imag = times_2_to(exponent, array.real), times_2_to(exponent, array.imag)
        return product
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(array, exponent)


class TestScale:
    @pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7)])
    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    def test_changes_nothing_but_exponents(self, namespace, dtype, shape):
        self.check(dtype, shape, 1022, lambda a, b: solve(namespace, a, b))

    @pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7)])
    @pytest.mark.parametrize("dtype", ["float32", "complex64"])
    def test_changes_nothing_on_a_device_without_float64(self, dtype, shape):
        xp = pytest.importorskip("array_api_strict")
        device = xp.Device("no_float64")

        def solve(a, b):
            solution = BACKEND.solve(xp.asarray(a, device=device), xp.asarray(b, device=device), 1e-6, "svd")
            return [BACKEND.to_numpy(xp.asarray(array, device=xp.Device("CPU_DEVICE"))) for array in solution]

        self.check(dtype, shape, 126, solve)

    def check(self, dtype, shape, limit, solve):
        rng = np.random.default_rng(0)
        # Few digits, so that subnormal numbers hold them.
        a, b = (np.round(rng.standard_normal(size) * 16) / 16 for size in (shape, (shape[0], 7)))
        if dtype.startswith("complex"):
            a, b = a + 1j * a[::-1], b - 1j * b[::-1]
        a, b = a.astype(dtype), b.astype(dtype)
        scales = np.array([-limit - 8, -limit + 8, -limit // 2, 0, limit // 3, limit // 2, limit - 8])
        base = solve(a, b)
        for scale in (0, -limit - 8, -limit // 3, limit // 3, limit - 8):
            x, residuals, rank, s = solve(times_2_to(scale, a), times_2_to(scales, b))
            assert rank == base[2]
            # Where digits are lost below the range, they are lost in one rounding.
            np.testing.assert_array_equal(x, times_2_to(scales - scale, base[0]))
            np.testing.assert_array_equal(residuals, times_2_to(2 * scales, base[1]))
            np.testing.assert_array_equal(s, times_2_to(scale, base[3]))

    def test_x_overflows_and_the_rest_is_right(self, namespace):
        x, residuals, rank, s = solve(namespace, np.array([[1e-200], [0]]), np.array([[1e200, 1], [3, 2]]), 0.0)
        np.testing.assert_array_equal(x[0, 0], np.inf)
        np.testing.assert_allclose(residuals, [9, 4], rtol=1e-14)
        np.testing.assert_allclose((x[0, 1], rank, s[0]), (1e200, 1, 1e-200), rtol=1e-14)

    def test_one_over_a_singular_value_overflows(self, namespace):
        x, residuals, rank, _ = solve(namespace, np.diag([1, 5e-324, 0]), np.array([[1.0], [1], [2]]), 0.0)
        np.testing.assert_allclose(x[:, 0], [1, np.inf, 0])
        np.testing.assert_allclose((residuals[0], rank), (4, 2))

    @pytest.mark.parametrize("b", [complex(1e150, 1), complex(-1, 1e150), complex(-1e150, -1e150)])
    def test_one_part_of_x_overflows(self, namespace, b):
        a = np.diag([1e-20 + 0j, 1e-300])
        x = solve(namespace, a, np.array([[0], [b]]), 0.0)[0][1, 0]
        with np.errstate(over="ignore"):
            np.testing.assert_allclose((x.real, x.imag), np.array([b.real, b.imag]) / 1e-300, rtol=1e-14)


@pytest.mark.parametrize("shape", [(200_000, 3), (3, 200_000)])
def test_a_long_matrix_needs_no_square(namespace, shape):
    a = np.random.default_rng(0).standard_normal(shape).astype("float32")  # Squared, 160 GB.
    x, _, rank, _ = solve(namespace, a, a @ np.ones((shape[1], 1), "float32"), 1e-6)
    assert (rank, x.shape) == (3, (shape[1], 1))


def test_a_library_without_linalg_is_refused(monkeypatch):
    bare = types.SimpleNamespace(__name__="bare", linalg=types.SimpleNamespace(qr=None))
    monkeypatch.setattr(ArrayApiBackend, "namespace", lambda self, array: bare)
    with pytest.raises(TypeError, match=r"^bare has no linalg\.svd, so that it cannot solve least squares"):
        BACKEND.solve(np.eye(2), np.eye(2), 0.0, "svd")


def test_from_numpy_copies_whatever_the_layout(namespace):
    array = np.arange(6.0).reshape(2, 3)[::-1, ::-1].astype(">f8")
    array.flags.writeable = False
    converted = BACKEND.from_numpy(array, namespace)
    np.testing.assert_array_equal(BACKEND.to_numpy(converted), array)


def test_arrays_without_a_dense_layout_are_refused():
    with pytest.raises(TypeError, match=r"layout torch\.sparse_csr; expected a dense one"):
        BACKEND.examine(types.SimpleNamespace(shape=(3, 2), layout="torch.sparse_csr"))


@pytest.mark.filterwarnings("ignore:Converting a tensor to a", "ignore:.torch.jit.trace. is deprecated")
class TestTorch:
    """Nothing of torch differentiates what is solved here, and nothing loses a derivative on the way."""

    REFUSED = "whose derivatives are asked for .*, and they would be lost"

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture(params=["solve", "to_numpy", "lstsq", "lstsq elsewhere"])
    def work(self, torch, request):
        """What is done with a matrix, at equal singular values."""
        b = torch.tensor([[1.0], [2.0], [3.0]])
        return {
            "solve": lambda a: BACKEND.solve(a, b, 1e-6, "svd").x,
            "to_numpy": lambda a: torch.tensor(BACKEND.to_numpy(a)),
            "lstsq": lambda a: lstsq(a, b, backend="array_api").x,
            "lstsq elsewhere": lambda a: lstsq(a, b, backend="numpy").x,
        }[request.param]

    @pytest.fixture
    def solved(self, torch):
        """The sum of the solution, from a matrix and a right-hand side, where torch may trace it."""
        return lambda a, b: lstsq(a, b, backend="array_api").x.sum()

    def test_a_tensor_that_requires_grad_is_refused(self, torch, work):
        a = torch.eye(3, requires_grad=True)
        with pytest.raises(TypeError, match=self.REFUSED):
            work(a)
        with torch.no_grad():
            x = work(a)
        assert not x.requires_grad
        assert torch.equal(x, work(torch.eye(3)))

    def test_so_is_a_right_hand_side(self, torch, solved):
        with pytest.raises(TypeError, match=self.REFUSED):
            solved(torch.eye(3), torch.ones(3, requires_grad=True))

    def test_a_tensor_with_a_tangent_is_refused(self, torch, work):
        with torch.autograd.forward_ad.dual_level(), pytest.raises(TypeError, match=self.REFUSED):
            work(torch.autograd.forward_ad.make_dual(torch.eye(3), torch.ones(3, 3)))

    @pytest.mark.parametrize("name", ["grad", "jacrev", "jacfwd", "hessian", "vjp", "jvp", "linearize"])
    def test_the_transformations_of_torch_func_are_refused(self, torch, work, name):
        a, transformation = torch.eye(3), getattr(torch.func, name)

        def function(a):
            return work(a).sum()

        if name == "jvp":
            arguments = (function, (a,), (a,))
        elif name in ("vjp", "linearize"):
            arguments = (function, a)
        else:
            transformation, arguments = transformation(function), (a,)
        with pytest.raises(TypeError, match=self.REFUSED):
            transformation(*arguments)

    @pytest.mark.parametrize("name", ["grad", "jvp"])
    @pytest.mark.parametrize("outside", [True, False])
    def test_nor_do_they_hide_behind_vmap(self, torch, work, name, outside):
        stack = torch.stack([torch.eye(3)] * 2)

        def derivative(function, at):
            return torch.func.grad(function)(at) if name == "grad" else torch.func.jvp(function, (at,), (at,))

        def total(a):
            return (torch.func.vmap(work)(a) if outside else work(a)).sum()

        def nest(a):
            return derivative(total, a)

        with pytest.raises(TypeError, match=self.REFUSED):
            (nest if outside else torch.func.vmap(nest))(stack)

    def test_vmap_alone_works(self, torch):
        stack, b = torch.stack([torch.eye(3), 2 * torch.eye(3)]), torch.ones(3)
        x = torch.func.vmap(lambda a: lstsq(a, b, backend="array_api").x)(stack)
        np.testing.assert_array_equal(x, [[1, 1, 1], [0.5, 0.5, 0.5]])

    def test_a_compiled_function_solves_and_refuses_derivatives(self, torch, solved):
        a, b = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])
        solved(a, b)  # The first call looks for backends, which no compiler can follow.
        compiled = torch.compile(solved, backend="eager", fullgraph=True)
        assert compiled(a, b).item() == 6
        assert compiled(a.to(torch.complex64), b).item() == 6
        with torch.autograd.forward_ad.dual_level(), pytest.raises(TypeError, match=self.REFUSED):
            compiled(torch.autograd.forward_ad.make_dual(a, a), b)
        with pytest.raises(Exception, match=self.REFUSED):  # A compiler's own error, which quotes it.
            compiled(a.clone().requires_grad_(), b)

    @pytest.mark.parametrize("way", ["export", "jit.trace", "make_fx"])
    def test_a_traced_program_solves_and_refuses_derivatives(self, torch, solved, way):
        a, b = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])

        class Module(torch.nn.Module):
            def forward(self, a, b):
                return solved(a, b)

        if way == "export":
            program = torch.export.export(Module(), (a, b)).module()
        elif way == "jit.trace":
            program = torch.jit.trace(solved, (a, b))
        else:
            program = torch.fx.experimental.proxy_tensor.make_fx(solved)(a, b)
        assert program(2 * a, b).item() == 3
        with pytest.raises((TypeError, RuntimeError), match=self.REFUSED):
            program(a.clone().requires_grad_(), b)

    def test_what_is_traced_does_not_go_to_another_library(self, torch):
        a, b = torch.eye(3), torch.ones(3)

        def elsewhere(a):
            return lstsq(a, b, backend="numpy").x

        for trace in (
            lambda: torch.func.vmap(elsewhere)(a[None]),
            lambda: torch.jit.trace(elsewhere, (a,)),
            lambda: torch.fx.experimental.proxy_tensor.make_fx(elsewhere)(a),
        ):
            with pytest.raises(TypeError, match="records what is done with the tensor, and cannot follow it"):
                trace()

    def test_a_proxy_is_no_array(self, torch, solved):
        with pytest.raises(TypeError, match=r"got torch\.Proxy, which stands for an array"):
            torch.fx.symbolic_trace(lambda a: solved(a, torch.ones(3)))

    @pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    def test_sparse_tensors_are_refused(self, torch, solved, layout):
        sparse = getattr(torch.eye(3), layout)()
        for operands in ((sparse, torch.ones(3)), (torch.eye(3), sparse)):
            with pytest.raises(TypeError, match=r"layout torch\.sparse_c\w+; expected a dense one"):
                solved(*operands)


def test_the_residual_of_an_ill_conditioned_system_is_as_small_as_its_rounding_errors(namespace):
    # Refinement had made x good enough, and that left a residual of 480 times this size.
    a = np.array([[0.23762779400649822, -0.21066965946449195], [1.4775683152225823, -1.3099401442533303]])
    b = np.array([[-0.1943359375], [-1.203125]])
    arrays = (BACKEND.from_numpy(array, namespace) for array in (a, b))
    x, residuals, rank, _ = (BACKEND.to_numpy(array) for array in BACKEND.solve(*arrays, 1e-15, "auto"))
    assert rank == 2
    assert residuals[0] <= (30 * np.finfo(float).eps * np.linalg.norm(a) * np.linalg.norm(x)) ** 2


def matrix_of_condition(n, kappa, is_complex, size=3e20):
    """A square matrix whose singular values are in a geometric sequence, and these."""
    random = np.random.default_rng(n)

    def unitary():
        return np.linalg.qr(random.standard_normal((n, n)) + 1j * is_complex * random.standard_normal((n, n)))[0]

    values = size * np.geomspace(1, 1 / kappa, n)
    a = (unitary() * values) @ unitary().conj().T
    return (a if is_complex else a.real), values


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kappa", [1, 3, 1e3, 1e5])
def test_singular_values_by_products_are_the_decomposition_s(namespace, kappa, is_complex):
    a, s = matrix_of_condition(100, kappa, is_complex)
    x = BACKEND.from_numpy(a, namespace)[None, ...]
    xp = array_api_compat.array_namespace(x)
    # The iteration is told bounds of the norm and of the condition number, which are larger than these.
    bounds = np.full((1, 1), 3 * s[0]), np.full((1, 1), 50 * kappa)
    found = {"polar": _values.from_polar(xp, x, *bounds)}
    gram = xp.matmul(BACKEND.from_numpy(a.conj().T, namespace), x)
    found["single"] = _values.from_gram(xp, gram, 100, single=True)
    if kappa <= 3:
        found["double"] = _values.from_gram(xp, gram, 100, single=False)
    else:
        assert _values.from_gram(xp, gram, 100, single=False) is None
    for name, values in found.items():
        error = np.max(np.abs(BACKEND.to_numpy(values)[0] - s)) / s[0]
        assert error <= (2**-28 if name == "single" else 100 * 2**-53), (name, error)


def test_singular_values_without_a_proof_are_not_given(namespace, monkeypatch):
    a, s = matrix_of_condition(100, 1e3, is_complex=False)
    x = BACKEND.from_numpy(a, namespace)[None, ...]
    xp = array_api_compat.array_namespace(x)
    # Too few steps: U is not unitary. A norm that is too small: what comes out is not the polar factor.
    assert _values.from_polar(xp, x, np.full((1, 1), s[0]), np.full((1, 1), 2.0)) is None
    assert _values.from_polar(xp, x, np.full((1, 1), s[0] / 1e3), np.full((1, 1), 1e3)) is None
    tiny = BACKEND.from_numpy(np.diag([1.0, 1e-7])[None], namespace)
    assert _values.from_gram(xp, xp.matmul(tiny, tiny), 100, single=True) is None


@pytest.mark.parametrize("shape", [(90, 90), (300, 90), (90, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_singular_values_of_many_columns(namespace, dtype, shape):
    random = np.random.default_rng(7)
    a = random.standard_normal((3, *shape)).astype(dtype)
    a[1, :, -1] = a[1, :, 0]  # One deficient between two that are not.
    a[1, -1, :] = a[1, 0, :]
    b = random.standard_normal((3, shape[0], 1)).astype(dtype)
    s = BACKEND.to_numpy(lstsq(*(BACKEND.from_numpy(v, namespace) for v in (a, b)), backend="array_api").s)
    expected = np.linalg.svd(a.astype(np.result_type(dtype, np.float64)), compute_uv=False)
    # Two decompositions of the deficient matrix differ by 11 eps in double precision.
    rounding = (1 if dtype == "float32" else 30) * np.finfo(dtype).eps
    assert np.max(np.abs(s - expected) / expected[:, :1]) <= rounding


@pytest.mark.parametrize("is_wide", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_products_of_a_long_matrix_are_those_of_all_of_it(namespace, dtype, is_wide, monkeypatch):
    monkeypatch.setattr(_matrix, "NUMBERS", 1000)
    random = np.random.default_rng(3)
    a, x, r = (
        random.standard_normal(shape) + 1j * random.standard_normal(shape)
        for shape in ((1, 1003, 7), (1, 7, 2), (1, 1003, 2))
    )
    if dtype == "float32":
        a, x, r = a.real, x.real, r.real
    a = a.astype(dtype)
    tall, there = a.astype(x.dtype), BACKEND.from_numpy(a, namespace)
    xp = array_api_compat.array_namespace(there)
    if is_wide:
        there = xp.conj(xp.matrix_transpose(there)) if dtype == "complex64" else xp.matrix_transpose(there)
    matrix = _matrix.Matrix(xp, there, BACKEND.from_numpy(x, namespace).dtype)
    assert matrix._in_pieces == ("cpu" in str(array_api_compat.device(there)).lower())
    x, r = (BACKEND.from_numpy(v, namespace) for v in (x, r))
    along, over = (matrix.adjoint_times, matrix.times) if is_wide else (matrix.times, matrix.adjoint_times)
    gram, additions = matrix.gram()
    assert additions >= 142
    for found, expected in (
        (along(x), tall @ BACKEND.to_numpy(x)),
        (over(r), tall.conj().mT @ BACKEND.to_numpy(r)),
        (gram, tall.conj().mT @ tall),
        (matrix.norm(), np.linalg.norm(tall[0])[None, None]),
        (matrix.tall(), tall),
        (matrix.whole(), tall.conj().mT if is_wide else tall),
    ):
        np.testing.assert_allclose(BACKEND.to_numpy(found), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    if not is_wide:
        together, cross, _, _ = matrix.normal_equations(r)
        below = np.tril(BACKEND.to_numpy(matrix.lower_gram(in_single=False))[0])
        in_single = np.tril(BACKEND.to_numpy(matrix.lower_gram(in_single=True))[0])
        expected = (tall.conj().mT @ tall)[0]
        np.testing.assert_allclose(BACKEND.to_numpy(together)[0], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(BACKEND.to_numpy(cross), tall.conj().mT @ BACKEND.to_numpy(r), rtol=0, atol=1e-9)
        np.testing.assert_allclose(below, np.tril(expected), rtol=0, atol=1e-9)
        np.testing.assert_allclose(in_single, np.tril(expected), rtol=0, atol=1e-2)


#: The shape that each way of the certificate is for, and a condition number up to which it has an answer.
WAYS = {
    ("gram", "float32"): ((60, 20), 1e4),
    ("gram", "float64"): ((60, 20), 1e4),
    ("large in single", "float32"): ((400, 150), 30),
    ("large in single", "complex64"): ((400, 150), 30),
    ("large", "float32"): ((400, 150), 1e4),
    ("large", "float64"): ((400, 150), 1e4),
    ("large", "complex128"): ((400, 150), 1e4),
    ("lu in single", "float32"): ((80, 80), 1e3),
    ("lu in single", "complex64"): ((80, 80), 1e3),
    ("lu", "float32"): ((80, 80), 1e4),
    ("lu", "float64"): ((80, 80), 1e6),
}


def problems(shape, dtype, kappa, count=2):
    """Matrices of this condition, right-hand sides that fit well and others that do not, and the exact solutions."""
    (m, n), random = shape, np.random.default_rng(5)
    double, is_complex = np.result_type(dtype, np.float64), np.dtype(dtype).kind == "c"

    def normal(*sizes):
        parts = random.standard_normal((2, count, *sizes))
        return parts[0] + 1j * parts[1] if is_complex else parts[0]

    u, v = (np.linalg.qr(normal(size, n))[0] for size in (m, n))
    a = ((u * np.geomspace(1, 1 / kappa, n)) @ v.conj().mT).astype(dtype)
    b = np.concatenate([a.astype(double) @ normal(n, 1), normal(m, 1)], axis=-1).astype(dtype)
    x = np.stack([np.linalg.lstsq(one.astype(double), two.astype(double), rcond=0)[0] for one, two in zip(a, b)])
    return a, b, x


def certify(namespace, a, b, by, rcond=None):
    there = BACKEND.from_numpy(a, namespace)
    xp = array_api_compat.array_namespace(there)
    right = BACKEND.from_numpy(b.astype(np.result_type(b, np.float64)), namespace)
    eps = np.finfo(a.dtype).eps
    found = _certified.solve(xp, _matrix.Matrix(xp, there, right.dtype), right, rcond or 16 * eps, False, by)
    good = np.ones(len(a), bool) if found.good is None else _lacking.to_host(found.good)
    return BACKEND.to_numpy(found.x), BACKEND.to_numpy(found.squares), good


def require_right(a, b, exact, x, squares):
    """x and the sums of squares to the digits of double precision, or so far that single precision loses nothing."""
    enough = 2.0**-27 if np.finfo(a.dtype).eps > 1e-10 else 30 * 2.0**-52
    a, b = (v.astype(np.result_type(v, np.float64)) for v in (a, b))
    for one, right, expected, got, sums in zip(a, b, exact, x, squares):
        s = np.linalg.svd(one, compute_uv=False)
        r = right - one @ expected
        rounding = np.finfo(float).eps * s[0] / s[-1]
        size = np.linalg.norm(expected, axis=0) + s[0] / s[-1] * np.linalg.norm(r, axis=0) / s[0]
        error = np.linalg.norm(got - expected, axis=0)
        assert np.all(error <= (enough + 30 * rounding) * size), (error, size)
        own = 30 * np.finfo(float).eps * s[0] * np.linalg.norm(got, axis=0)
        off = np.abs(np.sqrt(sums) - np.linalg.norm(right - one @ got, axis=0))
        assert np.all(off <= enough * np.sqrt(sums) + own), (off, sums)


@pytest.mark.parametrize(("by", "dtype"), WAYS, ids=map("-".join, WAYS))
def test_each_way_is_right_where_it_says_so(namespace, by, dtype):
    shape, reach = WAYS[by, dtype]
    for kappa in (2, reach, 1e5, 1e7, 1e12):
        a, b, exact = problems(shape, dtype, kappa)
        x, squares, good = certify(namespace, a, b, by)
        assert good.all() if kappa <= reach else kappa < 1e12 or not good.any()
        require_right(a[good], b[good], exact[good], x[good], squares[good])


@pytest.mark.parametrize(("by", "dtype"), WAYS, ids=map("-".join, WAYS))
def test_the_factors_are_not_trusted(namespace, by, dtype, monkeypatch):
    shape, _ = WAYS[by, dtype]
    a, b, exact = problems(shape, dtype, 2)
    cholesky, factor_square = _lacking.cholesky, _lacking.factor_square
    for error in (1e-4, 0.5):

        def wrong(xp, g, *more, factor=1 + error, of=cholesky):
            return of(xp, g * factor, *more)

        def wrong_square(xp, g, *more, factor=1 + error):
            return factor_square(xp, g * factor, *more)

        monkeypatch.setattr(_lacking, "cholesky", wrong)
        monkeypatch.setattr(_lacking, "factor_square", wrong_square)
        x, squares, good = certify(namespace, a, b, by)
        assert good.all() if error < 0.1 else not good.any()
        require_right(a[good], b[good], exact[good], x[good], squares[good])


@pytest.mark.parametrize("by", ["large in single", "lu in single"])
@pytest.mark.parametrize("size", [2.0**70, 2.0**-70])
def test_what_leaves_the_range_of_single_precision_has_no_certificate(namespace, by, size):
    a, b, _ = problems(WAYS[by, "float32"][0], "float32", 2)
    assert not certify(namespace, a * np.float32(size), b, by)[2].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(60, 20), (20, 20), (200, 140), (70, 70)])
def test_neighbours_change_no_bit(namespace, dtype, shape, monkeypatch):
    a, b, _ = problems(shape, dtype, 3, count=6)
    # Parts of four and of two.
    monkeypatch.setattr(_solve, "CACHED", 4 * a[0].size)
    if namespace == "torch":
        from lstsq_array_api import _batches

        monkeypatch.setattr(_batches, "CACHED", 4 * (a[0].size + b[0].size))
    worse, fits = a.copy(), b.copy()
    worse[1, :, 0], fits[1] = worse[1, :, 1], np.nan  # Deficient.
    worse[2] = problems(shape, dtype, 3e3)[0][0]
    fits[4] = a[4] @ np.ones((shape[1], 2), dtype)  # The residual is all but zero.
    healthy = [0, 3, 5]
    answers = [
        [BACKEND.to_numpy(part) for part in (found.x, found.residuals, found.rank)]
        for found in (
            lstsq(*(BACKEND.from_numpy(v, namespace) for v in pair), singular_values=False, backend="array_api")
            for pair in ((a, b), (worse, fits))
        )
    ]
    for before, after in zip(*answers):
        np.testing.assert_array_equal(before[healthy], after[healthy])
    assert answers[1][2].tolist() == [shape[1], shape[1] - 1, *[shape[1]] * 4]


@pytest.mark.parametrize("way", ["_batches", "_batches_on_gpu"])
class TestBatchesInTorch:
    """Both ways are for any device, so that the processor can test that of a GPU."""

    @staticmethod
    def solve(way, a, b, rcond):
        torch = pytest.importorskip("torch")
        module = importlib.import_module(f"lstsq_array_api.{way}")
        found = module.solve(torch.from_numpy(a), torch.from_numpy(b), rcond)
        good = np.ones(len(a), bool) if found.good is None else np.asarray(found.good)
        return found.x.numpy(), found.squares.numpy(), good

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("shape", [(60, 20), (12, 12), (9, 1), (7, 3)])
    def test_are_right_where_they_say_so(self, way, shape, dtype):
        if way == "_batches_on_gpu" and shape == (12, 12):
            shape = (13, 12)  # Square ones are not solved there.
        for kappa in (2, 10, 1e4, 1e7, 1e12):
            a, b, exact = problems(shape, dtype, kappa, count=5)
            x, squares, good = self.solve(way, a, b, 16 * np.finfo(dtype).eps)
            assert good.all() if kappa <= 10 else kappa < 1e12 or shape[1] == 1 or not good.any()
            require_right(a[good], b[good], exact[good], x[good], squares[good])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_factors_are_not_trusted(self, way, dtype, monkeypatch):
        torch = pytest.importorskip("torch")
        a, b, exact = problems((60, 20), dtype, 2, count=5)
        cholesky, inv = torch.linalg.cholesky_ex, torch.linalg.inv_ex
        for error in (1e-14, 1e-9, 0.5):
            monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda g, out, by=1 + error: cholesky(g * by, out=out))
            monkeypatch.setattr(torch.linalg, "inv_ex", lambda g, by=1 + error: inv(g * by))
            x, squares, good = self.solve(way, a, b, 1e-6)
            assert good.all() if error < 1e-10 else error < 0.1 or not good.any()
            require_right(a[good], b[good], exact[good], x[good], squares[good])

    @pytest.mark.parametrize("size", [1e-170, 1e170])
    def test_sizes_beyond_the_proof_have_none(self, way, size):
        a, b, _ = problems((60, 20), "float64", 2, count=5)
        assert not self.solve(way, a * size, b, 1e-14)[2].any()
        assert not self.solve(way, a, b * size, 1e-14)[2].any()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_each_is_judged_alone_where_not_all_are_proven(self, way, dtype):
        a, b, _ = problems((30, 5), dtype, 3, count=9)
        rcond = 16 * np.finfo(dtype).eps
        x, squares, good = self.solve(way, a, b, rcond)
        assert good.all()
        worse, fits = a.copy(), b.copy()
        worse[1, :, 1], worse[2, 0, 0], worse[3], worse[4, 2, 2] = worse[1, :, 0], np.nan, 0, np.inf
        fits[5, 0, 0], fits[6, 3, 1] = np.nan, np.inf
        worse[7, :, 0] *= 1e-9 if dtype == "float32" else 1e-20  # Columns that only a scaled matrix has a proof for.
        x_beside, squares_beside, good = self.solve(way, worse, fits, rcond)
        assert np.flatnonzero(good).tolist() == [0, 8]
        np.testing.assert_array_equal(x_beside[good], x[good])
        np.testing.assert_array_equal(squares_beside[good], squares[good])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_that_only_each_alone_has_a_proof_for(dtype, monkeypatch):
    """Sizes that are very different: the extremes over such a batch prove nothing."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_lacking, "is_on_cpu", lambda a: False)
    a, b, exact = problems((12, 4), dtype, 3, count=3)
    a[1] *= 2.0**-20
    x, _, rank, _ = lstsq(torch.from_numpy(a), torch.from_numpy(b), singular_values=False, backend="array_api")
    exact[1] *= 2.0**20
    np.testing.assert_allclose(x, exact, rtol=1e-5 if dtype == "float32" else 1e-12)
    assert rank.tolist() == [4, 4, 4]


@pytest.mark.filterwarnings("error")
def test_a_matrix_beyond_the_range_of_its_bounds_warns_of_nothing(namespace):
    a, b, _ = problems((12, 2), "float64", 3, count=2)
    a[1] *= 1e-158
    arrays = (BACKEND.from_numpy(v, namespace) for v in (a, b))
    assert BACKEND.to_numpy(lstsq(*arrays, backend="array_api").rank).tolist() == [2, 2]
