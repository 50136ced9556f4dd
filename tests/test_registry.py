"""Whose an array is, and what is refused because a solver would take it for something else than it is."""

import subprocess
import sys

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
    def test_advice_on_a_backend_that_is_missing_needs_no_index(self):
        with pytest.raises(ValueError, match=r"unknown backend 'nonesuch'; installed backends: .*numpy"):
            _registry.get_backend("nonesuch")
        code = """
            import lstsq._registry as registry
            registry._entry_points().pop("mlx", None)
            try:
                registry.get_backend("mlx")
            except ValueError as error:
                print(error)
            class Array:
                __module__ = "mlx.core"
                def __array_namespace__(self): raise TypeError
            try:
                registry.owner(Array())
            except TypeError as error:
                print(error)
        """
        lines = run_python(code).splitlines()
        assert len(lines) == 2
        for line in lines:
            assert line.endswith("from a clone of the project, run `pip install . ./backends/native`.")

    def test_ours_in_the_place_of_numpys_does_not_call_itself(self):
        code = """
            import numpy as np
            from lstsq import lstsq
            np.linalg.lstsq = lstsq
            np.linalg.svd = None
            print(np.linalg.lstsq([[1.0], [2.0]], [2.0, 4.0]).x.round(12))
            print(lstsq(np.diag([1.0, 1e-9]), np.ones(2)).rank)
        """
        assert run_python(code).split() == ["[2.]", "2"]


def run_python(code):
    lines = [line[12:] for line in code.splitlines()]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
