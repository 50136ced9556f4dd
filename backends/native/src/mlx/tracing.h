// What is being traced. MLX's library does not export its own functions for that, so that its behaviour is asked.

#pragma once

#include <string_view>
#include <unordered_set>
#include <vector>

#include "mlx/array.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"

namespace lstsq_mlx {

/// Whether a transformation is being traced: then a marked array says so.
inline bool in_tracing() {
  mlx::core::array probe(0.0f);
  probe.set_tracer(true);
  return probe.is_tracer();
}

/// Whether mx.compile(shapeless=True) is tracing: then two arrays of one shape are broadcast nevertheless.
inline bool in_shapeless_trace() {
  const mlx::core::array one(0.0f), other(0.0f);
  return mlx::core::broadcast_arrays({one, other}, mlx::core::Device::cpu)[0].has_primitive();
}

/// Whether the array depends on an argument of a transformation (grad, vjp, jvp, vmap, compile) that is being traced:
/// computed outside of MLX, its derivative would be lost, or it has no value yet.
///
/// MLX's marks do not tell: an inner grad, vjp or jvp takes them off all arrays that it reaches, those of an outer
/// transformation too, and inside of a derivative's rule (mx.checkpoint) every array counts as marked. So the graph is
/// asked. An argument of vmap or compile has neither value nor primitive; one of grad, vjp or jvp is a copy of the
/// caller's array. (A copy that the caller makes of a constant inside a transformation is taken for an argument: the
/// safe side.) MLX keeps the graph of what depends on an argument, even where it was evaluated.
inline bool is_tracer(const mlx::core::array& array) {
  if (!in_tracing()) return false;
  std::unordered_set<std::uintptr_t> seen{array.id()};
  std::vector<mlx::core::array> open{array};
  while (!open.empty()) {
    const auto node = open.back();
    open.pop_back();
    if (!node.has_primitive()) {
      if (node.status() == mlx::core::array::Status::unscheduled) return true;
      continue;
    }
    if (std::string_view(node.primitive().name()) == "Copy") return true;
    for (const auto& input : node.inputs()) {
      if (seen.insert(input.id()).second) open.push_back(input);
    }
  }
  return false;
}

}  // namespace lstsq_mlx
