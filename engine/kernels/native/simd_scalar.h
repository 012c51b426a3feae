// Vectors of 16 lanes in plain C++: the reference for the other instruction sets, and what other processors run.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

inline float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  uint32_t value;
  if (exponent == 31) {
    value = sign | 0x7f800000u | fraction << 13;
  } else if (exponent) {
    value = sign | (exponent + 112) << 23 | fraction << 13;
  } else {
    const float small = float(fraction) * (1.0f / 16777216.0f);
    std::memcpy(&value, &small, 4);
    value |= sign;
  }
  float result;
  std::memcpy(&result, &value, 4);
  return result;
}

inline uint16_t float_to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000;
  const int32_t exponent = int32_t(bits >> 23 & 255) - 112;
  const uint32_t fraction = bits & 0x7fffff;
  if (exponent >= 31) {
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return uint16_t(sign | 0x7c00 | (nan ? 0x200 : 0));
  }
  if (exponent <= 0) {
    const float scaled = std::fabs(value) * 16777216.0f;
    return uint16_t(sign | uint32_t(std::nearbyint(scaled)));
  }
  const uint32_t kept = uint32_t(exponent) << 10 | fraction >> 13, rest = fraction & 0x1fff;
  return uint16_t(sign | (kept + (rest > 0x1000 || (rest == 0x1000 && (kept & 1)))));
}

struct V {
  struct F {
    float v[16];
  };
  struct I {
    int32_t v[16];
  };
  struct B {
    uint8_t v[64];
  };
  struct A {
    int8_t v[4];
  };
  static constexpr bool kSignedWide = false;
  static constexpr int kTiles = 1, kTokens = 2;  // register block of large products
  static constexpr int kFloatTiles = 1, kFloatColumns = 4;  // and where floats are multiplied; see panels.h
  static constexpr int kFewFloatTokens = 16;  // up to so many, floats go from memory to registers
  static constexpr int kFewRows = 2, kFewFloats = 2;  // register block of theirs
  static constexpr int kFewSums = 2;  // of a row where it is alone
  static constexpr int kFewTokens = 24, kFewTokens256 = 24;  // up to so many, codes go from memory to registers
  static constexpr int kFew = 2;  // most of them at a time

#define ROOFTOP_EACH(type, expression)   \
  type r;                                \
  for (int i = 0; i < 16; i++) {         \
    r.v[i] = expression;                 \
  }                                      \
  return r

