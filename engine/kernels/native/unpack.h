// How each block format is read: 32 columns of a tile of 16 rows at a time, as docs/packed-layout.md lays them out.
//
// A format gives, for group s (32 columns) of a tile, eight vectors of codes (vector p holds columns 4p .. 4p+3, row r
// in lane r), and per row a scale for each 32 or 16 columns, with a bias where it has one:
//     weight = scale * (code - offset) + bias
// Codes are below 2^kBits; `kOffsetBits` is log2 of the offset, -1 for none. `kTurn`: groups of a tile that a turn of the
// loop over memory takes. With 4 or 8 side by side, loads lie far from those of the turn before and memory is read at 80
// to 90 % of its speed; with 2, shifts are no constants.
#pragma once
#include "formats.h"

namespace {

using rooftop::kTileRows;

struct Scales {
  V::F scale[2], bias[2];  // [1] only where a format has groups of 16
};

struct Head {  // what the groups of a tile share
  V::F scale, bias;
};

struct Plain32 {  // what most formats share: one block of 32 columns, an fp16 scale a row, no bias
  static constexpr int kColumns = 32, kTurn = 1;
  static constexpr bool kHalves = false, kBias = false, kWide = false;
  static inline Head head(const uint8_t* tile) { return {V::half(tile), V::zero()}; }
  static inline void scales(const uint8_t*, int, const Head& head, Scales* out) {
    out->scale[0] = head.scale, out->bias[0] = head.bias;
  }
};

inline void nibbles(const uint8_t* lines, V::B* v) {  // low halves: columns 0..15, high halves: columns 16..31
  for (int c = 0; c < 4; c++) {
    const V::B line = V::line(lines + 64 * c);
    v[c] = V::right(line, 0, 15);
    v[4 + c] = V::right(line, 4, 15);
  }
}

inline void add_high_bits(const uint8_t* plane, V::B* v) {
  const V::B bits = V::line(plane);
  for (int p = 0; p < 8; p++)
    v[p] = V::bor(v[p], p <= 4 ? V::left(bits, 4 - p, 16) : V::right(bits, p - 4, 16));
}

inline void table(const uint8_t* values, V::B* v) {
  for (int p = 0; p < 8; p++) v[p] = V::lookup(values, v[p]);
}

struct Q8_0 : Plain32 {
  static constexpr int kBytes = 544, kBits = 8, kOffsetBits = 7;
  static constexpr bool kWide = true;
  static inline void codes(const uint8_t* tile, int, V::B* v) {
    for (int p = 0; p < 8; p++) v[p] = V::flip(V::line(tile + 32 + 64 * p));
  }
};

struct Q4_0 : Plain32 {
  static constexpr int kBytes = 288, kBits = 4, kOffsetBits = 3;
  static inline void codes(const uint8_t* tile, int, V::B* v) { nibbles(tile + 32, v); }
};

struct Q4_1 : Plain32 {
  static constexpr int kBytes = 320, kBits = 4, kOffsetBits = -1;
  static constexpr bool kBias = true;
  static inline Head head(const uint8_t* tile) { return {V::half(tile), V::half(tile + 32)}; }
  static inline void codes(const uint8_t* tile, int, V::B* v) { nibbles(tile + 64, v); }
};

struct Q5_0 : Plain32 {
  static constexpr int kBytes = 352, kBits = 5, kOffsetBits = 4;
  static inline void codes(const uint8_t* tile, int, V::B* v) {
    nibbles(tile + 96, v);
    add_high_bits(tile + 32, v);
  }
};

struct Q5_1 : Q4_1 {
  static constexpr int kBytes = 384, kBits = 5;
  static inline void codes(const uint8_t* tile, int, V::B* v) {
    nibbles(tile + 128, v);
    add_high_bits(tile + 64, v);
  }
};

// Values of IQ4_NL + 128 and of MXFP4 * 2 + 16, by code.
alignas(16) constexpr uint8_t kNonLinear[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                129, 141, 153, 166, 181, 197, 217, 241};
alignas(16) constexpr uint8_t kFloat4[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct IQ4_NL : Plain32 {
  static constexpr int kBytes = 288, kBits = 8, kOffsetBits = 7;
  static constexpr bool kWide = true;
  static inline void codes(const uint8_t* tile, int, V::B* v) {
    nibbles(tile + 32, v);
    table(kNonLinear, v);
  }
};

struct MXFP4 : Plain32 {
  static constexpr int kBytes = 272, kBits = 5, kOffsetBits = 4;
  static inline Head head(const uint8_t* tile) {  // 2^(e - 127), halved because values are doubled
    return {V::mul(V::as_float(V::ishl<23>(V::bytes(tile))), V::set1(0.5f)), V::zero()};
  }
  static inline void codes(const uint8_t* tile, int, V::B* v) {
    nibbles(tile + 16, v);
    table(kFloat4, v);
  }
};

struct Plain256 {
  static constexpr int kColumns = 256, kTurn = 2;
  static constexpr bool kHalves = false, kBias = false, kWide = false;
  static inline Head head(const uint8_t* tile) { return {V::half(tile), V::zero()}; }
};

// The scale, and minus the scale of the mins: they begin the tiles of Q2_K, Q4_K and Q5_K.
inline Head scale_and_minus_min(const uint8_t* tile) {
  return {V::half(tile), V::sub(V::zero(), V::half(tile + 32))};
}

// Scales and mins of Q4_K and Q5_K, which begin their tiles alike.
inline void scales_and_mins(const uint8_t* tile, int s, const Head& head, Scales* out) {
  const V::I low = V::bytes(tile + 64 + 16 * s), high = V::ishr(V::bytes(tile + 192 + 16 * (s / 2)), 4 * (s & 1));
  const V::I scale = V::ior(V::iand(low, 15), V::ishl<4>(V::iand(high, 3)));
  const V::I min = V::ior(V::ishr(low, 4), V::ishl<2>(V::iand(high, 12)));
  out->scale[0] = V::mul(head.scale, V::to_float(scale));
  out->bias[0] = V::mul(head.bias, V::to_float(min));
}

// The nibbles of Q4_K and Q5_K: two groups share eight lines.
inline void paired_nibbles(const uint8_t* lines, int s, V::B* v) {
  lines += 512 * (s / 2);
  for (int p = 0; p < 8; p++) v[p] = V::right(V::line(lines + 64 * p), 4 * (s & 1), 15);
}

struct Q4_K : Plain256 {
  static constexpr int kBytes = 2304, kBits = 4, kOffsetBits = -1;
  static constexpr bool kBias = true;
  static inline Head head(const uint8_t* tile) { return scale_and_minus_min(tile); }
  static inline void scales(const uint8_t* tile, int s, const Head& head, Scales* out) {
    scales_and_mins(tile, s, head, out);
  }
  static inline void codes(const uint8_t* tile, int s, V::B* v) { paired_nibbles(tile + 256, s, v); }
};

struct Q5_K : Q4_K {
  static constexpr int kBytes = 2816, kBits = 5;
  static inline void codes(const uint8_t* tile, int s, V::B* v) {
    paired_nibbles(tile + 768, s, v);
    for (int p = 0; p < 8; p++) {
      const V::B bits = V::right(V::line(tile + 256 + 64 * p), s / 4 * 4, 255);
      v[p] = V::bor(v[p], V::left(bits, 4 - s % 4, 16));
    }
  }
};

struct Q6_K : Plain256 {
  static constexpr int kBytes = 3360, kBits = 6, kOffsetBits = 5;
  static constexpr bool kHalves = true;
  static inline void scales(const uint8_t* tile, int s, const Head& head, Scales* out) {
    for (int h = 0; h < 2; h++)
      out->scale[h] = V::mul(head.scale, V::to_float(V::signed_bytes(tile + 32 + 16 * (2 * s + h))));
  }
  static inline void codes(const uint8_t* tile, int s, V::B* v) {
    const int half = s / 4, odd = s % 2, shift = s / 2 % 2 * 4;
    const uint8_t* low = tile + 288 + 64 * (16 * half + 8 * odd);
    const uint8_t* high = tile + 288 + 2048 + 512 * half;
    for (int p = 0; p < 8; p++) {
      const V::B bits = V::right(V::line(high + 64 * p), shift, 255);
      v[p] = V::bor(V::right(V::line(low + 64 * p), shift, 15), V::left(bits, 4 - 2 * odd, 48));
    }
  }
};

// A 6-bit scale whose low halves lie two to a byte and whose upper pairs of bits lie four to a byte.
inline V::I packed_scale(const uint8_t* low, const uint8_t* high, int g) {
  const V::I l = V::iand(V::ishr(V::bytes(low + 16 * (g / 2)), 4 * (g & 1)), 15);
  const V::I h = V::iand(V::ishr(V::bytes(high + 16 * (g / 4)), 2 * (g & 3)), 3);
  return V::iadd(V::ior(l, V::ishl<4>(h)), V::iset1(-32));
}

// Two bits a code, four groups to a line: Q2_K and Q3_K.
inline void crumbs(const uint8_t* lines, int s, V::B* v) {
  for (int p = 0; p < 8; p++) v[p] = V::right(V::line(lines + 512 * (s / 4) + 64 * p), 2 * (s % 4), 3);
}

struct Q3_K : Plain256 {
  static constexpr int kBytes = 1760, kBits = 3, kOffsetBits = 2, kTurn = 4;  // arithmetic is its limit
  static constexpr bool kHalves = true;
  static inline void scales(const uint8_t* tile, int s, const Head& head, Scales* out) {
    for (int h = 0; h < 2; h++)
      out->scale[h] = V::mul(head.scale, V::to_float(packed_scale(tile + 32, tile + 160, 2 * s + h)));
  }
  static inline void codes(const uint8_t* tile, int s, V::B* v) {
    crumbs(tile + 224 + 512, s, v);
    for (int p = 0; p < 8; p++) {
      const V::B bits = V::right(V::line(tile + 224 + 64 * p), s / 4 * 4, 255);
      v[p] = V::bor(v[p], s % 4 <= 2 ? V::left(bits, 2 - s % 4, 4) : V::right(bits, s % 4 - 2, 4));
    }
  }
};

struct Q2_K : Plain256 {
  static constexpr int kBytes = 1344, kBits = 2, kOffsetBits = -1;
  static constexpr bool kHalves = true, kBias = true;
  static inline Head head(const uint8_t* tile) { return scale_and_minus_min(tile); }
  static inline void scales(const uint8_t* tile, int s, const Head& head, Scales* out) {
    for (int h = 0; h < 2; h++) {
      const V::I both = V::bytes(tile + 64 + 16 * (2 * s + h));
      out->scale[h] = V::mul(head.scale, V::to_float(V::iand(both, 15)));
      out->bias[h] = V::mul(head.bias, V::to_float(V::ishr(both, 4)));
    }
  }
  static inline void codes(const uint8_t* tile, int s, V::B* v) { crumbs(tile + 320, s, v); }
};

struct IQ4_XS : Plain256 {
  static constexpr int kBytes = 2176, kBits = 8, kOffsetBits = 7;
  static constexpr bool kWide = true;
  static inline void scales(const uint8_t* tile, int s, const Head& head, Scales* out) {
    out->scale[0] = V::mul(head.scale, V::to_float(packed_scale(tile + 32, tile + 96, s)));
  }
  static inline void codes(const uint8_t* tile, int s, V::B* v) {
    nibbles(tile + 128 + 256 * s, v);
    table(kNonLinear, v);
  }
};

}  // namespace
