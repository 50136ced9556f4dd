"""Whose an array is, and what is refused because a solver would take it for something else than it is."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse

from lstsq import _registry, lstsq

A, B = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 3.0, 5.0])
X = [1.0, 2.0]


class Plain(np.ndarray):
    """A subclass that says nothing more than its parent."""


class Described(np.ndarray):
    """A subclass whose arrays may have a unit or a mask, as the tables of astropy have."""

    def __array_finalize__(self, parent):
        self.unit, self.mask = getattr(parent, "unit", None), getattr(parent, "mask", None)


class Quantity:
    """No subclass, with a unit, as pint's; it gives its numbers away without it."""

    dimensionality = "length"

    def __init__(self, numbers):
        self.magnitude = numbers

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.magnitude, dtype)


class Labelled:
    """An array around another, as xarray's, with attributes that name a unit for people."""

    def __init__(self, data):
        self.data, self.units = data, "m"

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype)


class Duck(np.lib.mixins.NDArrayOperatorsMixin):
    """A class with NumPy's operators, which makes it no array of NumPy's."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __array_ufunc__(self, *_, **__):
        return NotImplemented


class DuckThatConverts(Duck):
    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.numbers, dtype)


def with_unit(array, **what):
    described = array.view(Described)
    described.__dict__.update(what)
    return described


def check(a, b, x=X):
    """The answer, in arrays that are NumPy's own."""
    result = lstsq(a, b)
    assert all(type(array) is np.ndarray or np.isscalar(array) for array in result)
    np.testing.assert_allclose(result.x, x, atol=1e-14)


class TestMasked:
    @pytest.mark.parametrize("mask", [np.ma.nomask, False, np.zeros(A.shape, bool)])
    def test_with_nothing_masked_it_is_an_array(self, mask):
        check(np.ma.array(A, mask=mask), B)
        check(np.ma.array(A, mask=mask), B.tolist())
        check(A, np.ma.array(B))
        check(A.tolist(), np.ma.array(B))

    @pytest.mark.parametrize("beside", [list, np.asarray, np.ma.array])
    def test_with_something_masked_it_is_refused(self, beside):
        advice = r"masked entries \(numpy\.MaskedArray\).*Drop the rows with masked entries, from a and b alike"
        with pytest.raises(TypeError, match=advice):
            lstsq(np.ma.masked_equal(A, 2.0), beside(B))
        with pytest.raises(TypeError, match=advice):
            lstsq(beside(A), np.ma.masked_equal(B, 1.0))

    def test_one_refusal_does_not_settle_the_next(self):
        # What is remembered of a class must not be what one array of it was.
        for _ in range(2):
            check(np.ma.array(A), B)
            with pytest.raises(TypeError, match="masked entries"):
                lstsq(np.ma.masked_equal(A, 2.0), B)

    def test_the_masked_constant_is_refused(self):
        with pytest.raises(TypeError, match=r"masked entries \(numpy\.MaskedConstant\)"):
            lstsq(A, np.ma.masked)

    def test_so_is_a_mask_of_another_subclass(self):
        check(with_unit(A, mask=np.zeros(A.shape, bool)), B)
        with pytest.raises(TypeError, match=r"masked entries \(test_registry\.Described\)"):
            lstsq(with_unit(A, mask=A == 2), B)


class TestUnits:
    @pytest.mark.parametrize(
        ("array", "numbers"),
        [
            (with_unit(B, unit="m"), r"numpy\.asarray\(array\)"),
            (with_unit(B, unit="m", value=B), r"array\.value"),
            (with_unit(B, units="m"), r"numpy\.asarray\(array\)"),
            (Quantity(B), r"array\.magnitude"),
            (Labelled(Quantity(B)), r"array\.magnitude"),
        ],
    )
    def test_are_refused_with_what_to_do(self, array, numbers):
        advice = f"Pass its numbers, {numbers}, and give the results their units: x has that of b divided by that of a"
        with pytest.raises(TypeError, match=advice):
            lstsq(A, array)
        with pytest.raises(TypeError, match=advice):
            lstsq(array, B)

    def test_that_are_not_there_do_not_count(self):
        check(A, with_unit(B))
        check(Labelled(A), Labelled(B))

    @pytest.mark.parametrize("name", ["astropy.units", "pint", "unyt"])
    def test_of_the_libraries_that_have_them(self, name):
        library = pytest.importorskip(name)
        metre = library.UnitRegistry().metre if name == "pint" else library.m
        with pytest.raises(TypeError, match="got an array with units"):
            lstsq(A * metre, B)
        with pytest.raises(TypeError, match="got an array with units"):
            lstsq(A, B * metre)


