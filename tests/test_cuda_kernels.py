"""The kernels for CUDA, run on the processor: the same source, with threads that take turns at its barriers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

from lstsq_array_api import _certified, _cuda, _fused
from lstsq_array_api._matrix import Matrix

# In one process of tests, so that each kind of kernels is compiled once.
pytestmark = pytest.mark.xdist_group("CUDA kernels")

DENSE = (
    *("gram", "add", "norms", "scale", "diagonal", "panel", "trailing", "halves", "square", "defect", "prove"),
    *("residual", "transposed", "sum", "step", "advance"),
)
NAMES = (
    *(f"solve_tiny_{n}" for n in range(1, _fused.TINY + 1)),
    "solve_batch",
    "singular_values_batch",
    "gram",
    *(f"gram_by_warps_{eights}" for eights in ("1_1", "2_1", "1_2")),
    "add_pieces",
    "core",
    "residual",
    "refine",
    *(f"dense_{step}" for step in DENSE),
    "absorb_rows",
    "absorb_parts",
    "reveal_parts",
)
MAIN = """
#include "kernels.cu"
extern "C" int launch(const char* name, int blocks, int threads, size_t bytes, void** arguments) {{
{cases}
  return 1;
}}
"""


class OnCpu(_cuda.Kernels):
    """The kernels, compiled for this machine."""

    #: One warp, since they take turns.
    threads = most_threads = 32

    def __init__(self, folder: Path, real: str, shared_limit: int) -> None:
        (folder / "kernels.cu").write_text(_cuda.source(*_cuda.FILES), encoding="utf-8")
        cases = "\n".join(
            f'  if (name == std::string("{name}")) return run({name}, blocks, threads, bytes, arguments), 0;'
            for name in NAMES
        )
        (folder / "main.cpp").write_text(MAIN.format(cases=cases), encoding="utf-8")
        header = Path(__file__).with_name("cuda_on_cpu.h")
        defined = [f"-DLSTSQ_REAL={real}", f'-DLSTSQ_ON_CPU="{header}"']
        library = folder / f"kernels_{real}.so"
        compiler = shutil.which("c++") or shutil.which("g++") or "c++"
        options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-D_XOPEN_SOURCE=700"]
        subprocess.run(
            [compiler, *options, *defined, "main.cpp", "-o", str(library)],
            cwd=folder,
            check=True,
        )
        self._launch = ctypes.CDLL(str(library)).launch
        self.shared_limit = shared_limit

    def launch(self, name, blocks, threads, shared, arguments):
        values = (ctypes.c_uint64 * len(arguments))(*map(_cuda.as_bits, arguments))
        first = ctypes.addressof(values)
        addresses = (ctypes.c_uint64 * len(arguments))(*range(first, first + 8 * len(arguments), 8))
        assert not self._launch(name.encode(), blocks, threads, ctypes.c_size_t(shared), addresses)


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def kernels(dtype, tmp_path_factory):
    real = {"float32": "float", "float64": "double"}[dtype]
    return OnCpu(tmp_path_factory.mktemp("kernels"), real, 227 * 1024)


def problem(dtype, count, m, n, k, kappa, seed=0):
    """Matrices of this condition number, and right-hand sides."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((count, rows, n)))[0] for rows in (m, n))
    a = (u * np.logspace(0, -np.log10(kappa), n)) @ np.swapaxes(v, -1, -2)
    return a.astype(dtype), rng.standard_normal((count, m, k)).astype(dtype)


def by_operations(a, b, rcond, singular_values=True):
    xp = array_api_strict
    matrix = Matrix(xp, xp.asarray(a), xp.float64)
    with np.errstate(all="ignore"):
        found = _certified.solve(xp, matrix, xp.asarray(b, dtype=xp.float64), rcond, singular_values)
    return found._replace(good=np.ones(len(a), bool) if found.good is None else np.asarray(found.good))


def by_kernels(kernels, a, b, rcond, singular_values=True):
    found = _fused.solve(np, kernels, a, b, float(rcond), singular_values, reveal=False)
    good = np.ones(len(a), bool) if found.good is None else found.good
    np.testing.assert_array_equal(found.rank, np.where(good, a.shape[-1], -1))
    return found._replace(good=good)


