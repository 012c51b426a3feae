// One packed matrix: times 1 to 16 rows of activations, or unpacked.
#pragma once
#include "product.cuh"

struct LinearArguments {    // struct Linear in gpu_plans.py
  const Byte* matrix;
  const Byte* activations;  // [tokens, columns], prepared
  void* out;                // [tokens, rows] of `type`, `stride` numbers from one row to the next
  int tokens, rows, columns, type, stride;
};

template <class F, int kEights>
__device__ inline void linear(const LinearArguments& a) {
  __shared__ Partials<kEights> partials;
  const Lane at = this_lane();
  const int strip = static_cast<int>(blockIdx.x);
  if constexpr (F::kFloat) {
    constexpr int kRows = kTileRows / kWarps;
    float total[kRows][8 * kEights] = {};
    const auto row = [&](int t) { return t < a.tokens ? t : -1; };
    const auto one = [](int) { return 1.0f; };
    multiply_floats<F>(a.matrix, a.rows, a.columns, strip * kTileRows + at.warp * kRows, a.activations, at, row, one,
                       total);
    keep_floats(partials, 0, at.warp * kRows, at, total);
  } else {
    const int groups = a.columns / 32;
    const auto row = [&](int place) { return place < a.tokens ? place : 0; };
    const OneStrip<kEights> work = {a.matrix + strip * strip_bytes<F>(a.columns), (groups + 3) / 4, groups,
                                    Columns<kEights>(a.activations, a.tokens, a.columns, at, row)};
    float total[kEights][4] = {};
    multiply<F>(work, at.warp, kWarps, at, total);
    partials.keep(at, total);
  }
  __syncthreads();
  const int token = static_cast<int>(threadIdx.x) / kTileRows, row = static_cast<int>(threadIdx.x) % kTileRows;
  const int feature = strip * kTileRows + row;
  if (token >= a.tokens || feature >= a.rows) return;
  const float sum = partials.added(0, F::kFloat ? 1 : kWarps, token, row);
  store_as(a.out, static_cast<long long>(token) * a.stride + feature, a.type, sum);
}

struct UnpackArguments {  // struct Unpack in gpu_plans.py
  const Byte* matrix;
  void* out;              // [rows, columns] of `type`
  int rows, columns, type;
};

// Code i of four, less what stands for zero.
template <class F>
__device__ inline float code_of(Word codes, int i) {
  return static_cast<float>(static_cast<signed char>(codes >> 8 * i) - F::kOffset);
}

// A warp unpacks a unit: 16 rows x 128 columns. In bf16 its stores are whole sectors of 32 bytes.
template <class F>
__device__ inline void unpack(const UnpackArguments& a) {
  const Lane at = this_lane();
  const int groups = a.columns / 32, units = (groups + 3) / 4;
  const int index = static_cast<int>(blockIdx.x) * kWarps + at.warp;
  const int strip = index / units, unit = index % units;
  if (strip >= (a.rows + kTileRows - 1) / kTileRows) return;
  Unit<F> weights;
  weights.read(a.matrix + strip * strip_bytes<F>(a.columns), unit, groups, at);
#pragma unroll
  for (int s = 0; s < 4; s++) {
    const int group = 4 * unit + s;
    if (Unit<F>::kTiles > 1 && group >= groups) break;
    const auto& raw = weights.raw[s % Unit<F>::kTiles];
    const Head head = F::head(raw);
    Word codes[4];
    F::codes(raw, s, at, codes);
    for (int part = 0; part < 4; part++) {  // two rows of the first half of a group, two rows of the second
      const float2 scales = F::scale(raw, head, s, F::kHalves ? part / 2 : 0);
      const float scale = part % 2 ? scales.y : scales.x;
      float values[4];
      for (int i = 0; i < 4; i++) values[i] = __fmul_rn(scale, code_of<F>(codes[part], i));
      if constexpr (F::kBias) {
        const float2 biases = F::bias(raw, head, s, F::kHalves ? part / 2 : 0);
        for (int i = 0; i < 4; i++) values[i] = __fadd_rn(values[i], part % 2 ? biases.y : biases.x);
      }
      const int row = strip * kTileRows + 2 * at.pair + part % 2;
      const int column = 32 * group + 16 * (part / 2) + 4 * at.quad;
      if (row < a.rows) store_as(a.out, static_cast<long long>(row) * a.columns + column, a.type, values);
    }
  }
}
