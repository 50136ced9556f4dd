"""Derivatives of x, residuals and s: against differences of NumPy's float64 answers, and against each other.

Forward derivatives are compared with central differences along a path on which the rank is constant; reverse ones with
forward ones, by the identity ``<y, J v> = <Jᵀ y, v>`` for arbitrary directions; second derivatives with differences of
first ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstsq import lstsq
from lstsq_mlx import MlxBackend

Matrix = np.ndarray[Any, Any]

CLAIMS = MlxBackend.capabilities
#: Those that answer at every rank; what `cholesky` answers is in test_certified.py.
DRIVERS = (CLAIMS.default_driver, *(driver for driver in CLAIMS.drivers if driver not in CLAIMS.declines))
SHAPES = [(5, 3), (3, 3), (3, 5)]
#: Singular values, how many of them are kept, and the cutoff that keeps them.
SPECTRA = {
    "full": ([1, 0.6, 0.3], 3, 1e-10),
    "tied": ([1, 1, 0.5], 3, 1e-10),
    "truncated": ([1, 0.5, 1e-3], 2, 1e-2),
    "truncated-tied": ([1, 1, 0.01], 2, 0.1),
    "deficient": ([1, 0.5, 0], 2, 1e-10),
    "zero": ([0, 0, 0], 0, 1e-10),
}
#: MLX's name of the dtype, and how far results in it may be off, relative to their size.
PRECISIONS = {"float64": 1e-9, "complex64": 3e-6}


@dataclass
class Path:
    """Matrices and right-hand sides that move with t, at a constant rank."""

    a: Callable[[float], Matrix]
    b: Callable[[float], Matrix]
    da: Matrix
    db: Matrix
    rcond: float
    kept: int

    def numpy(self, t: float) -> tuple[Matrix, Matrix, Matrix]:
        """x, residuals and s in NumPy's double precision."""
        a, b = self.a(t), self.b(t)
        x, _, rank, s = np.linalg.lstsq(a, b, rcond=self.rcond)
        assert rank == self.kept
        return x, (abs(b - a @ x) ** 2).sum(axis=0), s

    def differences(self, h: float = 1e-5) -> list[Matrix]:
        return [(after - before) / (2 * h) for after, before in zip(self.numpy(h), self.numpy(-h))]


def path(shape: tuple[int, int], spectrum: str, dtype: str, k: int = 2, seed: int = 0) -> Path:
    m, n = shape
    sigma, kept, rcond = SPECTRA[spectrum]
    normal = source(dtype, (m, n, k, seed))
    u, v = np.linalg.qr(normal(m, 3))[0], np.linalg.qr(normal(n, 3))[0]
    b, db = coarse(normal(m, k)), coarse(normal(m, k))
    if 0 in sigma:  # both factors move, so that the rank stays
        left, right = coarse(u[:, :kept] * sigma[:kept]), coarse(v[:, :kept].conj().T)
        d_left, d_right = coarse(normal(m, kept)), coarse(normal(kept, n))
        return Path(
            lambda t: (left + t * d_left) @ (right + t * d_right),
            lambda t: b + t * db,
            left @ d_right + d_left @ right,
            db,
            rcond,
            kept,
        )
    a, da = (u * sigma) @ v.conj().T, coarse(normal(m, n))
    if dtype == "complex64":
        a = a.astype(dtype).astype("complex128")
    return Path(lambda t: a + t * da, lambda t: b + t * db, da, db, rcond, kept)


def coarse(values: Matrix) -> Matrix:
    """Rounded so that products of two of them are exact in single precision: a deficient matrix stays so."""
    return np.round(values * 256) / 256


def source(dtype: str, seed: Any) -> Callable[..., Matrix]:
    rng = np.random.default_rng(seed)
    if not dtype.startswith("complex"):
        return lambda *shape: rng.standard_normal(shape)
    return lambda *shape: rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def array(values: Any, dtype: str = "float64") -> mx.array:
    return mx.array(np.asarray(values), dtype=getattr(mx, dtype))


