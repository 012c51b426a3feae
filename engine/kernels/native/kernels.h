// What is compiled once per instruction set: the arithmetic. Everything else calls it through this table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats.h"

namespace rooftop {

// Activations of several tokens: as fp32 for float weights, and as int8 for block formats, where one scale serves 32.
struct Activations {
  const float* values;      // [tokens, stride]
  size_t stride;            // floats from one token to the next
  const uint8_t* quantised; // [tokens, quantised_bytes(columns)], see QuantisedRow; null where nothing needs it
  int columns;
};

// One token's int8 activations. Beside the codes lie what a dot product with unsigned weight codes needs: sums of the
// codes, negated, to take the weights' offset away, and scale * sum, for weights with a bias.
struct QuantisedRow {
  const int8_t* codes;         // [columns]
  const float* scales;         // [groups]
  const int32_t* minus_sums;   // [groups]
  const float* sums;           // [groups]
  const int32_t* minus_halves; // [2 * groups]: of 16 codes each
  const float* halves;         // [2 * groups]
};

constexpr size_t quantised_bytes(int columns) {
  const size_t groups = size_t(columns + kGroup - 1) / kGroup;
  return (groups * (kGroup + 28) + 63) / 64 * 64;
}

inline QuantisedRow quantised_row(const uint8_t* row, int columns) {
  const size_t groups = size_t(columns + kGroup - 1) / kGroup;
  const uint8_t* numbers = row + groups * kGroup;
  QuantisedRow r;
  r.codes = reinterpret_cast<const int8_t*>(row);
  r.scales = reinterpret_cast<const float*>(numbers);
  r.minus_sums = reinterpret_cast<const int32_t*>(numbers + 4 * groups);
  r.sums = reinterpret_cast<const float*>(numbers + 8 * groups);
  r.minus_halves = reinterpret_cast<const int32_t*>(numbers + 12 * groups);
  r.halves = reinterpret_cast<const float*>(numbers + 20 * groups);
  return r;
}

// Rows first_row .. first_row+31 (fewer at the end) of a matrix times `count` tokens.
//   tokens: indices into the activations, null for 0..count-1.   out: [count, out_stride], 32 floats a token.
using PairKernel = void (*)(const uint8_t* matrix, int rows, int columns, int first_row, const Activations& activations,
                            const int32_t* tokens, int count, float* out, size_t out_stride);

// One query head group against the keys and values of one head; see attention.h.
struct AttentionTask {
  const float* queries;  // [tokens, heads of the group, dim]: token stride query_stride, head stride dim
  size_t query_stride;
  float* out;            // the same shape
  size_t out_stride;
  const void* keys;      // [capacity, dim]
  const void* values;    // [capacity, dim]
  int cache_format;      // kF32, kF16 or kBF16
  int heads, dim;
  int start;             // position of the first token
  int tokens;
  int window;            // keys that a query looks back on, itself included; 0 for all
  float* scratch;        // attention_scratch(dim, heads, start + tokens) floats
};

struct Kernels {
  const char* name;
  PairKernel pair[kFormats];
  // x [columns of these groups] -> groups first_group .. of one quantised row of `columns`; what lies beyond counts as 0.
  void (*quantise)(const float* x, int columns, int first_group, int groups, uint8_t* row);
  // out = x / rms(x) * weight
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* out);
  // gate = silu(gate) * up
  void (*silu_multiply)(float* gate, const float* up, int n);
  // out += scale * x
  void (*add_scaled)(float* out, const float* x, float scale, int n);
  // Rotates pairs (x[i], x[i + dim/2]) by cosines and sines [dim/2].
  void (*rotate)(float* x, const float* cosines, const float* sines, int dim);
  // fp32 -> a float format
  void (*store_as)(const float* x, int n, int format, void* out);
  // One row of a matrix of any format as fp32.
  void (*read_row)(const uint8_t* matrix, int format, int columns, int row, float* out);
  void (*attend)(const AttentionTask& task);
  // x = softmax(x)
  void (*softmax)(float* x, int n);
  // Reads every byte; for measuring what the memory gives.
  uint64_t (*read_bytes)(const uint8_t* bytes, size_t size);
  // Multiplies and adds that many int8 pairs in registers; for measuring the arithmetic rate.
  uint64_t (*spin_int8)(uint64_t steps, uint64_t* operations);
};

size_t attention_scratch(int dim, int heads, int keys);  // floats

const Kernels* kernels_scalar();
const Kernels* kernels_avx2();     // null where the build lacks it
const Kernels* kernels_avxvnni();
const Kernels* kernels_avx512();

}  // namespace rooftop
