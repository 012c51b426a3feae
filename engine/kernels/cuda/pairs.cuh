// The types of a cache's numbers, in pairs: as the matrix unit takes them, and multiplied by hand where it does not.
//
// All say the same of a product sums[16 x 8] += a[16 x 16] b[16 x 8]: `multiply_fp16` in device.cuh tells which lane
// holds what. Sums are in fp32.
#pragma once
#include "device.cuh"

// A product with fp32 units: the lanes hand their pairs around. 64 shuffles in fp32, half of them in 16 bits.
template <class P>
__device__ inline void multiply_by_hand(float (&sums)[4], const typename P::Pair (&a)[4],
                                        const typename P::Pair (&b)[2]) {
  const Lane at = this_lane();
#pragma unroll 1
  for (int quad = 0; quad < 4; quad++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float2 upper = P::floats(P::of_lane(a[2 * half], 4 * at.pair + quad));
      const float2 lower = P::floats(P::of_lane(a[2 * half + 1], 4 * at.pair + quad));
      const float2 left = P::floats(P::of_lane(b[half], 8 * at.quad + quad));
      const float2 right = P::floats(P::of_lane(b[half], 8 * at.quad + 4 + quad));
      sums[0] = fmaf(upper.y, left.y, fmaf(upper.x, left.x, sums[0]));
      sums[1] = fmaf(upper.y, right.y, fmaf(upper.x, right.x, sums[1]));
      sums[2] = fmaf(lower.y, left.y, fmaf(lower.x, left.x, sums[2]));
      sums[3] = fmaf(lower.y, right.y, fmaf(lower.x, right.x, sums[3]));
    }
  }
}

struct Float32 {
  using Pair = float2;
  static constexpr int kType = kFloat32, kBytes = 4;
  __device__ static Pair pair(float first, float second) { return {first, second}; }
  __device__ static float2 floats(Pair pair) { return pair; }
  __device__ static Pair of_lane(Pair pair, int lane) {
    return {__shfl_sync(kWholeWarp, pair.x, lane), __shfl_sync(kWholeWarp, pair.y, lane)};
  }
  __device__ static Pair firsts(Pair a, Pair b) { return {a.x, b.x}; }
  __device__ static Pair seconds(Pair a, Pair b) { return {a.y, b.y}; }
  __device__ static void multiply(float (&sums)[4], const Pair (&a)[4], const Pair (&b)[2]) {
    multiply_by_hand<Float32>(sums, a, b);
  }
};

struct SixteenBits {
  using Pair = Word;
  static constexpr int kBytes = 2;
  __device__ static Pair of_lane(Pair pair, int lane) { return __shfl_sync(kWholeWarp, pair, lane); }
  __device__ static Pair firsts(Pair a, Pair b) { return __byte_perm(a, b, 0x5410); }
  __device__ static Pair seconds(Pair a, Pair b) { return __byte_perm(a, b, 0x7632); }
};

struct Float16 : SixteenBits {
  static constexpr int kType = kFloat16;
  __device__ static Pair pair(float first, float second) {
    return float_to_half(first) | static_cast<Word>(float_to_half(second)) << 16;
  }
  __device__ static void multiply(float (&sums)[4], const Pair (&a)[4], const Pair (&b)[2]) {
    multiply_fp16(sums, a, b);
  }
};

// Of compute capability 7.5, and so that it can be tried anywhere.
struct Bfloat16ByHand : SixteenBits {
  static constexpr int kType = kBfloat16;
  __device__ static Pair pair(float first, float second) {
    return float_to_bfloat(first) | static_cast<Word>(float_to_bfloat(second)) << 16;
  }
  __device__ static float2 floats(Pair pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000)};
  }
  __device__ static void multiply(float (&sums)[4], const Pair (&a)[4], const Pair (&b)[2]) {
    multiply_by_hand<Bfloat16ByHand>(sums, a, b);
  }
};

struct Bfloat16 : Bfloat16ByHand {
#ifdef ROOFTOP_MULTIPLIES_BF16
  __device__ static void multiply(float (&sums)[4], const Pair (&a)[4], const Pair (&b)[2]) {
    multiply_bf16(sums, a, b);
  }
#endif
};

// Eight neighbours; they lie at a multiple of their size, or of 16 bytes.
template <class P>
struct Eight {
  typename P::Pair pairs[4];

  __device__ static Eight at(const void* address) {
    if constexpr (P::kBytes == 2) {
      const uint4 words = load<uint4>(address);
      return {{words.x, words.y, words.z, words.w}};
    } else {
      const float4 first = load<float4>(address), second = load<float4>(static_cast<const float*>(address) + 4);
      return {{{first.x, first.y}, {first.z, first.w}, {second.x, second.y}, {second.z, second.w}}};
    }
  }
};
