// Singular values of bidiagonal matrices, one matrix per vector lane, by the differential qd algorithm with shifts
// (Fernando and Parlett 1994, "Accurate singular values and differential qd algorithms").
#pragma once

#include "simd-inl.h"
#include "tuning.h"

namespace lstsq::kernels::LSTSQ_ISA {
namespace {

// The squares of the singular values of bidiagonal matrices, in any order, to `values` (n rows of G lanes). True for
// the lanes that converged. q and e (n rows of G vectors) are overwritten; next: room for 2 n G. G vectors take turns,
// so that one divides while another waits.
//
// A sweep goes from B to C with C'C = BB' - shift. The last off-diagonal entry of BB' tends to 0; where it is next to
// 0, the last diagonal entry with all shifts is a value. The lane's next sweep then has a shift for what is before that
// entry, and the other entries move to the end, so that all lanes end at the same place; the place that they leave at
// the beginning is filled with an entry that changes nothing.
template <int G>
struct Qd {
  int64_t n;
  VecD *q, *e, *q_next, *e_next;
  VecD* values;
  static constexpr double most_caution = 0.4;
  int64_t from = 0;  // the first place in use by any lane
  VecD size[G], filling[G], least_e[G], shift[G], shifts[G], caution[G];
  VecD pair[G][5];                                // what finish() needs, of the lanes that are done
  MaskD left[G], found[G], done[G], failures[G];  // found: the last entry is to be dropped after the next sweep

  Qd(int64_t n, VecD* q, VecD* e, VecD* next, VecD* values)
      : n(n), q(q), e(e), q_next(next), e_next(next + n * G), values(values) {
    for (int g = 0; g < G; ++g) {
      VecD most = q[(n - 1) * G + g];
      for (int64_t k = g; k < (n - 1) * G; k += G) most = q[k] + e[k] > most ? q[k] + e[k] : most;
      size[g] = most;
      filling[g] = most * 16.0;  // beyond all eigenvalues, and so beyond the sum of all shifts
      for (VecD& entry : pair[g]) entry = VecD{} + 1.0;
      least_e[g] = most * 0x1p-250;  // so that nothing is divided by zero
      shift[g] = shifts[g] = VecD{};
      caution[g] = VecD{} + most_caution;
      left[g] = MaskD{} + n;
      found[g] = done[g] = failures[g] = MaskD{};
      // Small values are best found at the end.
      const MaskD upside_down = q[g] < q[(n - 1) * G + g];
      reverse(q + g, n, upside_down);
      reverse(e + g, n - 1, upside_down);
      for (int64_t k = g; k < (n - 1) * G; k += G) e[k] += least_e[g];
    }
  }

  static void reverse(VecD* v, int64_t count, MaskD where) {
    for (int64_t k = 0, l = count - 1; k < l; ++k, --l) {
      const VecD first = v[k * G], last = v[l * G];
      v[k * G] = where ? last : first;
      v[l * G] = where ? first : last;
    }
  }

  // What a sweep tells of its last entry: d, and -d' as a function of the shift; and the least d before it.
  struct End {
    VecD d, slope, least;
  };

