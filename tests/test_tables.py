"""Tables from files: every format and every way in which cells are written, and what is said of those that are not."""

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from lstsq_cli import data, problems
from lstsq_cli.errors import UserError
from lstsq_cli.tables import dataset
from lstsq_cli.tables.reading import Reading

pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(11)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def read(path, **options):
    return data.read(path, Reading(**{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}))


def parquet(path, columns, **options):
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path, **options)
    return path


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestText:
    @pytest.mark.parametrize(
        ("name", "text", "options"),
        [
            ("names.csv", "u,v,y\n1,2,3\n4,5,6\n7,8,10\n", {}),
            ("none.csv", "1,2,3\n4,5,6\n7,8,10\n", {}),
            ("semicolons.csv", "u;v;y\n1;2;3\n4;5;6\n7;8;10\n", {}),
            ("tabs.tsv", "u\tv\ty\n1\t2\t3\n4\t5\t6\n7\t8\t10\n", {}),
            ("marked.csv", '\ufeff"u","v","y"\r\n"1",2,3\r\n\r\n4,5,6\r\n7,8,10\r\n', {}),
            ("blanks.csv", "\nu, v ,y\n 1,2 , 3\n+4,5.,6\n7,8,1e1\n", {}),
            ("break.csv", '"u","v","y"\n"1\n",2,3\n4,5,6\n7,8,10\n', {}),
            ("comma.csv", "u;v;y\n1,0;2;3\n4;5;6\n7;8;10,00\n", {"decimal": ","}),
            ("groups.csv", 'u,v,y\n1,2,3\n4,5,6\n7,8,"0,010"\n', {"thousands": ","}),
        ],
    )
    def test_ways_to_write_a_table(self, write, name, text, options):
        problem = read(write(name, text), **options)
        np.testing.assert_array_equal(problem.a, [[1, 2], [4, 5], [7, 8]])
        np.testing.assert_array_equal(problem.b, [[3], [6], [10]])
        assert problem.columns == (("u", "v") if "u" in text else ("column 0", "column 1"))
        assert problem.target == ("y" if "u" in text else "column 2")

    def test_compressed_text_and_another_encoding(self, write):
        text = "größe,y\n1,2\n3,5\n"
        plain = read(write("t.csv", text))
        packed = read(write("t.csv.gz", gzip.compress(text.encode("latin-1"))), encoding="latin-1")
        assert plain.columns == packed.columns == ("größe",)
        np.testing.assert_array_equal(plain.a, packed.a)
        assert "line 1: the byte 0xf6 is no utf-8" in refusal(write("l.csv", text.encode("latin-1")))
        late = b"u,y\n1,2\n3,\xe9\n"
        assert "line 3: the byte 0xe9 is no utf-8" in refusal(write("l.csv", late))
        assert "--encoding latin-1" in refusal(write("l.csv", late))
        wide = write("w.csv", text.encode("utf-16"))
        assert "line 1: the byte 0xff is no utf-8" in refusal(wide)
        assert "--encoding utf-16" in refusal(wide)
        np.testing.assert_array_equal(read(wide, encoding="utf-16").a, plain.a)
        for name in ("latin-99", "base64"):
            assert f"there is no '{name}'" in _refused(encoding=name)

    def test_truth_values_and_groups(self, write):
        problem = read(write("t.csv", "u,v,y\nTrue,1'000,1\nFALSE,2'000'000.5,2\ntrue,3,4\n"), thousands="'")
        np.testing.assert_array_equal(problem.a, [[1, 1000], [0, 2000000.5], [1, 3]])
        # What groups digits is not taken for what stands between cells.
        problem = read(write("t.csv", "1,000,000|2\n3,000,000|5\n"), thousands=",")
        np.testing.assert_array_equal(problem.a, [[1e6], [3e6]])

    def test_groups_are_groups_of_three(self, write):
        """1,5 with a comma for thousands is not 15, and 1.5 with a decimal comma neither."""
        message = refusal(write("t.csv", 'u,y\n"1,5",2\n3,4\n'), thousands=",")
        assert "line 2, column 'u': got '1,5', expected a number" in message
        assert "got '1.5'" in refusal(write("t.csv", "u;y\n1.5;2\n3;4\n"), decimal=",")
        with pytest.raises(UserError, match="--thousands: got ','"):
            Reading(thousands=",", decimal=",")

    def test_a_row_that_is_cut_is_an_error_and_no_missing_cell(self, write):
        for text, line in (("u,v,y\n1,2,3\n4,5\n", 3), ('u,v,y\n"1\n",2,3\n\n4,5,6,7\n', 5)):
            assert f"line {line}: got {2 if line == 3 else 4} cells, expected 3" in refusal(
                write("t.csv", text), drop_missing=True
            )

    def test_columns_are_chosen_by_name_or_index(self, write):
        path = write("t.csv", "name,u,v,y\nann,1,2,3\nbob,4,5,6\n")
        for target in ("u", "1", "-3"):
            problem = read(path, target=target, drop=["name"], intercept=True)
            assert problem.columns == ("intercept", "v", "y")
            np.testing.assert_array_equal(problem.a, [[1, 2, 3], [1, 5, 6]])
            np.testing.assert_array_equal(problem.b, [[1], [4]])

    def test_a_large_file_is_read_in_pieces(self, write):
        numbers = RNG.standard_normal((40_000, 8))
        out = io.StringIO()
        np.savetxt(out, numbers, delimiter=",", fmt="%.17g")
        path = write("t.csv", out.getvalue())
        assert path.stat().st_size > 5e6
        with dataset.opened([path], Reading()) as opened:
            blocks = list(opened.blocks(9_999))
        assert [len(a) for a, _ in blocks] == [9_999] * 4 + [4]
        np.testing.assert_array_equal(np.hstack([np.concatenate(parts) for parts in zip(*blocks)]), numbers)

    def test_a_fault_far_below_is_named_by_its_line(self, write):
        lines = ["u,y", *("1,2" for _ in range(400_000)), "1,tall", "3"]
        assert "line 400003: got 1 cells" in refusal(write("t.csv", "\n".join(lines)))
        assert "line 400002, column 'y': got 'tall'" in refusal(write("t.csv", "\n".join(lines[:-1])))


