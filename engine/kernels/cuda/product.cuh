// A strip (16 rows) of a packed matrix times up to 8 or 16 columns of activations: what all products are made of.
//
// Block formats: the columns of the matrix are cut into units of 128, which the warps of a block take in turn; a warp
// fetches its next unit while it multiplies one. A unit is four int8 products of 16 x 32 weights with 8 tokens each;
// scales apply in fp32. Nothing is added across blocks, and always in the same order: equal inputs give equal bits.
//
// Float formats: a warp takes some of the rows, a lane 4 columns of each in turn, in fp32.
#pragma once
#include "activations.cuh"
#include "k_formats.cuh"

constexpr int kTileRows = 16, kUnitColumns = 128;

// Added to int8 sums from the start: as a float, 1.5 * 2^23 + sum has the sum in its lowest bits. Saves a conversion.
constexpr int kMagicBits = 0x4B400000;
constexpr float kMagic = 12582912.0f;

template <class F>
struct Unit {
  static constexpr int kTiles = 4 / F::kGroups;  // a quarter of it each, or one half of a tile of 256
  typename F::Raw raw[kTiles];

  __device__ void read(const Byte* strip, int unit, int groups, Lane at) {
    if constexpr (kTiles == 1) {
      raw[0] = F::read(strip + static_cast<long long>(unit / 2) * F::kBytes, unit % 2, at);
    } else {
#pragma unroll
      for (int i = 0; i < kTiles; i++) {
        const int group = kTiles * unit + i;
        // Past the last group: weights of zero, which meet the last group's activations once more.
        raw[i] = group < groups ? F::read(strip + static_cast<long long>(group) * F::kBytes, 0, at) : typename F::Raw{};
      }
    }
  }
};

// Where a lane finds its int8 activations: codes of token `pair`, records of tokens 2 * quad and 2 * quad + 1, of each
// eight tokens. Tokens that are not there repeat another's; nobody reads their sums.
template <int kEights>
struct Columns {
  const Byte* codes[kEights];
  const Byte* records[kEights][2];

  // rows: of the token of each place. `length`: rows there are.
  template <class Row>
  __device__ Columns(const Byte* activations, int length, int columns, Lane at, const Row& row) {
    const Byte* first = activations + static_cast<long long>(length) * columns;
    for (int e = 0; e < kEights; e++) {
      codes[e] = activations + static_cast<long long>(row(8 * e + at.pair)) * columns + 8 * at.quad;
      for (int i = 0; i < 2; i++)
        records[e][i] = first + static_cast<long long>(row(8 * e + 2 * at.quad + i)) * (columns / 32) * kRecordBytes;
    }
  }
};

// Adds what the sums of 16 + 16 codes of one row and token mean.
template <class F>
__device__ inline float add_scaled(float sum, int low, int high, float4 record, const float (&scale)[2],
                                   const float (&bias)[2]) {
  const float offset = static_cast<float>(F::kOffset);
  const float x = __int_as_float(low) + fmaf(-offset, record.z, -kMagic);
  const float y = __int_as_float(high) + fmaf(-offset, record.w, -kMagic);
  if constexpr (F::kHalves) {
    sum = fmaf(scale[1], y * record.y, fmaf(scale[0], x * record.x, sum));
    if constexpr (F::kBias) sum = fmaf(bias[1], record.y * record.w, fmaf(bias[0], record.x * record.z, sum));
  } else {
    sum = fmaf(scale[0], fmaf(y, record.y, x * record.x), sum);
    if constexpr (F::kBias) sum = fmaf(bias[0], fmaf(record.y, record.w, record.x * record.z), sum);
  }
  return sum;
}

// One group of 32 columns: sums[0, 1] of row 2 * pair and tokens 2 * quad, 2 * quad + 1; sums[2, 3] of the row after.
template <class F, int kEights>
__device__ inline void multiply_group(const typename F::Raw& raw, const Head& head, int s, int group,
                                      const Columns<kEights>& columns, Lane at, float (&sums)[kEights][4]) {
  Word a[4];
  F::codes(raw, s, at, a);
  float scales[2][2], biases[2][2] = {};  // [row][half]
  for (int h = 0; h < (F::kHalves ? 2 : 1); h++) {
    const float2 scale = F::scale(raw, head, s, h);
    scales[0][h] = scale.x, scales[1][h] = scale.y;
    if constexpr (F::kBias) {
      const float2 bias = F::bias(raw, head, s, h);
      biases[0][h] = bias.x, biases[1][h] = bias.y;
    }
  }
  for (int e = 0; e < kEights; e++) {
    const uint2 b = load<uint2>(columns.codes[e] + 32 * group);
    const float4 records[2] = {load<float4>(columns.records[e][0] + kRecordBytes * group),
                               load<float4>(columns.records[e][1] + kRecordBytes * group)};
    int low[4] = {kMagicBits, kMagicBits, kMagicBits, kMagicBits};
    int high[4] = {kMagicBits, kMagicBits, kMagicBits, kMagicBits};
    multiply_int8(low, a[0], a[1], b.x);
    multiply_int8(high, a[2], a[3], b.y);
    for (int i = 0; i < 4; i++)
      sums[e][i] = add_scaled<F>(sums[e][i], low[i], high[i], records[i % 2], scales[i / 2], biases[i / 2]);
  }
}

