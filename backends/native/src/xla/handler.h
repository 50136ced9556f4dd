// The door for JAX's arrays on the CPU: a function for XLA to call.

#pragma once

#include <nanobind/nanobind.h>

namespace lstsq_xla {

/// Add `xla_handler`, the function in a capsule, to an extension module.
void define_handler(nanobind::module_& module);

}  // namespace lstsq_xla