@pytest.fixture(params=["by a block", "by a thread"])
def who(request, monkeypatch):
    """Who solves a problem of few columns."""
    monkeypatch.setattr(_fused, "SHORT", 1000 if request.param == "by a thread" else 0)


@pytest.mark.usefixtures("who")
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(9, 3, 1), (8, 8, 2), (20, 5, 3), (33, 16, 1), (1, 1, 1), (40, 1, 4), (30, 2, 1), (30, 4, 1), (7, 6, 2)],
)
@pytest.mark.parametrize("kappa", [2, 1e3])
def test_a_batch_is_solved_as_by_operations(kernels, dtype, m, n, k, kappa):
    a, b = problem(dtype, 3, m, n, k, kappa if n > 1 else 1)
    eps = np.finfo(dtype).eps
    ours, theirs = by_kernels(kernels, a, b, 16 * eps), by_operations(a, b, 16 * eps)
    assert np.all(ours.good)
    assert np.all(np.asarray(theirs.good))
    expected = np.asarray(theirs.x)
    assert np.linalg.norm(ours.x - expected) <= 10 * kappa * eps * np.linalg.norm(expected)
    np.testing.assert_allclose(ours.s, np.linalg.svd(a.astype(float), compute_uv=False), rtol=0, atol=(4 + n / 4) * eps)
    exact = np.sum((b - a.astype(float) @ expected) ** 2, axis=1)
    np.testing.assert_allclose(ours.squares, exact, rtol=1e-6, atol=np.finfo(float).eps)


@pytest.mark.usefixtures("who")
def test_what_is_not_certified_is_said_and_leaves_the_others_alone(kernels, dtype):
    a, b = problem(dtype, 6, 12, 4, 2, 10)
    eps = np.finfo(dtype).eps
    alone = by_kernels(kernels, a, b, 16 * eps)
    assert alone.good.all()
    a[1, :, 2] = a[1, :, 0]
    a[2, 3, 1], a[3, 0, 0], b[4, 5, 1] = np.nan, np.inf, np.nan
    a[5, :, 1] = 0
    found = by_kernels(kernels, a, b, 16 * eps)
    np.testing.assert_array_equal(found.good, [True, False, False, False, False, False])
    for ours, before in zip(found, alone):
        np.testing.assert_array_equal(ours[0], before[0])


@pytest.mark.usefixtures("who")
@pytest.mark.parametrize("rcond", [0.5, 1.0, np.inf])
def test_a_large_cutoff_is_never_certified(kernels, dtype, rcond):
    a, b = problem(dtype, 2, 9, 3, 1, 4)
    assert not by_kernels(kernels, a, b, rcond).good.any()


@pytest.mark.parametrize(("m", "n", "k"), [(6_000, 3, 1), (4_000, 8, 2), (3_000, 10, 1)])
@pytest.mark.parametrize("kappa", [2, 1e3, 1e7])
def test_a_long_matrix_is_solved_as_by_operations(kernels, dtype, monkeypatch, m, n, k, kappa):
    a, b = problem(dtype, 1, m, n, k, kappa)
    monkeypatch.setattr(_fused, "EIGHTS", 0)
    monkeypatch.setattr(_fused, "BLOCKS", 5)
    monkeypatch.setattr(_fused, "SMALL", 100)
    rcond = 16 * np.finfo(dtype).eps
    found, theirs = by_kernels(kernels, a, b, rcond), by_operations(a, b, rcond)
    np.testing.assert_array_equal(found.good, np.asarray(theirs.good))
    assert found.good[0] == (kappa < 1e7)
    if kappa < 1e7:
        expected = np.asarray(theirs.x)
        assert np.linalg.norm(found.x - expected) <= 10 * kappa * np.finfo(dtype).eps * np.linalg.norm(expected)
        np.testing.assert_allclose(found.squares, np.asarray(theirs.squares), rtol=1e-6)
        np.testing.assert_allclose(found.s, np.asarray(theirs.s), rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("m", "n", "k"), [(70, 5, 2), (12, 4, 1), (6, 6, 3), (1, 1, 16), (33, 16, 1), (40, 1, 1)])