  static inline F zero() { return set1(0); }
  static inline F set1(float x) { ROOFTOP_EACH(F, x); }
  static inline F load(const float* p) { ROOFTOP_EACH(F, p[i]); }
  static inline void store(float* p, const F& x) { std::memcpy(p, x.v, sizeof x.v); }
  static inline F add(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] + y.v[i]); }
  static inline F sub(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] - y.v[i]); }
  static inline F mul(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] * y.v[i]); }
  static inline F div(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] / y.v[i]); }
  static inline F fma(const F& x, const F& y, const F& z) { ROOFTOP_EACH(F, x.v[i] * y.v[i] + z.v[i]); }
  static inline F minimum(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] < y.v[i] ? x.v[i] : y.v[i]); }
  static inline F maximum(const F& x, const F& y) { ROOFTOP_EACH(F, x.v[i] > y.v[i] ? x.v[i] : y.v[i]); }
  static inline F absolute(const F& x) { ROOFTOP_EACH(F, std::fabs(x.v[i])); }
  static inline F round(const F& x) { ROOFTOP_EACH(F, std::nearbyint(x.v[i])); }
  static inline F times_power_of_two(const F& x, const F& n) { ROOFTOP_EACH(F, std::ldexp(x.v[i], int(n.v[i]))); }
  static inline float sum(const F& x) {
    float s = 0;
    for (float v : x.v) s += v;
    return s;
  }
  static constexpr int kSums = 4;  // vectors that are summed at once
  static inline void store_sums(const F* x, float* out) {
    for (int i = 0; i < kSums; i++) out[i] = sum(x[i]);
  }
  static inline float largest(const F& x) {
    float s = x.v[0];
    for (float v : x.v) s = v > s ? v : s;
    return s;
  }
  // x[i][j] <-> x[j][i]
  static inline void transpose(F* x) {
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < i; j++) {
        const float kept = x[i].v[j];
        x[i].v[j] = x[j].v[i], x[j].v[i] = kept;
      }
  }
  static inline F half(const void* p) {
    uint16_t bits[16];
    std::memcpy(bits, p, sizeof bits);
    ROOFTOP_EACH(F, half_to_float(bits[i]));
  }
  static inline float half1(const void* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return half_to_float(bits);
  }
  static inline F bfloat(const void* p) {
    uint16_t bits[16];
    std::memcpy(bits, p, sizeof bits);
    I r;
    for (int i = 0; i < 16; i++) r.v[i] = int32_t(uint32_t(bits[i]) << 16);
    return as_float(r);
  }
  static inline void store_half(void* p, const F& x) {
    uint16_t bits[16];
    for (int i = 0; i < 16; i++) bits[i] = float_to_half(x.v[i]);
    std::memcpy(p, bits, sizeof bits);
  }
  static inline int32_t store_int8(int8_t* p, const F& x) {
    int32_t s = 0;
    for (int i = 0; i < 16; i++) {
      const int32_t rounded = int32_t(std::nearbyint(x.v[i]));
      p[i] = int8_t(rounded), s += rounded;
    }
    return s;
  }

  static inline I izero() { return iset1(0); }
  static inline I iset1(int32_t x) { ROOFTOP_EACH(I, x); }
  static inline I iadd(const I& x, const I& y) { ROOFTOP_EACH(I, x.v[i] + y.v[i]); }
  static inline I iand(const I& x, int32_t mask) { ROOFTOP_EACH(I, x.v[i] & mask); }
  static inline I ior(const I& x, const I& y) { ROOFTOP_EACH(I, x.v[i] | y.v[i]); }
  template <int n> static inline I ishl(const I& x) { ROOFTOP_EACH(I, int32_t(uint32_t(x.v[i]) << n)); }
  static inline I ishr(const I& x, int n) { ROOFTOP_EACH(I, int32_t(uint32_t(x.v[i]) >> n)); }
  static inline F to_float(const I& x) { ROOFTOP_EACH(F, float(x.v[i])); }
  static inline F as_float(const I& x) {
    F r;
    std::memcpy(r.v, x.v, sizeof r.v);
    return r;
  }
  static inline I bytes(const uint8_t* p) { ROOFTOP_EACH(I, p[i]); }
  static inline I signed_bytes(const uint8_t* p) { ROOFTOP_EACH(I, int8_t(p[i])); }
  template <int n> static inline I shifted(const int32_t* p) { return iset1(int32_t(uint32_t(*p) << n)); }

  static inline B line(const uint8_t* p) {
    B r;
    std::memcpy(r.v, p, 64);
    return r;
  }
  static inline void store_line(uint8_t* p, const B& x) { std::memcpy(p, x.v, 64); }
  static inline B panel_line(const uint8_t* p) { return line(p); }
  static inline B right(B x, int n, uint8_t mask) {
    for (auto& v : x.v) v = uint8_t(v >> n & mask);
    return x;
  }
  static inline B left(B x, int n, uint8_t mask) {
    for (auto& v : x.v) v = uint8_t(v << n & mask);
    return x;
  }
  static inline B bor(B x, const B& y) {
    for (int i = 0; i < 64; i++) x.v[i] |= y.v[i];
    return x;
  }
  static inline B flip(B x) {
    for (auto& v : x.v) v ^= 0x80;
    return x;
  }
  static inline B lookup(const uint8_t* table, B index) {
    for (auto& v : index.v) v = table[v & 15];
    return index;
  }
  static inline A spread(const int8_t* activations) {
    A r;
    std::memcpy(r.v, activations, 4);
    return r;
  }
  using P = I;
  static constexpr int most_in_partial(int) { return 8; }
  static inline P start(const I& sum) { return sum; }
  static inline P accumulate(P part, const B& codes, const A& a) {
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 4; j++) part.v[i] += int32_t(codes.v[4 * i + j]) * a.v[j];
    return part;
  }
  static inline P accumulate_wide(const P& part, const B& codes, const A& a) { return accumulate(part, codes, a); }
  static inline I finish(const I&, const P& part) { return part; }
#undef ROOFTOP_EACH
};

}  // namespace
