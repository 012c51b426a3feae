// Attention of 1 to 8 tokens of one sequence over the keys and values in its cache: two kernels, one after the other.
//
// `attend`: a block takes one of `splits` equal parts of what can be seen, for one key/value head and all queries of it
// (heads / kv_heads of each token; `rows`, in tiles of 16). A warp takes 16 keys at a time for one tile; warps with the
// same keys and other tiles find them in the first cache. Softmax goes along: scores are kept against the largest of
// those before. `combine`: a block adds up what the parts found for one query.
//
// Keys and values go from memory into the matrix unit's operands as they are. What it sums over may be in any order, if
// only both operands are in the same: a lane takes 8 neighbouring columns of a key where the unit thinks of four pairs,
// and 8 of each of 4 values, which 16 exchanges of halves turn into 8 operands.
//
// The position is read when the kernels run; the grid and all addresses are those of the whole cache.
#pragma once
#include "pairs.cuh"

struct AttendArguments {  // struct Attend in gpu_decoder_plans.py
  const void* position;   // of the first token
  const void* queries;    // [tokens, heads, head_dim], of the cache's type
  const void* keys;       // [kv_heads, capacity, head_dim]
  const void* values;
  float* sums;            // [tokens * heads, splits, head_dim]
  float2* extents;        // [tokens * heads, splits]: the largest score, what the exponentials add up to
  void* out;              // [tokens, heads, head_dim] of `type`
  float scale;            // of scores: they are powers of 2 then
  int position_bytes, tokens, heads, kv_heads, capacity, window, splits, tiles, type;
};

constexpr int kTile = 16, kTileKeys = 16;
constexpr float kUnseen = -3e38f, kLowest = -1e30f;  // 2 to the power of their difference is 0

// The keys that any token of the pass sees, and how many a part has: whole tiles for all warps of a block.
struct Span {
  int start, first, end, part;
};

__device__ inline Span span_of(const AttendArguments& a) {
  Span span;
  span.start = position_at(a.position, a.position_bytes);
  span.end = min(span.start + a.tokens, a.capacity);
  span.first = a.window > 0 ? max(span.start - a.window + 1, 0) : 0;
  const int step = kTileKeys * (kWarps / a.tiles);
  const int share = max(span.end - span.first + a.splits - 1, 1) / a.splits;
  span.part = max((share + step - 1) / step, 1) * step;
  return span;
}

// Query `row` of a key/value head: its place among all, [tokens, heads]. Rows past the last repeat it.
__device__ inline int query_of(const AttendArguments& a, int kv_head, int row) {
  const int group = a.heads / a.kv_heads, last = a.tokens * group - 1, kept = min(row, last);
  return kept / group * a.heads + kv_head * group + kept % group;
}

// What a warp has of 16 queries: lane 4g + q of rows g and g + 8. Sums: columns 64 p + 8 (2q + i) + n at [p][n], i = 0
// and 1 of row g, then of row g + 8.
template <class P, int kColumns>
struct Found {
  static constexpr int kParts = (kColumns + 63) / 64;
  float largest[2] = {kLowest, kLowest}, total[2] = {};  // totals of this lane's keys
  float sums[kParts][8][4] = {};

  // Scores of 16 keys become their shares of the sums; what was there shrinks where a larger score came.
  __device__ void weigh(float (&scores)[2][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float top = largest[h];
      for (int n = 0; n < 2; n++) top = fmaxf(top, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
      for (int step = 1; step < 4; step *= 2) top = fmaxf(top, __shfl_xor_sync(kWholeWarp, top, step));
      const float shrink = exp2f(largest[h] - top);
      largest[h] = top, total[h] *= shrink;
      for (int n = 0; n < 2; n++) {
        for (int i = 2 * h; i < 2 * h + 2; i++) {
          scores[n][i] = exp2f(scores[n][i] - top);
          total[h] += scores[n][i];
        }
      }
#pragma unroll
      for (int p = 0; p < kParts; p++)
        for (int n = 0; n < 8; n++) sums[p][n][2 * h] *= shrink, sums[p][n][2 * h + 1] *= shrink;
    }
  }
};

// One warp's way along its keys.
template <class P, int kColumns>
struct Scan {
  const Byte *queries[2], *keys, *values;  // rows g and g + 8; the head's cache
  int first[2], last[2], end;              // keys that those rows see; of the part
  float scale;
  Lane at;