def solve(p: Path, driver: str | None = None) -> Callable[[mx.array, mx.array], tuple[mx.array, ...]]:
    def outputs(a: mx.array, b: mx.array) -> tuple[mx.array, ...]:
        answer = lstsq(a, b, p.rcond, driver=driver)
        return answer.x, answer.residuals, answer.s

    return outputs


def inner(left: Any, right: Any) -> float:
    """The real inner product that MLX's cotangents belong to."""
    left, right = np.array(left), np.array(right)
    return float((left.conj().astype(complex) * right).sum().real)


def close(got: Any, expected: Any, tolerance: float) -> None:
    got, expected = np.array(got), np.array(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, float(abs(expected).max(initial=0))))


def weighted(p: Path, dtype: str = "float64", seed: int = 7, driver: str | None = None) -> Callable[..., mx.array]:
    """A real function of a and b that sees x and the residuals, nonlinearly: its second derivative is all there is."""
    normal = source(dtype, seed)
    x_weight, r_weight = (
        array(normal(*p.numpy(0)[0].shape), dtype),
        array(normal(p.numpy(0)[1].shape[0]).real, "float32"),
    )

    def f(a: mx.array, b: mx.array) -> mx.array:
        x, residuals, _ = solve(p, driver)(a, b)
        linear = mx.sum(mx.real(mx.conjugate(x_weight) * x))
        return linear + linear * linear + mx.sum(r_weight.astype(residuals.dtype) * residuals)

    return f


# ----------------------------------------------------------------------------------------------------------------------
# First derivatives
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES)
def test_jvp_agrees_with_differences_of_numpy(shape: tuple[int, int], spectrum: str, dtype: str, driver: str) -> None:
    p = path(shape, spectrum, dtype)
    _, (dx, dresiduals, ds) = mx.jvp(
        solve(p, driver), [array(p.a(0), dtype), array(p.b(0), dtype)], [array(p.da, dtype), array(p.db, dtype)]
    )
    tolerance = max(PRECISIONS[dtype], 1e-6)
    differences = p.differences(1e-6 if "truncated" in spectrum else 1e-5)
    close(dx, differences[0], tolerance)
    close(dresiduals, differences[1], tolerance)
    if spectrum in ("full", "truncated"):  # distinct, nonzero: where s has a derivative
        close(ds, differences[2], tolerance)


@pytest.mark.parametrize("argument", ["a", "b"])
@pytest.mark.parametrize("shape", SHAPES)
def test_jvp_in_one_argument_is_its_part_of_the_whole(shape: tuple[int, int], argument: str) -> None:
    p = path(shape, "truncated", "float64")
    a, b, da, db = (array(value) for value in (p.a(0), p.b(0), p.da, p.db))
    f = solve(p)
    if argument == "a":
        alone = mx.jvp(lambda a: f(a, b), [a], [da])[1]
        whole = mx.jvp(f, [a, b], [da, mx.zeros_like(db)])[1]
    else:
        alone = mx.jvp(lambda b: f(a, b)[:2], [b], [db])[1]
        whole = mx.jvp(f, [a, b], [mx.zeros_like(da), db])[1]
    for got, expected in zip(alone, whole):
        close(got, expected, 1e-12)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES)
