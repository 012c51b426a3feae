// One token's attention over some keys, for all query heads that share them: a long context is cut into parts of so many
// keys, which any thread may take, and the parts' results are put together in their order.
//
// Each key or value is read from memory once and becomes fp32 in registers, where up to 8 query heads meet it. Products
// of several heads and keys are summed across lanes together.
#pragma once
#include "kernels.h"
#include "rows.h"

namespace {

using rooftop::AttentionPart;

constexpr int kMostHeads = V::kSums < 8 ? V::kSums : 8;  // that meet a key at once
constexpr int kValueBlock = 64;                          // values that stay in the first-level cache

// Numbers i .. i + 15 of a cache's row.
template <int Format>
ROOFTOP_INLINE V::F cached(const uint8_t* row, int dim, int i) {
  if constexpr (Format == rooftop::kF32) return V::load(reinterpret_cast<const float*>(row) + i);
  if constexpr (Format == rooftop::kF16) return V::half(row + 2 * i);
  if constexpr (Format == rooftop::kBF16) return V::bfloat(row + 2 * i);
  const V::F scale = V::set1(V::half1(row + dim + 2 * (i / rooftop::cache_group(dim))));
  return V::mul(V::to_float(V::signed_bytes(row + i)), scale);
}

inline void fetch_row(const uint8_t* row, size_t row_bytes) {
  for (size_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(row + byte);
}

// scores [keys, Heads] = keys . queries [Heads, dim]; up to kSums - 1 numbers behind them are written too
template <int Format, int Heads>
void score_part(const AttentionPart& t, const float* queries, float* scores) {
  constexpr int kKeys = V::kSums / Heads, kAhead = 16;
  const size_t row_bytes = rooftop::cache_row_bytes(Format, t.dim);
  const auto row_of = [&](int key) { return t.keys + row_bytes * size_t(key < t.count ? key : t.count - 1); };
  for (int at = 0; at < t.count; at += kKeys) {
    const uint8_t* row[kKeys];
    for (int k = 0; k < kKeys; k++) row[k] = row_of(at + k), fetch_row(row_of(at + k + kAhead), row_bytes);
    V::F sum[V::kSums];
    for (V::F& s : sum) s = V::zero();
    for (int d = 0; d < t.dim; d += 16) {
      V::F key[kKeys];
      for (int k = 0; k < kKeys; k++) key[k] = cached<Format>(row[k], t.dim, d);
      for (int h = 0; h < Heads; h++) {
        const V::F query = V::load(queries + size_t(h) * t.dim + d);
        for (int k = 0; k < kKeys; k++) sum[k * Heads + h] = V::fma(key[k], query, sum[k * Heads + h]);
      }
    }
    V::store_sums(sum, scores + size_t(at) * Heads);
  }
}

// scores [keys, Heads] -> weights e^(score - most); most, total: [Heads]
template <int Heads>
void soften_part(float* scores, int keys, float* most, float* total) {
  const int count = keys * Heads, whole = (count + 15) / 16 * 16;
  for (int i = count; i < whole; i++) scores[i] = -1e30f;  // weighs next to nothing
  alignas(64) float lanes[16];
  V::F peaks = V::load(scores);
  for (int i = 16; i < whole; i += 16) peaks = V::maximum(peaks, V::load(scores + i));
  V::store(lanes, peaks);
  for (int h = 0; h < Heads; h++) {
    most[h] = lanes[h];
    for (int i = h + Heads; i < 16; i += Heads) most[h] = lanes[i] > most[h] ? lanes[i] : most[h];
  }
  for (int i = 0; i < 16; i++) lanes[i] = most[i % Heads];
  const V::F largest = V::load(lanes);
  V::F sum = V::zero();
  for (int i = 0; i < whole; i += 16) {
    const V::F weight = exponential(V::sub(V::load(scores + i), largest));
    V::store(scores + i, weight);
    sum = V::add(sum, weight);
  }
  V::store(lanes, sum);
  for (int h = 0; h < Heads; h++) {
    total[h] = 0;
    for (int i = h; i < 16; i += Heads) total[h] += lanes[i];
  }
}

// out [Heads, dim] (+)= weights . values, for 16 * Vectors columns from `column` and some of the keys
template <int Format, int Heads, int Vectors>
ROOFTOP_INLINE void add_columns(const AttentionPart& t, const float* weights, int first, int end, int column, float* out) {
  const size_t row_bytes = rooftop::cache_row_bytes(Format, t.dim);
  V::F sum[Heads][Vectors];
  for (int h = 0; h < Heads; h++)
    for (int i = 0; i < Vectors; i++)
      sum[h][i] = first ? V::load(out + size_t(h) * t.dim + column + 16 * i) : V::zero();
  for (int k = first; k < end; k++) {
    const uint8_t* row = t.values + row_bytes * size_t(k);
    if (column == 0 && k + kValueBlock < t.count) fetch_row(row + row_bytes * kValueBlock, row_bytes);
    V::F value[Vectors];
    for (int i = 0; i < Vectors; i++) value[i] = cached<Format>(row, t.dim, column + 16 * i);
    for (int h = 0; h < Heads; h++) {
      const V::F weight = V::set1(weights[size_t(k) * Heads + h]);
      for (int i = 0; i < Vectors; i++) sum[h][i] = V::fma(weight, value[i], sum[h][i]);
    }
  }
  for (int h = 0; h < Heads; h++)
    for (int i = 0; i < Vectors; i++) V::store(out + size_t(h) * t.dim + column + 16 * i, sum[h][i]);
}

// The columns from `column` on, Vectors at a time, and what is left in halves of that.
template <int Format, int Heads, int Vectors>
void add_values_from(const AttentionPart& t, const float* weights, int first, int end, int column, float* out) {
  for (; column + 16 * Vectors <= t.dim; column += 16 * Vectors)
    add_columns<Format, Heads, Vectors>(t, weights, first, end, column, out);
  if constexpr (Vectors > 1)
    if (column < t.dim) add_values_from<Format, Heads, Vectors / 2>(t, weights, first, end, column, out);
}

template <int Format, int Heads>
void attend_heads(const AttentionPart& t, int head) {
  constexpr int kVectors = V::kSums / Heads < 8 ? V::kSums / Heads : 8;
  float *queries = t.scratch, *scores = queries + size_t(Heads) * t.dim, *out = t.out + size_t(head) * t.dim;
  const V::F scale = V::set1(1.0f / __builtin_sqrtf(float(t.dim)));
  for (int i = 0; i < Heads * t.dim; i += 16)
    V::store(queries + i, V::mul(V::load(t.queries + size_t(head) * t.dim + i), scale));
  score_part<Format, Heads>(t, queries, scores);
  soften_part<Heads>(scores, t.count, t.most + head, t.total + head);
  for (int first = 0; first < t.count; first += kValueBlock) {
    const int end = t.count - first < kValueBlock ? t.count : first + kValueBlock;
    add_values_from<Format, Heads, kVectors>(t, scores, first, end, 0, out);
  }
}

template <int Format, int Heads = kMostHeads>
void attend_in_blocks(const AttentionPart& t, int head = 0) {
  for (; head + Heads <= t.heads; head += Heads) attend_heads<Format, Heads>(t, head);
  if constexpr (Heads > 1)
    if (head < t.heads) attend_in_blocks<Format, Heads / 2>(t, head);
}

void attend_part(const AttentionPart& t) {
  switch (t.cache_format) {
    case rooftop::kF32: return attend_in_blocks<rooftop::kF32>(t);
    case rooftop::kF16: return attend_in_blocks<rooftop::kF16>(t);
    case rooftop::kBF16: return attend_in_blocks<rooftop::kBF16>(t);
    default: return attend_in_blocks<rooftop::kQ8_0>(t);
  }
}

inline float power_of_e(float x) {
  alignas(64) float lanes[16];
  V::store(lanes, exponential(V::set1(x)));
  return lanes[0];
}

void join_parts(float* parts, int count, int heads, int dim, const float* sinks, float* out) {
  const size_t stride = rooftop::attention_part_floats(heads, dim);
  for (int h = 0; h < heads; h++) {
    const float *part = parts + size_t(h) * dim, *total = parts + size_t(heads) * (dim + 1) + h;
    float* most = parts + size_t(heads) * dim + h;  // which become each part's weight
    // A sink is as a key that was seen before all others, whose value is zero.
    float largest = sinks ? sinks[h] : *most, sum = 0;
    for (int i = 0; i < count; i++) largest = most[i * stride] > largest ? most[i * stride] : largest;
    if (sinks) sum = power_of_e(sinks[h] - largest);
    for (int i = 0; i < count; i++) {
      most[i * stride] = most[i * stride] == largest ? 1.0f : power_of_e(most[i * stride] - largest);
      sum += total[i * stride] * most[i * stride];
    }
    for (int d = 0; d < dim; d += 16) {
      V::F x = V::zero();
      for (int i = 0; i < count; i++) x = V::fma(V::load(part + i * stride + d), V::set1(most[i * stride]), x);
      V::store(out + size_t(h) * dim + d, V::mul(x, V::set1(1.0f / sum)));
    }
  }
}

}  // namespace
