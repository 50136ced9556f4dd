"""White-box tests of the torch backend: its derivatives, and what torch does with its operations."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lstsq import get_backend, lstsq, residual
from lstsq_conformance.points import NAMES, OUTPUTS, functional, point
from lstsq_conformance.target import Target

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

from lstsq_torch import _operations as ops  # noqa: E402
from lstsq_torch import _small, _solve  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`", "ignore:.torch.jit.trace. is deprecated"
)

BACKEND = get_backend("torch")


def with_spectrum(seed, m, n, s, *batch, dtype=torch.float64):
    """Matrices with these singular values, and two right-hand sides each."""
    rng = torch.Generator().manual_seed(seed)
    u, v = (
        torch.linalg.qr(torch.randn(*batch, rows, len(s), dtype=dtype, generator=rng)).Q.contiguous() for rows in (m, n)
    )
    a = (u * torch.tensor(s).to(dtype)) @ v.mH
    return a, torch.randn(*batch, m, 2, dtype=dtype, generator=rng)


#: A, b and the cutoff. Around each the rank stays what it is.
PROBLEMS = {
    "full rank": (*with_spectrum(0, 5, 3, [1, 0.6, 0.3]), None),
    "wide": (*with_spectrum(1, 3, 5, [1, 0.6, 0.3]), None),
    "square": (*with_spectrum(2, 3, 3, [1, 0.6, 0.3]), None),
    "truncated": (*with_spectrum(3, 5, 3, [1, 0.5, 0.02]), 0.1),
    "wide and truncated": (*with_spectrum(4, 3, 5, [1, 0.5, 0.02]), 0.1),
    "square and truncated": (*with_spectrum(5, 3, 3, [1, 0.5, 0.02]), 0.1),
    "tied": (*with_spectrum(6, 5, 3, [1, 1, 1]), None),
    "tied and truncated": (*with_spectrum(7, 4, 4, [1, 1, 0.02, 0.02]), 0.1),
    "batch": (*with_spectrum(8, 4, 2, [1, 0.6], 3), None),
    "complex": (*with_spectrum(9, 4, 3, [1, 1, 0.02], dtype=torch.complex128), 0.1),
    "wide and complex": (*with_spectrum(10, 3, 4, [1, 1, 0.02], dtype=torch.complex128), 0.1),
}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


@pytest.fixture
def full():
    """A problem of full rank, and a direction."""
    a, b, _ = PROBLEMS["full rank"]
    return a, b, with_spectrum(11, 5, 3, [1, 1, 1])[0]


def loss(a, b, rcond=None):
    x, residuals, _, s = lstsq(a, b, rcond)
    # Of the values their sum, which has derivatives where they are equal; and not those that are cut off.
    return (x * x.conj()).real.sum() + residuals.sum() + (s * (s > 0.1)).sum()


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


class TestDerivatives:
    def test_first_order(self, problem):
        a, b, rcond = problem
        every_way = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
        assert gradcheck(lambda a, b: lstsq(a, b, rcond)[:2], leaves(a, b), **every_way)
        assert gradcheck(lambda a: lstsq(a, b, rcond).s.sum(), leaves(a), **every_way)

    def test_second_order(self, problem):
        a, b, rcond = problem
        ways = {"check_fwd_over_rev": True, "check_rev_over_rev": True}
        assert gradgradcheck(lambda a, b: lstsq(a, b, rcond)[:2], leaves(a, b), **ways)
        assert gradgradcheck(lambda a: loss(a, b, rcond), leaves(a), **ways)

    @pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 5), (3, 3)])
    def test_at_deficient_rank_along_matrices_of_that_rank(self, m, n):
        left, b = with_spectrum(12, m, 2, [1, 0.5])
        right, _ = with_spectrum(13, 2, n, [1, 0.7])

        def solve(left, right, b):
            return lstsq(left @ right, b)[:2]

        assert lstsq(left @ right, b).rank == 2
        assert gradcheck(solve, leaves(left, right, b), check_forward_ad=True)
        assert gradgradcheck(solve, leaves(left, right, b), check_fwd_over_rev=True)

    def test_distinct_singular_values(self):
        a, b, _ = PROBLEMS["wide"]
        assert gradcheck(lambda a: lstsq(a, b).s, leaves(a), check_forward_ad=True)
        assert gradgradcheck(lambda a: lstsq(a, b).s, leaves(a), check_fwd_over_rev=True)

    @pytest.mark.parametrize("output", OUTPUTS)
    @pytest.mark.parametrize("name", NAMES)
    def test_are_those_of_jax(self, name, output):
        jax = pytest.importorskip("jax")
        at, found = point(name, "float64"), []
        with jax.enable_x64(True):
            for library in ("jax", "torch"):
                target = Target(get_backend(library), library, ("auto",), ("float64",))
                value = functional(target, at, output, "float64", target.claims.default_driver)
                gradient = target.transform("grad")(value, (0, 1))
                found.append([target.numpy(part) for part in gradient(target.array(at.a), target.array(at.b))])
        for ours, theirs in zip(*found):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * max(1, np.abs(theirs).max()))

    def test_every_nest_of_transformations_has_the_same_second_derivatives(self, problem):
        a, b, rcond = problem
        if a.is_complex():
            a, b = a.real.contiguous(), b.real.contiguous()

        def value(a):
            return loss(a, b, rcond)

        (leaf,) = leaves(a)
        (first,) = torch.autograd.grad(value(leaf), leaf, create_graph=True)
        rows = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in first.flatten()]
        expected = torch.stack(rows).reshape(*a.shape, *a.shape)
        for nest in (jacfwd(jacrev(value)), jacrev(jacrev(value)), jacrev(jacfwd(value)), jacfwd(jacfwd(value))):
            torch.testing.assert_close(nest(a), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        torch.testing.assert_close(hessian(value)(a), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))

    @pytest.mark.parametrize("output", ["x", "residuals", "s"])
    def test_matrices_of_any_size_have_them(self, problem, output):
        """A matrix times a power of two has the same derivatives, but for a power of two."""
        a, b, rcond = problem
        direction = with_spectrum(18, *a.shape[-2:], [1, 0.5], *a.shape[:-2], dtype=a.dtype)[0]
        exponents = torch.tensor([350, 400, 450, -350, -400, -450], dtype=torch.float64)
        size = torch.exp2(exponents).reshape(-1, *[1] * a.ndim)
        # Sums of squares of b must not leave the range either.
        size_b = size**-0.5 if output == "residuals" else torch.ones_like(size)
        unit = {"x": size**-2, "residuals": size_b**2 / size, "s": torch.ones_like(size)}[output]

        def first(a, b):
            def value(a):
                x, residuals, _, s = lstsq(a, b, rcond)
                return {"x": x.real, "residuals": residuals, "s": s * (s > 0.1 * s[..., :1])}[output].sum()

            return grad(value)(a)

        def second(a, b, direction):
            return grad(lambda a: (first(a, b).conj() * direction).real.sum())(a)

        def forward(a, b, direction):
            return jvp(lambda a: first(a, b), (a,), (direction,))[1]

        for derivative, *given in ((first, a, b), (second, a, b, direction), (forward, a, b, direction)):
            expected = derivative(*given)
            found = derivative(*(each * by for each, by in zip(given, (size, size_b, size)))) / unit
            limit = 1e-9 * float(expected.abs().max())
            torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=limit + 1e-13)

    def test_batches_of_cotangents_and_of_tangents(self, full):
        """torch maps over these in a way of its own, which is older than `torch.func`."""
        a, b, _ = full

        def solve(a):
            return lstsq(a, b).x

        expected = jacrev(solve)(a)
        for strategy in ("reverse-mode", "forward-mode"):
            found = torch.autograd.functional.jacobian(solve, a, vectorize=True, strategy=strategy)
            torch.testing.assert_close(found, expected)

    def test_third_order(self, problem):
        a, b, rcond = problem
        direction = with_spectrum(14, *a.shape[-2:], [1.0], *a.shape[:-2], dtype=a.dtype)[0]

        def along(t):
            x, residuals, *_ = lstsq(a + t * direction, b, rcond)
            return x.real.sum() + residuals.sum()

        def forward(f):
            return lambda t: jvp(f, (t,), (torch.ones_like(t),))[1]

        zero, h = torch.zeros((), dtype=torch.float64), 1e-4
        second = forward(forward(along))
        expected = (second(zero + h) - second(zero - h)) / (2 * h)
        for nest in (grad(grad(grad(along))), forward(second), forward(grad(grad(along))), grad(forward(grad(along)))):
            torch.testing.assert_close(nest(zero), expected, rtol=1e-5, atol=1e-5)

    def test_of_b_alone_or_without_singular_values(self, full):
        a, b, _ = full
        (leaf,) = leaves(b)
        x, _, rank, s = lstsq(a, leaf, singular_values=False)
        assert s is None
        assert not rank.requires_grad
        (found,) = torch.autograd.grad(x.sum(), leaf)
        torch.testing.assert_close(found, torch.linalg.pinv(a).T @ torch.ones_like(x))

    def test_are_not_recorded_under_no_grad(self, full):
        a, b, direction = full
        with torch.no_grad():
            assert not lstsq(*leaves(a, b)).x.requires_grad

        def half(a):
            x = lstsq(a, b).x
            with torch.no_grad():
                return (x * lstsq(a, b).x).sum()

        # Under `no_grad` a product is a constant, at each level of a nest.
        assert not grad(half)(a).any()
        assert not grad(lambda a: (grad(half)(a) * direction).sum())(a).any()


class TestLostAnswers:
    def test_what_a_mask_leaves_out_does_not_spoil_the_gradient(self):
        a, b = with_spectrum(15, 5, 3, [1, 0.6, 0.3], 3)
        clean = grad(lambda a: lstsq(a[::2], b[::2]).x.sum())(a)
        a[1, 0, 0] = torch.nan

        def kept(a, b):
            x, residuals, *_ = lstsq(a, b)
            good = ~residuals.isnan()
            return torch.where(good[:, None], x, 0).sum()

        found, of_b = grad(kept, (0, 1))(a, b)
        torch.testing.assert_close(found, clean)
        assert not of_b[1].any()

    def test_what_is_asked_for_and_has_no_answer_is_nan(self):
        a, b = with_spectrum(15, 5, 3, [1, 0.6, 0.3], 3)
        clean = grad(lambda a: lstsq(a, b).x.sum())(a)
        b[0, 2, 1], a[2, 0, 0] = torch.inf, torch.nan
        of_a, of_b = grad(lambda a, b: lstsq(a, b).x.sum(), (0, 1))(a, b)
        assert of_a[0].isnan().all()
        assert of_a[2].isnan().all()
        torch.testing.assert_close(of_a[1], clean[1])
        assert of_b[0, :, 1].isnan().all()
        assert of_b[0, :, 0].isfinite().all()
        tangent = jvp(lambda a: lstsq(a, b).x, (a,), (torch.ones_like(a),))[1]
        assert torch.equal(tangent.isnan(), lstsq(a, b).x.isnan())

    def test_a_driver_that_declines_has_no_finite_gradient(self):
        a, b = with_spectrum(16, 5, 3, [1, 0.5, 0])
        assert lstsq(a, b, driver="cholesky").x.isnan().all()
        assert grad(lambda a: lstsq(a, b, driver="cholesky").x.sum())(a).isnan().all()


class TestPrecision:
    """Solutions and derivatives are those of double precision, rounded once."""

    @pytest.fixture
    def results(self, full):
        """The solution, its gradient and its tangent, in single precision."""
        a, b, direction = (tensor.float() for tensor in full)

        def compute():
            return (
                lstsq(a, b).x,
                *grad(lambda a, b: lstsq(a, b).x.sum(), (0, 1))(a, b),
                jvp(lambda a: lstsq(a, b).x, (a,), (direction,))[1],
            )

        return compute

    def test_of_float32(self, full, results):
        a, b, direction = (tensor.float().double() for tensor in full)
        x, of_a, of_b, tangent = results()
        torch.testing.assert_close(x, lstsq(a, b).x.float(), rtol=3e-7, atol=0)
        for single, double in zip((of_a, of_b), grad(lambda a, b: lstsq(a, b).x.sum(), (0, 1))(a, b)):
            torch.testing.assert_close(single, double.float(), rtol=3e-7, atol=0)
        torch.testing.assert_close(
            tangent, jvp(lambda a: lstsq(a, b).x, (a,), (direction,))[1].float(), rtol=3e-7, atol=0
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_lowers_nothing(self, results, dtype):
        expected = results()
        with torch.autocast("cpu", dtype=dtype):
            for got, wanted in zip(results(), expected):
                assert torch.equal(got, wanted)

    def test_nor_does_a_precision_for_products(self, results):
        expected, before = results(), torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            for got, wanted in zip(results(), expected):
                assert torch.equal(got, wanted)
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_becomes_float32_and_its_gradient_half(self, full, dtype):
        a, b = (torch.nn.Parameter(tensor.to(dtype)) for tensor in full[:2])
        x = lstsq(a, b).x
        assert x.dtype == torch.float32
        x.sum().backward()
        assert (a.grad.dtype, b.grad.dtype) == (dtype, dtype)


class TestKindsOfTensors:
    def test_views_that_are_not_yet_conjugated_negated_or_repeated(self):
        a, b, _ = PROBLEMS["wide and complex"]
        for view_a, view_b in (
            (a.mH, torch.ones(4, 1, dtype=a.dtype).conj()),
            (a.conj().imag, b.conj().imag),
            (a.expand(2, 3, 4), b.expand(2, 3, 2)),
        ):
            copies = [torch.tensor(view.tolist(), dtype=view.dtype) for view in (view_a, view_b)]
            for driver in BACKEND.capabilities.all_drivers:
                for got, wanted in zip(lstsq(view_a, view_b, 0.1, driver=driver), lstsq(*copies, 0.1, driver=driver)):
                    torch.testing.assert_close(got, wanted, equal_nan=True)
            gradients = (grad(lambda a: loss(a, at_b, 0.1))(at_a) for at_a, at_b in ((view_a, view_b), copies))  # noqa: B023
            torch.testing.assert_close(*gradients)

    def test_parameters(self, full):
        a, b, _ = full
        head = torch.nn.Parameter(a.clone())
        x = lstsq(head, b).x
        assert type(x) is torch.Tensor
        x.sum().backward()
        torch.testing.assert_close(head.grad, grad(lambda a: lstsq(a, b).x.sum())(a))

    @pytest.mark.parametrize("driver", BACKEND.capabilities.all_drivers)
    def test_stay_where_they_are_whatever_the_default_device(self, problem, driver):
        a, b, rcond = problem
        expected, gradient = lstsq(a, b, rcond, driver=driver), grad(loss)(a, b, rcond)
        with torch.device("meta"):
            answer = lstsq(a, b, rcond, driver=driver)
            torch.testing.assert_close(grad(loss)(a, b, rcond), gradient)
        for got, wanted in zip(answer, expected):
            torch.testing.assert_close(got, wanted, equal_nan=True)

    @pytest.mark.parametrize(("m", "n"), [(6, 3), (3, 6)])
    @pytest.mark.parametrize("singular_values", [True, False])
    def test_without_numbers(self, m, n, singular_values):
        a, b = torch.ones(2, m, n), torch.ones(m, 4)
        expected = lstsq(a, b, singular_values=singular_values)
        meta = lstsq(a.to("meta"), b.to("meta"), singular_values=singular_values)
        with FakeTensorMode() as mode:
            fake = lstsq(mode.from_tensor(a), mode.from_tensor(b), singular_values=singular_values)
        for wanted, *others in zip(expected, meta, fake):
            for other in others:
                assert (other is None) == (wanted is None)
                assert other is None or (other.shape, other.dtype) == (wanted.shape, wanted.dtype)

    @pytest.mark.parametrize("options", [{"ridge": 1.0}, {"weights": torch.ones(6, device="meta")}])
    def test_weights_and_a_ridge_without_numbers(self, options):
        a, b = torch.ones(6, 3, device="meta"), torch.ones(6, 2, device="meta")
        assert [tuple(part.shape) for part in lstsq(a, b, **options)] == [(3, 2), (2,), (), (3,)]
        assert residual(a, torch.ones(3, 2, device="meta"), b).shape == (6, 2)

    def test_gradients_without_numbers(self, full):
        a, b, _ = full
        with FakeTensorMode() as mode:
            leaf = mode.from_tensor(a).requires_grad_()
            loss(leaf, mode.from_tensor(b)).backward()
        assert leaf.grad.shape == a.shape

    @pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    def test_sparse_tensors_are_refused(self, layout):
        with pytest.raises(TypeError, match=r"layout torch\.sparse_c\w+; expected a dense one"):
            lstsq(getattr(torch.eye(3), layout)(), torch.ones(3))

    def test_a_derivative_is_not_lost_on_the_way_to_another_library(self, full):
        a, b, _ = full

        def elsewhere(a):
            return lstsq(a, b, backend="numpy").x

        for lose in (
            lambda: elsewhere(*leaves(a)),
            lambda: grad(lambda a: elsewhere(a).sum())(a),
            lambda: jvp(elsewhere, (a,), (a,)),
            lambda: vmap(elsewhere)(a[None]),
            lambda: make_fx(elsewhere)(a),
        ):
            with pytest.raises(TypeError, match="Let the torch backend solve"):
                lose()
        torch.testing.assert_close(elsewhere(a), lstsq(a, b).x)


class TestTransformations:
    def test_vmap_of_grad(self):
        a, b, _ = PROBLEMS["batch"]
        got = vmap(grad(loss, (0, 1)), (0, None))(a, b[0])
        for i, alone in enumerate(a):
            for mapped, wanted in zip(got, grad(loss, (0, 1))(alone, b[0])):
                torch.testing.assert_close(mapped[i], wanted)

    def test_vjp_of_every_output(self, full):
        a, b, _ = full

        def solve(a, b):
            x, residuals, _, s = lstsq(a, b)
            return x, residuals, s

        outputs, pull_back = vjp(solve, a, b)
        expected = grad(lambda a, b: sum(part.sum() for part in solve(a, b)), (0, 1))(a, b)
        torch.testing.assert_close(pull_back(tuple(map(torch.ones_like, outputs))), expected)

    def test_checkpoint(self, full):
        a, b, _ = full
        (leaf,) = leaves(a)
        torch.utils.checkpoint.checkpoint(loss, leaf, b, use_reentrant=False).backward()
        torch.testing.assert_close(leaf.grad, grad(loss)(a, b))

    @pytest.mark.parametrize("name", ["grad", "hessian", "jvp", "vmap of grad"])
    def test_compiled(self, full, name):
        a, b, _ = full
        transformed = {
            "grad": grad(loss),
            "hessian": hessian(loss),
            "jvp": lambda a, b: jvp(loss, (a, b), (a, b)),
            "vmap of grad": lambda a, b: vmap(grad(loss), (0, None))(torch.stack([a, 2 * a]), b),
        }[name]
        expected = transformed(a, b)  # First, since the first call looks for backends, which no compiler can follow.
        torch.testing.assert_close(torch.compile(transformed, fullgraph=True, backend="aot_eager")(a, b), expected)

    def test_compiled_and_then_differentiated(self, full):
        a, b, _ = full
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        given = leaves(a, b)
        torch.testing.assert_close(torch.autograd.grad(compiled(*given), given), grad(loss, (0, 1))(a, b))

    def test_one_program_for_batches_of_any_size(self):
        a, b, _ = PROBLEMS["batch"]
        compiled = torch.compile(lambda a, b: lstsq(a, b).x, fullgraph=True, backend="aot_eager", dynamic=True)
        for count in (3, 2):
            torch.testing.assert_close(compiled(a[:count], b[:count]), lstsq(a[:count], b[:count]).x)

    def test_exported_and_then_differentiated(self, full):
        a, b, _ = full

        class Fit(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a = torch.nn.Parameter(a.clone())

            def forward(self, b):
                return loss(self.a, b)

        program = torch.export.export(Fit(), (b,)).module()
        program(b).backward()
        torch.testing.assert_close(next(program.parameters()).grad, grad(loss)(a, b))

    def test_exported_for_batches_of_any_size(self):
        a, b, _ = PROBLEMS["batch"]

        class Fit(torch.nn.Module):
            def forward(self, a, b):
                return lstsq(a, b).x

        sizes = {0: torch.export.Dim("count", min=2, max=100)}
        program = torch.export.export(Fit(), (a, b), dynamic_shapes=(sizes, sizes)).module()
        torch.testing.assert_close(program(a[:2], b[:2]), lstsq(a[:2], b[:2]).x)

    def test_exported_for_any_number_of_rows(self, full):
        a, b, _ = full

        class Fit(torch.nn.Module):
            def forward(self, a, b):
                return lstsq(a, b, 1e-10).x

        sizes = {0: torch.export.Dim("rows", min=3, max=100)}
        program = torch.export.export(Fit(), (a, b), dynamic_shapes=(sizes, sizes)).module()
        torch.testing.assert_close(program(a[:4], b[:4]), lstsq(a[:4], b[:4]).x)

    @pytest.mark.parametrize(
        "trace", [make_fx, lambda f: lambda *given: torch.jit.trace(f, given)], ids=["make_fx", "jit"]
    )
    def test_traced_and_then_differentiated(self, full, trace):
        a, b, _ = full
        program = trace(lambda a, b: loss(a, b))(a, b)
        given = leaves(2 * a, b)
        torch.testing.assert_close(torch.autograd.grad(program(*given), given), grad(loss, (0, 1))(2 * a, b))


class TestOperations:
    """torch's own examination: schemas, shapes without numbers, derivatives and compilation with symbolic sizes."""

    @pytest.mark.parametrize("with_s", [True, False])
    def test_solve(self, problem, with_s):
        a, b, rcond = problem
        torch.library.opcheck(ops.solve, (*leaves(a, b), rcond or 1e-15, "auto", with_s))

    def test_rotation(self):
        a, b, _ = PROBLEMS["truncated"]
        c = b[:3] @ b[:3].mT
        torch.library.opcheck(ops.rotation, (*leaves(a, c), torch.tensor(2)))

    def test_singular_vectors(self):
        a, *_ = PROBLEMS["full rank"]
        torch.library.opcheck(ops.singular_vectors, leaves(a))

    def test_derivatives_of_rotation(self):
        a, b, _ = PROBLEMS["truncated"]
        stack = torch.stack([b[:3] @ b[:3].mT, b[1:4] @ b[2:].mT])

        def rotation(a, c):
            return ops.rotation(a, c, torch.tensor(2))

        assert gradcheck(rotation, leaves(a, stack), check_forward_ad=True)
        assert gradgradcheck(rotation, leaves(a, stack), check_fwd_over_rev=True)
        torch.testing.assert_close(vmap(rotation, (None, 0))(a, stack), rotation(a, stack))

    def test_nothing_turns_at_full_rank(self):
        a, b, _ = PROBLEMS["full rank"]
        assert not ops.rotation(a, b[:3] @ b[:3].mT, torch.tensor(3)).any()


