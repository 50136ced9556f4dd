"""What a caller may pass for `a` and `b`: lists beside arrays, other byte orders, subclasses, and what is refused."""

import array_api_strict
import jax
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import pytest

from lstsq import LinAlgError, _contract, lstsq

NO_FLOAT64 = array_api_strict.Device("no_float64")


class Table:
    """Not an array, and NumPy makes one of it: as tables of data frame libraries are."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numbers, dtype)


def first(x):
    """Its first number, read on the CPU, which alone has every dtype."""
    with mx.stream(mx.cpu):
        return float(x[0])


def ones(library, dtype, *shape):
    """Ones of a library, in the precision that is asked for."""
    if library == "no float64":
        return array_api_strict.ones(shape, dtype=getattr(array_api_strict, dtype), device=NO_FLOAT64)
    xp = {"numpy": np, "jax": jnp, "mlx": mx, "array_api_strict": array_api_strict}[library]
    with mx.stream(mx.cpu):
        return xp.ones(shape, dtype=getattr(xp, dtype))


def name(dtype):
    return str(dtype).rpartition(".")[2]


class TestLists:
    @pytest.mark.parametrize(
        ("library", "dtype"),
        [
            ("numpy", "float32"),
            ("numpy", "float64"),
            ("jax", "float32"),
            ("mlx", "float32"),
            ("mlx", "float64"),
            ("array_api_strict", "float32"),
            ("array_api_strict", "float64"),
            ("no float64", "float32"),
        ],
    )
    @pytest.mark.parametrize("plain", [list, tuple, Table], ids=["list", "tuple", "table"])
    def test_take_the_precision_of_the_array_beside_them(self, library, dtype, plain):
        column, rows = ones(library, dtype, 2, 1), ones(library, dtype, 2)
        for x in (lstsq(column, plain([0.1, 0.1])).x, lstsq(plain([[10.0], [10.0]]), rows).x):
            assert name(x.dtype) == dtype
            assert abs(first(x) - 0.1) <= 8 * 2.0 ** (-53 if dtype == "float64" else -24)

    def test_keep_numbers_that_only_double_precision_has(self):
        assert lstsq(ones("mlx", "float64", 2, 1), [1e-60, 1e-60]).x.item() == pytest.approx(1e-60, rel=1e-14, abs=0)
        assert lstsq(ones("mlx", "float64", 2, 1), [1 + 2**-40] * 2).x.item() == pytest.approx(1 + 2**-40, rel=1e-15)

    @pytest.mark.parametrize(("beside", "dtype"), [("float32", "complex64"), ("float64", "complex128")])
    def test_that_are_complex_stay_so(self, beside, dtype):
        for library in ("numpy", "array_api_strict"):
            x = lstsq(ones(library, beside, 2, 1), [1j, 2]).x
            assert name(x.dtype) == dtype
            assert complex(x[0]) == pytest.approx(1 + 0.5j)

    @pytest.mark.parametrize("library", ["jax", "mlx", "no float64"])
    def test_beside_integers_are_of_the_default_float(self, library):
        with jax.enable_x64(False):
            x = lstsq(ones(library, "int32", 2, 1), [0.5, 1.5]).x
        assert name(x.dtype) == "float32"
        assert float(x[0]) == pytest.approx(1)

    def test_of_integers_do_not_wrap_round(self):
        """JAX has int32 alone while x64 is off."""
        with jax.enable_x64(False):
            assert float(lstsq(jnp.ones((3, 1)), [3_000_000_000] * 3).x[0]) == pytest.approx(3e9)
            assert float(lstsq(jnp.ones((3, 1)), [2**40] * 3).x[0]) == pytest.approx(2.0**40)
            assert float(lstsq(jnp.ones((3, 1), int), [2**40] * 3).x[0]) == pytest.approx(2.0**40)
            milliseconds = [[1_700_000_000_000], [1_700_000_000_000]]
            assert float(lstsq(milliseconds, jnp.ones(2)).s[0]) == pytest.approx(1.7e12 * 2**0.5)

    @pytest.mark.parametrize("beside", [None, "float64"])
    def test_of_integers_beyond_64_bits_are_floats(self, beside):
        a = [[1], [1]] if beside is None else ones("numpy", beside, 2, 1)
        assert lstsq(a, [2**70, 2**70]).x == pytest.approx([2.0**70])
        assert lstsq([[2**70], [2**70]], a[0] * 2 if beside is None else ones("numpy", beside, 2)).x[0] > 0

    def test_that_overflow_are_refused(self):
        for library in ("numpy", "jax", "mlx", "no float64"):
            with pytest.raises(ValueError, match=r"b holds 1e\+39, which is beyond the range of float32"):
                lstsq(ones(library, "float32", 2, 1), [1.0, 1e39])
        with pytest.raises(ValueError, match=r"a holds .* beyond the range of complex64"):
            lstsq([[1e39j], [1]], ones("numpy", "float32", 2))
        with pytest.raises(ValueError, match="b holds an integer beyond the range of float64"):
            lstsq(np.eye(2), [1, 10**400])

    def test_that_hold_inf_are_not_taken_for_overflow(self):
        x = lstsq(ones("mlx", "float32", 2, 1), [float("inf"), 1.0]).x
        assert np.isnan(np.array(x)).all()

    def test_of_arrays(self):
        b = mx.array([1.0, 3.0])
        assert lstsq(mx.eye(2), [b[0], b[1]]).x.tolist() == [1, 3]
        assert lstsq([[jnp.asarray(2.0)], [0]], [jnp.asarray(3.0), 1]).x == pytest.approx([1.5])

    def test_whose_rows_differ_are_a_bad_shape(self):
        with pytest.raises(LinAlgError, match=r"a is a list that makes no array .* as many in each row"):
            lstsq([[1, 2], [1]], [1, 2])

    def test_of_what_is_no_number(self):
        with pytest.raises(TypeError, match="a has dtype object: it holds Python objects"):
            lstsq([[None], [1]], [1, 2])
        with pytest.raises(TypeError, match=r"b has dtype object.*b\.astype\(float\)"):
            lstsq(mx.eye(2), [None, 1])
        with pytest.raises(TypeError, match="b has dtype str"):
            lstsq(np.eye(2), ["one", "two"])


class TestNumpyArrays:
    @pytest.mark.parametrize("backend", [None, "numpy", "jax", "mlx", "array_api"])
    @pytest.mark.parametrize("dtype", [">f2", ">f4", ">c8"])
    def test_of_the_other_byte_order(self, backend, dtype):
        a, b = np.array([[1, 1], [1, 2], [1, 3]], dtype), np.array([2, 4, 6], dtype)
        x = lstsq(a, b, backend=backend).x
        assert x.dtype.isnative
        np.testing.assert_allclose(x, [0, 2], atol=1e-5)
        np.testing.assert_allclose(lstsq(a[None], np.stack([b, b])[..., None], backend=backend).x[1, 1], 2, atol=1e-5)

    @pytest.mark.parametrize("backend", [None, "numpy", "mlx", "array_api"])
    def test_of_the_other_byte_order_in_double_precision(self, backend):
        a, b = np.array([[1, 1], [1, 2], [1, 3]], ">f8"), np.array([2, 4, 6], ">i8")
        np.testing.assert_allclose(lstsq(a, b, backend=backend).x, [0, 2], atol=1e-13)

    def test_of_the_other_byte_order_from_a_table(self):
        assert lstsq(mx.ones((2, 1)), Table(np.array([1, 3], ">f8"))).x.tolist() == [2]

    @pytest.mark.filterwarnings("ignore:the matrix subclass")
    @pytest.mark.parametrize("columns", [0, 2])
    def test_of_a_subclass_are_plain_arrays(self, columns):
        """`*` and `sum` of a matrix are not an array's."""
        a, b = np.arange(3.0 * columns).reshape(3, columns), np.array([[1.0, 2.0], [2.0, 0.0], [4.0, 1.0]])
        expected = lstsq(a, b)
        for one, other in ((np.matrix(a), np.matrix(b)), (a, np.matrix(b)), (a.tolist(), np.matrix(b))):
            if isinstance(one, list) and not columns:
                continue
            for got, want in zip(lstsq(one, other), expected):
                assert not isinstance(got, np.matrix)
                np.testing.assert_allclose(got, want, atol=1e-12)
                assert np.shape(got) == np.shape(want)

    def test_the_place_of_a_bad_number_is_that_in_the_callers_array(self):
        a = np.ones((2, 3, 5, 2))
        a[1, 2, 3, 1] = np.nan
        for given, b, place in (
            (a, np.ones(5), "(1, 2, 3, 1)"),
            (a[1:, 2:], np.ones((4, 3, 5, 1)), "(0, 0, 3, 1)"),
            (a[1:, 2:].astype(np.float16), np.ones((4, 3, 5, 1)), "(0, 0, 3, 1)"),
            (a[1, 2], np.ones((4, 3, 5, 1)), "(3, 1)"),
            (a[1, 2], np.ones((1, 5, 1)), "(3, 1)"),
        ):
            with pytest.raises(LinAlgError) as caught:
                lstsq(given, b)
            assert f"a holds nan at index {place};" in str(caught.value)
        with pytest.raises(LinAlgError, match=r"a holds nan at index \(0, 0, 3, 1\);"):
            lstsq(jnp.asarray(a[1:, 2:], "float32"), jnp.ones((4, 3, 5, 1)), backend="numpy")

    def test_of_objects_are_named_as_such(self):
        with pytest.raises(TypeError, match=r"a has dtype object: it holds Python objects.*a\.astype\(float\)"):
            lstsq(np.eye(2, dtype=object), np.ones(2))


@pytest.mark.parametrize("unknown", [None, float("nan")])
@pytest.mark.parametrize("operand", ["a", "b"])
def test_sizes_that_are_not_known_are_named_as_such(unknown, operand):
    shapes = {"a": (5, 3), "b": (5,)} | {operand: (unknown, 3)}
    with pytest.raises(LinAlgError, match=rf"{operand} has shape \({unknown}, 3\), with a size that is not known"):
        _contract.plan(shapes["a"], shapes["b"], "float64", "float64", "float64", None, "svd")


def test_a_device_without_float64_is_not_asked_for_it():
    """Integers there become float32, and so does everything else that has no precision of its own."""
    for dtype_a, dtype_b in (("int32", "float32"), ("int32", "int32"), ("bool", "int16")):
        assert name(lstsq(ones("no float64", dtype_a, 4, 1), ones("no float64", dtype_b, 4)).x.dtype) == "float32"
    assert name(lstsq(ones("no float64", "int32", 4, 1), [1j, 2, 3, 4]).x.dtype) == "complex64"