class TestSubclasses:
    def test_give_arrays_of_numpy(self, tmp_path):
        check(A.view(Plain), B.view(Plain))
        check(A.view(np.recarray), B)
        mapped = np.memmap(tmp_path / "a", dtype=float, shape=A.shape, mode="w+")
        mapped[:] = A
        check(mapped, B)

    @pytest.mark.filterwarnings("ignore:the matrix subclass")
    def test_a_matrix_does(self):
        check(np.matrix(A), B)
        check(np.matrix(A), np.matrix(B).T, np.transpose([X]))

    def test_fields_are_not_attributes(self):
        fields = np.rec.array([(1.0, 2.0)], dtype=[("unit", float), ("mask", float)])
        with pytest.raises(TypeError, match=r"a has dtype .* which has no least-squares solution here"):
            lstsq(fields, B[:1])


class TestOtherObjects:
    @pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "coo_array"])
    def test_sparse_matrices_are_refused(self, kind):
        sparse = getattr(scipy.sparse, kind)(A)
        with pytest.raises(TypeError, match=rf"sparse array \(scipy\.{kind}\).*array\.todense\(\).*lsmr"):
            lstsq(sparse, B)
        with pytest.raises(TypeError, match=rf"sparse array \(scipy\.{kind}\)"):
            lstsq(A, sparse)

    def test_sparse_arrays_of_an_array_library_are_refused(self):
        sparse = pytest.importorskip("sparse")
        with pytest.raises(TypeError, match=r"sparse array \(sparse\.COO\)"):
            lstsq(sparse.COO(A), B)

    def test_numpys_operators_make_no_array_of_numpys(self):
        assert _registry.owner(DuckThatConverts(A)) is None
        check(DuckThatConverts(A), DuckThatConverts(B))
        with pytest.raises(TypeError, match=r"got test_registry\.Duck, of which NumPy makes no array"):
            lstsq(Duck(A), B)

    @pytest.mark.parametrize("thing", [None, object(), iter([1.0]), lambda: B])
    def test_what_is_no_array_at_all_is_named(self, thing):
        with pytest.raises(TypeError, match=r"got .*, of which NumPy makes no array; expected an array or a list"):
            lstsq(A, thing)

    def test_what_has_a_buffer_is_converted(self):
        check(memoryview(A), memoryview(B))


class TestBackends:
    def test_an_unknown_name_is_told_with_the_names_there_are(self):
        with pytest.raises(ValueError, match=r"unknown backend 'nonesuch'; installed backends: .*numpy"):
            _registry.get_backend("nonesuch")

    def test_ours_in_the_place_of_numpys_does_not_call_itself(self):
        code = """
            import numpy as np
            from lstsq import lstsq
            np.linalg.lstsq = lstsq
            np.linalg.svd = None
            print(np.linalg.lstsq([[1.0], [2.0]], [2.0, 4.0]).x.round(12))
            print(lstsq(np.diag([1.0, 1e-9]), np.ones(2)).rank)
        """
        assert run_python(textwrap.dedent(code)).split() == ["[2.]", "2"]