def test_a_rank_in_doubt_is_revealed(kernels, dtype, m, n, k):
    a, b = problem(dtype, 8, m, n, k, 10 if n > 1 else 1)
    a[1, :, -1] = a[1, :, 0] if n > 1 else 0
    a[2], b[5, 0, -1] = 0, np.inf
    a[3, :, n // 2 :] *= dtype == "float32" and np.float32(1e-30)
    a[4, -1, 0], a[6, 0, -1] = np.nan, np.inf
    rcond = float(16 * np.finfo(dtype).eps)
    certified = _fused.solve(np, kernels, a, b, rcond, True, reveal=False)
    found = _fused.solve(np, kernels, a, b, rcond, True, reveal=True)
    if dtype == "float64":  # There is no kernel for it, and this is said.
        np.testing.assert_array_equal(found.good, certified.good)
        return
    assert found.good is None
    assert list(certified.good) == [found.rank[i] == n and i not in (4, 5, 6) for i in range(8)]
    for ours, before in zip(found, certified):
        if ours is not None:
            np.testing.assert_array_equal(ours[certified.good], before[certified.good])
    for i in range(8):
        if i in (4, 6):
            assert found.rank[i] == 0
            assert np.all(np.isnan(found.x[i]))
            assert np.all(np.isnan(found.squares[i]))
            assert np.all(np.isnan(found.s[i]))
            continue
        right = b[i].astype(float)
        lost = ~np.isfinite(right).all(axis=0)
        expected, _, rank, s = np.linalg.lstsq(a[i].astype(float), np.where(lost, 0, right), rcond)
        assert found.rank[i] == rank
        assert np.all(np.isnan(found.x[i][:, lost]))
        assert np.all(np.isnan(found.squares[i][lost]))
        size = np.linalg.norm(expected, axis=0)[~lost]
        assert np.all(np.linalg.norm((found.x[i] - expected)[:, ~lost], axis=0) <= 8 * np.finfo(dtype).eps * size)
        squares = np.sum((np.where(lost, 0, right) - a[i].astype(float) @ expected) ** 2, axis=0)[~lost]
        np.testing.assert_allclose(found.squares[i][~lost], squares, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found.s[i], s, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_a_long_matrix_without_a_proof_is_reduced_by_all_blocks(kernels, dtype):
    a, b = problem(dtype, 1, 700, 6, 3, 10)
    a, b = a[0], b[0]
    a[:, 5] = a[:, 1] - a[:, 2]
    (m, n), k, blocks, fewer, height = a.shape, 3, 5, 2, _fused.HEIGHT
    size = n * (n + k) + k
    shared = 8 * (size + height * (n + k | 1) + 2 * n * (n | 1) + n + 3 * 32)
    parts, second = np.full((blocks, size), np.nan), np.full((fewer, size), np.nan)
    x, squares, rank = np.empty((n, k), np.float32), np.empty(k, np.float32), np.empty(1, np.int32)
    found = np.full((n, k), 7, np.float32), np.full(k, 8, np.float32)
    for given_up in (False, True):
        status = np.full(1, 2 if given_up else 1, np.int32)
        kernels.launch("absorb_rows", blocks, 32, shared, (a, b, status, parts, m, n, k, 150, height))
        kernels.launch("absorb_parts", fewer, 32, shared, (parts, status, second, blocks, n, k, 3, height))
        answers = (*found, x, squares, rank)
        kernels.launch("reveal_parts", 1, 32, shared, (second, status, *answers, fewer, n, k, 1e-5, height))
        assert rank[0] == (5 if given_up else 6)
        assert np.all(x == 7) != given_up
        assert np.all(squares == 8) != given_up
    expected = np.linalg.lstsq(a.astype(float), b.astype(float), 1e-5)[0]
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(squares, np.sum((b - a.astype(float) @ expected) ** 2, axis=0), rtol=1e-6)


@pytest.mark.parametrize(("n", "k"), [(3, 1), (8, 2), (10, 8), (7, 9)])
def test_warps_form_the_gram_matrix(kernels, dtype, n, k):
    m, rows, blocks = 101, 37, 3
    a, b = problem(dtype, 1, m, n, k, 10)
    a, b, w = a[0], b[0], n + k
    before = 8 + n + n * n + n * k + 2 * k
    work = np.full(before + w * w + blocks * w * w, np.nan)
    eights = -(-n // 8), -(-k // 8)
    shared = 8 * 32 * sum(eights) * (sum(eights) + 1)
    name = f"gram_by_warps_{eights[0]}_{eights[1]}"
    kernels.launch(name, blocks, 64, shared, (a, b, work, m, n, k, rows))
    kernels.launch("add_pieces", -(-w * (w + 1) // 2 // 16), 16, 8 * 16, (work, blocks, n, k))
    whole = np.concatenate([a, b], axis=1).astype(float)
    found = work[before : before + w * w].reshape(w, w)
    np.testing.assert_allclose(found, whole.T @ whole, rtol=0, atol=m * np.finfo(float).eps * np.max(whole.T @ whole))


def solve_dense(kernels, a, b, rcond, *, shares=2, steps=2):
    """What the host does for a matrix of many columns; the answer, and the status."""
    (m, n), k = a.shape, b.shape[1]
    edge, tiles = 16, -(-n // 16)  # Of tiles, as they are on a processor.
    lower, head = tiles * (tiles + 1) // 2, 8 + 2 * n + 3 * n * k + 3 * k
    memory = np.full(head + 3 * n * n + m * k + shares * lower * edge**2 + shares * n * k, np.nan)
    status, x, squares = np.full(2, -1, np.int32), np.full((n, k), np.nan, np.float32), np.full(k, np.nan, np.float32)
    sizes, tile = (m, n, k), 8 * 2 * 16 * (edge + 4)
    rows = -(-m // shares)

    def start(name, blocks, *arguments, shared=8 * 1024, threads=128):
        kernels.launch(f"dense_{name}", blocks, threads, shared, arguments)

    start("gram", lower * shares, a, memory, *sizes, rows, shared=tile)
    start("add", lower * edge, memory, *sizes, shares)
    start("norms", -(-n // 128), memory, *sizes)
    start("scale", n, memory, *sizes)
    for i in range(tiles):
        left = tiles - i - 1
        start("diagonal", 1, memory, *sizes, i, shared=8 * 2 * edge**2)
        if left:
            start("panel", left, memory, *sizes, i, shared=tile)
            start("trailing", left * (left + 1) // 2, memory, *sizes, i, shared=tile)
    size = edge
    while size < n:
        for second in (0, 1):
            start("halves", -(-n // (2 * size)) * (size // edge) ** 2, memory, *sizes, size, second, shared=tile)
        size *= 2
    start("square", lower, memory, *sizes, shared=tile)
    start("defect", tiles**2, memory, *sizes, shared=tile)
    start("prove", 1, memory, status, *sizes, float(rows + shares), rcond)
    of_shares = memory[head + 3 * n * n + m * k + shares * lower * edge**2 :]
    blocks = 3
    for step in range(steps + 1):
        if step:
            start("residual", blocks, a, b, memory, *sizes)
        counted = blocks if step else 0
        start("transposed", shares * -(-n // 128), a, b, memory, of_shares, *sizes, rows, counted)
        start("sum", -(-n * k // 128), memory, of_shares, *sizes, shares)
        start("step", -(-n // 4), memory, *sizes)
        start("advance", 1, memory, x, squares, status, *sizes, steps)
    return x, squares, status[0]


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
@pytest.mark.parametrize(("m", "n", "k", "kappa"), [(80, 18, 2, 100), (70, 70, 1, 1e3), (90, 40, 1, 1e8)])
def test_a_matrix_of_many_columns_is_solved_by_tiles(kernels, dtype, m, n, k, kappa):
    a, b = problem(dtype, 1, m, n, k, kappa)
    a, b = a[0], b[0]
    x, squares, status = solve_dense(kernels, a, b, 16 * float(np.finfo(dtype).eps))
    assert status == (1 if kappa < 1e5 else 2)
    if kappa < 1e5:
        expected = np.linalg.lstsq(a.astype(float), b.astype(float), None)[0]
        assert np.linalg.norm(x - expected) <= 4 * np.finfo(dtype).eps * np.linalg.norm(expected)
        exact = np.sum((b - a.astype(float) @ expected) ** 2, axis=0)
        np.testing.assert_allclose(squares, exact, rtol=1e-6, atol=1e-12)