  __device__ Scan(const AttendArguments& a, const Span& span, int kv_head, int tile, int part_end, Lane lane)
      : end(part_end), scale(a.scale), at(lane) {
    const long long head = static_cast<long long>(kv_head) * a.capacity * kColumns * P::kBytes;
    keys = static_cast<const Byte*>(a.keys) + head, values = static_cast<const Byte*>(a.values) + head;
    for (int h = 0; h < 2; h++) {
      const int query = query_of(a, kv_head, kTile * tile + 8 * h + at.pair);
      queries[h] = static_cast<const Byte*>(a.queries) + static_cast<long long>(query) * kColumns * P::kBytes;
      last[h] = min(span.start + query / a.heads, end - 1);
      first[h] = a.window > 0 ? span.start + query / a.heads - a.window + 1 : 0;
    }
  }

  // Eight columns of a row of the cache or of a query; zeros past the last column.
  __device__ static Eight<P> eight(const Byte* row, int column) {
    return column < kColumns ? Eight<P>::at(row + column * P::kBytes) : Eight<P>{};
  }
  __device__ static const Byte* row(const Byte* cache, int key) {
    return cache + static_cast<long long>(key) * kColumns * P::kBytes;
  }

  // Of keys key .. key + 15, [n]: 8 n + 2 q and the next, of row g, then of row g + 8.
  __device__ void score(int key, float (&scores)[2][4]) const {
    const Byte* rows[2];  // past the last key, that one again
    for (int n = 0; n < 2; n++) rows[n] = row(keys, min(key + 8 * n + at.pair, end - 1));
#pragma unroll
    for (int begin = 0; begin < kColumns; begin += 32) {
      const int column = begin + 8 * at.quad;
      const Eight<P> upper = eight(queries[0], column), lower = eight(queries[1], column);
      const Eight<P> found[2] = {eight(rows[0], column), eight(rows[1], column)};
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const typename P::Pair a[4] = {upper.pairs[i], lower.pairs[i], upper.pairs[i + 1], lower.pairs[i + 1]};
        for (int n = 0; n < 2; n++) {
          const typename P::Pair b[2] = {found[n].pairs[i], found[n].pairs[i + 1]};
          P::multiply(scores[n], a, b);
        }
      }
    }
    for (int n = 0; n < 2; n++) {
      for (int i = 0; i < 4; i++) {
        const int seen = key + 8 * n + 2 * at.quad + i % 2;
        scores[n][i] = seen >= first[i / 2] && seen <= last[i / 2] ? scores[n][i] * scale : kUnseen;
      }
    }
  }

  // Adds the values of keys key .. key + 15, of which `shares` is what `weigh` made of the scores.
  __device__ void add(int key, const float (&shares)[2][4], Found<P, kColumns>& found) const {
    typename P::Pair a[4];
    for (int i = 0; i < 4; i++) a[i] = P::pair(shares[i / 2][i % 2 * 2], shares[i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int p = 0; p < Found<P, kColumns>::kParts; p++) {
      Eight<P> rows[4];
      for (int i = 0; i < 4; i++) {  // what nobody has written yet may be no number, which no share makes 0
        const int one = key + 2 * at.quad + i % 2 + i / 2 * 8;
        rows[i] = one < end ? eight(row(values, one), 64 * p + 8 * at.pair) : Eight<P>{};
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const typename P::Pair even[2] = {P::firsts(rows[0].pairs[i], rows[1].pairs[i]),
                                          P::firsts(rows[2].pairs[i], rows[3].pairs[i])};
        const typename P::Pair odd[2] = {P::seconds(rows[0].pairs[i], rows[1].pairs[i]),
                                         P::seconds(rows[2].pairs[i], rows[3].pairs[i])};
        P::multiply(found.sums[p][2 * i], a, even);
        P::multiply(found.sums[p][2 * i + 1], a, odd);
      }
    }
  }
};

// Where the warps of a block bring together what they found.
struct Gathering {
  static constexpr int kSlice = 32;
  float largest[kWarps][kTile], totals[kWarps][kTile];  // of a warp's rows; `largest` turns into the warp's weight
  float sums[kWarps][kTile][kSlice];