class Strangers:
    """Small backends in distributions of their own, for a library of their own, and programs that have both."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "drawn.py").write_text("import numpy as np\nclass Array(np.ndarray): pass\n")

    def add(self, name, *lines, distribution=None, metadata=()):
        """A backend that solves as NumPy's does; `lines` are more of its class."""
        distribution = distribution or f"stranger-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-9.dist-info"
        info.mkdir()
        head = ("Metadata-Version: 2.1", f"Name: {distribution}", "Version: 9", *metadata)
        (info / "METADATA").write_text("\n".join(head))
        (info / "entry_points.txt").write_text(f"[lstsq.backends]\n{name} = stranger_{name}:Stranger\n")
        body = [f"    {line}" for line in (f"name = {name!r}", "serves = ('drawn',)", *lines)]
        source = ("from lstsq_numpy import NumpyBackend", "class Stranger(NumpyBackend):", *body)
        (self.folder / f"stranger_{name}.py").write_text("\n".join(source))

    def run(self, *program):
        start = (f"import sys; sys.path.insert(0, {str(self.folder)!r})", "import numpy as np, drawn, lstsq")
        a_and_b = "a, b = np.eye(2).view(drawn.Array), np.ones(2).view(drawn.Array)"
        return run_python(*start, a_and_b, *program).splitlines()

    def explain(self):
        """The backend that is chosen, and the reasons for it."""
        program = ("told = lstsq.explain(a, b)", "print(told.backend)", "print(*told.reasons[:-3], sep='\\n')")
        return self.run(*program)


@pytest.fixture
def strangers(tmp_path):
    return Strangers(tmp_path)


class TestSeveralForOneLibrary:
    """The rule is data that a stranger's backend states like ours."""

    def test_the_higher_precedence_goes_first(self, strangers):
        strangers.add("zippy", "precedence = 7")
        strangers.add("also", "precedence = 3")
        strangers.add("drawn")
        assert strangers.explain() == [
            "zippy",
            "a is an array of drawn, which the zippy backend serves",
            "it goes before also (precedence 3), drawn (precedence 0): its precedence is 7",
        ]

    def test_the_others_are_there_by_their_names_and_all_are_listed(self, strangers):
        strangers.add("zippy", "precedence = 7", "def solve(self, *_): raise RuntimeError")
        strangers.add("drawn")
        assert strangers.run(
            "print(np.asarray(lstsq.lstsq(a, b, backend='drawn').x))",
            "told = lstsq.explain(a, b, backend='drawn')",
            "print(told.backend, *told.reasons[1:3], sep=' | ')",
            "print({'drawn', 'zippy'} <= {info.name for info in lstsq.backends()})",
        ) == [
            "[1. 1.]",
            "drawn | backend='drawn' was asked for | by default the zippy backend serves them",
            "True",
        ]

    def test_numpys_arrays_can_be_taken_over_and_the_oracle_be_asked_for(self, strangers):
        strangers.add("zippy", "precedence = 700", "serves = ('numpy',)")
        asked = "print(lstsq.explain(np.eye(2), np.ones(2), backend={}).backend)"
        assert strangers.run(asked.format(None), asked.format("'numpy'")) == ["zippy", "numpy"]

    def test_one_that_says_nothing_leaves_the_library_to_its_namesake(self, strangers):
        strangers.add("aaa")
        strangers.add("drawn")
        chosen, _, why = strangers.explain()
        assert (chosen, why) == ("drawn", "it goes before aaa (precedence 0): it has the library's name")

    def test_equals_go_by_their_names(self, strangers):
        strangers.add("beta")
        strangers.add("alpha")
        chosen, _, why = strangers.explain()
        assert (chosen, why) == ("alpha", "it goes before beta (precedence 0): its name is the first")

    def test_the_library_of_a_class_goes_before_that_of_its_parent(self, strangers):
        strangers.add("zippy", "precedence = 700", "serves = ('numpy',)")
        strangers.add("plain")
        assert strangers.explain() == ["plain", "a is an array of drawn, which the plain backend serves"]

    def test_what_cannot_run_here_is_passed_over(self, strangers):
        strangers.add("zippy", "precedence = 7", "requires = ('numpy', 'no_such_module')")
        strangers.add("also", "precedence = 3")
        chosen, serves, passed = strangers.explain()
        assert (chosen, serves) == ("also", "a is an array of drawn, which the also backend serves")
        assert passed == (
            "the zippy backend (precedence 7) would go before it and is passed over, since it cannot run here: "
            "no_such_module is not installed; run `pip install no_such_module`"
        )

    def test_where_none_can_run_the_first_says_why(self, strangers):
        for name, precedence in (("zippy", 7), ("also", 3)):
            broken = f"def solve(self, *_): raise ImportError('install what {name} needs')"
            strangers.add(name, f"precedence = {precedence}", "requires = ('no_such_module',)", broken)
        assert strangers.run(
            "try: lstsq.lstsq(a, b)",
            "except ImportError as error: print(error)",
        ) == ["install what zippy needs"]

    def test_is_settled_once(self, strangers):
        asked = ("def unavailable(self):", "    print('asked')", "    return 'it is not ready'")
        strangers.add("zippy", "precedence = 7", *asked)
        strangers.add("drawn")
        assert strangers.run(
            "class More(drawn.Array): pass",
            "for kind in (drawn.Array, More, drawn.Array):",
            "    print(lstsq.lstsq(a.view(kind), b).x)",
        ) == ["asked", *["[1. 1.]"] * 3]

    def test_a_backend_that_cannot_be_loaded_stops_no_other(self, strangers):
        strangers.add("zippy", "precedence = 7")
        strangers.add("drawn")
        (strangers.folder / "stranger_zippy.py").write_text("raise ImportError('no libfoo')")
        told = ("import warnings; warnings.simplefilter('ignore')", "print(lstsq.explain(a, b).backend)")
        assert strangers.run(*told) == ["drawn"]


