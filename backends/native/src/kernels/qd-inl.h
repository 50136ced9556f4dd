// Singular values of bidiagonal matrices, one matrix per vector lane, by the differential qd algorithm with shifts
// (Fernando and Parlett 1994, "Accurate singular values and differential qd algorithms").
#pragma once

#include "simd-inl.h"
#include "tuning.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The squares of the singular values of B, whose diagonal has the squares q, and what is right of it e.
//
// A sweep goes from B to C with C'C = BB' - shift. The last entry off the diagonal of BB' tends to 0. Where it is next
// to 0, the last entry of the diagonal is a value, less all shifts: it is found. The lane's next sweep has a shift for
// the entries before that one, and then the last entry is dropped: the others move to the end, so that all lanes end at
// the same place. The place that they leave at the beginning is filled with an entry that changes nothing. Where two
// entries are left, their values follow from a quadratic equation.
//
// G vectors take turns, so that one divides while another waits. No lane's values depend on those of another.
template <int G>
class Qd {
 public:
  // q and e: n rows of G vectors, n >= 2, overwritten. next: room for 2 n G. values: n rows of G, in any order.
  Qd(int64_t n, VecD* q, VecD* e, VecD* next, VecD* values)
      : n_(n), q_(q), e_(e), q_next_(next), e_next_(next + n * G), values_(values) {
    for (int g = 0; g < G; ++g) {
      VecD largest = q[(n - 1) * G + g];
      for (int64_t k = g; k < (n - 1) * G; k += G) largest = q[k] + e[k] > largest ? q[k] + e[k] : largest;
      size_[g] = largest;
      filling_[g] = largest * 16.0;      // beyond all eigenvalues, and so beyond the sum of all shifts
      least_e_[g] = largest * 0x1p-250;  // so that nothing is divided by zero
      shift_[g] = shifts_[g] = VecD{};
      caution_[g] = VecD{} + most_caution;
      left_[g] = MaskD{} + n;
      found_[g] = done_[g] = failures_[g] = MaskD{};
      last_[g] = {VecD{} + 1.0, VecD{}, VecD{}, VecD{}, VecD{}};
      // Small values are found best at the end.
      const MaskD upside_down = q[g] < q[(n - 1) * G + g];
      reverse(q + g, n, upside_down);
      reverse(e + g, n - 1, upside_down);
      for (int64_t k = g; k < (n - 1) * G; k += G) e[k] += least_e_[g];
    }
  }

  // Until all lanes have two entries left. finish() tells which have.
  void run(int64_t sweeps) {
    End end[G], before[G];
    for (int64_t count = 0; count < sweeps; ++count) {
      sweep(end, before);
      MaskD unfinished = {}, longest = {};
      for (int g = 0; g < G; ++g) {
        take(g, end[g], before[g]);
        unfinished |= left_[g] + found_[g] > 2;
        longest |= left_[g] >= n_ - from_;
      }
      if (!any(unfinished)) return;
      if (!any(longest)) ++from_;
    }
  }

  // The last two values of each lane. True for the lanes that converged.
  MaskD finish(int g) {
    if (n_ == 2) keep_last(g, ~MaskD{});
    // The eigenvalues of a matrix of order two, whose determinant is a b + (a + c) rest.
    const auto [a, b, c, rest, shifts] = last_[g];
    const VecD difference = a + c - b - rest;
    const VecD high = 0.5 * ((a + b + c + rest) + square_root(difference * difference + 4.0 * (b * c)));
    values_[G + g] = shifts + high;
    values_[g] = shifts + (a * (b / high) + (a + c) * (rest / high));
    return done_[g] & (magnitudes(high) <= filling_[g]);
  }

 private:
  static constexpr double most_caution = 0.4;

  // What a sweep tells of an entry: d, and -d' as a function of the shift; and the least d before it. The least is
  // below zero where the shift was too large, and then the sweep means nothing.
  struct End {
    VecD d, slope, least;
  };

