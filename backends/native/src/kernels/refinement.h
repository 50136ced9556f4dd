// When iterative refinement has found the solution, and when it never will: one rule for tall, wide and square matrices
// and for batches.
#pragma once

#include <cstdint>

namespace lstsq::kernels {

// The relative size of an error that no longer matters. In batches, where a step costs little, single precision asks
// for more than it has to.
template <class T>
constexpr double negligible = sizeof(T) == 4 ? 0x1p-28 : 0x1p-53;
template <class T>
constexpr double negligible_in_batch = sizeof(T) == 4 ? 0x1p-31 : 0x1p-53;

inline constexpr int most_steps = 6;

// The residual's own rounding errors put a floor under the steps, whatever their number: a part of condition * 2^-53,
// taken as an eighth over sqrt(n). Static, as the -inl.h files need it: each has its own.
static inline double rounding_floor(int64_t n) {
  return 0x1p-56 / __builtin_sqrt(static_cast<double>(n));
}

// Follows the steps of one solve. Sizes are relative to that of x.
class Refinement {
 public:
  // `steps` is counted up.
  explicit Refinement(int& steps) : steps_(steps) {}

  enum class Next { done, step, give_up };

  // After a step of this size. `good`: what is left of the error no longer matters. Where it does, another step has to
  // be less than half as large as the one before it.
  Next after(double size, bool good) {
    const bool slow = ++steps_ == most_steps || size > last_ / 2;
    last_ = size;
    return good ? Next::done : slow ? Next::give_up : Next::step;
  }

  double last() const { return last_; }  // the size of the last step; 1 before the first, that of x

 private:
  int& steps_;
  double last_ = 1;
};

// Takes off k sums of squares what the last step lowers them by, |A dx|^2 = |R^-T D A'r|^2, the square of `decrease`.
// False where that is more than a millionth of one: then the difference has few digits, and the residual is wanted.
static inline bool lower_by_step(const double* decrease, double* sums, int64_t k) {
  bool enough = true;
  for (int64_t c = 0; c < k; ++c) {
    const double lower = decrease[c] * decrease[c];
    enough = enough && lower <= 1e-6 * sums[c];
    sums[c] -= lower;
  }
  return enough;
}

}  // namespace lstsq::kernels