  void sweep(End* end, End* before) {
    VecD d[G], slope[G], least[G], d_before[G], slope_before[G], least_before[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      d[g] = d_before[g] = q[from * G + g] - shift[g];
      slope[g] = slope_before[g] = VecD{} + 1.0;
      least[g] = least_before[g] = filling[g];
    }
    MaskD after_start[G];  // places after the first of the lane's own
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) after_start[g] = left[g] - (n - from);
    for (int64_t k = from * G; k < (n - 1) * G; k += G) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        // Exactly, so that what is found does not depend on the neighbours.
        d[g] = after_start[g] == 0 ? q[k + g] - shift[g] : d[g];
        after_start[g] += 1;
        d_before[g] = d[g];
        slope_before[g] = slope[g];
        least_before[g] = least[g];
        least[g] = d[g] < least[g] ? d[g] : least[g];
        const VecD sum = d[g] + e[k + g], inverse = 1.0 / sum, ratio = q[k + G + g] * inverse,
                   beside = e[k + g] * ratio;
        q_next[k + g] = sum;
        e_next[k + g] = beside + least_e[g];
        slope[g] = 1.0 + slope[g] * (beside * inverse);
        d[g] = d[g] * ratio - shift[g];
      }
    }
    for (int g = 0; g < G; ++g) {
      q_next[(n - 1) * G + g] = d[g];
      end[g] = {d[g], slope[g], least[g]};
      before[g] = {d_before[g], slope_before[g], least_before[g]};
    }
  }

  // Until all lanes have converged; finish() tells which have.
  void run(int64_t most_sweeps) {
    End end[G], before[G];
    for (int64_t count = 0; count < most_sweeps; ++count) {
      sweep(end, before);
      swap(q, q_next);
      swap(e, e_next);
      MaskD unfinished = {}, longest = {};
      for (int g = 0; g < G; ++g) {
        finish_sweep(g, end[g], before[g]);
        unfinished |= left[g] + found[g] > 2;
        longest |= left[g] >= n - from;
      }
      if (!any(unfinished)) return;
      if (!any(longest)) ++from;
    }
  }

  static void swap(VecD*& a, VecD*& b) {
    VecD* const keep = a;
    a = b;
    b = keep;
  }

  void finish_sweep(int g, End end, End before) {
    VecD* const q_last = q + (n - 1) * G + g;
    VecD* const e_last = e + (n - 2) * G + g;
    // An entry below zero before the last: the shift was too large.
    const MaskD failed = ~((found[g] ? before.least : end.least) >= 0.0);
    if (any(failed)) {
      for (int64_t k = from * G + g; k < n * G; k += G) {
        q[k] = failed ? q_next[k] : q[k];
        e[k] = failed ? e_next[k] : e[k];
      }
    }
    const MaskD moves = found[g] & ~failed;
    shifts[g] = failed ? shifts[g] : shifts[g] + shift[g];
    VecD d = end.d, slope = end.slope, least = end.least;
    if (any(moves)) {
      for (int64_t k = (n - 1) * G + g; k > from * G + g; k -= G) q[k] = moves ? q[k - G] : q[k];
      for (int64_t k = (n - 2) * G + g; k > from * G + g; k -= G) e[k] = moves ? e[k - G] : e[k];
      q[from * G + g] = moves ? filling[g] : q[from * G + g];
      e[from * G + g] = moves ? least_e[g] : e[from * G + g];
      left[g] += moves;
      d = moves ? *q_last : d;
      slope = moves ? before.slope : slope;
      least = moves ? before.least : least;
    }
    const VecD value = shifts[g] + *q_last;
    const VecD small = 0x1p-108 * size[g], next_to = small * magnitudes(value);
    const MaskD now = (magnitudes(*e_last * *q_last) <= (next_to > small * small ? next_to : small * small)) & ~failed &
                      (left[g] > 2);
    found[g] = failed ? found[g] : now;
    if (any(now)) {
      const MaskD place = now ? left[g] - 1 : MaskD{} - 1;
      for (int64_t k = 0; k < n - from; ++k) values[k * G + g] = place == k ? value : values[k * G + g];
    }

    // The next shift: Newton's step towards the smallest zero of d as a function of the shift, where it is well below
    // the other entries. Of two entries the values are found at the end.
    const MaskD again = now & ~moves;
    d = now ? q_last[-G] : d;
    slope = again ? before.slope : slope;
    least = again ? before.least : least;
    const VecD newton = d / (slope > 1.0 ? slope : VecD{} + 1.0), lesser = newton < least ? newton : least;
    // Elsewhere a part of the bound, a larger one from sweep to sweep: values may lie close together.
    VecD next = newton < 0.75 * least ? newton : (1.0 - caution[g]) * lesser;
    caution[g] = (failed | now) ? VecD{} + most_caution : caution[g] * 0.6;
    next = d <= 0.0 ? d * (1 + 0x1p-50) : next;
    next = (now & moves) ? VecD{} : next;
    failures[g] = failed ? failures[g] + 1 : MaskD{};
    if (any(failed)) {
      const VecD last = found[g] ? q_last[-G] : *q_last;
      const VecD surely = last < 0.0 ? last * (1 + 0x1p-50) : VecD{};
      VecD retry = shift[g] > 0.0 ? 0.25 * shift[g] : 4.0 * shift[g];
      retry = ((failures[g] > 1) & (shift[g] > 0.0)) ? surely : retry;
      next = failed ? retry : next;
    }
    const MaskD two = left[g] + found[g] <= 2;
    shift[g] = two ? VecD{} : next;
    if (any(two & ~done[g])) take_pair(g, two & ~done[g]);
  }

  // The last two entries of these lanes, of BB' = [a + c, sqrt(b c); ., b + rest].
  void take_pair(int g, MaskD of) {
    const int64_t last = (n - 1) * G + g;
    VecD found_pair[5] = {q[last - G], q[last], e[last - G], VecD{}, shifts[g]};
    if (n > 2) {
      found_pair[0] = found[g] ? q[last - 2 * G] : found_pair[0];
      found_pair[1] = found[g] ? q[last - G] : found_pair[1];
      found_pair[2] = found[g] ? e[last - 2 * G] : found_pair[2];
      found_pair[3] = found[g] ? e[last - G] : found_pair[3];
    }
    for (int i = 0; i < 5; ++i) pair[g][i] = of ? found_pair[i] : pair[g][i];
    done[g] |= of;
  }

  // The last two values of each lane: the eigenvalues of a matrix of order two, whose determinant is a b + (a + c)
  // rest. True for the lanes that converged.
  MaskD finish(int g) {
    if (n == 2) take_pair(g, ~MaskD{});
    const VecD a = pair[g][0], b = pair[g][1], c = pair[g][2], rest = pair[g][3], shifted = pair[g][4];
    const VecD difference = a + c - b - rest;
    const VecD high = 0.5 * ((a + b + c + rest) + square_root(difference * difference + 4.0 * (b * c)));
    values[G + g] = shifted + high;
    values[g] = shifted + (a * (b / high) + (a + c) * (rest / high));
    return done[g];
  }
};

}  // namespace
}  // namespace lstsq::kernels::LSTSQ_ISA