  // BB' of the last two entries, [a + c, sqrt(b c); ., b + rest], and all shifts.
  struct Last {
    VecD a, b, c, rest, shifts;
  };

  static void reverse(VecD* v, int64_t count, MaskD where) {
    for (int64_t k = 0, l = count - 1; k < l; ++k, --l) {
      const VecD first = v[k * G], last = v[l * G];
      v[k * G] = where ? last : first;
      v[l * G] = where ? first : last;
    }
  }

  static void swap(VecD*& a, VecD*& b) {
    VecD* const keep = a;
    a = b;
    b = keep;
  }

  // `end` tells of the last entry, `before` of the one before it.
  void sweep(End* end, End* before) {
    // Plain arrays, which the compiler keeps in registers.
    VecD d[G], slope[G], least[G], d_before[G], slope_before[G], least_before[G];
    MaskD from_start[G];  // places after the lane's first one
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      d[g] = d_before[g] = q_[from_ * G + g] - shift_[g];
      slope[g] = slope_before[g] = VecD{} + 1.0;
      least[g] = least_before[g] = filling_[g];
      from_start[g] = left_[g] - (n_ - from_);
    }
    for (int64_t k = from_ * G; k < (n_ - 1) * G; k += G) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        // Exactly this at the lane's first entry, however many fillings are before it.
        d[g] = from_start[g] == 0 ? q_[k + g] - shift_[g] : d[g];
        from_start[g] += 1;
        d_before[g] = d[g];
        slope_before[g] = slope[g];
        least_before[g] = least[g];
        least[g] = d[g] < least[g] ? d[g] : least[g];
        const VecD sum = d[g] + e_[k + g], inverse = 1.0 / sum;
        const VecD ratio = q_[k + G + g] * inverse, beside = e_[k + g] * ratio;
        q_next_[k + g] = sum;
        e_next_[k + g] = beside + least_e_[g];
        slope[g] = 1.0 + slope[g] * (beside * inverse);
        d[g] = d[g] * ratio - shift_[g];
      }
    }
    for (int g = 0; g < G; ++g) {
      q_next_[(n_ - 1) * G + g] = d[g];
      end[g] = {d[g], slope[g], least[g]};
      before[g] = {d_before[g], slope_before[g], least_before[g]};
    }
    swap(q_, q_next_);
    swap(e_, e_next_);
  }

  // After a sweep: undo it where it failed, drop what was found before it, take what it found, choose the next shift.
  void take(int g, End end, End before) {
    const VecD* const last = q_ + (n_ - 1) * G + g;
    // A shift next to an eigenvalue of what is before the last entry makes that entry infinite, or so large that its
    // rounding errors matter.
    const VecD least = found_[g] ? before.least : end.least, d = found_[g] ? before.d : end.d;
    const MaskD failed = ~((least >= 0.0) & (d <= filling_[g]) & (d >= -0.125 * size_[g])), drops = found_[g] & ~failed;
    if (any(failed))
      for (int64_t k = from_ * G + g; k < n_ * G; k += G) {
        q_[k] = failed ? q_next_[k] : q_[k];
        e_[k] = failed ? e_next_[k] : e_[k];
      }
    shifts_[g] = failed ? shifts_[g] : shifts_[g] + shift_[g];
    if (any(drops)) {
      drop_last(g, drops);
      end.d = drops ? *last : end.d;
      end.slope = drops ? before.slope : end.slope;
      end.least = drops ? before.least : end.least;
    }

    // The error of the value is at most the entry off the diagonal; that of its root then some 2^-54 of the largest.
    const VecD value = shifts_[g] + *last, off_diagonal = magnitudes(e_[(n_ - 2) * G + g] * *last);
    const VecD tiny = 0x1p-108 * size_[g], allowed = tiny * magnitudes(value);
    const MaskD finds = (off_diagonal <= (allowed > tiny * tiny ? allowed : tiny * tiny)) & ~failed & (left_[g] > 2);
    found_[g] = failed ? found_[g] : finds;
    if (any(finds)) {
      const MaskD place = finds ? left_[g] - 1 : MaskD{} - 1;
      for (int64_t k = 0; k < n_ - from_; ++k) values_[k * G + g] = place == k ? value : values_[k * G + g];
      // The entry before it is the last one now. Where that had been dropped too, nothing is known of it.
      const MaskD first = finds & ~drops;
      end.d = finds ? last[-G] : end.d;
      end.slope = first ? before.slope : end.slope;
      end.least = first ? before.least : end.least;
    }
    choose_shift(g, end, failed, finds, finds & drops);

    const MaskD two = left_[g] + found_[g] <= 2;
    shift_[g] = two ? VecD{} : shift_[g];
    if (any(two & ~done_[g])) keep_last(g, two & ~done_[g]);
  }

  void drop_last(int g, MaskD where) {
    for (int64_t k = (n_ - 1) * G + g; k > from_ * G + g; k -= G) q_[k] = where ? q_[k - G] : q_[k];
    for (int64_t k = (n_ - 2) * G + g; k > from_ * G + g; k -= G) e_[k] = where ? e_[k - G] : e_[k];
    VecD *const q = q_ + from_ * G + g, *const e = e_ + from_ * G + g;
    *q = where ? filling_[g] : *q;
    *e = where ? least_e_[g] : *e;
    left_[g] += where;  // minus one
  }

  void choose_shift(int g, End end, MaskD failed, MaskD finds, MaskD unknown) {
    // Newton's step to the zero of d as a function of the shift, where that is well below the other entries. Elsewhere
    // a part of the bound that they are, a larger one from sweep to sweep: the values may lie close together.
    const VecD newton = end.d / (end.slope > 1.0 ? end.slope : VecD{} + 1.0);
    const VecD bound = newton < end.least ? newton : end.least;
    VecD next = newton < 0.75 * end.least ? newton : (1.0 - caution_[g]) * bound;
    next = unknown ? VecD{} : next;
    caution_[g] = (failed | finds) ? VecD{} + most_caution : caution_[g] * 0.6;
    failures_[g] = failed ? failures_[g] + 1 : MaskD{};
    if (any(failed)) {
      // A smaller one; then one that cannot fail.
      const VecD* const last = q_ + (n_ - 1) * G + g;
      const VecD d = found_[g] ? last[-G] : *last, surely = d < 0.0 ? d * (1 + 0x1p-50) : VecD{};
      const VecD smaller = shift_[g] > 0.0 ? 0.25 * shift_[g] : 4.0 * shift_[g] - size_[g] * 0x1p-56;
      const VecD again = ((failures_[g] > 1) & (shift_[g] > 0.0)) ? surely : smaller;
      next = failed ? again : next;
    }
    shift_[g] = next;
  }

  void keep_last(int g, MaskD where) {
    const int64_t end = (n_ - 1) * G + g;
    Last now = {q_[end - G], q_[end], e_[end - G], VecD{}, shifts_[g]};
    if (n_ > 2) {  // what was found may not be dropped yet
      now.a = found_[g] ? q_[end - 2 * G] : now.a;
      now.b = found_[g] ? q_[end - G] : now.b;
      now.c = found_[g] ? e_[end - 2 * G] : now.c;
      now.rest = found_[g] ? e_[end - G] : now.rest;
    }
    Last& kept = last_[g];
    kept.a = where ? now.a : kept.a;
    kept.b = where ? now.b : kept.b;
    kept.c = where ? now.c : kept.c;
    kept.rest = where ? now.rest : kept.rest;
    kept.shifts = where ? now.shifts : kept.shifts;
    done_[g] |= where;
  }

  const int64_t n_;
  VecD *q_, *e_, *q_next_, *e_next_, *const values_;
  int64_t from_ = 0;  // the first place in use by any lane
  VecD size_[G], filling_[G], least_e_[G], shift_[G], shifts_[G], caution_[G];
  MaskD left_[G];  // entries of the lane
  MaskD found_[G], done_[G], failures_[G];
  Last last_[G];
};

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
