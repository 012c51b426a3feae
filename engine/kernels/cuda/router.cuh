// Which experts a token visits, and how much each of them counts.
#pragma once
#include "device.cuh"

struct RouteArguments {  // struct Route in gpu_decoder_plans.py
  const void* logits;    // [tokens, experts] of `type`
  int* ids;              // [tokens, per_token, parts]: expert * parts + part
  float* weights;        // [tokens, per_token, parts], the same for all parts of an expert
  int tokens, experts, per_token, type, over_all, parts;
};

constexpr int kLaneLogits = 16;  // experts are at most 32 times as many

// Larger for larger numbers, largest for what is none; never 0. Both zeros are equal.
__device__ inline Word order_of(float value) {
  if (value != value) return 0xFFFFFFFF;
  const Word bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

__device__ inline float value_of(Word order) {
  return __uint_as_float(order & 0x80000000 ? order & 0x7FFFFFFF : ~order);
}

struct Candidate {
  Word order;
  int id;
};

// The warp's best among those not taken yet, whose order is 0: the largest, of equals the lowest id.
__device__ inline Candidate best_of(const Word (&orders)[kLaneLogits], Lane at) {
  Candidate best = {0, 0};
  for (int i = 0; i < kLaneLogits; i++)
    if (orders[i] > best.order) best = {orders[i], 32 * i + at.lane};
  for (int step = 16; step > 0; step /= 2) {
    const Word order = __shfl_xor_sync(kWholeWarp, best.order, step);
    const int id = __shfl_xor_sync(kWholeWarp, best.id, step);
    if (order > best.order || (order == best.order && id < best.id)) best = {order, id};
  }
  return best;
}

// A warp to a token. Softmax is over the chosen logits, or over all.
__device__ inline void choose_experts(const RouteArguments& a) {
  const Lane at = this_lane();
  const int token = static_cast<int>(blockIdx.x) * kWarps + at.warp;
  if (token >= a.tokens) return;
  Word orders[kLaneLogits];
  for (int i = 0; i < kLaneLogits; i++) {
    const int id = 32 * i + at.lane;
    const long long index = static_cast<long long>(token) * a.experts + id;
    orders[i] = id < a.experts ? order_of(load_as(a.logits, index, a.type)) : 0;
  }
  float top = 0, total = 0;
  Candidate mine = {0, 0};
  for (int choice = 0; choice < a.per_token; choice++) {
    const Candidate best = best_of(orders, at);
    if (choice == 0) {
      top = value_of(best.order);
      for (int i = 0; i < kLaneLogits; i++)
        if (orders[i] != 0) total += expf(value_of(orders[i]) - top);
    }
    for (int i = 0; i < kLaneLogits; i++)
      if (32 * i + at.lane == best.id) orders[i] = 0;
    if (at.lane == choice) mine = best;
  }
  const bool chosen = at.lane < a.per_token;
  const float share = chosen ? expf(value_of(mine.order) - top) : 0;
  total = warp_sum(a.over_all ? total : share);
  if (!chosen) return;
  const int first = (token * a.per_token + at.lane) * a.parts;
  for (int part = 0; part < a.parts; part++) {
    store(a.ids + first + part, mine.id * a.parts + part);
    store(a.weights + first + part, share / total);
  }
}
