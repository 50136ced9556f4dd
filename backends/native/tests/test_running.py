"""Streams, threads and asynchronous evaluation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest
from operation import DRIVERS, run_python, solve, to_mlx

from lstsq_mlx._native import native


@pytest.mark.parametrize("driver", DRIVERS)
def test_many_threads(draw, driver):
    problems = [(draw(30 + i, 10), draw(30 + i, 2)) for i in range(24)]
    wanted = [solve(a, b, driver=driver) for a, b in problems]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda problem: solve(*problem, driver=driver), problems * 4))
    for got, want in zip(answers, wanted * 4):
        for one, other in zip(got, want):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("driver", DRIVERS)
def test_streams(draw, driver):
    a, b = draw(40, 10), draw(40, 2)
    want = solve(a, b, driver=driver)
    streams = [mx.new_stream(mx.cpu) for _ in range(3)]
    answers = []
    for i in range(12):
        with mx.stream(streams[i % 3]):
            answers.append(native().lstsq(to_mlx(a), to_mlx(b), 1e-6, driver))
    # An operation of one stream takes what another computes.
    total = mx.zeros((10, 2), dtype=mx.float64)
    for x, *_ in answers:
        total = mx.add(total, x, stream=streams[0])
    np.testing.assert_allclose(np.array(total), 12 * want.x, rtol=1e-12)
    for answer in answers:
        for one, other in zip(answer, want):
            np.testing.assert_allclose(np.array(one), other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("driver", DRIVERS)
def test_async_eval(draw, driver):
    a, b = draw(60, 20), draw(60, 1)
    want = solve(a, b, driver=driver)
    answers = [native().lstsq(to_mlx(a), to_mlx(b), 1e-6, driver) for _ in range(8)]
    for answer in answers:
        mx.async_eval(*answer)
    for answer in answers:
        for one, other in zip(answer, want):
            np.testing.assert_allclose(np.array(one), other, rtol=1e-12, atol=1e-13)


def test_operands_may_be_dropped_before_they_are_read(draw):
    a, b = draw(200, 50), draw(200, 1)
    want = solve(a, b).x
    lazy = [native().lstsq(to_mlx(a) + 0, to_mlx(b) * 1, 1e-6, "qr")[0] for _ in range(20)]
    for x in lazy:
        np.testing.assert_allclose(np.array(x), want, rtol=1e-12)


def test_the_gil_is_free_while_lapack_runs():
    """LAPACK is made to wait for another Python thread, which could not run if the evaluation kept the GIL."""
    out = run_python(
        """
        import threading
        import mlx.core as mx
        from substitute import calls, watch
        from lstsq_mlx._native import native

        solving, answered = threading.Event(), threading.Event()

        def wait_for_the_other():
            solving.set()
            answered.wait()

        def answer():
            solving.wait()
            answered.set()

        watch("dgelsd", meanwhile=wait_for_the_other)
        threading.Thread(target=answer).start()
        mx.eval(native().lstsq(mx.eye(4, dtype=mx.float64), mx.ones((4, 1), dtype=mx.float64), 1e-14, "gelsd"))
        print(*calls)
        """
    )
    assert out.strip() == "dgelsd"


def test_any_default_device(draw):
    """LAPACK runs on the CPU, also where the default device is a GPU."""
    a, b = draw(20, 5).astype("float32"), draw(20, 1).astype("float32")
    want = solve(a, b).x
    devices = [mx.cpu, *([mx.gpu] if mx.is_available(mx.gpu) else [])]
    for device in devices:
        with mx.stream(device):
            np.testing.assert_allclose(solve(a, b).x, want, rtol=1e-6)
