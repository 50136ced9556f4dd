"""What can be seen on a GPU alone. Where there is none, there are no tests here.

The conformance suite with ``--lstsq-device gpu`` tests the rest of the contract there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from gpus import first_gpu

from lstsq import LinAlgError, get_backend, lstsq, reduce_rows

TORCH, CUPY, JAX = first_gpu("torch", "torch"), first_gpu("array_api", "cupy"), first_gpu("jax")


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