class TestMissing:
    TEXT = "u,v,y\n1,2,3\n,5,6\n7,,x\n9,1,NA\n2,1,nan\n1,1,1\n"

    def test_all_of_them_are_in_one_message(self, write):
        message = refusal(write("t.csv", self.TEXT))
        for part in (
            "t.csv, line 3, column 'u': the cell is missing; ",
            "line 4, column 'v': the cell is missing; ",
            "line 4, column 'y': got 'x', expected a number; ",
            "line 5, column 'y': the cell is missing; line 6, column 'y': the cell is missing. ",
            "--drop-missing leaves such rows out.",
            "Mend the file, or --drop 'y' leaves the column out.",
        ):
            assert part in message

    def test_the_first_are_named_and_the_others_counted(self, write):
        message = refusal(write("t.csv", "u,y\n" + ",1\n" * 10 + "1,inf\n"))
        assert "line 4, column 'u': the cell is missing (and 7 more in this column)" in message
        assert "line 12, column 'y': got 'inf', expected a finite number" in message

    def test_their_rows_are_dropped_and_counted(self, write):
        problem = read(write("t.csv", self.TEXT.replace("x", "")), drop_missing=True)
        np.testing.assert_array_equal(problem.a, [[1, 2], [1, 1]])
        assert problem.dropped == 4
        assert "got 'x'" in refusal(write("t.csv", self.TEXT), drop_missing=True)

    def test_in_every_format(self, tmp_path):
        numbers = np.array([[1, 2, 3], [np.nan, 5, 6], [7, 8, 1]])
        np.save(tmp_path / "t.npy", numbers)
        np.savez(tmp_path / "t.npz", a=numbers[:, :2], b=numbers[:, 2])
        columns = {"u": pa.array([1, None, 7], pa.int32()), "v": [2.0, 5.0, 8.0], "y": [3, 6, 1]}
        for path in (tmp_path / "t.npy", tmp_path / "t.npz", parquet(tmp_path / "t.parquet", columns)):
            problem = read(path, drop_missing=True)
            np.testing.assert_array_equal(np.hstack([problem.a, problem.b]), numbers[[0, 2]])
            assert problem.dropped == 1
            assert "row 1 (counted from 0), column" in refusal(path)


