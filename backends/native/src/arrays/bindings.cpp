// The extension module for NumPy's arrays: the operands as they lie in memory, and everything solved at once.

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <numpy/arrayobject.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/kernels.h"
#include "lapack/at_once.h"
#include "lapack/capsules.h"
#include "lapack/in_rows.h"
#ifdef LSTSQ_XLA
#include "xla/handler.h"
#endif

namespace nb = nanobind;
using namespace nb::literals;
using namespace ::lstsq::drivers;

namespace {

PyArrayObject* as_array(nb::handle array) {
  return reinterpret_cast<PyArrayObject*>(array.ptr());
}

/// Take a new reference, or raise the exception that Python has set.
nb::object owned(PyObject* made) {
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

/// Whether every stride is a multiple of the size of an entry. (That of one field of a structured array need not be.)
bool has_even_strides(PyArrayObject* array) {
  for (int axis = 0; axis < PyArray_NDIM(array); ++axis) {
    if (PyArray_STRIDE(array, axis) % PyArray_ITEMSIZE(array) != 0) return false;
  }
  return true;
}

/// The array itself, or a copy where a processor cannot read it as it lies: unaligned, or in the other byte order.
nb::object readable(nb::handle operand, const char* name) {
  if (!PyArray_Check(operand.ptr())) {
    throw nb::type_error((std::string("[lstsq] ") + name + " is no array of NumPy's. Call lstsq.lstsq.").c_str());
  }
  PyArrayObject* const array = as_array(operand);
  if (PyArray_ISBEHAVED_RO(array) && has_even_strides(array)) return nb::borrow(operand);
  PyArray_Descr* const type = PyArray_DescrFromType(PyArray_TYPE(array));
  return owned(PyArray_FromArray(array, type, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSURECOPY));
}

template <class T>
Batch<T> batch(PyArrayObject* array) {
  const T* const data = static_cast<const T*>(PyArray_DATA(array));
  const auto stride = [array](int axis) { return Int{PyArray_STRIDE(array, axis)} / Int{sizeof(T)}; };
  const int ndim = PyArray_NDIM(array);
  if (ndim == 1) return {MatrixView<T>{data, PyArray_DIM(array, 0), 1, stride(0), 1}, Places()};
  Places places;
  for (int axis = 0; axis < ndim - 2; ++axis) places.add_axis(PyArray_DIM(array, axis), stride(axis));
  const MatrixView<T> first{
      data, PyArray_DIM(array, ndim - 2), PyArray_DIM(array, ndim - 1), stride(ndim - 2), stride(ndim - 1)};
  return {first, places};
}

/// Throw for shapes and dtypes other than those that the module's docstring names.
void check(PyArrayObject* a, PyArrayObject* b) {
  const int ndim = PyArray_NDIM(a);
  const bool vector = PyArray_NDIM(b) == 1;
  bool right = ndim >= 2 && (vector ? ndim == 2 : PyArray_NDIM(b) == ndim) && PyArray_SIZE(a) > 0 &&
               PyArray_SIZE(b) > 0 && PyArray_TYPE(a) == PyArray_TYPE(b);
  for (int axis = 0; right && axis < ndim - 1; ++axis) right = PyArray_DIM(a, axis) == PyArray_DIM(b, axis);
  if (!right) {
    throw nb::value_error(
        "[lstsq] expected a (..., M, N) and b (..., M, K) of one dtype and the same batch dimensions, or b (M,) beside "
        "a "
        "(M, N), no dimension 0. Call lstsq.lstsq, which takes all others.");
  }
}

/// Allocates an array of the batch's shape and these dimensions after it.
nb::object allocate(PyArrayObject* a, std::initializer_list<Int> sizes, int type) {
  npy_intp shape[NPY_MAXDIMS];
  int ndim = 0;
  for (; ndim < PyArray_NDIM(a) - 2; ++ndim) shape[ndim] = PyArray_DIM(a, ndim);
  if (ndim + static_cast<int>(sizes.size()) > NPY_MAXDIMS) throw nb::value_error("[lstsq] too many dimensions.");
  for (Int size : sizes) shape[ndim++] = size;
  return owned(PyArray_SimpleNew(ndim, shape, type));
}

template <class T>
T* data(const nb::object& array) {
  return static_cast<T*>(PyArray_DATA(as_array(array)));
}

template <class T>
nb::object solve_as(nb::handle given_a, nb::handle given_b, double rcond, Driver driver, bool with_s, int real_type) {
  PyArrayObject *const a = as_array(given_a), *const b = as_array(given_b);
  const Batch<T> as = batch<T>(a), bs = batch<T>(b);
  const Problem p{as[0].rows, as[0].cols, bs[0].cols};
  check_limits<T>(p, rcond, driver);
  const nb::object x =
      PyArray_NDIM(b) == 1 ? allocate(a, {p.n}, PyArray_TYPE(a)) : allocate(a, {p.n, p.k}, PyArray_TYPE(a));
  const nb::object residuals = allocate(a, {p.k}, real_type);
  nb::object rank = allocate(a, {}, NPY_INT32);
  const nb::object s = with_s ? allocate(a, {p.smallest()}, real_type) : nb::none();
  const Answers<T> answers{
      data<T>(x), data<RealOf<T>>(residuals), data<std::int32_t>(rank), with_s ? data<RealOf<T>>(s) : nullptr};
  State state;
  {
    const nb::gil_scoped_release release;
    state = solve_at_once<T>(driver, rcond, p, as, bs, answers);
  }
  if (state == State::not_finite) return nb::str("not finite");
  if (state == State::unsolved && driver != Driver::cholesky) return nb::str("not converged");
  // One number where there is one matrix, as NumPy has it.
  rank = owned(PyArray_Return(reinterpret_cast<PyArrayObject*>(rank.release().ptr())));
  return nb::make_tuple(x, residuals, rank, s);
}

nb::object solve(nb::handle a, nb::handle b, double rcond, const char* driver_name, bool with_s) {
  const nb::object left = readable(a, "a"), right = readable(b, "b");
  check(as_array(left), as_array(right));
  if (!(rcond >= 0)) throw nb::value_error("[lstsq] expected rcond from 0 up.");
  const Driver driver = driver_named(driver_name);
  switch (PyArray_TYPE(as_array(left))) {
    case NPY_FLOAT32:
      return solve_as<float>(left, right, rcond, driver, with_s, NPY_FLOAT32);
    case NPY_FLOAT64:
      return solve_as<double>(left, right, rcond, driver, with_s, NPY_FLOAT64);
    case NPY_COMPLEX64:
      return solve_as<std::complex<float>>(left, right, rcond, driver, with_s, NPY_FLOAT32);
    case NPY_COMPLEX128:
      return solve_as<std::complex<double>>(left, right, rcond, driver, with_s, NPY_FLOAT64);
    default:
      throw nb::type_error("[lstsq] expected float32, float64, complex64 or complex128. Call lstsq.lstsq.");
  }
}

template <class T>
nb::object report_as(PyArrayObject* given_a, PyArrayObject* given_b, double rcond) {
  const InRows<T> a(batch<T>(given_a)[0]), b(batch<T>(given_b)[0]);
  const MatrixView<T> first = a.first(), right = b.first();
  Buffer<T> x(first.cols * right.cols);
  const ::lstsq::kernels::Problem<T> problem{.a = first, .b = right, .rcond = rcond, .x = x.data()};
  ::lstsq::kernels::Report found;
  ::lstsq::kernels::Status status;
  {
    const nb::gil_scoped_release release;
    status = ::lstsq::kernels::solve(problem, &found);
  }
  return nb::make_tuple(
      static_cast<int>(status), static_cast<int>(found.tier), found.condition, found.contraction, found.steps);
}

nb::object report(nb::handle given_a, nb::handle given_b, double rcond) {
  const nb::object left = readable(given_a, "a"), right = readable(given_b, "b");
  PyArrayObject *const a = as_array(left), *const b = as_array(right);
  check(a, b);
  if (PyArray_NDIM(a) != 2) throw nb::value_error("[lstsq] expected one matrix. Call lstsq.explain.");
  switch (PyArray_TYPE(a)) {
    case NPY_FLOAT32:
      return report_as<float>(a, b, rcond);
    case NPY_FLOAT64:
      return report_as<double>(a, b, rcond);
    case NPY_COMPLEX64:
      return report_as<std::complex<float>>(a, b, rcond);
    case NPY_COMPLEX128:
      return report_as<std::complex<double>>(a, b, rcond);
    default:
      throw nb::type_error("[lstsq] expected float32, float64, complex64 or complex128. Call lstsq.explain.");
  }
}

/// Whether every column is zero, not finite, or of a size whose squares neither overflow nor vanish.
template <class T>
bool is_ordinary_by_column(const MatrixView<T>& b) {
  Buffer<T> largest(b.cols);
  std::fill_n(largest.data(), b.cols, T(0));
  // A comparison with NaN is false: a column that holds one is judged by its other entries.
  for (Int i = 0; i < b.rows; ++i) {
    for (Int j = 0; j < b.cols; ++j) largest[j] = std::max(largest[j], std::abs(b(i, j)));
  }
  constexpr int safe = 150;
  return std::all_of(largest.data(), largest.data() + b.cols, [](T size) {
    return !std::isfinite(size) || exponent_beyond(size, safe) == 0;
  });
}

template <class T>
nb::object reduce_as(PyArrayObject* a, PyArrayObject* b) {
  const MatrixView<T> rows = batch<T>(a)[0], right = batch<T>(b)[0];
  npy_intp square[] = {rows.cols, rows.cols}, sides[] = {rows.cols, right.cols}, count[] = {right.cols};
  const nb::object r = owned(PyArray_EMPTY(2, square, NPY_FLOAT64, /*fortran=*/1));
  const nb::object c = owned(PyArray_EMPTY(2, sides, NPY_FLOAT64, /*fortran=*/1));
  const nb::object left = owned(PyArray_SimpleNew(1, count, NPY_FLOAT64));
  const ::lstsq::kernels::Reduction<T> reduction{rows, right, data<double>(r), data<double>(c), data<double>(left)};
  {
    const nb::gil_scoped_release release;
    bool done = false;
    // Squares of single precision are numbers in double precision, and what is not finite has no proof.
    if constexpr (std::is_same_v<T, float>) done = ::lstsq::kernels::reduce_by_gram(reduction);
    if (!done) {
      const Scan size = scan(rows);
      if (!size.finite) return nb::none();
      if (size.exponent != 0 || !is_ordinary_by_column(right)) return nb::none();
      ::lstsq::kernels::reduce(reduction);
    }
    for (Int j = 0; j < right.cols; ++j) reduction.left[j] = std::sqrt(reduction.left[j]);
  }
  return nb::make_tuple(r, c, left);
}

nb::object reduce(nb::handle given_a, nb::handle given_b) {
  const nb::object left = readable(given_a, "a"), right = readable(given_b, "b");
  PyArrayObject *const a = as_array(left), *const b = as_array(right);
  if (PyArray_NDIM(a) != 2 || PyArray_NDIM(b) != 2 || PyArray_DIM(a, 0) != PyArray_DIM(b, 0) ||
      PyArray_DIM(a, 0) < PyArray_DIM(a, 1) || PyArray_DIM(a, 1) == 0 || PyArray_TYPE(a) != PyArray_TYPE(b)) {
    throw nb::value_error(
        "[lstsq] expected a (M, N) and b (M, K) of one dtype, M >= N >= 1. Call lstsq.reduce_rows, which takes all "
        "others.");
  }
  switch (PyArray_TYPE(a)) {
    case NPY_FLOAT32:
      return reduce_as<float>(a, b);
    case NPY_FLOAT64:
      return reduce_as<double>(a, b);
    default:
      throw nb::type_error("[lstsq] expected float32 or float64. Call lstsq.reduce_rows.");
  }
}

int import_numpy() {
  import_array1(-1);
  return 0;
}

}  // namespace

NB_MODULE(_core, module) {
  if (import_numpy() != 0) throw nb::python_error();
  module.doc() = "Least squares on NumPy's arrays, by SciPy's LAPACK. Private: use lstsq.lstsq.";
  ::lstsq::lapack::define_loading(module);
#ifdef LSTSQ_XLA
  lstsq_xla::define_handler(module);
#endif
  module.def("solve",
             &solve,
             "a"_a,
             "b"_a,
             "rcond"_a,
             "driver"_a,
             "singular_values"_a,
             "x, residuals, rank and s (or None) of a (..., M, N) and b (..., M, K) or (M,), of one floating dtype. Or "
             "why there is no answer: 'not finite' or 'not converged'.");
  module.def(
      "report",
      &report,
      "a"_a,
      "b"_a,
      "rcond"_a,
      "What the certified kernels say of one problem: their status (0 is certified), the method, an upper estimate "
      "of the condition number, the bound of the contraction and the number of refinement steps.");
  module.def("reduce",
             &reduce,
             "a"_a,
             "b"_a,
             "R (N, N), the first N rows of Q'b (N, K) and the norms of its other rows (K,), in float64, of a = QR "
             "(M, N) and b (M, K) in float32 or float64, M >= N. Of float32 rows that are well-conditioned R is that "
             "of a matrix "
             "whose columns differ from a's by less than 2^-28 of their norms. None where a number is not finite in a, "
             "or so large or "
             "small that its square is not one.");
}
