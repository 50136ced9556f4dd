// How Python hands LAPACK over: the same functions in every extension module.

#pragma once

#include <nanobind/nanobind.h>

#include <stdexcept>
#include <string>

#include "blas.h"
#include "lapack.h"

namespace lstsq::lapack {

/// The address in a capsule such as those in scipy.linalg.cython_lapack.__pyx_capi__, whose names are signatures.
inline void* address(nanobind::handle capsule) {
  const char* name = PyCapsule_GetName(capsule.ptr());
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), name);
  if (pointer == nullptr) throw nanobind::python_error();
  return pointer;
}

/// Add `load_lapack` and what is about it to an extension module.
inline void define_loading(nanobind::module_& module) {
  module.def(
      "load_lapack",
      [](const nanobind::dict& lapack, const nanobind::dict& blas) {
        load([&](const std::string& library, const char* routine) {
          const nanobind::dict& capsules = library == "lapack" ? lapack : blas;
          if (!capsules.contains(routine)) {
            throw std::runtime_error("scipy.linalg.cython_" + library + " has no routine " + routine);
          }
          return address(capsules[routine]);
        });
      },
      nanobind::arg("lapack"),
      nanobind::arg("blas"),
      "Take LAPACK and BLAS from dicts of capsules, as scipy.linalg.cython_lapack.__pyx_capi__ is one.");
  module.def(
      "use_single_products_of_blas",
      &drivers::give_kernels_single_products,
      nanobind::arg("use"),
      "Whether Gram matrices in single precision are formed by the BLAS that was loaded. Before the first solve.");
  module.def(
      "lapack_integer_bits",
      [] { return largest_integer() > INT32_MAX ? 64 : 32; },
      "The width of the integers of the LAPACK that was loaded.");
}

}  // namespace lstsq::lapack
