"""What can be seen on a GPU alone. Where there is none, there are no tests here.

The conformance suite with ``--lstsq-device gpu`` tests the rest of the contract there.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from gpus import first_gpu, mlx_gpu

from lstsq import LinAlgError, explain, get_backend, lstsq, reduce_rows

TORCH, CUPY, JAX = first_gpu("torch", "torch"), first_gpu("array_api", "cupy"), first_gpu("jax")
MLX = mlx_gpu()


def refused(on_the_gpu, on_the_cpu):
    with pytest.raises(TypeError, match=r"(?i)^a is on the device cuda:0 and b on .*cpu.*; expected one device"):
        lstsq(on_the_gpu, on_the_cpu)
    with pytest.raises(TypeError, match=r"(?i)^a is on the device .*cpu.* and b on cuda:0; expected one device"):
        lstsq(on_the_cpu, on_the_gpu)


if TORCH is not None:

    class TestTorch:
        def test_two_devices_are_refused(self):
            import torch

            refused(torch.eye(3, device=TORCH), torch.eye(3))

        @pytest.mark.parametrize("shape", [(5000, 8, 4), (500, 32, 8), (64, 64, 16), (8, 256, 32)])
        @pytest.mark.parametrize("dtype", ["float32", "float64"])
        def test_a_deficient_matrix_leaves_the_others_bit_for_bit_as_they_are_alone(self, shape, dtype):
            import torch

            random = torch.Generator(device=TORCH).manual_seed(0)
            a = torch.randn(shape, dtype=getattr(torch, dtype), device=TORCH, generator=random)
            b = torch.randn((*shape[:2], 2), dtype=a.dtype, device=TORCH, generator=random)
            healthy = [part.cpu() for part in lstsq(a, b)]
            a[3, :, 1] = a[3, :, 0]
            x, residuals, rank, s = (part.cpu() for part in lstsq(a, b))
            assert rank[3] == shape[-1] - 1
            expected = np.linalg.lstsq(*(array[3].cpu().double().numpy() for array in (a, b)), rcond=1e-6)
            np.testing.assert_allclose(x[3], expected[0], rtol=0, atol=1e-5 if dtype == "float32" else 1e-12)
            np.testing.assert_allclose(s[3], expected[3], rtol=0, atol=1e-4 if dtype == "float32" else 1e-12)
            others = torch.arange(shape[0]) != 3
            for part, before in zip((x, residuals, rank, s), healthy):
                assert torch.equal(part[others], before[others])
            alone = [part.cpu() for part in lstsq(a[7], b[7])]
            for part, of_one in zip((x, residuals, rank, s), alone):
                assert torch.equal(part[7], of_one)

        @pytest.mark.parametrize("shape", [(9000, 8, 4), (500, 32, 8), (64, 64, 16), (8, 256, 32)])
        @pytest.mark.parametrize("dtype", ["float32", "float64"])
        def test_without_kernels_a_deficient_matrix_leaves_the_others_as_they_are(self, shape, dtype, monkeypatch):
            import torch

            from lstsq_array_api import _batches_on_gpu, _cuda

            monkeypatch.setattr(_cuda, "_for_torch", lambda device, real: None)
            solve, solved = _batches_on_gpu.solve, []
            monkeypatch.setattr(_batches_on_gpu, "solve", lambda *given: solved.append(solve(*given)) or solved[-1])
            random = torch.Generator(device=TORCH).manual_seed(0)
            a = torch.randn(shape, dtype=getattr(torch, dtype), device=TORCH, generator=random)
            b = torch.randn((*shape[:2], 2), dtype=a.dtype, device=TORCH, generator=random)
            healthy = [part.cpu() for part in lstsq(a, b, singular_values=False)[:3]]
            assert solved[0].good is None
            expected = np.stack(
                [
                    np.linalg.lstsq(one, right, rcond=None)[0]
                    for one, right in zip(*(v.cpu().double().numpy() for v in (a, b)))
                ]
            )
            off = np.linalg.norm(healthy[0].numpy() - expected, axis=1) / np.linalg.norm(expected, axis=1)
            assert off.max() < (1e-7 if dtype == "float32" else 1e-12)
            a[3, :, 1] = a[3, :, 0]
            x, residuals, rank = (part.cpu() for part in lstsq(a, b, singular_values=False)[:3])
            assert np.flatnonzero(~solved[1].good.cpu().numpy()).tolist() == [3]
            assert rank[3] == shape[-1] - 1
            expected = np.linalg.lstsq(*(array[3].cpu().double().numpy() for array in (a, b)), rcond=1e-6)
            np.testing.assert_allclose(x[3], expected[0], rtol=0, atol=1e-5 if dtype == "float32" else 1e-12)
            others = torch.arange(shape[0]) != 3
            for part, before in zip((x, residuals, rank), healthy):
                assert torch.equal(part[others], before[others])

        def test_a_thread_that_is_new_solves_too(self):
            import torch

            a = torch.eye(8, device=TORCH).repeat(100, 1, 1)
            expected = lstsq(a, a).x
            with ThreadPoolExecutor(4) as threads:
                answers = list(threads.map(lambda _: lstsq(a, a).x, range(40)))
            assert all(torch.equal(answer, expected) for answer in answers)

        @pytest.mark.parametrize("shape", [(300, 300), (2000, 100), (100, 2000), (40, 64, 48)])
        @pytest.mark.parametrize("backend", ["torch", "array_api"])
        def test_singular_values_are_as_accurate_as_on_the_processor(self, shape, backend):
            import torch

            # torch's own, by rotations, are wrong by 626 eps for 512 columns.
            a = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            a[..., -1] = a[..., 0]  # Of deficient rank: the decomposition itself is asked.
            s = lstsq(a.to(TORCH), a[..., :1].to(TORCH), backend=backend).s.cpu().numpy()
            expected = np.linalg.svd(a.numpy(), compute_uv=False)
            assert np.max(np.abs(s - expected) / expected[..., :1]) <= 100 * 2.0**-52


if JAX is not None:

    class TestJax:
        def test_two_devices_are_refused(self):
            array = np.eye(3, dtype="float32")
            refused(jax.device_put(array, JAX), jax.device_put(array, jax.devices("cpu")[0]))

        def test_what_nobody_has_put_on_a_device_goes_to_the_other(self):
            here = jax.device_put(np.eye(3, dtype="float32"), jax.devices("cpu")[0])
            assert lstsq(here, jax.numpy.ones(3)).x.device == here.device

        def test_the_driver_native_is_for_the_processor(self):
            pytest.importorskip("lstsq_native._core", exc_type=ImportError)
            there = jax.device_put(np.eye(3, dtype="float32"), JAX)
            here = jax.device_put(np.eye(3, dtype="float32"), jax.devices("cpu")[0])
            with pytest.raises(TypeError, match="solves on the CPU"):
                jax.jit(lambda a: lstsq(a, a, driver="native"))(there)
            with jax.default_device(jax.devices("cpu")[0]):
                with pytest.raises(TypeError, match="a is on cuda:0; the driver native"):
                    lstsq(there, there, driver="native")
                assert lstsq(here, here, driver="native").rank == 3

        @pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 33, 100])
        @pytest.mark.parametrize("dtype", ["float32", "complex64"])
        def test_everything_is_zero_from_a_cutoff_of_1_on(self, size, dtype):
            a = jax.device_put(np.eye(size, dtype=dtype), JAX)
            for rcond in (1.0, 2.0, np.inf):
                result = lstsq(a, a, rcond)
                assert int(result.rank) == 0
                np.testing.assert_array_equal(result.x, 0)


if CUPY is not None:

    class TestCupy:
        def test_the_callers_stream_is_used(self):
            import cupy

            a, b = cupy.random.default_rng(0).standard_normal((2000, 50)), cupy.ones(2000)
            expected = lstsq(a, b).x.get()
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                # Not the numbers of a and b before this stream has come to the last step.
                late_a, late_b = cupy.zeros_like(a), cupy.zeros_like(b)
                for _ in range(256):
                    late_a += a / 256
                    late_b += b / 256
                x = lstsq(late_a, late_b).x
                assert cupy.cuda.get_current_stream() == stream
                np.testing.assert_allclose(x.get(), expected, rtol=1e-9)

        def test_what_is_no_array_joins(self):
            import cupy

            for result in (
                lstsq(cupy.eye(3), [1, 2, 3.5]),
                lstsq([[1, 0, 0], [0, 1, 0], [0, 0, np.float64(1)]], cupy.asarray([1, 2, 3.5])),
                lstsq(cupy.eye(3), [np.ones(()), 2, cupy.asarray(3.5)]),
            ):
                assert {type(array) for array in result} == {cupy.ndarray}
                np.testing.assert_allclose(result.x.get(), [1, 2, 3.5], rtol=1e-14)

        def test_numpys_arrays_are_refused(self):
            import cupy

            with pytest.raises(TypeError, match="a is an array of cupy and b of numpy; expected one library"):
                lstsq(cupy.eye(3), np.ones(3))

        def test_another_backend_solves_and_the_results_come_back(self):
            import cupy

            result = lstsq(cupy.eye(3), cupy.ones(3), backend="numpy")
            assert {type(array) for array in result} == {cupy.ndarray}
            np.testing.assert_array_equal(result.x.get(), 1)

        def test_the_device_of_the_arrays_is_used_and_not_the_current_one(self):
            import cupy

            last = cupy.cuda.runtime.getDeviceCount() - 1
            with cupy.cuda.Device(last):
                a, b = cupy.eye(3), cupy.ones(3)
            with cupy.cuda.Device(0):
                for result in (lstsq(a, b), lstsq(a, b[:, None]), lstsq(a, [1, 1, 1]), lstsq(a[:0], b[:0])):
                    assert {array.device.id for array in result} == {last}


if MLX is not None:
    import mlx.core as mx

    @pytest.fixture
    def on_gpu():
        with mx.stream(MLX):
            yield

    def solved_there(a, b, **options):
        return "on the GPU" in explain(a, b, run=True, **options).ran[0]

    def drawn(*shape, dtype="float32", seed=0):
        """Normal numbers, of NumPy."""
        parts = np.random.default_rng(seed).standard_normal((2, *shape))
        return (parts[0] + 1j * parts[1] if dtype == "complex64" else parts[0]).astype(dtype)

    def made(array):
        """The same by an operation of the GPU, so that its memory has it."""
        there = mx.array(array) * mx.array(1, dtype=getattr(mx, array.dtype.name))
        mx.eval(there)
        return there

    def answer(*operands):
        """x, residuals and rank as NumPy's arrays, which the GPU has found."""
        found = [np.array(part) for part in lstsq(*operands)[:3]]
        assert solved_there(*operands)  # It reads s, for which the processor reads a.
        return found

    @pytest.mark.usefixtures("on_gpu")
    class TestMlx:
        #: By a thread alone; by a block, with the matrix in shared memory and without; one long matrix, by warps and by
        #: blocks. Of complex64 with half the columns.
        SHAPES = ((40, 20, 4), (40, 64, 16), (3, 300, 60), (20000, 12), (5000, 64))

        @pytest.mark.parametrize("shape", SHAPES)
        @pytest.mark.parametrize("sides", [1, 3, 16])
        @pytest.mark.parametrize("dtype", ["float32", "complex64"])
        def test_as_accurate_as_double_precision_rounded_once(self, shape, sides, dtype):
            *batch, m, n = shape
            n //= 2 if dtype == "complex64" else 1
            a, b = drawn(*batch, m, n, dtype=dtype), drawn(*batch, m, sides, dtype=dtype, seed=1)
            x, residuals, rank = answer(made(a), made(b))
            wide = a.astype(complex if dtype == "complex64" else float)
            expected = np.linalg.pinv(wide) @ b
            np.testing.assert_allclose(x, expected, rtol=0, atol=2.0**-23 * np.abs(expected).max())
            np.testing.assert_allclose(residuals, np.sum(np.abs(b - wide @ expected) ** 2, axis=-2), rtol=2.0**-22)
            np.testing.assert_array_equal(rank, n)
            assert (x.dtype, residuals.dtype, rank.dtype) == (dtype, "float32", "int32")

        @pytest.mark.parametrize("shape", [(20, 4), (64, 16), (20000, 12), (5000, 64)])
        def test_a_vector_is_one_column(self, shape):
            a, b = made(drawn(*shape)), made(drawn(shape[0]))
            of_vector, of_column = answer(a, b), answer(a, b[:, None])
            assert of_vector[0].shape == shape[1:]
            np.testing.assert_array_equal(of_vector[0], of_column[0][:, 0])
            np.testing.assert_array_equal(of_vector[1], of_column[1])

        @pytest.mark.parametrize("shape", SHAPES)
        @pytest.mark.parametrize(
            "view",
            [
                lambda array: mx.swapaxes(mx.contiguous(mx.swapaxes(array, -1, -2)), -1, -2),
                lambda array: mx.repeat(array, 2, axis=-1)[..., ::2],
                lambda array: mx.concatenate([array[..., :3, :], array], axis=-2)[..., 3:, :],
                lambda array: array[..., ::-1, :],
                lambda array: mx.broadcast_to(array[..., :1], array.shape),
                lambda array: mx.broadcast_to(array[:1], array.shape),
                lambda array: array * 2,
            ],
            ids=["by columns", "every other column", "later rows", "backwards", "one column", "one first", "lazy"],
        )
        def test_views_are_read_as_copies_of_them_are(self, shape, view):
            a, b = made(drawn(*shape)), made(drawn(*shape[:-1], 2, seed=1))
            for is_read in (False, True):
                for operands in ((view(a), b), (a, view(b)), (view(a), view(b))):
                    if is_read:
                        mx.eval(*operands)
                    found = answer(*operands)
                    for part, wanted in zip(found, answer(*(made(np.array(array)) for array in operands))):
                        np.testing.assert_array_equal(part, wanted)

        @pytest.mark.parametrize("shape", [(500, 8, 4), (500, 32, 8), (64, 64, 16), (8, 256, 32), (9, 70, 64)])
        @pytest.mark.parametrize("dtype", ["float32", "complex64"])
        def test_a_deficient_matrix_leaves_the_others_bit_for_bit_as_they_are_alone(self, shape, dtype):
            count, m, n = shape
            n //= 2 if dtype == "complex64" else 1
            a, b = drawn(count, m, n, dtype=dtype), drawn(count, m, 2, dtype=dtype, seed=1)
            healthy = answer(made(a), made(b))
            a[3, :, 1] = a[3, :, 0]
            a[5] = 0
            found = answer(made(a), made(b))
            np.testing.assert_array_equal(found[2], [{3: n - 1, 5: 0}.get(i, n) for i in range(count)])
            wide = np.complex128 if dtype == "complex64" else np.float64
            expected = np.linalg.lstsq(a[3].astype(wide), b[3].astype(wide), rcond=1e-6)[0]
            np.testing.assert_allclose(found[0][3], expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(found[0][5], 0)
            np.testing.assert_allclose(found[1][5], np.sum(np.abs(b[5]) ** 2, axis=0), rtol=1e-6)
            others = [i for i in range(count) if i not in (3, 5)]
            alone = answer(made(a[7]), made(b[7]))
            for part, before, of_one in zip(found, healthy, alone):
                np.testing.assert_array_equal(part[others], before[others])
                np.testing.assert_array_equal(part[7], of_one)

        @pytest.mark.parametrize("shape", [(20, 8, 4), (20, 64, 16), (6000, 12)])
        def test_a_long_or_a_short_matrix_of_any_rank(self, shape):
            *batch, m, n = shape
            for rank in range(0, n + 1, 3):
                a = (drawn(*batch, m, rank) @ drawn(*batch, rank, n, seed=1)).astype(np.float32)
                b = drawn(*batch, m, 2, seed=2)
                x, _, found = answer(made(a), made(b))
                np.testing.assert_array_equal(found, rank)
                expected = np.linalg.pinv(a.astype(float), rcond=1e-5) @ b
                np.testing.assert_allclose(x, expected, rtol=0, atol=1e-4 * max(np.abs(expected).max(), 1e-6))

        @pytest.mark.parametrize("shape", [(12, 8, 4), (12, 64, 16), (6000, 12)])
        def test_what_is_not_finite_is_told_where_it_is(self, shape):
            a, b = drawn(*shape), drawn(*shape[:-1], 3, seed=1)
            healthy = answer(made(a), made(b))
            b[..., 5, 1] = np.nan
            b[..., 0, 2] = np.inf
            x, residuals, rank = answer(made(a), made(b))
            np.testing.assert_array_equal(rank, shape[-1])
            assert np.isnan(x[..., 1:]).all()
            assert np.isnan(residuals[..., 1:]).all()
            np.testing.assert_allclose(x[..., 0], healthy[0][..., 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(residuals[..., 0], healthy[1][..., 0], rtol=1e-5)
            b = drawn(*shape[:-1], 3, seed=1)
            spoilt = [1, 4] if len(shape) > 2 else ...
            for value in (np.nan, np.inf):
                a[spoilt, 2, 1] = value
                found = answer(made(a), made(b))
                assert not found[2][spoilt].any()
                for part, before in zip(found[:2], healthy):
                    assert np.isnan(part[spoilt]).all()
                    if len(shape) > 2:
                        others = [i for i in range(len(a)) if i not in spoilt]
                        np.testing.assert_array_equal(part[others], before[others])

        def test_where_there_are_no_kernels_the_processor_solves(self):
            a, b = made(drawn(30, 6)), made(drawn(30, 2))
            assert solved_there(a, b)
            for others in (
                (mx.swapaxes(a, 0, 1), b[:6]),
                (made(drawn(30, 2, 100, 65)), made(drawn(30, 2, 100, 1))),
                (a, made(drawn(30, 17))),
                (a, made(drawn(5, 30, 2))),
                (mx.broadcast_to(a, (5, 30, 6)), b),
                (made(drawn(2, 70000, 1)), made(drawn(2, 70000, 1))),
                (made(drawn(100, 33, dtype="complex64")), made(drawn(100, 1, dtype="complex64"))),
                (a.astype(mx.float16), b.astype(mx.float16)),
            ):
                assert not solved_there(*others)
            assert not solved_there(a, b, driver="qr")
            with mx.stream(mx.cpu):
                assert not solved_there(a, b)
                assert not solved_there(a.astype(mx.float64), b.astype(mx.float64))

        @pytest.mark.parametrize("shape", [(20, 8, 4), (20, 64, 16)])
        def test_vmap(self, shape):
            a, b = made(drawn(*shape)), made(drawn(*shape[:-1], 2, seed=1))
            wanted = answer(a, b)
            for in_axes in ((0, 0), (2, 1)):
                moved = [mx.moveaxis(array, 0, axis) for array, axis in zip((a, b), in_axes)]
                mapped = mx.vmap(lambda a, b: lstsq(a, b)[:3], in_axes=in_axes)(*moved)
                for found, expected in zip(mapped, wanted):
                    np.testing.assert_array_equal(np.array(found), expected)
            shared = mx.vmap(lambda a, b: lstsq(a, b)[:3], in_axes=(0, None))(a, b[0])
            for found, expected in zip(shared, answer(a, mx.broadcast_to(b[0], b.shape))):
                np.testing.assert_array_equal(np.array(found), expected)
            # Of one matrix the processor makes one problem.
            shared = mx.vmap(lambda b: lstsq(a[0], b)[:3])(b)
            expected = np.linalg.pinv(np.array(a[0]).astype(float)) @ np.array(b)
            np.testing.assert_allclose(np.array(shared[0]), expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(np.array(shared[2]), shape[-1])

        def test_vmap_of_a_long_matrix(self):
            a, b = drawn(3, 6000, 12), drawn(3, 6000, 2, seed=1)
            mapped = mx.vmap(lambda a, b: lstsq(a, b)[:3])(made(a), made(b))
            for i in range(3):
                for found, wanted in zip(mapped, answer(made(a[i]), made(b[i]))):
                    np.testing.assert_allclose(np.array(found[i]), wanted, rtol=1e-5, atol=1e-6)

        @pytest.mark.parametrize("shape", [(20, 4), (64, 16), (6000, 12)])
        @pytest.mark.parametrize("deficient", [False, True])
        def test_derivatives_are_those_of_the_processor_in_double_precision(self, shape, deficient):
            a, b = drawn(*shape), drawn(*shape[:-1], 2, seed=1)
            if deficient:
                a[:, 1] = a[:, 0]
            weights = drawn(shape[-1], 2, seed=2)
            directions = drawn(*shape, seed=3), drawn(*shape[:-1], 2, seed=4)

            def value(a, b):
                x, residuals, *_ = lstsq(a, b, 1e-5)
                return (x * mx.array(weights)).sum() + mx.sqrt(residuals).sum()

            def found(dtype):
                operands, tangents = (
                    [mx.array(array).astype(dtype) for array in pair] for pair in ((a, b), directions)
                )
                gradients = mx.grad(value, argnums=(0, 1))
                first = mx.compile(gradients)(*operands)
                along = mx.jvp(value, operands, tangents)[1]
                again = mx.grad(lambda a: (gradients(a, operands[1])[0] * tangents[0]).sum())(operands[0])
                return [np.array(part) for part in (*first, *along, again)]

            assert solved_there(mx.array(a), mx.array(b))
            theirs = found(mx.float32)
            with mx.stream(mx.cpu):
                wanted = found(mx.float64)
            for ours, expected in zip(theirs, wanted):
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

        def test_compiled(self):
            solve = mx.compile(lambda a, b: lstsq(a * 1, b)[:3])
            for seed, shape in enumerate(((20, 8, 4), (20, 64, 16), (6000, 12), (20, 8, 4))):
                a, b = made(drawn(*shape, seed=seed)), made(drawn(*shape[:-1], 2, seed=9))
                for found, wanted in zip(solve(a, b), answer(a, b)):
                    np.testing.assert_array_equal(np.array(found), wanted)
            any_shape = mx.compile(lambda a, b: lstsq(a, b).x, shapeless=True)
            for rows in (20, 100):
                a, b = made(drawn(rows, 4)), made(drawn(rows, 1))
                np.testing.assert_allclose(np.array(any_shape(a, b)), answer(a, b)[0], rtol=1e-5, atol=1e-6)

        def test_operands_may_be_dropped_before_they_are_read(self):
            operands = drawn(50, 64, 16), drawn(50, 64, 2)
            wanted = answer(*map(made, operands))
            lazy = [lstsq(*(made(array) + 0 for array in operands))[:3] for _ in range(20)]
            mx.async_eval(*(part for parts in lazy for part in parts))
            for parts in lazy:
                for found, expected in zip(parts, wanted):
                    np.testing.assert_array_equal(np.array(found), expected)

        def test_a_thread_that_is_new_solves_too(self):
            operands = drawn(50, 64, 16), drawn(50, 64, 2)
            wanted = answer(*map(made, operands))

            def solve(_):
                with mx.stream(MLX):
                    return [np.array(part) for part in lstsq(*map(made, operands))[:3]]

            with ThreadPoolExecutor(4) as threads:
                for parts in threads.map(solve, range(40)):
                    for found, expected in zip(parts, wanted):
                        np.testing.assert_array_equal(found, expected)

        def test_many_solves_leave_the_memory_as_it_was(self):
            problems = [(made(drawn(*shape)), made(drawn(*shape[:-1], 1))) for shape in ((9, 3), (40, 12), (6000, 12))]
            problems[1][0][:, 1] = problems[1][0][:, 0]  # Its rank is revealed.

            def solve(count):
                for i in range(count):
                    mx.eval(lstsq(*problems[2 if i % 100 == 0 else i % 2])[:3])

            def settled(most):
                # MLX gives back what a kernel has used in a thread of its own, a while after.
                mx.synchronize()
                for _ in range(500):
                    if mx.get_active_memory() <= most:
                        break
                    time.sleep(0.01)
                return mx.get_active_memory()

            solve(300)
            before = settled(0)
            solve(100_000)
            assert settled(before) <= before

        @pytest.mark.parametrize("deficient", [False, True])
        def test_what_ran_is_told(self, deficient):
            a = drawn(10, 30, 6)
            a[: 10 if deficient else 2, :, 1] = 0
            told = explain(made(a), made(drawn(10, 30, 1)), run=True).ran
            assert told[0].startswith("solved on the GPU, by CUDA kernels: ")
            said = "since the rank is not full" if deficient else "for 2 of 10 matrices, whose rank is not full"
            assert told[0].endswith(said)


ROWS_OF = (("torch", "torch", TORCH), ("array_api", "cupy", CUPY), ("jax", "jax", JAX))
FOUND = [(name, library, device) for name, library, device in ROWS_OF if device is not None]

if FOUND:

    class TestRowsInBlocks:
        @pytest.mark.parametrize(
            ("name", "library", "device"),
            [
                row
                for row in (("torch", "torch", TORCH), ("array_api", "cupy", CUPY), ("jax", "jax", JAX))
                if row[2] is not None
            ],
        )
        @pytest.mark.parametrize("dtype", ["float32", "complex64"])
        def test_reduced_there_and_solved_by_numpy(self, name, library, device, dtype):
            rng = np.random.default_rng(0)
            a, b = (rng.standard_normal((2, 1000, size)).astype(dtype) for size in (8, 2))
            a[..., 7] = a[..., 0] - a[..., 1]
            backend = get_backend(name)
            with backend.on_device(device) as put:
                blocks = [[put(backend.from_numpy(array, library)) for array in block] for block in zip(a, b)]
                total = sum(reduce_rows(*block) for block in blocks)
                assert backend.device(total.a) == backend.device(blocks[0][0])
                there = total.solve()
            expected = lstsq(np.concatenate(a), np.concatenate(b), backend="numpy")
            for part, at_home, wanted in zip(there, total.to("numpy").solve(), expected):
                # One rounding of each, or all of the arithmetic where JAX has no double precision.
                np.testing.assert_allclose(backend.to_numpy(part), wanted, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(at_home, wanted, rtol=1e-4, atol=1e-5)


if CUPY is not None:

    @pytest.mark.parametrize("wide", [False, True])
    def test_chunks_of_dask_on_the_gpu(wide):
        import cupy

        dask, da = pytest.importorskip("dask"), pytest.importorskip("dask.array")
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((100, 4)), rng.standard_normal((100, 2))
        a[:, 3] = a[:, 0]
        expected = lstsq(a.T, b[:4]) if wide else lstsq(a, b)
        rows, right = (da.from_array(cupy.asarray(array), chunks=(30, -1), asarray=False) for array in (a, b))
        result = lstsq(rows.T, right[:4]) if wide else lstsq(rows, right)
        with dask.config.set(scheduler="synchronous"):
            for part, wanted in zip(dask.compute(*result), expected):
                assert isinstance(part, cupy.ndarray)
                np.testing.assert_allclose(part.get(), wanted, rtol=1e-9, atol=1e-12)
            rows[40, 1] = np.nan
            with pytest.raises(LinAlgError, match="holds NaN"):
                lstsq(rows, right).x.compute()