def test_vjp_is_the_adjoint_of_jvp(shape: tuple[int, int], spectrum: str, dtype: str, driver: str) -> None:
    p = path(shape, spectrum, dtype)
    normal = source(dtype, 5)
    primals = [array(p.a(0), dtype), array(p.b(0), dtype)]
    tangents = [array(normal(*primal.shape), dtype) for primal in primals]
    outputs, derivatives = mx.jvp(solve(p, driver), primals, tangents)
    for i, output in enumerate(outputs):  # one at a time: an error in one must not hide behind the others
        cotangents = [mx.zeros_like(other) for other in outputs]
        values = normal(*output.shape)
        cotangents[i] = mx.array(values if "complex" in str(output.dtype) else values.real, dtype=output.dtype)
        _, (a_bar, b_bar) = mx.vjp(solve(p, driver), primals, cotangents)
        forward = inner(cotangents[i], derivatives[i])
        backward = inner(a_bar, tangents[0]) + inner(b_bar, tangents[1])
        size = float(mx.abs(derivatives[i]).max()) + 1
        assert abs(forward - backward) <= size * (1e-10 if dtype == "float64" else 3e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("a", "expected"),
    [
        (np.eye(3), -np.ones((3, 3))),
        (np.eye(5)[:, :3], np.repeat([-1.0, 1.0], [9, 6]).reshape(5, 3)),
        (np.zeros((3, 2)), np.zeros((3, 2))),
        (np.arange(1.0, 10).reshape(3, 3), np.array([[-1, 0, 1], [0, 0, 0], [1, 0, -1]]) / 12),
    ],
    ids=["eye", "tall-eye", "zeros", "one-to-nine"],
)
def test_gradient_of_the_sum_of_x_at_known_points(a: Matrix, expected: Matrix, dtype: str, driver: str) -> None:
    b = mx.ones((a.shape[0],), dtype=getattr(mx, dtype))
    got = mx.grad(lambda a: mx.real(lstsq(a, b, driver=driver).x).sum())(array(a, dtype))
    assert str(got.dtype) == f"mlx.core.{dtype}"
    close(got, expected, 1e-13 if dtype == "float64" else 1e-6)


def rotated(sigma: list[float], seed: int) -> Matrix:
    normal = source("float64", seed)
    n = len(sigma)
    return (np.linalg.qr(normal(n, n))[0] * sigma) @ np.linalg.qr(normal(n, n))[0].T


@pytest.mark.parametrize("driver", DRIVERS)
def test_gradient_where_a_nonzero_value_is_truncated(driver: str) -> None:
    a, b, h = rotated([1, 0.5, 1e-3], 3), np.array([1.0, 2, 3]), 1e-5
    got = np.array(mx.grad(lambda a: lstsq(a, array(b), 1e-2, driver=driver).x.sum())(array(a)))
    for i in range(3):
        for j in range(3):
            step = np.zeros((3, 3))
            step[i, j] = h
            after, before = (np.linalg.lstsq(a + sign * step, b, rcond=1e-2)[0].sum() for sign in (1, -1))
            assert abs(got[i, j] - (after - before) / (2 * h)) < 1e-6


@pytest.mark.parametrize("driver", DRIVERS)
def test_gradient_at_equal_singular_values_is_exact(driver: str) -> None:
    a, b = rotated([1, 1, 1, 0.5], 4), np.array([1.0, 2, 3, 4])
    got = mx.grad(lambda a: lstsq(a, array(b), driver=driver).x.sum())(array(a))
    inverse = np.linalg.inv(a)  # d sum(A⁻¹ b) = −(A⁻ᵀ 1)(A⁻¹ b)ᵀ
    close(got, -np.outer(inverse.T @ np.ones(4), inverse @ b), 1e-10)


def test_gradient_of_the_nuclear_norm_at_equal_singular_values() -> None:
    a = rotated([1, 1, 1, 0.5], 6)
    u, _, vh = np.linalg.svd(a)
    b = mx.ones((4,), dtype=mx.float64)
    close(mx.grad(lambda a: lstsq(a, b).s.sum())(array(a)), u @ vh, 1e-12)


@pytest.mark.parametrize("shape", [(40, 7), (12, 12), (7, 40)])
def test_single_precision_differs_by_its_rounding_alone(shape: tuple[int, int]) -> None:
    normal = source("float64", 9)
    a, b = normal(*shape).astype(np.float32), normal(shape[0], 2).astype(np.float32)

    def f(a: mx.array, b: mx.array) -> mx.array:
        answer = lstsq(a, b)
        return (answer.x**2).sum() + answer.residuals.sum() + (answer.s**3).sum()

    single = mx.grad(f, argnums=(0, 1))(array(a, "float32"), array(b, "float32"))
    double = mx.grad(f, argnums=(0, 1))(array(a), array(b))
    for got, expected in zip(single, double):
        close(got, expected, 1e-5)


