"""The Dask backend beside the suite: graphs, schedulers, chunks of every kind, and workers that die."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import lstsq

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from dask.array.core import PerformanceWarning  # noqa: E402

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((200, 5)), RNG.standard_normal((200, 3))
A[:, 4] = A[:, 0] - A[:, 1]


def assert_close(result, expected):
    for name, got, wanted in zip(expected._fields, dask.compute(*result), expected):
        assert np.shape(got) == np.shape(wanted), name
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12, err_msg=name)


def forbidden(block):
    raise AssertionError("a chunk was computed before anybody asked for it")


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize(
    ("a", "b"), [(A, B), (A, B[:, 0]), (A.T, B[:5]), (A.T, B[:5, 0])], ids=["MN", "M", "wide", "wide, M"]
)
def test_schedulers(scheduler, a, b):
    shape = (30, 5) if len(a) > 5 else (5, 30)
    result = lstsq.lstsq(da.from_array(a, chunks=shape), da.from_array(b, chunks=(17, *b.shape[1:])))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert_close(result, lstsq.lstsq(a, b))


@pytest.mark.parametrize("wide", [False, True])
def test_nothing_is_computed_before_it_is_asked_for(wide):
    a, b = (
        da.from_array(array, chunks=(30, -1)).map_blocks(forbidden, dtype=float, meta=np.empty((0, 0)))
        for array in (A, B)
    )
    if wide:
        a, b = a.T, b[:5]
    result = lstsq.lstsq(a, b, singular_values=True)
    assert all(isinstance(part, da.Array) for part in result)
    with pytest.raises(AssertionError, match="before anybody asked"):
        result.rank.compute()


@pytest.mark.parametrize("wide", [False, True])
def test_tasks_are_as_many_as_chunks(wide):
    def tasks(chunks):
        a, b = da.ones((chunks * 10, 3), chunks=(10, 3)), da.ones(chunks * 10, chunks=10)
        result = lstsq.lstsq(a.T, b[:3]) if wide else lstsq.lstsq(a, b)
        return sum(len(dict(part.__dask_graph__())) for part in result)

    # Twice the chunks are at most twice the tasks, and some for the longer way to the root.
    assert tasks(400) < 2.1 * tasks(200)


def test_one_graph_gives_all_four():
    calls = []

    def count(block):
        calls.append(block.shape)
        return block

    a = da.from_array(A, chunks=(50, 5)).map_blocks(count, dtype=float, meta=np.empty((0, 0)))
    with dask.config.set(scheduler="synchronous"):
        dask.compute(*lstsq.lstsq(a, da.from_array(B, chunks=(50, 3))))
    assert len(calls) == 4


def test_columns_in_chunks_cost_a_warning():
    b = da.from_array(B, chunks=(30, 1))
    for a, right, axis in ((da.from_array(A, chunks=(30, 2)), b, 1), (da.from_array(A.T, chunks=(2, 30)), b[:5], 0)):
        with pytest.warns(PerformanceWarning, match=rf"a has its axis {axis} in 3 chunks"):
            result = lstsq.lstsq(a, right)
        assert_close(result, lstsq.lstsq(a.compute(), right.compute()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lstsq.lstsq(da.from_array(A, chunks=(30, 5)), b)


class TestRowsWithoutNumber:
    def test_a_filter(self):
        a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B, chunks=(30, 3))
        chosen, keep = A[:, 0] > 0, a[:, 0] > 0
        result = lstsq.lstsq(a[keep], b[keep])
        assert np.isnan(result.s.shape[0])
        assert_close(result, lstsq.lstsq(A[chosen], B[chosen]))

    def test_fewer_rows_than_columns_are_left(self):
        a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B[:, 0], chunks=30)
        chosen = A[:, 0] >= np.sort(A[:, 0])[-3]
        keep = a[:, 0] >= np.sort(A[:, 0])[-3]
        assert_close(lstsq.lstsq(a[keep], b[keep]), lstsq.lstsq(A[chosen], B[chosen, 0]))

    def test_the_cutoff_is_that_of_all_rows(self):
        a = np.zeros((1000, 2))
        a[0, 0], a[1, 1] = 1, 100 * 2.0**-52
        rows = da.from_array(a, chunks=(10, 2))
        keep = da.ones(1000, chunks=10) > 0
        assert int(lstsq.lstsq(rows[keep], rows[keep]).rank.compute()) == 1
        assert int(lstsq.lstsq(rows[:3][keep[:3]], rows[:3][keep[:3]]).rank.compute()) == 2

    def test_chunks_that_do_not_meet(self):
        a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B, chunks=(40, 3))
        with pytest.raises(TypeError, match="in 7 chunks and those of b in 5, and not all sizes are known"):
            lstsq.lstsq(a[a[:, 0] > 0], b)
        b = da.from_array(B, chunks=(30, 3))
        with pytest.raises(lstsq.LinAlgError, match=r"in the chunk of rows number \d: a has"):
            lstsq.lstsq(a[a[:, 0] > 0], b).x.compute()

    def test_what_needs_the_number(self):
        a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B, chunks=(30, 3))
        keep = a[:, 0] > 0
        with pytest.raises(lstsq.LinAlgError, match=r"numpy_resid=True .* which is not known"):
            lstsq.lstsq(a[keep], b[keep], numpy_resid=True)
        with pytest.raises(lstsq.LinAlgError, match="the number of its rows is not known"):
            lstsq.reduce_rows(a[keep], b[keep])
        with pytest.raises(lstsq.LinAlgError, match="with a size that is not known"):
            lstsq.lstsq(a.T[:, keep], b[:5])


def test_rows_are_reduced_lazily():
    parts = [
        lstsq.reduce_rows(da.from_array(A[rows], chunks=(30, 5)), da.from_array(B[rows], chunks=(30, 3)))
        for rows in (slice(3), slice(3, None))
    ]
    total = parts[0] + parts[1]
    assert isinstance(total.a, da.Array)
    assert_close(total.solve(), lstsq.lstsq(A, B))
    np.testing.assert_allclose(total.to("numpy").solve().x, lstsq.lstsq(A, B).x, rtol=1e-9)


def test_matrices_are_not_factorised_and_rows_are():
    a, b = np.random.default_rng(0).standard_normal((30, 2)), np.ones(30)
    chunks = da.from_array(a, chunks=(10, 2)), da.from_array(b, chunks=10)
    with pytest.raises(TypeError, match="the dask backend factorises no dtype"):
        lstsq.factorize(chunks[0])
    rows = lstsq.reduce_rows(*chunks)
    np.testing.assert_allclose(lstsq.factorize(rows.to("numpy")).solve().x, np.linalg.lstsq(a, b)[0])


def test_batches_are_refused():
    a, b = da.ones((2, 20, 3)), da.ones((2, 20, 1))
    for pair in ((a, b), (a[0], b), (a, b[0])):
        with pytest.raises(TypeError, match="a batch of problems, and the dask backend solves one"):
            lstsq.lstsq(*pair)


def test_what_is_not_finite_names_its_chunk():
    spoilt = A.copy()
    spoilt[70, 1] = np.nan
    with pytest.raises(lstsq.LinAlgError, match=r"in the chunk of rows number 2: a holds nan at index \(10, 1\)"):
        lstsq.lstsq(da.from_array(spoilt, chunks=(30, 5)), da.from_array(B, chunks=(30, 3))).x.compute()
    with pytest.raises(lstsq.LinAlgError, match=r"in the chunk of columns number 2: a holds NaN or inf"):
        lstsq.lstsq(da.from_array(spoilt.T, chunks=(5, 30)), da.from_array(B[:5], chunks=(5, 3))).x.compute()


@pytest.fixture(scope="module")
def client():
    """Two workers, which keep a tenth of their memory for chunks and spill the others to disk."""
    distributed = pytest.importorskip("distributed")
    workers = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "400MB", "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.memory.target": 0.1}),
        distributed.LocalCluster(**workers) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestDistributed:
    @pytest.mark.parametrize("wide", [False, True])
    def test_chunks_that_were_spilled(self, client, wide):
        columns = da.random.default_rng(1).standard_normal((400_000, 39), chunks=(20_000, 39))
        a = da.concatenate([columns, columns[:, :1] + columns[:, 1:2]], axis=1).rechunk({1: -1})
        a = (a.T if wide else a).persist()
        b = da.ones(40, chunks=40) if wide else a.sum(axis=1)
        x, residuals, rank, _ = client.gather(client.compute(list(lstsq.lstsq(a, b))))
        spilled = client.run(lambda dask_worker: len(dask_worker.data.disk))
        assert sum(spilled.values()) > 0
        assert rank == 39
        if wide:
            # The right-hand side is as far from what the rows reach as 1, 1, 1 is from a, b, a + b.
            np.testing.assert_allclose(residuals, 1 / 3, rtol=1e-9)
        else:
            expected = np.ones(40)
            expected[[0, 1]] -= 1 / 3
            expected[39] += 1 / 3
            np.testing.assert_allclose(x, expected, rtol=1e-9)
            np.testing.assert_allclose(residuals, 0, atol=1e-9)

    @pytest.mark.parametrize("wide", [False, True])
    def test_a_worker_that_dies_half_way(self, client, wide, tmp_path):
        mark = str(tmp_path / "died")

        def die_once(block, block_info=None):
            if block_info[0]["chunk-location"] == ((0, 4) if wide else (4, 0)) and not Path(mark).exists():
                Path(mark).touch()
                os._exit(1)
            return block

        a, b = da.from_array(A, chunks=(20, 5)), da.from_array(B, chunks=(20, 3))
        if wide:
            a, b = a.T, b[:5]
        result = lstsq.lstsq(a.map_blocks(die_once, dtype=float, meta=np.empty((0, 0))), b)
        found = client.gather(client.compute(list(result)))
        assert Path(mark).exists()
        for got, expected in zip(found, lstsq.lstsq(*((A.T, B[:5]) if wide else (A, B)))):
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("factors", [{"weights": da.ones(200, chunks=40)}, {"ridge": 0.5}], ids=["weights", "ridge"])
def test_weights_and_a_ridge_are_lazy(factors):
    a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B, chunks=(30, 3))
    result = lstsq.lstsq(a, b, **factors)
    known = {name: np.asarray(value) for name, value in factors.items()}
    assert_close(result, lstsq.lstsq(A, B, **known))
    lstsq.lstsq(a.map_blocks(forbidden, dtype=float, meta=np.empty((0, 0))), b, **factors)


def test_a_ridge_for_rows_whose_number_is_not_known():
    a, b = da.from_array(A, chunks=(30, 5)), da.from_array(B, chunks=(30, 3))
    some = A[:, 0] > 0
    counted = da.from_array(some, chunks=30)
    assert_close(lstsq.lstsq(a[counted], b[counted], 1e-12, ridge=0.5), lstsq.lstsq(A[some], B[some], 1e-12, ridge=0.5))
    with pytest.raises(lstsq.LinAlgError, match="the default cutoff depends on the shape of a, of which M = nan"):
        lstsq.lstsq(a[counted], b[counted], ridge=0.5)
    left = lstsq.residual(a[counted], np.ones((5, 3)).tolist(), b[counted])
    np.testing.assert_allclose(left.compute(), B[some] - A[some] @ np.ones((5, 3)), rtol=1e-12, atol=1e-12)
