// Vectors of floats for the encoder, and fp16 in plain integers. Included once per instruction set, inside encode.cpp: all
// has internal linkage.
#pragma once
#include <cstdint>
#include <cstring>

#if ROOFTOP_LANES >= 8
#include <immintrin.h>
#endif

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
typedef uint32_t U __attribute__((vector_size(4 * kLanes)));

// The greater and the smaller of two, the second where one is not a number; compilers make two steps of the plain words.
inline void least(F& v, const F& low) {
#if defined(ROOFTOP_ISA_AVX512)
  v = F(_mm512_max_ps(__m512(v), __m512(low)));
#elif ROOFTOP_LANES == 8
  v = F(_mm256_max_ps(__m256(v), __m256(low)));
#else
  v = v > low ? v : low;
#endif
}

inline void most(F& v, const F& high) {
#if defined(ROOFTOP_ISA_AVX512)
  v = F(_mm512_min_ps(__m512(v), __m512(high)));
#elif ROOFTOP_LANES == 8
  v = F(_mm256_min_ps(__m256(v), __m256(high)));
#else
  v = v < high ? v : high;
#endif
}

// The nearest whole number from low to high, halves to even.
inline void nearest(F& v, float low, float high) {
#if defined(ROOFTOP_ISA_AVX512)
  v = F(_mm512_roundscale_ps(__m512(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif ROOFTOP_LANES == 8
  v = F(_mm256_round_ps(__m256(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  v = (v + 12582912.0f) - 12582912.0f;  // the sum has no bits left below 1
#endif
  least(v, F{} + low), most(v, F{} + high);
}

inline void invert(const F& scale, F& inverse) {
  const F one = F{} + 1.0f;
  inverse = scale > F{} ? one / (scale > F{} ? scale : one) : F{};
}

// What fp16's bits mean; the product with 2^112, where fp16's exponents begin, is exact for subnormals too.
inline void from_halves(const U& halves, F& values) {
  const F scaled = F((halves & 0x7fff) << 13) * 5.192296858534828e33f;
  const U bits = (halves & 0x7c00) == 0x7c00 ? 0x7f800000 | (halves & 0x3ff) << 13 : U(scaled);
  values = F(bits | (halves & 0x8000) << 16);
}

// The bits of what fp16 keeps.
inline void to_halves(const F& values, U& halves) {
  const U bits = U(values) & 0x7fffffff;
  const U subnormal = U(F(bits) + 0.5f) - 0x3f000000;  // the sum has no bits left below 2^-24
  const U normal = ((bits + 0xfff + (bits >> 13 & 1)) >> 13) - (112 << 10);
  const U large = bits > 0x7f800000 ? U{} + 0x7e00 : U{} + 0x7c00;
  halves = bits >= 0x47800000 ? large : bits < 0x38800000 ? subnormal : normal;
  halves |= U(values) >> 16 & 0x8000;
}

// As fp16 keeps them.
inline void round_to_half(F& values) {
  U halves;
  to_halves(values, halves);
  from_halves(halves, values);
}

}  // namespace
