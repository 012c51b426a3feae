// 32 rows of a matrix of floats times some tokens; everything is multiplied in fp32.
//
// Few tokens: rows are read as they are, one behind the other as they lie in memory, sums along the columns. Many tokens:
// 128 columns of the rows at a time become fp32 once, in a panel of the first-level cache; see panels.h.
// Whatever the path, a result is summed in an order that depends on nothing but the path.
#pragma once
#include <algorithm>

#include "kernels.h"
#include "matmul.h"
#include "panels.h"
#include "rows.h"

namespace {

struct Float32 {
  static constexpr int kBytes = 4;
  static ROOFTOP_INLINE V::F load(const uint8_t* p) { return V::load(reinterpret_cast<const float*>(p)); }
};

struct Float16 {
  static constexpr int kBytes = 2;
  static ROOFTOP_INLINE V::F load(const uint8_t* p) { return V::half(p); }
};

struct BFloat16 {
  static constexpr int kBytes = 2;
  static ROOFTOP_INLINE V::F load(const uint8_t* p) { return V::bfloat(p); }
};

// The first `count` of 16 numbers, zeros after them, without touching what follows.
template <class Format>
inline V::F load_first(const uint8_t* p, int count) {
  if (count == 16) return Format::load(p);
  alignas(64) uint8_t part[64] = {};
  __builtin_memcpy(part, p, size_t(count) * Format::kBytes);
  return Format::load(part);
}

// ---- few tokens -------------------------------------------------------------------------------------------------

// Columns that are read of all rows before the next, so that the activations stay in the first-level cache.
constexpr int kPieceOfOne = 4096, kPieceOfMore = 2048;

// `columns` columns of some rows: out[t][r] = ... or, with `more`, +=. ahead: where what follows is fetched, null for nowhere.
template <class Format, int Rows, int Tokens, int Sums>
void few_block(const uint8_t* weights, size_t row_bytes, int columns, const float* const* x, float* const* out, bool more,
               const uint8_t* ahead) {
  V::F total[Rows][Tokens][Sums];
  for (auto& row : total)
    for (auto& token : row)
      for (auto& sum : token) sum = V::zero();
  const auto add = [&](int c, int count, int s) {
    V::F v[Tokens];
    for (int t = 0; t < Tokens; t++) v[t] = load_part(x[t] + c, count);
    for (int r = 0; r < Rows; r++) {
      const V::F w = load_first<Format>(weights + r * row_bytes + size_t(c) * Format::kBytes, count);
      for (int t = 0; t < Tokens; t++) total[r][t][s] = V::fma(w, v[t], total[r][t][s]);
    }
  };
  constexpr int kStep = std::max(16 * Sums, 64 / Format::kBytes);
  int c = 0;
  for (; c + kStep <= columns; c += kStep) {
    if (ahead)
      for (int r = 0; r < Rows; r++)
        for (int byte = 0; byte < kStep * Format::kBytes; byte += 64)
          __builtin_prefetch(ahead + r * row_bytes + size_t(c) * Format::kBytes + byte, 0, 0);
    for (int i = 0; i < kStep / 16; i++) add(c + 16 * i, 16, i % Sums);
  }
  for (; c < columns; c += 16) add(c, std::min(columns - c, 16), 0);
  for (int r = 0; r < Rows; r++)
    for (int t = 0; t < Tokens; t++) {
      for (int s = 1; s < Sums; s++) total[r][t][0] = V::add(total[r][t][0], total[r][t][s]);
      out[t][r] = (more ? out[t][r] : 0) + V::sum(total[r][t][0]);
    }
}

template <class Format, int Rows, int Sums, int Tokens>
void few_sized_block(const uint8_t* weights, size_t row_bytes, int columns, const float* const* x, float* const* out,
                     int count, bool more, const uint8_t* ahead) {
  if constexpr (Tokens > 1) {
    if (count < Tokens)
      return few_sized_block<Format, Rows, Sums, Tokens - 1>(weights, row_bytes, columns, x, out, count, more, ahead);
  }
  few_block<Format, Rows, Tokens, Sums>(weights, row_bytes, columns, x, out, more, ahead);
}

// One or two tokens: a row at a time, so that memory is read from one end to the other; several sums, as each would wait for
// itself. next: the row that will be read after these.
template <class Format, int Rows, int Sums, int Tokens>
void few_rows(const uint8_t* weights, size_t row_bytes, int rows, int columns, const float* const* x, float* const* out,
              int count, const uint8_t* next) {
  constexpr int kPiece = Tokens == 1 ? kPieceOfOne : kPieceOfMore;
  for (int first = 0; first < columns; first += kPiece) {
    const int width = std::min(columns - first, kPiece);
    const uint8_t* const piece = weights + size_t(first) * Format::kBytes;
    const uint8_t* const after = first + width == columns ? next : piece + size_t(width) * Format::kBytes;
    const int distance = std::max(Rows, kPrefetchBytes / (width * Format::kBytes));  // rows
    for (int r = 0; r < rows; r += Rows) {
      const uint8_t* const ahead =
          r + distance < rows ? piece + (r + distance) * row_bytes : after + (r + distance - rows) * row_bytes;
      for (int t = 0; t < count;) {
        const int parts = (count - t + Tokens - 1) / Tokens, part = (count - t + parts - 1) / parts;
        const float* part_x[Tokens];
        float* part_out[Tokens];
        for (int i = 0; i < part; i++) part_x[i] = x[t + i] + first, part_out[i] = out[t + i] + r;
        const auto block = [&](auto multiply, int row) {
          multiply(piece + row * row_bytes, row_bytes, width, part_x, part_out, part, first > 0, t ? nullptr : ahead);
        };
        if (r + Rows <= rows)
          block(few_sized_block<Format, Rows, Sums, Tokens>, r);
        else
          for (int row = r; row < rows; row++) {
            block(few_sized_block<Format, 1, Sums, Tokens>, row);
            for (int i = 0; i < part; i++) part_out[i]++;
          }
        t += part;
      }
    }
  }
}

// ---- many tokens ------------------------------------------------------------------------------------------------

constexpr int kPanelLines = 128;  // columns in a panel

struct FloatPanel {
  alignas(64) float lines[kPairRows / kPanelLanes][kPanelLines][kPanelLanes];
};

// Rows that the matrix lacks repeat its last one.
template <class Format>
void unpack_floats(const uint8_t* weights, size_t row_bytes, int rows, int columns, FloatPanel* panel) {
  for (int first = 0; first < kPairRows; first += 16) {
    const uint8_t* row[16];
    for (int i = 0; i < 16; i++) row[i] = weights + size_t(std::min(first + i, rows - 1)) * row_bytes;
    for (int c = 0; c < columns; c += 16) {
      const int count = std::min(columns - c, 16);
      V::F x[16];
      for (int i = 0; i < 16; i++) x[i] = load_first<Format>(row[i] + size_t(c) * Format::kBytes, count);
      V::transpose(x);
      for (int i = 0; i < 16; i++) V::store(panel->lines[first / kPanelLanes][c + i] + first % kPanelLanes, x[i]);
    }
  }
}

template <class Format>
void many_floats(const uint8_t* weights, size_t row_bytes, int rows, int columns, const float* const* x,
                 float* const* out, int count, const uint8_t* after) {
  FloatPanel panel;
  for (int first = 0; first < columns; first += kPanelLines) {
    const int lines = std::min(columns - first, kPanelLines);
    const uint8_t* const next =
        first + kPanelLines < columns ? weights + size_t(first + kPanelLines) * Format::kBytes : after;
    unpack_floats<Format>(weights + size_t(first) * Format::kBytes, row_bytes, rows, lines, &panel);
    in_blocks(count, [&](auto columns_of_block, int at) {
      constexpr int kTokens = decltype(columns_of_block)::value;
      // The next panel's weights are fetched beside the arithmetic, into the second-level cache.
      for (int r = kPairRows * at / count; r < kPairRows * (at + kTokens) / count; r++)
        for (int byte = 0; byte < kPanelLines * Format::kBytes; byte += 64)
          __builtin_prefetch(next + size_t(r) * row_bytes + byte, 0, 2);
      const float* token[kTokens];
      for (int t = 0; t < kTokens; t++) token[t] = x[at + t] + first;
      for (int part = 0; part < kPairRows; part += kPanelLanes) {
        V::F sum[kTokens][V::kFloatTiles];
        for (auto& sums : sum)
          for (auto& s : sums) s = V::zero();
        add_products(sum, panel.lines[part / kPanelLanes][0], lines, [&](int t, int c) { return token[t][c]; });
        for (int t = 0; t < kTokens; t++)
          for (int i = 0; i < V::kFloatTiles; i++) {
            float* const target = out[at + t] + part + 16 * i;
            V::store(target, first ? V::add(V::load(target), sum[t][i]) : sum[t][i]);
          }
      }
    });
  }
}

template <class Format>
void pair_of_floats(const uint8_t* matrix, int rows, int columns, int first_row, const Activations& activations,
                    const int32_t* tokens, int count, float* out, size_t out_stride, const uint8_t* next) {
  const size_t row_bytes = size_t(columns) * Format::kBytes;
  const uint8_t* const weights = matrix + size_t(first_row) * row_bytes;
  const int last = std::min(rows - first_row, kPairRows);
  const float* x[kTokenBlock];
  float* target[kTokenBlock];
  const int most = std::clamp(kBlockBytes / (4 * columns), kLeastTokenBlock, kTokenBlock);
  const int blocks = (count + most - 1) / most;
  for (int block = 0; block < blocks; block++) {
    const int first = int(int64_t(count) * block / blocks), part = int(int64_t(count) * (block + 1) / blocks) - first;
    for (int t = 0; t < part; t++) {
      const int token = tokens ? tokens[first + t] : first + t;
      x[t] = activations.values + token * activations.stride;
      target[t] = out + size_t(first + t) * out_stride;
    }
    const auto path = part == 1                                  ? few_rows<Format, 1, V::kFewSums, 1>
                      : part == 2                                ? few_rows<Format, 1, V::kFewSums, 2>
                      : part <= V::kFewFloatTokens || last <= 16 ? few_rows<Format, V::kFewRows, 1, V::kFewFloats>
                                                                 : many_floats<Format>;
    path(weights, row_bytes, last, columns, x, target, part, block + 1 < blocks || !next ? weights : next);
  }
}

}  // namespace