class TestNotInstalled:
    """What is not installed, and could be, is told from the extras in the metadata of `lstsq`."""

    EXTRAS = (
        "Provides-Extra: jax",
        "Provides-Extra: mlx",
        "Provides-Extra: rocket",
        "Requires-Dist: numpy>=2.0",
        "Requires-Dist: jax>=0.7; extra == 'jax'",
        "Requires-Dist: lstsq-native[mlx]; extra == 'mlx'",
        'Requires-Dist: lstsq-native ; extra == "rocket"',
    )
    ADVICE = "from a clone of the project, run `pip install '.[{}]' ./backends/native`."

    @pytest.fixture
    def start(self, strangers):
        # This distribution stands in front of the one that is installed, and has the oracle alone.
        strangers.add("numpy", "serves = ('numpy',)", distribution="lstsq", metadata=self.EXTRAS)
        names = "('mlx', 'rocket', 'jax', 'scipy')"
        return (
            "from lstsq import _registry as registry",
            f"for name in {names}: registry._entry_points().pop(name, None)",
        )

    def test_by_name(self, strangers, start):
        lines = strangers.run(
            *start,
            "for name in ('mlx', 'rocket', 'jax', 'scipy'):",
            "    try: registry.get_backend(name)",
            "    except ValueError as error: print(error)",
        )
        unknown, advice = zip(*(line.split(".", 1) for line in lines))
        for name, line in zip(("mlx", "rocket", "jax", "scipy"), unknown):
            assert line.startswith(f"unknown backend {name!r}; installed backends: ")
            assert "numpy" in line
        assert advice == (*(f" To add it: {self.ADVICE.format(name)}" for name in ("mlx", "rocket")), "", "")

    def test_by_array(self, strangers, start):
        lines = strangers.run(
            *start,
            "for library in ('mlx.core', 'other'):",
            "    class Array:",
            "        __module__ = library",
            "        def __array_namespace__(self): raise TypeError",
            "    try: print(registry.owner(Array()))",
            "    except TypeError as error: print(error)",
        )
        assert lines == [
            f"got mlx arrays, and the backend for them is not installed; {self.ADVICE.format('mlx')}",
            "None",
        ]

    def test_what_is_installed_is_not_told(self, strangers, start):
        assert strangers.run(*start, "print(*registry.not_installed())") == ["mlx rocket"]
        installed = "registry._entry_points()['rocket'] = registry._entry_points()['numpy']"
        assert strangers.run(*start, installed, "print(*registry.not_installed())") == ["mlx"]


def run_python(*lines):
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