class TestColumns:
    def test_text_is_left_out_where_that_is_asked_for(self, write):
        path = write("t.csv", "u,city,y\n1,Rome,2\n3,Oslo,5\n")
        problem = read(path, numeric_only=True)
        assert problem.columns == ("u",)
        assert problem.left_out == ("'city': it holds text",)
        message = refusal(path)
        assert "line 2, column 'city': got 'Rome'; line 3, column 'city': got 'Oslo', expected a number" in message
        assert "--drop 'city'" in message
        assert "--categorical 'city'" in message
        assert "--numeric-only" in message

    def test_a_typing_error_does_not_make_a_column_text(self, write):
        path = write("t.csv", "u,y\n1,2\nl,3\n2,5\n")
        assert "line 3, column 'u': got 'l'" in refusal(path, numeric_only=True)

    def test_the_options_that_would_read_a_cell_are_named(self, write):
        assert "--decimal , reads numbers like 1,5" in refusal(write("t.csv", "u;y\n1,5;2\n3;4\n"))
        assert "--thousands , reads numbers like 1,500.5" in refusal(write("t.csv", 'u,y\n"1,500.5",2\n3,4\n'))
        assert "--decimal , --thousands . reads numbers like 1.500,5" in refusal(
            write("t.csv", "u;y\n1.500,5;2\n3;4\n")
        )
        assert "--decimal ," in refusal(write("t.csv", "1,5;2\n1;2\n"))

    def test_an_index_is_neither_target_nor_column(self, write, tmp_path):
        problem = read(write("t.csv", ",u,y\n0,1,2\n1,3,5\n"))
        assert (problem.columns, problem.target) == (("u",), "y")
        pandas = b'{"index_columns": ["day"], "columns": []}'
        table = pa.table({"u": [1, 2, 4], "y": [1, 1, 2], "day": [1, 2, 3]}).replace_schema_metadata({"pandas": pandas})
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
        problem = read(tmp_path / "t.parquet")
        assert (problem.columns, problem.target) == (("u",), "y")
        assert problem.left_out == ("'day': it numbers the rows",)
        columns = {"u": [1, 2, 4], "y": [1, 1, 2], "__index_level_0__": [1, 2, 3]}
        problem = read(parquet(tmp_path / "t.parquet", columns))
        assert (problem.columns, problem.target) == (("u",), "y")
        assert read(tmp_path / "t.parquet", target="__index_level_0__").columns == ("u", "y")

    def test_a_target_that_cannot_be_guessed_is_asked_for(self, write):
        message = refusal(write("t.csv", "u,y,city\n1,2,Rome\n3,5,Oslo\n"))
        assert message.endswith("which column is b? The last, 'city', holds text; say it with --target, one of u, y.")
        message = refusal(write("t.csv", "u y\n1 2\n3 5\n"))
        assert "no column holds numbers; the columns are u y. Expected cells with a comma" in message

    def test_categories_are_indicators(self, write):
        path = write("t.csv", "city,u,zone,y\nRome,1,10,2\nOslo,3,2,5\nRome,2,1,4\n,1,2,3\n")
        options = {"categorical": ["city", "zone"], "drop_missing": True}
        problem = read(path, **options)
        assert problem.columns == ("city=Oslo", "city=Rome", "u", "zone=2", "zone=10")
        np.testing.assert_array_equal(problem.a, [[0, 1, 1, 0, 1], [1, 0, 3, 1, 0], [0, 1, 2, 0, 0]])
        # With a column of ones the first of the cities, too, is what the others are compared with.
        assert read(path, intercept=True, **options).columns == ("intercept", "city=Rome", "u", "zone=2", "zone=10")
        assert "line 5, column 'city': the cell is missing" in refusal(path, categorical=["city", "zone"])

    def test_categories_of_every_format(self, tmp_path):
        np.save(tmp_path / "t.npy", np.array([[2.0, 1], [10, 2], [2, 4]]))
        words = pa.array(["b", "a", "b"]).dictionary_encode()
        for path, columns in (
            (tmp_path / "t.npy", ("column 0=2", "column 0=10")),
            (parquet(tmp_path / "t.parquet", {"g": words, "y": [1, 2, 4]}), ("g=a", "g=b")),
            (parquet(tmp_path / "i.parquet", {"g": [2, 10, 2], "y": [1, 2, 4]}), ("g=2", "g=10")),
        ):
            problem = read(path, categorical=["0"])
            assert problem.columns == columns
            np.testing.assert_array_equal(
                problem.a.argmax(axis=1), [1, 0, 1] if columns == ("g=a", "g=b") else [0, 1, 0]
            )

    def test_names_are_no_categories(self, write, tmp_path):
        rows = [f"name{i},{i}" for i in range(1001)]
        path = write("t.csv", "\n".join(["g,y", *rows]))
        message = "the column 'g' has more than 1000 different cells"
        assert message in refusal(path, categorical=["g"])
        assert len(read(write("t.csv", "\n".join(["g,y", *rows[1:]])), categorical=["g"]).columns) == 1000
        np.save(tmp_path / "t.npy", np.arange(2002.0).reshape(-1, 2))
        assert "'column 0' has more than 1000" in refusal(tmp_path / "t.npy", categorical=["0"])

    def test_other_types_are_refused_by_name(self, tmp_path):
        columns = {"u": [1, 2], "when": pa.array([1, 2], pa.timestamp("ms")), "y": [1.0, 2.0]}
        path = parquet(tmp_path / "t.parquet", columns)
        assert "column 'when' holds timestamp[ms]; expected numbers. Leave it out with --drop 'when'" in refusal(path)
        assert read(path, numeric_only=True).columns == ("u",)


