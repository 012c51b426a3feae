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

constexpr int kRunVisits = 256;  // most pairs of rows in a run, each counted once per visit of the expert with most; see experts.cpp

inline int pairs(int rows) { return (rows + kPairRows - 1) / kPairRows; }

// Visits of some experts, sorted by expert: those of experts[i] are first[i] .. first[i + 1] - 1.
struct Visits {
  int count;  // experts
  const int32_t* experts;
  const int32_t* first;
  const int32_t* token;
  const float* weight;
};

constexpr int kProductTokens = 96;  // most tokens of a product's block

struct Tokens {
  int first, count;
};

// Pairs of rows that an item takes of a matrix before it turns to another, and how many such runs a matrix has.
struct Runs {
  int length, count;
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
  rooftop::Buffer normed, quantised, mixed, attended, attended_quantised, scores, choice, inner, rotation, attention_parts;
  float* inner_values = nullptr;       // [visits, width]: one of the two is used, as the down projection wants it
  rooftop::QuantisedGroup* inner_quantised = nullptr;  // in panels of all visits

  // Work space of all threads for products with up to so many tokens and columns, and for what lies between the two
  // halves of an expert call. Before a job: inside one nothing may fail. False: there is no memory.
  bool reserve(int tokens, int columns, int visits = 0, int width = 0, size_t attention = 0, int choices = 0) noexcept;

  // Product `item` of a block of tokens: 32 rows of a matrix whose own products begin at `first_item`.
  // y [tokens, y_stride] = matrix . activations + bias, or += scale * that; bias: [rows], null for none
  void multiply(int thread, const rooftop_matrix& matrix, int first_item, int item, const rooftop::Tokens& block,
                const rooftop::Activations& x, float* y, size_t y_stride, bool add, const float* bias = nullptr,
                float scale = 1.0f);
  // product(item, tokens) for `items` items of every block of tokens, shared out among the threads. All items of a block
  // follow each other: its activations stay in a cache.
  template <class Product>
  void products(int thread, int items, int tokens, Product product) {
    const int blocks = (tokens + rooftop::kProductTokens - 1) / rooftop::kProductTokens;
    pool.each(thread, blocks * items, [&](int i) {
      const int first = int(int64_t(tokens) * (i / items) / blocks);
      product(i % items, rooftop::Tokens{first, int(int64_t(tokens) * (i / items + 1) / blocks) - first});
    });
  }
  // All visits' experts, out[token] += weight * expert(x[token]). Contains one barrier; false: stopped.
  bool run_experts(int thread, const rooftop_experts& layer, const rooftop::Activations& x,
                   const rooftop::Visits& visits, float* out);

 private:
  // How `pairs` pairs of rows of each of so many matrices are divided, where no expert has more visits.
  rooftop::Runs runs_of(int pairs, int matrices, int most_visits) const;
  void gate_and_up(int thread, const rooftop_experts& layer, const rooftop::Activations& x,
                   const rooftop::Visits& visits, int most_visits);
  // The activation function for a pair's tiles [visits of the i-th expert, 32], its result as the down projection's input.
  void activate(const rooftop_experts& layer, const rooftop::Visits& visits, int i, int pair, float* gate,
                const float* up);
  void down(int thread, const rooftop_experts& layer, const rooftop::Visits& visits, int most_visits, float* out);
  // Where a pair of rows of the i-th visited expert's down projection begins; null past the last.
  const uint8_t* down_rows(const rooftop_experts& layer, const rooftop::Visits& visits, int i, int pair) const;
};

namespace rooftop {

// One of several tokens' activations as int8.
inline void quantise_row(const Kernels& kernels, const float* x, int columns, int tokens, int token,
                         QuantisedGroup* quantised) {
  constexpr int kPanelColumns = kPanelGroups * kGroup;
  for (int first = 0; first < columns; first += kPanelColumns)
    kernels.quantise(x + first, std::min(columns - first, kPanelColumns),
                     quantised + group_index(tokens, token, first / kGroup));
}

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
