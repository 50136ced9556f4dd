#include "lapack.h"

#include <limits>
#include <stdexcept>

namespace lstsq::lapack {

Table table;

Int largest_integer() {
  if (table.ilaver == nullptr) {
    throw std::logic_error("LAPACK is not loaded; import lstsq_mlx instead of its extension module.");
  }
  // A 32-bit LAPACK writes the low half of the integer and leaves the high half as it was.
  static const Int largest = [] {
    Int major = -1, minor = -1, patch = -1;
    table.ilaver(&major, &minor, &patch);
    return major >= 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int32_t>::max();
  }();
  return largest;
}

}  // namespace lstsq::lapack
