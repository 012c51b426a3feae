// What is done to rows between the products of a decoder layer: residual and norm; positions and the cache.
#pragma once
#include "device.cuh"

struct JoinNormArguments {  // struct JoinNorm in gpu_decoder_plans.py
  float* residual;          // [tokens, hidden_size]
  const void* first;        // [tokens, hidden_size] of `first_type`, 0 for nothing to add
  const void* second;
  const void* weight;       // [hidden_size] of `weight_type`
  void* out;                // [tokens, hidden_size] of `type`
  float epsilon;
  int hidden_size, first_type, second_type, weight_type, type;
};

__device__ inline float4 added(float4 x, float4 y) { return {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w}; }

// A block to a token, a thread to four columns at a time.
__device__ inline void join_and_norm(const JoinNormArguments& a) {
  __shared__ float sums[kWarps];
  const Lane at = this_lane();
  const long long row = static_cast<long long>(blockIdx.x) * a.hidden_size;
  const int first = 4 * static_cast<int>(threadIdx.x), step = 4 * kThreads;
  float squares = 0;
#pragma unroll 4
  for (int column = first; column < a.hidden_size; column += step) {
    float4 x = load_own<float4>(a.residual + row + column);
    if (a.first) x = added(x, load_four(a.first, row + column, a.first_type));
    if (a.second) x = added(x, load_four(a.second, row + column, a.second_type));
    if (a.first || a.second) store(a.residual + row + column, x);
    squares += x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w);
  }
  squares = warp_sum(squares);
  if (at.lane == 0) sums[at.warp] = squares;
  __syncthreads();
  float total = 0;
  for (int w = 0; w < kWarps; w++) total += sums[w];
  const float scale = rsqrtf(total / static_cast<float>(a.hidden_size) + a.epsilon);
#pragma unroll 4
  for (int column = first; column < a.hidden_size; column += step) {
    const float4 x = load_own<float4>(a.residual + row + column), w = load_four(a.weight, column, a.weight_type);
    const float values[4] = {x.x * scale * w.x, x.y * scale * w.y, x.z * scale * w.z, x.w * scale * w.w};
    store_as(a.out, row + column, a.type, values);
  }
}

struct RotateStoreArguments {       // struct RotateStore in gpu_decoder_plans.py
  const void* position;             // of the first token
  const void* qkv;                  // [tokens, heads + 2 kv_heads, head_dim] of `qkv_type`
  const void* query_norm;           // [head_dim] of `norm_type`, 0 for none
  const void* key_norm;
  const float* inverse_frequencies; // [head_dim / 2]
  void* queries;                    // [tokens, heads, head_dim] of `type`
  void* keys;                       // [kv_heads, capacity, head_dim] of `type`
  void* values;
  float epsilon;
  int position_bytes, tokens, heads, kv_heads, head_dim, capacity, qkv_type, norm_type, type;
};

constexpr int kLanePairs = 4;  // of columns i and i + head_dim / 2 in a lane, for heads of up to 256 columns

// Scales one head, spread over a warp, to a root mean square of 1, and by the weights.
__device__ inline void norm_head(const RotateStoreArguments& a, const void* weight, Lane at, float (&low)[kLanePairs],
                                 float (&high)[kLanePairs]) {
  const int half = a.head_dim / 2;
  float squares = 0;
  for (int p = 0; p < kLanePairs; p++) squares += low[p] * low[p] + high[p] * high[p];
  const float scale = rsqrtf(warp_sum(squares) / static_cast<float>(a.head_dim) + a.epsilon);
  for (int p = 0; p < kLanePairs; p++) {
    const int column = at.lane + 32 * p;
    if (column >= half) break;
    low[p] *= scale * load_as(weight, column, a.norm_type);
    high[p] *= scale * load_as(weight, column + half, a.norm_type);
  }
}

// The angle is rounded to fp32 before its sine, as torch does. sincosf reduces it exactly, however large it is: no
// `--use_fast_math` where this is compiled.
__device__ inline void rotate(float& low, float& high, int position, float frequency) {
  float sine, cosine;
  sincosf(__fmul_rn(static_cast<float>(position), frequency), &sine, &cosine);
  const float x = low, y = high;
  low = x * cosine - y * sine, high = y * cosine + x * sine;
}

// A warp to a head of a token: queries first, then keys, then values. What lies past the cache is not stored.
__device__ inline void rotate_and_store(const RotateStoreArguments& a) {
  const Lane at = this_lane();
  const int all = a.heads + 2 * a.kv_heads, half = a.head_dim / 2;
  const int index = static_cast<int>(blockIdx.x) * kWarps + at.warp;
  if (index >= a.tokens * all) return;
  const int token = index / all, head = index % all;
  const int position = position_at(a.position, a.position_bytes) + token;
  const bool is_query = head < a.heads, is_value = head >= a.heads + a.kv_heads;
  float low[kLanePairs] = {}, high[kLanePairs] = {};
  for (int p = 0; p < kLanePairs; p++) {
    const int column = at.lane + 32 * p;
    if (column >= half) break;
    low[p] = load_as(a.qkv, static_cast<long long>(index) * a.head_dim + column, a.qkv_type);
    high[p] = load_as(a.qkv, static_cast<long long>(index) * a.head_dim + column + half, a.qkv_type);
  }
  const void* weight = is_query ? a.query_norm : a.key_norm;
  if (!is_value && weight) norm_head(a, weight, at, low, high);
  if (!is_query && (position < 0 || position >= a.capacity)) return;
  const int kv_head = (head - a.heads) % a.kv_heads;
  void* out = is_query ? a.queries : is_value ? a.values : a.keys;
  const long long row = is_query ? static_cast<long long>(token) * a.heads + head
                                 : static_cast<long long>(kv_head) * a.capacity + position;
  for (int p = 0; p < kLanePairs; p++) {
    const int column = at.lane + 32 * p;
    if (column >= half) break;
    if (!is_value) rotate(low[p], high[p], position, load<float>(a.inverse_frequencies + column));
    store_as(out, row * a.head_dim + column, a.type, low[p]);
    store_as(out, row * a.head_dim + column + half, a.type, high[p]);
  }
}
