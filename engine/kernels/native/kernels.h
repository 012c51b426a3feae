// What is compiled once per instruction set: the arithmetic. Everything else calls it through this table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats.h"

#define ROOFTOP_INLINE inline __attribute__((always_inline))

namespace rooftop {

// 32 activations of one token as int8, in one cache line. Beside the codes lies what a dot product with unsigned weight
// codes needs: sums of the codes, negated, to take the weights' offset away, and scale * sum, for weights with a bias;
// of all 32 and of each half, as formats have scales for 32 or for 16 columns.
struct alignas(64) QuantisedGroup {
  int8_t codes[kGroup];
  float scale;
  int32_t minus_sum;
  float sum;
  int32_t minus_half[2];
  float half[2];
};
static_assert(sizeof(QuantisedGroup) == 64, "one cache line");

static inline constexpr int groups_of(int columns) { return (columns + kGroup - 1) / kGroup; }

// int8 activations of several tokens lie in panels of 256 columns, [panels, tokens, 8 groups]: what a large product reads at
// a time is close together. As whole rows, 4 KiB apart, they would crowd the same few lines of the caches, a page each.
constexpr int kPanelGroups = 8;
static inline constexpr size_t quantised_size(int tokens, int columns) {  // groups that they take
  return size_t((groups_of(columns) + kPanelGroups - 1) / kPanelGroups) * kPanelGroups * tokens;
}
static inline constexpr size_t group_index(int tokens, int token, int group) {
  return (size_t(group / kPanelGroups) * tokens + token) * kPanelGroups + group % kPanelGroups;
}

// Activations of several tokens: as fp32 for float weights, and as int8 for block formats.
struct Activations {
  const float* values;              // [tokens, stride]
  size_t stride;                    // floats from one token to the next
  const QuantisedGroup* quantised;  // the first token's, in panels of `tokens`; null where nothing needs it
  int columns;
  int tokens;  // in a panel

  Activations from(int token) const {
    return {values + token * stride, stride, quantised ? quantised + size_t(token) * kPanelGroups : nullptr, columns, tokens};
  }
};

// Rows first_row .. first_row+31 (fewer at the end) of a matrix times `count` tokens.
//   tokens: indices into the activations, null for 0..count-1.   out: [count, out_stride], 32 floats a token.
//   next: what will probably be read after these rows, fetched ahead; null where nobody knows.
using PairKernel = void (*)(const uint8_t* matrix, int rows, int columns, int first_row, const Activations& activations,
                            const int32_t* tokens, int count, float* out, size_t out_stride, const uint8_t* next);

// One query head group against the keys and values of one head; see attention.h.
struct AttentionTask {
  const float* queries;  // [tokens, heads of the group, dim]: token stride query_stride, head stride dim
  size_t query_stride;
  float* out;            // the same shape
  size_t out_stride;
  const uint8_t* keys;    // capacity rows of `dim` numbers in the cache's format
  const uint8_t* values;
  int cache_format;      // kF32, kF16, kBF16 or kQ8_0, see cache_row_bytes
  int heads, dim;
  int start;             // position of the first token
  int tokens;
  int window;            // keys that a query looks back on, itself included; 0 for all
  const float* sinks;    // [heads]: a score that no key has; null for none
  float* scratch;        // attention_scratch(...) floats
};

// One token's query heads of one group against some of their keys; see attend_one.h.
constexpr int kPartKeys = 256;  // most keys of a part
struct AttentionPart {
  const float* queries;   // [heads, dim]
  const uint8_t* keys;    // `count` rows of `dim` numbers, a multiple of 16
  const uint8_t* values;
  int cache_format;
  int heads, dim, count;
  float* out;             // [heads, dim]: sum of e^(score - most) * value
  float* most;            // [heads]: the largest score
  float* total;           // [heads]: sum of e^(score - most)
  float* scratch;         // attention_part_scratch(dim) floats
};
static inline constexpr bool has_attention_parts(int dim) { return dim % 16 == 0; }
// Floats of out, most and total, which follow each other.
static inline constexpr size_t attention_part_floats(int heads, int dim) { return size_t(heads) * size_t(dim + 2); }
static inline constexpr size_t attention_part_scratch(int dim) { return 8 * size_t(dim + kPartKeys) + 16; }

struct Kernels {
  const char* name;
  PairKernel pair[kFormats];
  // x [columns] -> groups_of(columns) groups; what is missing of the last counts as 0.
  void (*quantise)(const float* x, int columns, QuantisedGroup* groups);
  // out = x / rms(x) * weight
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* out);
  // gate = silu(gate) * up
  void (*silu_multiply)(float* gate, const float* up, int n);
  // The same of experts with biases; see rooftop_experts.
  void (*clamped_multiply)(float* gate, const float* up, const float* gate_bias, const float* up_bias, int n,
                           float slope, float limit);
  // out += scale * x
  void (*add_scaled)(float* out, const float* x, float scale, int n);
  // Rotates pairs (x[i], x[i + dim/2]) by cosines and sines [dim/2].
  void (*rotate)(float* x, const float* cosines, const float* sines, int dim);
  // fp32 -> a row of a cache, or of a matrix in a float format
  void (*store_as)(const float* x, int n, int format, void* out);
  // One row of a matrix of any format as fp32.
  void (*read_row)(const uint8_t* matrix, int format, int columns, int row, float* out);
  void (*attend)(const AttentionTask& task);
  void (*attend_part)(const AttentionPart& part);
  // Parts of one context [count, attention_part_floats], in their order, and a score beside them, null for none:
  // out [heads, dim]. What the parts hold is lost.
  void (*join_parts)(float* parts, int count, int heads, int dim, const float* sinks, float* out);
  // Reads every byte; for measuring what the memory gives.
  uint64_t (*read_bytes)(const uint8_t* bytes, size_t size);
  // Multiplies and adds that many int8 pairs in registers; for measuring the arithmetic rate.
  uint64_t (*spin_int8)(uint64_t steps, uint64_t* operations);
};

constexpr int kMostPanelLanes = 32;  // see panels.h

// Floats of scratch memory.
size_t attention_scratch(int dim, int heads, int tokens);

const Kernels* kernels_scalar();
const Kernels* kernels_avx2();     // null where the build lacks it
const Kernels* kernels_avxvnni();
const Kernels* kernels_avx512();

}  // namespace rooftop
