#include "residual_sums.h"

#include <vector>

#include "in_rows.h"
#include "kernels/kernels.h"
#include "kernels/pool.h"

namespace lstsq::drivers {

template <class T>
void find_residual_sums(const Batch<T>& as,
                        const Batch<T>& bs,
                        const Batch<double>& xs,
                        const Batch<RealOf<T>>& found,
                        const Batch<State>& states,
                        RealOf<T>* sums) {
  const Int k = bs[0].cols, count = as.count();

  const auto find = [&](Int i, std::vector<double>& precise) {
    const MatrixView<RealOf<T>> given = found[i];
    if (states[i](0, 0) != State::x_alone) {
      for (Int c = 0; c < k; ++c) sums[i * k + c] = given(0, c);
      return;
    }
    const InRows<T> a(as[i]), b(bs[i]);
    const InRows<double> x(xs[i], /*with_gaps=*/false);
    kernels::residuals(a.first(), b.first(), reinterpret_cast<const WorkOf<T>*>(x.first().data), precise.data());
    for (Int c = 0; c < k; ++c) sums[i * k + c] = static_cast<RealOf<T>>(precise[c]);
  };

  // Many elements are spread over the cores; few are spread each.
  const Int tasks = count >= 8 * kernels::thread_count() ? 8 * kernels::thread_count() : 1;
  kernels::parallel(tasks, [&](Int task) {
    std::vector<double> precise(k);
    for (Int i = count * task / tasks; i < count * (task + 1) / tasks; ++i) find(i, precise);
  });
}

template void find_residual_sums(const Batch<float>&,
                                 const Batch<float>&,
                                 const Batch<double>&,
                                 const Batch<RealOf<float>>&,
                                 const Batch<State>&,
                                 RealOf<float>*);
template void find_residual_sums(const Batch<double>&,
                                 const Batch<double>&,
                                 const Batch<double>&,
                                 const Batch<RealOf<double>>&,
                                 const Batch<State>&,
                                 RealOf<double>*);
template void find_residual_sums(const Batch<std::complex<float>>&,
                                 const Batch<std::complex<float>>&,
                                 const Batch<double>&,
                                 const Batch<RealOf<std::complex<float>>>&,
                                 const Batch<State>&,
                                 RealOf<std::complex<float>>*);

}  // namespace lstsq::drivers
