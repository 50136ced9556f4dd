// Singular values of many small matrices from their Gram matrices, one matrix per vector lane: where that is as
// accurate as to find them from the matrices themselves (docs/certificate.md, "Singular values").
#pragma once

#include "isa.h"
#include "simd-inl.h"
#include "tridiagonal-inl.h"
#include "tuning.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// Takes the Gram matrices of one vector of matrices after the other, and finds the values of some of them at a time.
template <class T>
class GramValues {
 public:
  static constexpr int G = qd_vectors;

  // matrix (n by n) and w (n): room that `take` uses and leaves. kept: `room` vectors.
  GramValues(const BatchTask<T>& task, VecD* matrix, VecD* w, VecD* kept)
      : t_(task), n_(task.n), matrix_(matrix), w_(w), d_(kept), e_(kept + task.n * G) {}

  static int64_t room(int64_t n) { return 2 * n * G; }

  // `gram` is the upper triangle, n by n in rows, of the elements from this one on.
  void take(const VecD* gram, int64_t element, int64_t live) {
    VecD trace = {};
    for (int64_t j = 0; j < n_; ++j) trace += gram[j * n_ + j];
    // Divided by an even power of two, the trace is near 1. Zero, infinity and NaN are for nobody.
    const MaskD exponent = (reinterpret_cast<MaskD>(trace) >> 52) & 0xfff;
    const MaskD usual = (exponent > 1023 - 450) & (exponent < 1023 + 450);
    const MaskD half = usual ? (exponent - 1023) >> 1 : MaskD{};
    const VecD down = reinterpret_cast<VecD>((1023 - half) << 52);
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = i; j < n_; ++j) matrix_[i * n_ + j] = usual ? gram[i * n_ + j] * down * down : VecD{};
    Taken& now = taken_[count_];
    now = {element, live, reinterpret_cast<VecD>((1023 + half) << 52), trace * down * down, usual};
    tridiagonalise(n_, matrix_, d_ + count_, e_ + count_, G, w_);
    if (++count_ == G) find();
  }

  // The values of those that were taken and not found yet.
  void find() {
    if (count_ == 0) return;
    for (int g = count_; g < G; ++g)
      for (int64_t k = 0; k < n_; ++k) d_[k * G + g] = e_[k * G + g] = VecD{};
    Ql<G> ql(n_, d_, e_);
    ql.run(ql_sweeps(n_));
    for (int g = 0; g < count_; ++g) taken_[g].good &= ql.converged(g);
    sort_descending<G>(n_, d_);
    for (int g = 0; g < count_; ++g) write(g);
    count_ = 0;
  }

 private:
  struct Taken {
    int64_t element, live;
    VecD up, trace;
    MaskD good;
  };

  void write(int g) {
    const Taken& now = taken_[g];
    const VecD most = d_[g], least = d_[(n_ - 1) * G + g];
    MaskD good = now.good & (least > 0.0);
    if (sizeof(T) == 4) {
      // The square of a value is off by less than `error` of the trace, the value by that over twice the smallest.
      const double error = static_cast<double>(t_.m + 16 * n_) * 0x1p-53;
      good &= error * now.trace * (error * now.trace) <= 0x1p-56 * (most * least);
    } else {
      good &= most <= largest_gram_condition * largest_gram_condition * least;
    }
    for (int64_t k = 0; k < n_; ++k) {
      VecD& value = d_[k * G + g];
      value = now.up * square_root(value > 0.0 ? value : VecD{});
    }
    for (int64_t l = 0; l < now.live; ++l) {
      double* values = t_.values + (now.element + l) * n_;
      for (int64_t k = 0; k < n_; ++k) values[k] = reinterpret_cast<const double*>(d_ + k * G + g)[l];
      t_.found[now.element + l] = good[l] != 0;
    }
  }

  const BatchTask<T>& t_;
  const int64_t n_;
  VecD *const matrix_, *const w_, *const d_, *const e_;
  int count_ = 0;
  Taken taken_[G];
};

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
