"""``lstsq fit``: what it finds in files of every size is what `lstsq` finds in memory."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import lstsq
from lstsq_cli import app
from lstsq_cli.fit import estimate
from lstsq_cli.tables import dataset
from lstsq_cli.tables.reading import Reading
from lstsq_conformance import nist

pytest.importorskip("pyarrow")

RNG = np.random.default_rng(12)


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app.app, ["fit", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result


def fitted(*arguments):
    return json.loads(invoke(*arguments, "--json").stdout)


@pytest.fixture
def save(tmp_path):
    def save(columns, name="t.csv"):
        path = tmp_path / name
        numbers = np.column_stack(list(columns.values()))
        np.savetxt(path, numbers, delimiter=",", fmt="%.17g", header=",".join(columns), comments="")
        return path

    return save


def ratio(found, expected):
    """How far apart, in units of what rounding may do to numbers of this size."""
    scale = np.abs(np.asarray(expected)).max()
    return np.abs(np.subtract(found, expected)).max() / scale


class TestNumbers:
    def test_coefficients_and_standard_errors_are_those_that_nist_certified(self, save):
        problem = nist.load("Longley")
        path = save({**dict(zip(problem.columns[1:], problem.a[:, 1:].T)), "y": problem.b})
        found = fitted(path, "--intercept", "--block-rows", 3)
        # The matrix has a condition of 5e9, which leaves so many digits.
        np.testing.assert_allclose(np.ravel(found["x"]), [float(x) for x in problem.certified], rtol=1e-6)
        deviation = [890420.383607373, 84.9149257747669, 0.0334910077722432, 0.488399681651699, 0.214274163161675]
        deviation += [0.226073200069370, 455.478499142212]
        np.testing.assert_allclose(np.ravel(found["standard_errors"]), deviation, rtol=1e-6)
        np.testing.assert_allclose(found["residuals"], [float(problem.certified_residual)], rtol=1e-6)
        np.testing.assert_allclose(found["standard_deviation"], [304.854073561965], rtol=1e-6)
        assert (found["rank"], found["degrees_of_freedom"], found["columns"][0]) == (7, 9, "intercept")

    @pytest.mark.parametrize("block_rows", [1, 7, 1000])
    def test_blocks_change_nothing(self, tmp_path, block_rows):
        a, b = RNG.standard_normal((60, 3)), RNG.standard_normal((60, 2))
        np.savez(tmp_path / "t.npz", a=a, b=b)
        found = fitted(tmp_path / "t.npz", "--block-rows", block_rows)
        x, residuals, _, s = lstsq.lstsq(a, b)
        for name, expected in (("x", x), ("residuals", residuals), ("s", s)):
            assert ratio(found[name], expected) < 1e-13

    def test_weights_are_repeated_rows(self, save):
        u, y, weight = RNG.standard_normal(9), RNG.standard_normal(9), np.array([1, 2, 0, 3, 1, 1, 4, 2, 1])
        weighted = fitted(save({"u": u, "w": weight, "y": y}), "--weights", "w", "--intercept")
        repeated = fitted(save({"u": np.repeat(u, weight), "y": np.repeat(y, weight)}), "--intercept")
        for name in ("x", "residuals"):
            assert ratio(weighted[name], repeated[name]) < 1e-13
        assert (weighted["columns"], weighted["weights"]) == (["intercept", "u"], "w")
        assert (weighted["rows"], weighted["rows_of_weight_zero"]) == (8, 1)
        message = invoke(save({"u": u, "w": weight - 1, "y": y}), "--weights", "w", code=2).stderr
        assert "line 4, column 'w': got '-1', expected a weight from 0 up" in message

    def test_single_precision_stays(self, tmp_path):
        numbers = RNG.standard_normal((50, 4)).astype(np.float32)
        np.save(tmp_path / "t.npy", numbers)
        found = fitted(tmp_path / "t.npy", "--block-rows", 8)
        expected = lstsq.lstsq(numbers[:, :3], numbers[:, 3])
        assert found["dtype"] == "float32"
        assert ratio(np.ravel(found["x"]), expected.x) < 1e-7
        assert found["rcond"] == lstsq.explain(numbers[:, :3], numbers[:, 3]).rcond

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_standard_errors_at_every_scale(self, save, scale):
        u, v, y = RNG.standard_normal((3, 9))
        plain = fitted(save({"u": u, "v": v, "y": y}))
        scaled = fitted(save({"u": scale * u, "v": scale * v, "y": y}))
        assert ratio(np.multiply(scale, scaled["standard_errors"]), plain["standard_errors"]) < 1e-12

    def test_complex_numbers(self, tmp_path):
        a = RNG.standard_normal((20, 2)) + 1j * RNG.standard_normal((20, 2))
        b = a @ np.array([1 + 1j, 2]) + 0.1
        np.savez(tmp_path / "t.npz", a=a, b=b)
        found = fitted(tmp_path / "t.npz")
        x, residuals, *_ = lstsq.lstsq(a, b)
        assert ratio(np.ravel(found["x"]), np.stack([x.real, x.imag], axis=1).ravel()) < 1e-13
        spread = np.sqrt(np.diag(np.linalg.inv(a.conj().T @ a)).real * residuals / 18)
        assert ratio(np.ravel(found["standard_errors"]), spread) < 1e-12


class TestDeficient:
    def test_columns_that_depend_on_each_other_are_named(self, save):
        u, v, y = (RNG.integers(-9, 9, 40) for _ in range(3))
        path = save({"u": u, "v": v, "sum": u + v, "other": u * v, "zero": 0 * u, "y": y})
        found = fitted(path)
        assert found["dependent_columns"] == [["u", "v", "sum"], ["zero"]]
        assert found["rank"] == 3
        errors = dict(zip(found["columns"], np.ravel(found["standard_errors"])))
        assert [name for name, error in errors.items() if error is None] == ["u", "v", "sum", "zero"]
        assert np.abs(found["x"]).max() < 10
        # What is determined is so with the same error as without the others.
        without = fitted(path, "--drop", "sum", "--drop", "zero")
        assert ratio(errors["other"], without["standard_errors"][2]) < 1e-12
        shown = invoke(path).stdout
        assert "u, v, sum depend on each other: the data do not determine" in " ".join(shown.split())
        assert re.search(r"^sum +\S+ +–$", shown, re.MULTILINE)

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
    def test_groups_are_found_at_every_scale(self, save, scale):
        u, v, w, y = RNG.standard_normal((4, 30))
        path = save({"w": w, "u": scale * u, "twice": 2 * u, "v": v, "again": v, "y": y})
        assert fitted(path)["dependent_columns"] == [["u", "twice"], ["v", "again"]]

    def test_fewer_rows_than_columns(self, save):
        found = fitted(save({"u": [1, 2], "v": [2, 1], "w": [1, 1], "y": [3, 3]}))
        assert (found["rank"], found["degrees_of_freedom"]) == (2, 0)
        assert found["dependent_columns"] == [["u", "v", "w"]]
        assert found["standard_deviation"] == [None]


class TestCommand:
    def test_shows_the_target_the_rows_and_what_is_left_out(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text(",u,v,y\n0,1,2,3\n1,,5,6\n2,4,1,9\n3,5,2,1\n")
        shown = invoke(path, "--drop-missing", "--rows", 1).stdout
        assert f"{path}: target y, 3 rows, 2 columns, float64" in shown
        assert "left out: 1 row with a missing cell" in shown
        assert "left out: the column '': it numbers the rows" in shown
        assert "… 1 more: --rows 2 shows all" in shown

    def test_files_are_one_data_set(self, save):
        numbers = RNG.standard_normal((30, 3))
        parts = [save(dict(zip("uvy", part.T)), f"{i}.csv") for i, part in enumerate(np.split(numbers, 3))]
        found = fitted(*parts, "--block-rows", 4)
        assert ratio(np.ravel(found["x"]), lstsq.lstsq(numbers[:, :2], numbers[:, 2]).x) < 1e-13
        assert (found["rows"], found["files"]) == (30, [str(part) for part in parts])

    def test_progress_goes_from_nothing_to_all(self, save):
        paths = [save({"u": np.arange(50.0), "y": np.arange(50.0)}, f"{i}.csv") for i in range(2)]
        told = []
        with dataset.opened(paths, Reading()) as data:
            estimate.fit(data, None, 10, lambda part, rows: told.append((part, rows)))
        parts, rows = zip(*told)
        assert list(rows) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
        assert list(parts) == sorted(parts)
        assert parts[0] >= 0
        assert parts[-1] == 1

    def test_nothing_is_printed_as_an_answer_where_a_row_is_malformed(self, save):
        paths = [save({"u": np.arange(9.0), "y": np.arange(9.0)}, f"{i}.csv") for i in range(2)]
        with paths[1].open("a") as file:
            file.write("1,2,3\n")
        for options in ([], ["--json"], ["--block-rows", 2]):
            result = invoke(*paths, *options, code=2)
            assert result.stdout == ""
            assert f"{paths[1]}, line 11: got 3 cells, expected 2" in result.stderr

    def test_a_page(self, save, tmp_path):
        path = save({"<u>": np.arange(5.0), "y": [1, 2, 2, 4, 5]})
        page = tmp_path / "page.html"
        invoke(path, "--html", page)
        written = page.read_text(encoding="utf-8")
        assert "&lt;u&gt;" in written
        assert "<u>" not in written

    def test_nothing_to_fit(self, save, tmp_path):
        path = tmp_path / "t.csv"
        for text, options, message in (
            ("u,y\n", [], "nothing to solve: 0 rows are left"),
            ("u,y\n,1\n", ["--drop-missing"], "0 rows are left, 1 missed a cell"),
            ("y\n1\n2\n", [], "no column is left for the matrix"),
        ):
            path.write_text(text)
            assert message in invoke(path, *options, code=2).stderr
        assert np.allclose(fitted(path, "--intercept")["x"], 1.5)