template <class F, int kEights>
__device__ inline void multiply_unit(const Unit<F>& unit, int index, int groups, const Columns<kEights>& columns,
                                     Lane at, float (&sums)[kEights][4]) {
  constexpr int kTiles = Unit<F>::kTiles;
  Head heads[kTiles];
  for (int i = 0; i < kTiles; i++) heads[i] = F::head(unit.raw[i]);
#pragma unroll
  for (int s = 0; s < 4; s++) {
    const int group = kTiles > 1 ? min(4 * index + s, groups - 1) : 4 * index + s;
    multiply_group<F>(unit.raw[s % kTiles], heads[s % kTiles], s, group, columns, at, sums);
  }
}

// All units of this warp. `work` says which they are: count, strip(i), unit(i), groups, columns(i), add(i, ...).
template <class F, int kEights, class Work>
__device__ inline void multiply(const Work& work, int first, int step, Lane at, float (&total)[kEights][4]) {
  Unit<F> current, next;
  if (first < work.count) current.read(work.strip(first), work.unit(first), work.groups, at);
  for (int i = first; i < work.count; i += step) {
    if (i + step < work.count) next.read(work.strip(i + step), work.unit(i + step), work.groups, at);
    float sums[kEights][4] = {};
    multiply_unit(current, work.unit(i), work.groups, work.columns(i), at, sums);
    work.add(i, sums, total);
    current = next;
  }
}

// The work of one strip and one set of tokens.
template <int kEights>
struct OneStrip {
  const Byte* address;
  int count, groups;
  Columns<kEights> tokens;

  __device__ const Byte* strip(int) const { return address; }
  __device__ int unit(int i) const { return i; }
  __device__ const Columns<kEights>& columns(int) const { return tokens; }
  __device__ void add(int, const float (&sums)[kEights][4], float (&total)[kEights][4]) const {
    for (int e = 0; e < kEights; e++)
      for (int i = 0; i < 4; i++) total[e][i] += sums[e][i];
  }
};

// Sums of a strip by warp, token and row, until they are added up.
template <int kEights>
struct Partials {
  float sums[kWarps][8 * kEights][kTileRows];

  __device__ void keep(Lane at, const float (&total)[kEights][4]) {
    for (int e = 0; e < kEights; e++)
      for (int i = 0; i < 4; i++) sums[at.warp][8 * e + 2 * at.quad + i % 2][2 * at.pair + i / 2] = total[e][i];
  }

  // What `count` warps from `first` on have for a row of a token.
  __device__ float added(int first, int count, int token, int row) const {
    float sum = 0;
    for (int w = first; w < first + count; w++) sum += sums[w][token][row];
    return sum;
  }
};

template <class F>
__device__ inline long long strip_bytes(int columns) {
  return static_cast<long long>(columns / F::kColumns) * F::kBytes;
}

// kRows rows of a float matrix from `first` on, times rows of fp32 activations: row(i) < 0 for token i if there is
// none, factor(i) what its sum is multiplied with. The lanes' sums are still to be added.
template <class F, int kRows, int kTokens, class Row, class Factor>
__device__ inline void multiply_floats(const Byte* matrix, int rows, int columns, int first, const Byte* activations,
                                       Lane at, const Row& row, const Factor& factor, float (&total)[kRows][kTokens]) {
  const Byte* lines[kRows];
  for (int r = 0; r < kRows; r++)  // rows past the last repeat it; nobody reads their sums
    lines[r] = matrix + static_cast<long long>(min(first + r, rows - 1)) * columns * F::kBytes;
#pragma unroll 2
  for (int column = 4 * at.lane; column < columns; column += kUnitColumns) {
    Row4 weights[kRows];
    for (int r = 0; r < kRows; r++) weights[r] = F::values(F::read(lines[r] + column * F::kBytes));
#pragma unroll
    for (int t = 0; t < kTokens; t++) {
      const int at_row = row(t);
      if (at_row < 0) continue;
      const float4 x = load<float4>(activations + (static_cast<long long>(at_row) * columns + column) * 4);
      for (int r = 0; r < kRows; r++) {
        const float sum = fmaf(weights[r].x, x.x, weights[r].y * x.y) + fmaf(weights[r].z, x.z, weights[r].w * x.w);
        total[r][t] = fmaf(factor(t), sum, total[r][t]);
      }
    }
  }
}

// Adds up the lanes' sums; warp `at.warp` keeps them as if it alone had worked on its rows.
template <int kEights, int kRows>
__device__ inline void keep_floats(Partials<kEights>& partials, int part, int first, Lane at,
                                   float (&total)[kRows][8 * kEights]) {
#pragma unroll
  for (int r = 0; r < kRows; r++) {
#pragma unroll
    for (int t = 0; t < 8 * kEights; t++) {
      float sum = total[r][t];
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, step);
      if (at.lane == 0) partials.sums[part][t][first + r] = sum;
    }
  }
}
