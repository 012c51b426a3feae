// Attention of one group of query heads that share keys and values: softmax(q . k / sqrt(dim)) . v, in fp32.
//
// For several tokens; attend_one.h is for one. Queries lie side by side in the lanes of vectors, so that a key,
// or a value, is a number that all of them meet, and the softmax needs no sum across lanes. Keys and values are taken 64
// at a time, and a running softmax goes over them, so that scores of a whole context are never held.
#pragma once
#include "kernels.h"
#include "panels.h"
#include "rows.h"

namespace {

using rooftop::AttentionTask;

constexpr int kKeyBlock = 64;

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

// Query rows side by side, kPanelLanes of them; lanes that are left over repeat the last row.
struct QueryGroup {
  int first, end;                // keys that any of them sees
  int first_of_all, end_of_all;  // and that all of them see
  float* queries;                // [dim, lanes], scaled
  float* out;                    // [dim, lanes]
  float* most;                   // [lanes]: the largest score until now
  float* total;                  // [lanes]: sum of the weights
  float* seen_first;             // [lanes]: keys that each sees
  float* seen_last;
};

inline QueryGroup query_group(const AttentionTask& t, int index) {
  constexpr int kLanes = kPanelLanes;
  const int rows = t.tokens * t.heads, last = (index + 1) * kLanes < rows ? (index + 1) * kLanes - 1 : rows - 1;
  const QueryRow early = query_row(t, index * kLanes), late = query_row(t, last);
  float* at = t.scratch + size_t(index) * kLanes * size_t(2 * t.dim + 4);
  float* lanes = at + 2 * size_t(t.dim) * kLanes;
  return {early.first, late.end, late.first, early.end, at, at + size_t(t.dim) * kLanes,
          lanes, lanes + kLanes, lanes + 2 * kLanes, lanes + 3 * kLanes};
}

inline void start_group(const AttentionTask& t, int index) {
  const QueryGroup group = query_group(t, index);
  const V::F scale = V::set1(1.0f / __builtin_sqrtf(float(t.dim)));
  const int rows = t.tokens * t.heads;
  for (int tile = 0; tile < kPanelLanes; tile += 16) {
    QueryRow row[16];
    for (int i = 0; i < 16; i++) {
      const int r = index * kPanelLanes + tile + i;
      row[i] = query_row(t, r < rows ? r : rows - 1);
      group.seen_first[tile + i] = float(row[i].first), group.seen_last[tile + i] = float(row[i].end - 1);
      // A sink is as a key that was seen before all others, whose value is zero.
      group.most[tile + i] = t.sinks ? t.sinks[(r < rows ? r : rows - 1) % t.heads] : -1e30f;
      group.total[tile + i] = t.sinks ? 1.0f : 0.0f;
    }
    each16(t.dim, [&](int d, int count) {
      V::F x[16];
      for (int i = 0; i < 16; i++) x[i] = V::mul(load_part(row[i].query + d, count), scale);
      V::transpose(x);
      for (int i = 0; i < count; i++) {
        V::store(group.queries + size_t(d + i) * kPanelLanes + tile, x[i]);
        V::store(group.out + size_t(d + i) * kPanelLanes + tile, V::zero());
      }
    });
  }
}

inline void finish_group(const AttentionTask& t, int index) {
  const QueryGroup group = query_group(t, index);
  const int rows = t.tokens * t.heads;
  for (int tile = 0; tile < kPanelLanes; tile += 16) {
    const V::F inverse = V::div(V::set1(1), V::load(group.total + tile));
    each16(t.dim, [&](int d, int count) {
      V::F x[16];
      for (int i = 0; i < 16; i++)
        x[i] = i < count ? V::mul(V::load(group.out + size_t(d + i) * kPanelLanes + tile), inverse) : V::zero();
      V::transpose(x);
      for (int i = 0; i < 16 && index * kPanelLanes + tile + i < rows; i++)
        store_part(query_row(t, index * kPanelLanes + tile + i).out + d, x[i], count);
    });
  }
}

// scores [count, lanes] = keys [count, dim] . queries
inline void score_keys(const QueryGroup& group, const float* keys, int count, int dim, float* scores) {
  in_blocks(count, [&](auto columns, int at) {
    constexpr int kColumns = decltype(columns)::value;
    V::F sum[kColumns][V::kFloatTiles];
    const float* key[kColumns];
    for (int t = 0; t < kColumns; t++) {
      key[t] = keys + size_t(at + t) * dim;
      for (auto& s : sum[t]) s = V::zero();
    }
    add_products(sum, group.queries, dim, [&](int t, int d) { return key[t][d]; });
    for (int t = 0; t < kColumns; t++)
      for (int i = 0; i < V::kFloatTiles; i++) V::store(scores + (at + t) * kPanelLanes + 16 * i, sum[t][i]);
  });
}

// One step of the running softmax for 16 lanes: scores [count, lanes] of the keys from `first` -> weights; returns what
// earlier sums must be multiplied by. `Part`: not all of the lanes see all of the keys.
template <bool Part>
inline V::F soften(const QueryGroup& group, int tile, int first, int count, float* scores) {
  const V::F seen_first = V::load(group.seen_first + tile), seen_last = V::load(group.seen_last + tile);
  const auto unseen = [&](int k) {  // 0 where a lane sees a key, else -1 or less
    const V::F at = V::set1(float(first + k));
    return V::minimum(V::minimum(V::sub(at, seen_first), V::sub(seen_last, at)), V::zero());
  };
  const V::F before = V::load(group.most + tile);
  V::F most = before;
  for (int k = 0; k < count; k++) {
    float* line = scores + k * kPanelLanes + tile;
    V::F score = V::load(line);
    if constexpr (Part) V::store(line, score = V::fma(unseen(k), V::set1(1e32f), score));
    most = V::maximum(most, score);
  }
  const V::F change = exponential(V::sub(before, most));
  V::F total = V::mul(V::load(group.total + tile), change);
  for (int k = 0; k < count; k++) {
    float* line = scores + k * kPanelLanes + tile;
    V::F weight = exponential(V::sub(V::load(line), most));
    if constexpr (Part) weight = V::mul(weight, V::add(V::maximum(unseen(k), V::set1(-1)), V::set1(1)));
    V::store(line, weight);
    total = V::add(total, weight);
  }
  V::store(group.most + tile, most);
  V::store(group.total + tile, total);
  return change;
}

// out = out * change + weights [count, lanes] . values [count, dim]
inline void add_values(const QueryGroup& group, const V::F* change, const float* weights, const float* values, int count,
                       int dim) {
  in_blocks(dim, [&](auto columns, int at) {
    constexpr int kColumns = decltype(columns)::value;
    V::F sum[kColumns][V::kFloatTiles];
    float* out = group.out + size_t(at) * kPanelLanes;
    for (int d = 0; d < kColumns; d++)
      for (int i = 0; i < V::kFloatTiles; i++)
        sum[d][i] = V::mul(V::load(out + d * kPanelLanes + 16 * i), change[i]);
    const float* value = values + at;
    add_products(sum, weights, count, [&](int d, int k) { return value[size_t(k) * dim + d]; });
    for (int d = 0; d < kColumns; d++)
      for (int i = 0; i < V::kFloatTiles; i++) V::store(out + d * kPanelLanes + 16 * i, sum[d][i]);
  });
}

void attend(const AttentionTask& t) {
  const int rows = t.tokens * t.heads, groups = (rows + kPanelLanes - 1) / kPanelLanes, last = t.start + t.tokens;
  float* keys = t.scratch + size_t(groups) * kPanelLanes * size_t(2 * t.dim + 4);  // [64, dim]
  float* values = keys + size_t(kKeyBlock) * t.dim;                                // [64, dim]
  float* scores = values + size_t(kKeyBlock) * t.dim;                              // [64, lanes]
  for (int i = 0; i < groups; i++) start_group(t, i);
  for (int block = query_row(t, 0).first / kKeyBlock * kKeyBlock; block < last; block += kKeyBlock) {
    for (int k = 0; k < kKeyBlock && block + k < last; k++) {
      read_cached(t.keys, t.cache_format, block + k, t.dim, keys + size_t(k) * t.dim);
      read_cached(t.values, t.cache_format, block + k, t.dim, values + size_t(k) * t.dim);
    }
    for (int i = 0; i < groups; i++) {
      const QueryGroup group = query_group(t, i);
      const int first = group.first > block ? group.first : block;
      const int end = group.end < block + kKeyBlock ? group.end : block + kKeyBlock, count = end - first;
      if (count <= 0) continue;
      score_keys(group, keys + size_t(first - block) * t.dim, count, t.dim, scores);
      V::F change[V::kFloatTiles];
      const bool part = group.first_of_all > first || group.end_of_all < end;
      for (int tile = 0; tile < V::kFloatTiles; tile++)
        change[tile] = part ? soften<true>(group, 16 * tile, first, count, scores)
                            : soften<false>(group, 16 * tile, first, count, scores);
      add_values(group, change, scores, values + size_t(first - block) * t.dim, count, t.dim);
    }
  }
  for (int i = 0; i < groups; i++) finish_group(t, i);
}

}  // namespace