class TestMemory:
    @pytest.fixture
    def native(self):
        found = _solve._native()
        if found is None:
            pytest.skip("lstsq-native is not installed")
        return found

    @pytest.mark.parametrize("driver", ["auto", "cholesky"])
    def test_is_handed_to_the_compiled_core_as_it_is(self, monkeypatch, native, driver):
        seen = []

        class Spy:
            def solve(self, a, b, rcond, driver):
                seen.extend(array.__array_interface__["data"][0] for array in (a, b))
                return native.solve(a, b, rcond, driver)

        monkeypatch.setattr(_solve, "_native", Spy)
        a, b, _ = PROBLEMS["full rank"]
        lstsq(a, b, driver=driver)
        assert seen == [a.data_ptr(), b.data_ptr()]

    def test_answers_are_as_good_without_it(self, monkeypatch, problem):
        a, b, rcond = problem
        expected = lstsq(a, b, rcond), grad(loss)(a, b, rcond)
        monkeypatch.setattr(_solve, "_native", lambda: None)
        torch.testing.assert_close((lstsq(a, b, rcond), grad(loss)(a, b, rcond)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("driver", BACKEND.capabilities.all_drivers)
def test_each_element_of_a_batch_is_answered_as_it_is_alone(driver):
    """A deficient matrix beside healthy ones, and one that is not finite."""
    a, b = with_spectrum(17, 6, 3, [1, 0.6, 0.3], 4)
    a[1, :, 2] = a[1, :, 0]
    a[3, 0, 0] = torch.nan
    together = lstsq(a, b, driver=driver)
    for i in (0, 2):
        for got, wanted in zip(together, lstsq(a[i], b[i], driver=driver)):
            torch.testing.assert_close(got[i], wanted, rtol=1e-13, atol=1e-13)
    assert together.rank.tolist() == [3, 0 if driver == "cholesky" else 2, 3, 0]
    assert together.x[3].isnan().all()


class TestSmallProblems:
    """Without the compiled core NumPy solves them: by the certified way where there is a proof, else by gelsd."""

    @pytest.fixture(autouse=True)
    def no_native(self, monkeypatch):
        monkeypatch.setattr(_solve, "_native", lambda: None)

    @staticmethod
    def arrays(m, n, kappa, dtype):
        """A matrix of this condition; a right-hand side that fits and one that does not."""
        a, b = with_spectrum(n, m, n, np.geomspace(1, 1 / kappa, n).tolist())
        b[:, 0] = a @ b[:n, 1]
        return a.numpy().astype(dtype), b.numpy().astype(dtype)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("shape", [(10, 3), (60, 20), (12, 12), (5, 1)])
    def test_are_right_where_there_is_a_proof(self, shape, dtype):
        (m, n), eps = shape, np.finfo(dtype).eps
        for kappa in (1, 30, 1e3, 1e5, 1e7, 1e12):
            a, b = self.arrays(m, n, kappa, dtype)
            found = _small.certify(a, b, 16 * eps)
            proven = found is not None
            assert proven if kappa <= 1e3 else n == 1 or kappa < 1e12 or not proven
            if not proven:
                continue
            a, b = a.astype(float), b.astype(float)
            x = np.linalg.lstsq(a, b, rcond=0)[0]
            s, r = np.linalg.svd(a, compute_uv=False), np.linalg.norm(b - a @ x, axis=0)
            size = np.linalg.norm(x, axis=0) + s[0] / s[-1] ** 2 * r
            assert np.all(np.linalg.norm(found.x - x, axis=0) <= (eps + 30 * 2.0**-52 * s[0] / s[-1]) * size)
            own = 30 * 2.0**-52 * np.linalg.norm(x, axis=0) * s[0]
            assert np.all(np.abs(np.sqrt(found.residuals) - r) <= 4 * eps * r + own + eps / 32 * size)
            assert found.rank == n

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_inverse_is_not_trusted(self, dtype, monkeypatch):
        a, b = self.arrays(10, 3, 2, dtype)
        inverse, x = np.linalg.inv, np.linalg.lstsq(a, b, rcond=None)[0]
        monkeypatch.setattr(np.linalg, "inv", lambda g: inverse(g) * (1 + 1e-3))
        np.testing.assert_allclose(
            _small.certify(a, b, 1e-5).x, x, rtol=4 * np.finfo(dtype).eps, atol=1e-6 if dtype == "float32" else 1e-14
        )
        monkeypatch.setattr(np.linalg, "inv", lambda g: inverse(g) * 1.5)
        assert _small.certify(a, b, 1e-5) is None

    @pytest.mark.parametrize("size", [1e-170, 1e170])
    def test_sizes_beyond_the_proof_have_none(self, size):
        a, b = self.arrays(10, 3, 2, "float64")
        assert _small.certify(a * size, b, 1e-14) is None
        assert _small.certify(a, b * size, 1e-14) is None
        x, _, rank, _ = lstsq(torch.tensor(a * size), torch.tensor(b * size), singular_values=False)
        np.testing.assert_allclose(x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-12)
        assert rank == 3

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
    @pytest.mark.parametrize("shape", [(10, 3), (3, 10), (4, 4)])
    def test_are_answered_as_the_others_are(self, shape, dtype):
        rng = torch.Generator().manual_seed(3)
        a, b = torch.randn(*shape, dtype=dtype, generator=rng), torch.randn(shape[0], 2, dtype=dtype, generator=rng)
        deficient, spoilt, broken = a.clone(), b.clone(), a.clone()
        deficient[:, 0], deficient[0] = deficient[:, 1], deficient[1]
        spoilt[0, 1], broken[1, 1] = torch.nan, torch.inf
        for matrix, right in ((a, b), (deficient, b), (a, spoilt), (broken, b), (a.mT.contiguous().mT, b)):
            for singular_values in (True, False):
                small = lstsq(matrix, right, singular_values=singular_values)
                batched = lstsq(matrix[None], right[None], singular_values=singular_values)
                assert small.rank == batched.rank[0]
                for mine, theirs in zip(small, batched):
                    assert (mine is None) == (theirs is None)
                    if mine is not None:
                        assert (mine.dtype, mine.device) == (theirs.dtype, theirs.device)
                        torch.testing.assert_close(mine, theirs[0], equal_nan=True)


def test_a_torch_that_lacks_something_is_told(monkeypatch):
    assert BACKEND.unavailable() is None
    monkeypatch.setitem(sys.modules, "lstsq_torch._gradient", None)
    reason = BACKEND.unavailable()
    assert reason.startswith(f"the torch backend needs what torch {torch.__version__} does not have (import of")
    assert reason.endswith("Run `pip install --upgrade torch`")


def test_weights_in_the_programs_and_transformations_of_torch():
    a, b, _ = PROBLEMS["full rank"]
    weights = torch.arange(1.0, 11, dtype=a.dtype).reshape(2, 5)

    def solve(weights):
        return lstsq(a, b, weights=weights, ridge=0.5).x

    expected = solve(weights)
    for got in (vmap(solve)(weights), torch.compile(solve, fullgraph=True, backend="aot_eager")(weights)):
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)
    assert gradcheck(
        lambda a, b, w, p: lstsq(a, b, weights=w, ridge=p)[:2], _recording(a, b, weights[0], weights[0, :3])
    )


def test_a_negative_weight_that_records_gradients_gives_nan():
    a, b, _ = PROBLEMS["full rank"]
    (weights,) = _recording(-torch.ones(5, dtype=a.dtype))
    with pytest.raises(ValueError, match="weights holds -1"):
        lstsq(a, b, weights=weights.detach())
    result = lstsq(a, b, weights=weights)
    assert result.x.isnan().all()
    assert int(result.rank) == 0


def test_residual_is_computed_in_double_under_autocast():
    a, b, _ = PROBLEMS["full rank"]
    a, b = a.float(), b.float()
    x = lstsq(a, b).x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = residual(a, x, b)
    torch.testing.assert_close(got, (b.double() - a.double() @ x.double()).float(), rtol=1e-6, atol=0)
    compiled = torch.compile(residual, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, x, b), got, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["deficient 5x3", "full rank 3x5"])
def test_derivatives_by_weights_and_a_ridge_are_those_of_mlx(name):
    """Two codes that find them in different ways. By a weight and a penalty of 0, too."""
    mx = pytest.importorskip("mlx.core")
    at = point(name, "float64")
    m, n = at.a.shape
    factors = np.array([1.0, 2.0, 0.0, 0.5, 1.0])[:m], np.array([0.5, 1.0, 0.25, 0.0, 2.0])[-n:]
    found = []
    with mx.stream(mx.cpu):
        for target in (Target(BACKEND, "torch", ("auto",), ("float64",)), Target(get_backend("mlx"), "mlx", (), ())):

            def value(a, b, weights, ridge, target=target):
                result = target.lstsq(a, b, weights=weights, ridge=ridge)
                xp = target.backend.namespace(a)
                return xp.sum(target.array(at.weights["x"]) * result.x) + xp.sum(result.residuals)

            gradient = target.transform("grad")(value, (0, 1, 2, 3))
            found.append([target.numpy(part) for part in gradient(*map(target.array, (at.a, at.b, *factors)))])
    for one, other in zip(*found):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e4 * 2.0**-52 * max(1, abs(one).max()))


def _recording(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]