  // One of `tiles * 16` threads for each row: warps tile, tile + tiles, ... have it.
  __device__ void weigh(const AttendArguments& a, int kv_head) {
    const int row = static_cast<int>(threadIdx.x), place = row % kTile;
    if (row >= kTile * a.tiles) return;
    float top = kLowest, total = 0;
    for (int w = row / kTile; w < kWarps; w += a.tiles) top = fmaxf(top, largest[w][place]);
    for (int w = row / kTile; w < kWarps; w += a.tiles) {
      largest[w][place] = exp2f(largest[w][place] - top);
      total += largest[w][place] * totals[w][place];
    }
    if (row >= a.tokens * (a.heads / a.kv_heads)) return;
    const long long query = query_of(a, kv_head, row);
    store(a.extents + query * a.splits + blockIdx.x, float2{top, total});
  }

  // Columns `first` + 8 i of 64: those of even or odd eights.
  template <int kColumns>
  __device__ void add_slice(const AttendArguments& a, int kv_head, int first) const {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * a.tiles * kSlice; i += kThreads) {
      const int row = i / kSlice, place = row % kTile, slot = i % kSlice;
      const int column = first + slot / 8 * 16 + slot % 8;
      if (row >= a.tokens * (a.heads / a.kv_heads) || column >= kColumns) continue;
      float sum = 0;
      for (int w = row / kTile; w < kWarps; w += a.tiles) sum = fmaf(largest[w][place], sums[w][place][slot], sum);
      const long long query = query_of(a, kv_head, row);
      store(a.sums + (query * a.splits + blockIdx.x) * kColumns + column, sum);
    }
  }
};

template <class P, int kColumns>
__device__ inline void gather(const AttendArguments& a, int kv_head, Found<P, kColumns>& found, Lane at,
                              Gathering& gathering) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float total = found.total[h];
    for (int step = 1; step < 4; step *= 2) total += __shfl_xor_sync(kWholeWarp, total, step);
    if (at.quad != 0) continue;
    gathering.largest[at.warp][8 * h + at.pair] = found.largest[h];
    gathering.totals[at.warp][8 * h + at.pair] = total;
  }
  __syncthreads();
  gathering.weigh(a, kv_head);
#pragma unroll
  for (int p = 0; p < Found<P, kColumns>::kParts; p++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      for (int h = 0; h < 2; h++)
        for (int n = 0; n < 8; n++)
          gathering.sums[at.warp][8 * h + at.pair][8 * at.quad + n] = found.sums[p][n][2 * h + i];
      __syncthreads();
      gathering.template add_slice<kColumns>(a, kv_head, 64 * p + 8 * i);
      __syncthreads();
    }
  }
}

template <class P, int kColumns>
__device__ inline void attend_part(const AttendArguments& a) {
  __shared__ Gathering gathering;
  const Lane at = this_lane();
  const int kv_head = static_cast<int>(blockIdx.y);
  const Span span = span_of(a);
  const int begin = span.first + static_cast<int>(blockIdx.x) * span.part;
  if (begin >= span.end) return;
  const int end = min(begin + span.part, span.end);
  const Scan<P, kColumns> scan(a, span, kv_head, at.warp % a.tiles, end, at);
  Found<P, kColumns> found;
  for (int key = begin + at.warp / a.tiles * kTileKeys; key < end; key += kWarps / a.tiles * kTileKeys) {
    float scores[2][4] = {};
    scan.score(key, scores);
    found.weigh(scores);
    scan.add(key, scores, found);
  }
  gather(a, kv_head, found, at, gathering);
}

// A thread to a column.
template <int kColumns>
__device__ inline void combine_parts(const AttendArguments& a) {
  const int column = static_cast<int>(threadIdx.x);
  if (column >= kColumns) return;
  const Span span = span_of(a);
  const int parts = (span.end - span.first + span.part - 1) / span.part;
  const long long first = static_cast<long long>(blockIdx.x) * a.splits;
  float top = kLowest, total = 0, sum = 0;
#pragma unroll 8
  for (int s = 0; s < parts; s++) top = fmaxf(top, load<float2>(a.extents + first + s).x);
#pragma unroll 8
  for (int s = 0; s < parts; s++) {
    const float2 extent = load<float2>(a.extents + first + s);
    const float weight = exp2f(extent.x - top);
    total = fmaf(weight, extent.y, total);
    sum = fmaf(weight, load<float>(a.sums + (first + s) * kColumns + column), sum);
  }
  store_as(a.out, static_cast<long long>(blockIdx.x) * kColumns + column, a.type, sum / total);
}