# ----------------------------------------------------------------------------------------------------------------------
# Second derivatives
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivatives_agree_with_differences_of_first(shape: tuple[int, int], spectrum: str) -> None:
    p = path(shape, spectrum, "float64")
    gradient = mx.grad(weighted(p), argnums=(0, 1))
    primals, tangents = [array(p.a(0)), array(p.b(0))], [array(p.da), array(p.db)]
    _, forward_over_reverse = mx.jvp(gradient, primals, tangents)
    h = 1e-6 if "truncated" in spectrum else 1e-5
    after, before = (gradient(array(p.a(t)), array(p.b(t))) for t in (h, -h))
    for got, one, other in zip(forward_over_reverse, after, before):
        close(got, np.array(one - other) / (2 * h), 1e-6)

    def along(a: mx.array, b: mx.array) -> mx.array:
        return sum((g * t).sum() for g, t in zip(gradient(a, b), tangents))

    reverse_over_reverse = mx.grad(along, argnums=(0, 1))(*primals)
    for got, expected in zip(reverse_over_reverse, forward_over_reverse):  # the second derivative is symmetric
        close(got, expected, 1e-8)

    def derivative(a: mx.array, b: mx.array) -> mx.array:
        return mx.jvp(weighted(p), [a, b], tangents)[1][0]

    reverse_over_forward = mx.grad(derivative, argnums=(0, 1))(*primals)
    for got, expected in zip(reverse_over_forward, forward_over_reverse):
        close(got, expected, 1e-8)