class TestFormats:
    def test_typed_columns(self, tmp_path):
        columns = {
            "truth": [True, False, True],
            "decimal": pa.array(["1", "2", "3"]).cast(pa.decimal128(7, 2)),
            "single": pa.array([1.5, 2.5, 3.5], pa.float32()),
            "text": ["1", "2", "4"],
            "y": [3, 6, 1],
        }
        table = pa.table(columns)
        expected = [[1, 1, 1.5, 1, 3], [0, 2, 2.5, 2, 6], [1, 3, 3.5, 4, 1]]
        parquet(tmp_path / "t.parquet", columns)
        for name, make in (
            ("t.arrow", pa.ipc.new_file),
            ("s.arrow", pa.ipc.new_stream),
            ("t.feather", pa.ipc.new_file),
        ):
            with pa.OSFile(str(tmp_path / name), "wb") as file, make(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        for name in ("t.parquet", "t.arrow", "s.arrow", "t.feather"):
            problem = read(tmp_path / name)
            np.testing.assert_array_equal(np.hstack([problem.a, problem.b]), expected)
            with dataset.opened([tmp_path / name], Reading()) as opened:
                assert [len(a) for a, _ in opened.blocks(1)] == [1, 1, 1]

    def test_names_that_are_there_twice(self, write, tmp_path):
        table = pa.table([pa.array([1.0, 2]), pa.array([3.0, 4]), pa.array([5.0, 6])], names=["u", "u", "y"])
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
        assert "several columns are called 'u'" in refusal(tmp_path / "t.parquet")
        with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        for path in (tmp_path / "t.arrow", write("t.csv", "u,u,y\n1,3,5\n2,4,6\n")):
            np.testing.assert_array_equal(read(path).a, [[1, 3], [2, 4]])

    def test_dtypes_are_kept(self, tmp_path):
        numbers = RNG.standard_normal((6, 3))
        np.save(tmp_path / "t.npy", numbers.astype(np.float32))
        assert problems.default_dtype(read(tmp_path / "t.npy", target="0")) == "float32"
        np.save(tmp_path / "f.npy", np.asfortranarray(numbers))
        np.testing.assert_array_equal(read(tmp_path / "f.npy").a, numbers[:, :2])
        np.savez(tmp_path / "t.npz", a=numbers, b=numbers[:, :2] + 1j)
        problem = read(tmp_path / "t.npz")
        assert (problem.a.shape, problem.b.shape, problems.default_dtype(problem)) == ((6, 3), (6, 2), "complex128")
        assert problem.target == "b0, b1"

    def test_a_problem_of_a_batch(self, tmp_path):
        a, b = RNG.standard_normal((2, 3, 6, 2)), RNG.standard_normal((2, 3, 6, 1))
        np.savez(tmp_path / "t.npz", a=a, b=b)
        np.testing.assert_array_equal(read(tmp_path / "t.npz", problem="1,-1").a, a[1, 2])
        assert "a batch of problems; expected one. --problem 0,0 takes the first" in refusal(tmp_path / "t.npz")
        for wrong in ("0", "0,3", "one"):
            assert f"--problem: got '{wrong}'" in refusal(tmp_path / "t.npz", problem=wrong)
        np.savez(tmp_path / "t.npz", a=a[0, 0], b=b[0, 0])
        assert "--problem is for a batch" in refusal(tmp_path / "t.npz", problem="0")

    def test_standard_input(self, write, tmp_path, monkeypatch):
        parquet(tmp_path / "t.parquet", {"u": [1, 2], "y": [3, 4]})
        np.save(tmp_path / "t.npy", [[1, 3], [2, 4]])
        text = write("t.csv", "1,3\n2,4\n")
        packed = write("t.csv.gz", gzip.compress(text.read_bytes()))
        for path in (text, packed, tmp_path / "t.parquet", tmp_path / "t.npy"):
            with path.open("rb") as file:
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
                problem = read(Path("-"))
            np.testing.assert_array_equal(np.hstack([problem.a, problem.b]), [[1, 3], [2, 4]])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"u,y\n1,x\n2,3\n")))
        assert refusal(Path("-")).startswith("standard input, line 2, column 'y': got 'x'")


