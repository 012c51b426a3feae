// Attention of one group of query heads that share keys and values: softmax(q . k / sqrt(dim)) . v, in fp32.
//
// One token: along the keys as they lie. Several tokens: keys and values are taken 64 at a time into fp32 panels (keys
// transposed), and a running softmax goes over them, so that scores of a whole context are never held.
#pragma once
#include "kernels.h"
#include "rows.h"

namespace {

using rooftop::AttentionTask;

constexpr int kKeyBlock = 64;

// Numbers i .. i + 15 of a row of floats.
inline V::F cached(const uint8_t* row, int format, int i) {
  if (format == rooftop::kF32) return V::load(reinterpret_cast<const float*>(row) + i);
  return format == rooftop::kF16 ? V::half(row + 2 * i) : V::bfloat(row + 2 * i);
}

inline void read_codes(const uint8_t* row, int dim, float* out) {
  const int group = rooftop::cache_group(dim);
  for (int first = 0, g = 0; first < dim; first += group, g++) {
    const V::F scale = V::set1(V::half1(row + dim + 2 * g));
    each16(group, [&](int i, int count) {
      uint8_t part[16] = {};
      __builtin_memcpy(part, row + first + i, size_t(count));
      store_part(out + first + i, V::mul(V::to_float(V::signed_bytes(part)), scale), count);
    });
  }
}

// The same for 16 * Vectors numbers.
template <int Vectors>
inline void read_codes(const uint8_t* row, float* out) {
  static_assert(Vectors % 2 == 0 && rooftop::cache_group(16 * Vectors) == 32, "two vectors share a scale");
  V::F scale[Vectors / 2];
  for (int g = 0; g < Vectors / 2; g++) scale[g] = V::set1(V::half1(row + 16 * Vectors + 2 * g));
  for (int i = 0; i < Vectors; i++)
    V::store(out + 16 * i, V::mul(V::to_float(V::signed_bytes(row + 16 * i)), scale[i / 2]));
}

inline void read_cached(const uint8_t* base, int format, int index, int dim, float* out) {
  const uint8_t* row = base + size_t(index) * rooftop::cache_row_bytes(format, dim);
  if (format == rooftop::kQ8_0)
    read_codes(row, dim, out);
  else if (format == rooftop::kF32)
    read_float_row<Float32>(row, dim, out);
  else if (format == rooftop::kF16)
    read_float_row<Float16>(row, dim, out);
  else
    read_float_row<BFloat16>(row, dim, out);
}

inline float dot_row(const float* a, const float* b, int n) {
  V::F s = V::zero();
  each16(n, [&](int i, int count) { s = V::fma(load_part(a + i, count), load_part(b + i, count), s); });
  return V::sum(s);
}

void attend_one(const AttentionTask& t, int first, int end) {
  const int keys = end - first;
  const float scale = 1.0f / __builtin_sqrtf(float(t.dim));
  float* scores = t.scratch;                     // [heads, keys]
  float* row = t.scratch + size_t(t.heads) * keys;  // [dim]
  for (int k = 0; k < keys; k++) {
    read_cached(t.keys, t.cache_format, first + k, t.dim, row);
    for (int h = 0; h < t.heads; h++)
      scores[size_t(h) * keys + k] = scale * dot_row(t.queries + size_t(h) * t.dim, row, t.dim);
  }
  for (int h = 0; h < t.heads; h++) {
    softmax(scores + size_t(h) * keys, keys, t.sinks ? t.sinks + h : nullptr);
    for (int d = 0; d < t.dim; d++) t.out[size_t(h) * t.dim + d] = 0;
  }
  for (int k = 0; k < keys; k++) {
    read_cached(t.values, t.cache_format, first + k, t.dim, row);
    for (int h = 0; h < t.heads; h++)
      add_scaled(t.out + size_t(h) * t.dim, row, scores[size_t(h) * keys + k], t.dim);
  }
}

// The same where dim is 16 * Vectors: 16 keys or values at a time become fp32 once for all heads.
template <int Vectors>
void attend_one_fast(const AttentionTask& t, int first, int end) {
  constexpr int kBlock = 16, dim = 16 * Vectors;
  const int keys = end - first;
  const V::F scale = V::set1(1.0f / __builtin_sqrtf(float(dim)));
  float* scores = t.scratch;                          // [heads, keys]
  float* block = t.scratch + size_t(t.heads) * keys;  // [16, dim]
  const size_t row_bytes = rooftop::cache_row_bytes(t.cache_format, dim);
  const auto read_block = [&](const uint8_t* from, int at, int count) {
    const uint8_t* row = from + size_t(first + at) * row_bytes;
    for (int k = 0; k < count; k++, row += row_bytes) {
      if (at + k + kBlock < keys)
        for (size_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(row + kBlock * row_bytes + byte);
      if (t.cache_format == rooftop::kQ8_0)
        read_codes<Vectors>(row, block + k * dim);
      else
        for (int i = 0; i < Vectors; i++) V::store(block + k * dim + 16 * i, cached(row, t.cache_format, 16 * i));
    }
  };
  for (int at = 0; at < keys; at += kBlock) {
    const int count = keys - at < kBlock ? keys - at : kBlock;
    read_block(t.keys, at, count);
    for (int h = 0; h < t.heads; h++) {
      V::F q[Vectors];
      for (int i = 0; i < Vectors; i++) q[i] = V::mul(V::load(t.queries + size_t(h) * dim + 16 * i), scale);
      for (int k = 0; k < count; k++) {
        V::F s = V::mul(V::load(block + size_t(k) * dim), q[0]);
        for (int i = 1; i < Vectors; i++) s = V::fma(V::load(block + size_t(k) * dim + 16 * i), q[i], s);
        scores[size_t(h) * keys + at + k] = V::sum(s);
      }
    }
  }
  for (int h = 0; h < t.heads; h++) softmax(scores + size_t(h) * keys, keys, t.sinks ? t.sinks + h : nullptr);
  for (int at = 0; at < keys; at += kBlock) {
    const int count = keys - at < kBlock ? keys - at : kBlock;
    read_block(t.values, at, count);
    for (int h = 0; h < t.heads; h++) {
      float* out = t.out + size_t(h) * dim;
      V::F total[Vectors];
      for (int i = 0; i < Vectors; i++) total[i] = at ? V::load(out + 16 * i) : V::zero();
      for (int k = 0; k < count; k++) {
        const V::F p = V::set1(scores[size_t(h) * keys + at + k]);
        for (int i = 0; i < Vectors; i++) total[i] = V::fma(V::load(block + size_t(k) * dim + 16 * i), p, total[i]);
      }
      for (int i = 0; i < Vectors; i++) V::store(out + 16 * i, total[i]);
    }
  }
}

// One query row of several tokens: where it reads and writes, and which keys it sees.
struct QueryRow {
  const float* query;
  float* out;
  int first, end;
};

inline QueryRow query_row(const AttentionTask& t, int index) {
  const int token = index / t.heads, head = index % t.heads, position = t.start + token;
  const int first = t.window > 0 && position + 1 > t.window ? position + 1 - t.window : 0;
  return {t.queries + size_t(token) * t.query_stride + size_t(head) * t.dim,
          t.out + size_t(token) * t.out_stride + size_t(head) * t.dim, first, position + 1};
}

// scores[r][64] = query r . 64 keys (transposed)
template <int Rows>
ROOFTOP_INLINE void block_scores(const QueryRow* rows, const float* keys, int dim, float scale, float* scores) {
  for (int half = 0; half < kKeyBlock; half += 32) {
    V::F s[Rows][2];
    for (auto& row : s) row[0] = row[1] = V::zero();
    for (int d = 0; d < dim; d++) {
      const V::F a = V::load(keys + size_t(d) * kKeyBlock + half), b = V::load(keys + size_t(d) * kKeyBlock + half + 16);
      for (int r = 0; r < Rows; r++) {
        const V::F q = V::set1(rows[r].query[d]);
        s[r][0] = V::fma(q, a, s[r][0]), s[r][1] = V::fma(q, b, s[r][1]);
      }
    }
    for (int r = 0; r < Rows; r++)
      for (int i = 0; i < 2; i++) V::store(scores + r * kKeyBlock + half + 16 * i, V::mul(s[r][i], V::set1(scale)));
  }
}

// One step of the running softmax: scores -> weights; returns what earlier sums must be multiplied by.
inline float soften(float* scores, int first, int end, float* most, float* total) {
  for (int k = 0; k < kKeyBlock; k++)
    if (k < first || k >= end) scores[k] = -1e30f;
  V::F peak = V::set1(*most);
  for (int k = 0; k < kKeyBlock; k += 16) peak = V::maximum(peak, V::load(scores + k));
  const float now = V::largest(peak);
  alignas(64) float change[16];
  V::store(change, exponential(V::set1(*most - now)));
  V::F sum = V::zero();
  for (int k = 0; k < kKeyBlock; k += 16) {
    const V::F s = V::load(scores + k);
    V::F e = exponential(V::sub(s, V::set1(now)));
    V::store(scores + k, e);
  }
  for (int k = 0; k < kKeyBlock; k++)
    if (k < first || k >= end) scores[k] = 0;
  for (int k = 0; k < kKeyBlock; k += 16) sum = V::add(sum, V::load(scores + k));
  *most = now;
  *total = *total * change[0] + V::sum(sum);
  return change[0];
}

// out[r] = out[r] * change[r] + weights[r] . values
template <int Rows>
ROOFTOP_INLINE void block_values(const QueryRow* rows, const float* weights, const float* change, const float* values,
                                 int dim) {
  for (int d = 0; d < dim; d += 32) {
    const int a = dim - d < 16 ? dim - d : 16, b = dim - d - a < 16 ? dim - d - a : 16;
    V::F s[Rows][2];
    for (int r = 0; r < Rows; r++) {
      s[r][0] = V::mul(load_part(rows[r].out + d, a), V::set1(change[r]));
      s[r][1] = b > 0 ? V::mul(load_part(rows[r].out + d + 16, b), V::set1(change[r])) : V::zero();
    }
    for (int k = 0; k < kKeyBlock; k++) {
      const V::F x = V::load(values + size_t(k) * (dim + 32) + d), y = V::load(values + size_t(k) * (dim + 32) + d + 16);
      for (int r = 0; r < Rows; r++) {
        const V::F w = V::set1(weights[r * kKeyBlock + k]);
        s[r][0] = V::fma(w, x, s[r][0]), s[r][1] = V::fma(w, y, s[r][1]);
      }
    }
    for (int r = 0; r < Rows; r++) {
      store_part(rows[r].out + d, s[r][0], a);
      if (b > 0) store_part(rows[r].out + d + 16, s[r][1], b);
    }
  }
}

template <int Rows>
ROOFTOP_INLINE void block_rows(const QueryRow* rows, const float* keys, const float* values, int block, int dim,
                               float* most, float* total) {
  alignas(64) float scores[Rows * kKeyBlock];
  float change[Rows];
  block_scores<Rows>(rows, keys, dim, 1.0f / __builtin_sqrtf(float(dim)), scores);
  for (int r = 0; r < Rows; r++)
    change[r] = soften(scores + r * kKeyBlock, rows[r].first - block, rows[r].end - block, most + r, total + r);
  block_values<Rows>(rows, scores, change, values, dim);
}

void attend_many(const AttentionTask& t) {
  const int rows = t.tokens * t.heads, last = t.start + t.tokens;
  float* keys = t.scratch;                                  // [dim, 64]
  float* values = keys + size_t(t.dim) * kKeyBlock;         // [64, dim + 32]
  float* most = values + size_t(kKeyBlock) * (t.dim + 32);  // [rows]
  float* total = most + rows;
  float* line = total + rows;  // [dim + 32]
  for (int i = 0; i < rows; i++) {
    // A sink is as a key that was seen before all others, whose value is zero.
    most[i] = t.sinks ? t.sinks[i % t.heads] : -1e30f, total[i] = t.sinks ? 1.0f : 0.0f;
    const QueryRow row = query_row(t, i);
    for (int d = 0; d < t.dim; d++) row.out[d] = 0;
  }
  for (int block = query_row(t, 0).first / kKeyBlock * kKeyBlock; block < last; block += kKeyBlock) {
    for (int k = 0; k < kKeyBlock; k++) {
      float* value = values + size_t(k) * (t.dim + 32);
      for (int d = 0; d < t.dim + 32; d++) line[d] = value[d] = 0;
      if (block + k < last) {
        read_cached(t.keys, t.cache_format, block + k, t.dim, line);
        read_cached(t.values, t.cache_format, block + k, t.dim, value);
      }
      for (int d = 0; d < t.dim; d++) keys[size_t(d) * kKeyBlock + k] = line[d];
    }
    int i = 0;
    while (i < rows) {
      QueryRow group[V::kQueryRows];
      int n = 0;
      for (; n < V::kQueryRows && i + n < rows; n++) group[n] = query_row(t, i + n);
      const bool seen = group[n - 1].end > block && group[0].first < block + kKeyBlock;
      if (seen && n == V::kQueryRows) {
        block_rows<V::kQueryRows>(group, keys, values, block, t.dim, most + i, total + i);
      } else if (seen) {
        for (int r = 0; r < n; r++) block_rows<1>(group + r, keys, values, block, t.dim, most + i + r, total + i + r);
      }
      i += n;
    }
  }
  for (int i = 0; i < rows; i++) {
    const QueryRow row = query_row(t, i);
    for (int d = 0; d < t.dim; d++) row.out[d] /= total[i];
  }
}

void attend(const AttentionTask& t) {
  if (t.tokens > 1) return attend_many(t);
  const QueryRow row = query_row(t, 0);
  if (t.dim == 64) return attend_one_fast<4>(t, row.first, row.end);
  if (t.dim == 128) return attend_one_fast<8>(t, row.first, row.end);
  attend_one(t, row.first, row.end);
}

}  // namespace