@pytest.mark.parametrize("output", ["x", "residuals", "s"])
@pytest.mark.parametrize("spectrum", ["full", "truncated", "deficient"])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_of_any_size_have_derivatives(shape: tuple[int, int], spectrum: str, output: str) -> None:
    """A matrix times a power of two has the same derivatives, but for a power of two."""
    p = path(shape, spectrum, "float64")
    size = np.exp2([350.0, 400, 450, -350, -400, -450]).reshape(-1, 1, 1)
    # Sums of squares of b must not leave the range either.
    size_b = size**-0.5 if output == "residuals" else np.ones_like(size)
    unit = {"x": size**-2, "residuals": size_b**2 / size, "s": np.ones_like(size)}[output]

    def first(a: mx.array, b: mx.array) -> mx.array:
        def value(a: mx.array) -> mx.array:
            x, residuals, s = solve(p)(a, b)
            return {"x": x, "residuals": residuals, "s": s[..., : p.kept]}[output].sum()

        return mx.grad(value)(a)

    def second(a: mx.array, b: mx.array, direction: mx.array) -> mx.array:
        return mx.grad(lambda a: (first(a, b) * direction).sum())(a)

    def forward(a: mx.array, b: mx.array, direction: mx.array) -> mx.array:
        return mx.jvp(lambda a: first(a, b), [a], [direction])[1][0]

    a, b, direction = p.a(0), p.b(0), p.da
    for derivative, *given in ((first, a, b), (second, a, b, direction), (forward, a, b, direction)):
        expected = np.array(derivative(*map(array, given)))
        found = np.array(derivative(*(array(each * by) for each, by in zip(given, (size, size_b, size))))) / unit
        close(found, np.broadcast_to(expected, found.shape), 1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivatives_of_complex_problems(shape: tuple[int, int]) -> None:
    p = path(shape, "truncated-tied", "complex64")
    gradient = mx.grad(weighted(p, "complex64"), argnums=(0, 1))
    tangents = [array(p.da, "complex64"), array(p.db, "complex64")]
    _, second = mx.jvp(gradient, [array(p.a(0), "complex64"), array(p.b(0), "complex64")], tangents)

    # Complex MLX arrays are too coarse to take differences of. The same problem in real numbers is not.
    def as_real(a: Matrix) -> Matrix:
        return np.block([[a.real, -a.imag], [a.imag, a.real]])

    def stacked(b: Matrix) -> Matrix:
        return np.concatenate([b.real, b.imag])

    normal = source("complex64", 7)
    x_weight, r_weight = array(stacked(normal(*p.numpy(0)[0].shape))), array(normal(p.numpy(0)[1].shape[0]).real)

    def real_function(a: mx.array, b: mx.array) -> mx.array:
        x, residuals, _ = solve(p)(a, b)
        linear = (x_weight * x).sum()
        return linear + linear * linear + (r_weight * residuals).sum()

    _, (a_second, b_second) = mx.jvp(
        mx.grad(real_function, argnums=(0, 1)),
        [array(as_real(p.a(0))), array(stacked(p.b(0)))],
        [array(as_real(p.da)), array(stacked(p.db))],
    )
    m, n = shape
    a_second, b_second = np.array(a_second), np.array(b_second)
    close(second[0], a_second[:m, :n] + a_second[m:, n:] + 1j * (a_second[m:, :n] - a_second[:m, n:]), 1e-5)
    close(second[1], b_second[:m] + 1j * b_second[m:], 1e-5)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivatives_of_distinct_singular_values(shape: tuple[int, int], dtype: str) -> None:
    p = path(shape, "full", dtype)
    b = array(p.b(0), dtype)

    def f(a: mx.array) -> mx.array:
        s = lstsq(a, b).s
        return (s * s * s).sum() + s.sum() * s.sum()

    tangent = array(p.da, dtype)
    _, (got,) = mx.jvp(mx.grad(f), [array(p.a(0), dtype)], [tangent])

    def gradient(a: Matrix) -> Matrix:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return (u * (3 * s**2 + 2 * s.sum())) @ vh

    h = 1e-5
    close(got, (gradient(p.a(h)) - gradient(p.a(-h))) / (2 * h), 1e-7 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivative_of_the_nuclear_norm_at_equal_singular_values(shape: tuple[int, int], dtype: str) -> None:
    p = path(shape, "tied", dtype)
    b = array(p.b(0), dtype)
    _, (got,) = mx.jvp(mx.grad(lambda a: lstsq(a, b).s.sum()), [array(p.a(0), dtype)], [array(p.da, dtype)])

    def gradient(a: Matrix) -> Matrix:
        u, _, vh = np.linalg.svd(a, full_matrices=False)
        return np.asarray(u @ vh)

    h = 1e-5
    close(got, (gradient(p.a(h)) - gradient(p.a(-h))) / (2 * h), 1e-7 if dtype == "float64" else 1e-4)


def test_third_derivative() -> None:
    b = mx.array([1.0, 2.0], dtype=mx.float64)
    direction = mx.array([[1.0, 0.0], [0.0, 1.0]], dtype=mx.float64)
    f = lambda t: lstsq(direction * t, b).x.sum()  # noqa: E731  3 / t
    third = mx.grad(mx.grad(mx.grad(f)))(mx.array(2.0, dtype=mx.float64))
    assert abs(third.item() + 18 / 2**4) < 1e-12


# ----------------------------------------------------------------------------------------------------------------------
# With the other transformations
# ----------------------------------------------------------------------------------------------------------------------


def batch(shape: tuple[int, ...], spectrum: str, dtype: str = "float64") -> tuple[Path, mx.array, mx.array]:
    paths = [path(shape[-2:], spectrum, dtype, seed=i) for i in range(int(np.prod(shape[:-2])))]
    a = np.stack([p.a(0) for p in paths]).reshape(shape)
    b = np.stack([p.b(0) for p in paths]).reshape(*shape[:-1], -1)
    return paths[0], array(a, dtype), array(b, dtype)


@pytest.mark.parametrize("spectrum", ["full", "truncated", "deficient"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batches_are_differentiated_one_by_one(shape: tuple[int, int], spectrum: str) -> None:
    p, a, b = batch((2, 3, *shape), spectrum)
    f = weighted(p)
    total = lambda a, b: mx.sum(mx.vmap(mx.vmap(f))(a, b))  # noqa: E731
    got = mx.grad(total, argnums=(0, 1))(a, b)
    mapped = mx.vmap(mx.vmap(mx.grad(f, argnums=(0, 1))))(a, b)
    for i in range(2):
        for j in range(3):
            alone = mx.grad(f, argnums=(0, 1))(a[i, j], b[i, j])
            for k in range(2):
                close(got[k][i, j], alone[k], 1e-12)
                close(mapped[k][i, j], alone[k], 1e-12)


@pytest.mark.parametrize("spectrum", ["full", "deficient"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_of_jvps(shape: tuple[int, int], spectrum: str) -> None:
    p, a, b = batch((3, *shape), spectrum)
    normal = source("float64", 2)
    da, db = array(normal(*a.shape)), array(normal(*b.shape))
    _, together = mx.jvp(solve(p), [a, b], [da, db])
    for i in range(3):
        _, alone = mx.jvp(solve(p), [a[i], b[i]], [da[i], db[i]])
        for got, expected in zip(together, alone):
            close(got[i], expected, 1e-12)


@pytest.mark.parametrize(("in_axes", "axis_a", "axis_b"), [((0, None), 0, None), ((None, 0), None, 0), ((2, 1), 2, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_mapped_over_any_axis(
    shape: tuple[int, int], in_axes: tuple[int | None, ...], axis_a: int | None, axis_b: int | None
) -> None:
    p, a, b = batch((3, *shape), "deficient")
    gradient = mx.grad(weighted(p), argnums=(0, 1))
    moved_a = a[0] if axis_a is None else mx.moveaxis(a, 0, axis_a)
    moved_b = b[0] if axis_b is None else mx.moveaxis(b, 0, axis_b)
    got = mx.vmap(gradient, in_axes=in_axes)(moved_a, moved_b)
    for i in range(3):
        alone = gradient(a[0 if axis_a is None else i], b[0 if axis_b is None else i])
        for k in range(2):
            close(got[k][i], alone[k], 1e-12)


@pytest.mark.parametrize("spectrum", ["full", "truncated"])
def test_hessian_by_mapping_over_directions(spectrum: str) -> None:
    p = path((5, 3), spectrum, "float64")
    b = array(p.b(0))
    f = weighted(p)
    gradient = mx.grad(lambda a: f(a, b))
    a = array(p.a(0))
    basis = mx.reshape(mx.eye(15, dtype=mx.float64), (15, 5, 3))
    hessian = mx.reshape(mx.vmap(lambda v: mx.jvp(gradient, [a], [v])[1][0])(basis), (15, 15))
    close(hessian, hessian.T, 1e-9)
    close(hessian[4], mx.reshape(mx.jvp(gradient, [a], [basis[4]])[1][0], (15,)), 1e-10)


@pytest.mark.parametrize("spectrum", ["full", "truncated", "deficient"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_compile_value_and_grad_and_checkpoint_change_nothing(spectrum: str, dtype: str) -> None:
    p = path((5, 3), spectrum, dtype)
    a, b = array(p.a(0), dtype), array(p.b(0), dtype)
    f = weighted(p, dtype)
    plain = mx.grad(f, argnums=(0, 1))(a, b)
    value, with_value = mx.value_and_grad(f, argnums=(0, 1))(a, b)
    close(value, f(a, b), 1e-6)
    others = [
        with_value,
        mx.compile(mx.grad(f, argnums=(0, 1)))(a, b),
        mx.grad(mx.compile(f), argnums=(0, 1))(a, b),
        mx.grad(mx.checkpoint(f), argnums=(0, 1))(a, b),
    ]
    for other in others:
        for got, expected in zip(other, plain):
            close(got, expected, PRECISIONS[dtype])


def test_second_derivative_compiled_and_mapped() -> None:
    p, a, b = batch((3, 5, 3), "truncated")
    f = weighted(p)

    def second(a: mx.array, b: mx.array) -> mx.array:
        gradient = mx.grad(f)
        return mx.grad(lambda a: (gradient(a, b) ** 2).sum())(a)

    got = mx.compile(mx.vmap(second))(a, b)
    for i in range(3):
        close(got[i], second(a[i], b[i]), 1e-9)


# ----------------------------------------------------------------------------------------------------------------------
# Trouble
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("spectrum", ["full", "truncated"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_nan_where_the_input_is_and_only_there(shape: tuple[int, int], spectrum: str, where: str) -> None:
    p, a, b = batch((3, *shape), spectrum)
    f = lambda a, b: lstsq(a, b, p.rcond).x.sum() + lstsq(a, b, p.rcond).residuals.sum()  # noqa: E731
    healthy = mx.grad(f, argnums=(0, 1))(a, b)
    if where == "a":
        a[1, 0, 0] = float("nan")
    else:
        b[1, 0, 0] = float("inf")
    spoiled = mx.grad(f, argnums=(0, 1))(a, b)
    for got, expected in zip(spoiled, healthy):
        close(got[0], expected[0], 0)
        close(got[2], expected[2], 0)
    # A right-hand side spoils its own gradient and, since all are summed, that of the matrix.
    assert np.isnan(np.array(spoiled[0][1])).all()
    assert np.isnan(np.array(spoiled[1][1][:, 0])).all()
    if where == "a":
        assert np.isnan(np.array(spoiled[1][1])).all()
    else:
        close(spoiled[1][1][:, 1], healthy[1][1][:, 1], 1e-12)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("spectrum", ["full", "truncated"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", ["columns", "batch", "vmap"])
def test_a_column_that_is_not_finite_and_not_read_spoils_no_gradient(
    shape: tuple[int, int], spectrum: str, dtype: str, share: str
) -> None:
    """What reads the finite columns alone has the derivatives that it has without the others."""
    p = path(shape, spectrum, dtype, k=3)
    a, b = array(p.a(0), dtype), array(p.b(0), dtype)
    read = mx.array([True, False, True])
    if share != "columns":  # each right-hand side is an element of its own, beside the one matrix
        b, read = mx.expand_dims(mx.moveaxis(b, -1, 0), -1), mx.expand_dims(read, -1)

    def loss(a: mx.array, b: mx.array) -> mx.array:
        of_all = mx.vmap(solve(p), in_axes=(None, 0)) if share == "vmap" else solve(p)
        x, residuals, _ = of_all(a, b)
        x = mx.where(mx.expand_dims(read, -2), x, mx.zeros_like(x))
        return mx.sum(mx.abs(x) ** 2) + mx.sum(mx.where(read, residuals, mx.zeros_like(residuals)))

    expected = mx.grad(loss, argnums=(0, 1))(a, b)
    for value in (float("nan"), float("inf")):
        b[(1, 1) if share == "columns" else (1, 1, 0)] = value
        got = mx.grad(loss, argnums=(0, 1))(a, b)
        for one, other in zip(got, expected):
            close(one, other, 1e-9 if dtype == "float64" else 3e-5)


def test_gradient_of_s_is_nan_where_the_input_is_and_only_there() -> None:
    a = np.stack([np.diag([3.0, 2.0, 1.0])] * 2)
    a[1, 0, 0] = np.nan
    got = np.array(mx.grad(lambda a: lstsq(a, mx.ones((2, 3, 1), dtype=mx.float64)).s.sum())(array(a)))
    assert np.isnan(got[1]).all()
    close(got[0], np.eye(3), 1e-14)