class TestSeveralFiles:
    def blocks(self, paths, **options):
        with dataset.opened(paths, Reading(**options)) as opened:
            return np.concatenate([np.hstack(block) for block in opened.blocks()])

    def test_are_one_table(self, write, tmp_path):
        first, turned = write("a.csv", "u,v,y\n1,2,3\n"), write("b.csv", "y,v,u\n6,5,4\n")
        nameless = write("c.csv", "7,8,9\n")
        typed = parquet(tmp_path / "d.parquet", {"v": [1], "u": [2], "y": [3]})
        expected = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [2, 1, 3]]
        np.testing.assert_array_equal(self.blocks([first, turned, nameless, typed]), expected)

    def test_with_other_columns_are_refused(self, write):
        first = write("a.csv", "u,v,y\n1,2,3\n")
        for text, message in (("u,y\n1,2\n", "has 2 columns, and .* has 3"), ("u,w,y\n1,2,3\n", "a column 'w'")):
            with pytest.raises(UserError, match=message):
                self.blocks([first, write("b.csv", text)])

    def test_categories_are_those_of_all(self, write):
        first, second = write("a.csv", "g,y\na,1\n"), write("b.csv", "g,y\nb,2\n")
        expected = [[1, 0, 1], [0, 1, 2]]
        np.testing.assert_array_equal(self.blocks([first, second], categorical=("g",)), expected)


def _refused(**options):
    with pytest.raises(UserError) as caught:
        Reading(**options)
    return str(caught.value)
