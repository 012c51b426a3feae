// A pool with its kernels and work space, and the steps that layers are made of. All steps run inside a job, on every
// thread at once.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "kernels.h"
#include "pool.h"

namespace rooftop {

inline int pairs(int rows) { return (rows + kPairRows - 1) / kPairRows; }

// Visits of some experts, sorted by expert: those of experts[i] are first[i] .. first[i + 1] - 1.
struct Visits {
  int count;  // experts
  const int32_t* experts;
  const int32_t* first;
  const int32_t* token;
  const float* weight;
};

struct ThreadSpace {
  Buffer tile[2];    // [tokens, 32]
  Buffer values;     // one token's activations
  Buffer quantised;  // and its int8 codes
  Buffer attention;
  Buffer choice;     // one token's experts
};

}  // namespace rooftop

struct rooftop_pool {
  rooftop_pool(int threads, const rooftop::Kernels* table, bool pin)
      : pool(threads, pin), kernels(table), space(new rooftop::ThreadSpace[size_t(threads)]) {}

  rooftop::Pool pool;
  const rooftop::Kernels* kernels;
  std::unique_ptr<rooftop::ThreadSpace[]> space;
  rooftop::Buffer normed, quantised, mixed, attended, attended_quantised, scores, choice, inner, rotation;
  float* inner_values = nullptr;       // [visits, width]: one of the two is used, as the down projection wants it
  rooftop::QuantisedGroup* inner_quantised = nullptr;  // [visits, groups]

  // Work space of all threads for products with up to so many tokens and columns, and for what lies between the two
  // halves of an expert call. Before a job: inside one nothing may fail. False: there is no memory.
  bool reserve(int tokens, int columns, int visits = 0, int width = 0, size_t attention = 0, int choices = 0) noexcept;

  // y [tokens, y_stride] = matrix . activations + bias, or += scale * that; bias: [rows], null for none
  void multiply(int thread, const rooftop_matrix& matrix, int first_item, int item, const rooftop::Activations& x,
                int tokens, float* y, size_t y_stride, bool add, const float* bias = nullptr, float scale = 1.0f);
  // All visits' experts, out[token] += weight * expert(x[token]). Contains one barrier; false: stopped.
  bool run_experts(int thread, const rooftop_experts& layer, const rooftop::Activations& x,
                   const rooftop::Visits& visits, float* out);
};

namespace rooftop {

inline bool needs_int8(const rooftop_matrix& matrix) { return !is_float(matrix.format); }

// A sum in 8 parts, which a compiler may do side by side.
template <class Term> inline float sum_of(int n, Term term) {
  float sums[8] = {}, sum = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; j++) sums[j] += term(i + j);
  for (; i < n; i++) sums[0] += term(i);
  for (float part : sums) sum += part;
  return sum;
}

// RMS norm, or a layer norm where there is a bias.
inline void norm_row(const Kernels& kernels, const float* x, const float* weight, const float* bias, float epsilon,
                     int n, float* out) {
  if (!bias) return kernels.rms_norm(x, weight, epsilon, n, out);
  const float mean = sum_of(n, [&](int i) { return x[i]; }) / float(n);
  const float variance = sum_of(n, [&](int i) { return (x[i] - mean) * (x[i] - mean); }) / float(n);
  const float scale = 1.0f / std::sqrt(variance + epsilon);
  for (int i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

}  // namespace rooftop
