// Vectors of floats for the encoder, and fp16 in plain integers. Included once per instruction set, inside encode.cpp: all
// has internal linkage.
#pragma once
#include <cstdint>
#include <cstring>

#include "formats.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call that is not inlined
#endif

namespace {

using namespace rooftop;

constexpr int kLanes = ROOFTOP_LANES;
constexpr int kParts = kLanes < 8 ? 8 / kLanes : 1;  // vectors in hand: whole blocks of Q4_K
constexpr int kBatch = kLanes * kParts;              // groups
typedef float F __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));

inline void least(F& v, float low) {
  const F limit = F{} + low;
  v = v > limit ? v : limit;
}

inline void most(F& v, float high) {
  const F limit = F{} + high;
  v = v < limit ? v : limit;
}

// The nearest whole number from low to high; the sum has no bits left below 1, so that it is rounded there.
inline void nearest(F& v, float low, float high) {
  v = (v + 12582912.0f) - 12582912.0f;
  least(v, low), most(v, high);
}

inline void invert(const F& scale, F& inverse) {
  const F one = F{} + 1.0f;
  inverse = scale > F{} ? one / (scale > F{} ? scale : one) : F{};
}

inline uint16_t half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits >= 0x47800000) return uint16_t(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (bits < 0x38800000) {  // subnormal: the sum has no bits left below 2^-24
    float small;
    std::memcpy(&small, &bits, 4);
    small += 0.5f;
    std::memcpy(&bits, &small, 4);
    return uint16_t(sign | (bits - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return uint16_t(sign | ((bits >> 13) - (112 << 10)));
}

inline float float_of(uint16_t half) {
  uint32_t bits = uint32_t(half & 0x7fff) << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 5.192296858534828e33f;  // 2^112: fp16's exponents begin there; exact for subnormals too
  std::memcpy(&bits, &value, 4);
  if ((half & 0x7c00) == 0x7c00) bits = 0x7f800000 | uint32_t(half & 0x3ff) << 13;
  bits |= uint32_t(half & 0x8000) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

// As fp16 keeps them.
inline void round_to_half(F& values, uint16_t* halves) {
  for (int lane = 0; lane < kLanes; lane++) {
    halves[lane] = half_of(values[lane]);
    values[lane] = float_of(halves[lane]);
  }
}

}  // namespace
