// How a lane reads its part of a tile, for formats with blocks of 32 columns; k_formats.cuh has those with 256.
//
// Tiles are as docs/packed-layout.md lays them out. A line (64 bytes: 4 columns of 16 rows) is 8 bytes to each of 8
// lanes: rows 2 * pair and 2 * pair + 1, so that a warp's load is four whole lines side by side. What the matrix unit
// calls rows g and g + 8 are those two: it never asks which rows it multiplies.
//
// A format reads kGroups groups of 32 columns at a time, into Raw, without looking at them: loads stay in flight. Then
//     codes()  gives of group s the columns 4 * quad .. + 3 of both rows (a[0], a[1]) and those 16 further (a[2], a[3])
//     head()   gives what the scales of all its groups are multiples of
//     scale()  gives of both rows what codes of half h (16 columns) are multiplied with, bias() what is added:
//     weight = scale * (code - kOffset) + bias
// Scales and biases are rounded as in engine/quant/reference.py, so that unpacked weights have its bits.
#pragma once
#include "device.cuh"

constexpr Word kNibbles = 0x0F0F0F0F, kCrumbs = 0x03030303, kBits = 0x01010101;

__device__ inline float2 halves(Word pair) {
  return {half_to_float(static_cast<unsigned short>(pair)), half_to_float(static_cast<unsigned short>(pair >> 16))};
}

__device__ inline float2 scaled(float2 scale, int first, int second) {
  return {__fmul_rn(scale.x, static_cast<float>(first)), __fmul_rn(scale.y, static_cast<float>(second))};
}

__device__ inline float2 negative(float2 value) { return {-value.x, -value.y}; }

// Low halves: columns 0..15 of a group; high halves: columns 16..31.
__device__ inline void nibbles(uint2 line, Word (&a)[4]) {
  a[0] = line.x & kNibbles, a[1] = line.y & kNibbles;
  a[2] = line.x >> 4 & kNibbles, a[3] = line.y >> 4 & kNibbles;
}

// What 16 codes stand for, as int8, lowest byte first.
template <Word kFirst, Word kSecond, Word kThird, Word kFourth>
struct Table {
  // Four codes that lie in 16 bits: two bytes, each low half first.
  __device__ static Word look_up(Word codes) {
    const Word places = codes & 0x7777;
    const Word below = __byte_perm(kFirst, kSecond, places), above = __byte_perm(kThird, kFourth, places);
    return __byte_perm(below, above, (codes >> 1 & 0x4444) | 0x3210);
  }
  __device__ static void nibbles(uint2 line, Word (&a)[4]) {
    const Word first = look_up(line.x), second = look_up(line.x >> 16);
    a[0] = __byte_perm(first, second, 0x6420), a[2] = __byte_perm(first, second, 0x7531);
    const Word third = look_up(line.y), fourth = look_up(line.y >> 16);
    a[1] = __byte_perm(third, fourth, 0x6420), a[3] = __byte_perm(third, fourth, 0x7531);
  }
};
using NonLinear = Table<0xBFAD9881, 0xF6EADDCF, 0x26190D01, 0x71594535>;  // of IQ4_NL and IQ4_XS
using Float4 = Table<0x03020100, 0x0C080604, 0xFDFEFF00, 0xF4F8FAFC>;     // twice the values of MXFP4

struct Head {  // of both rows
  float2 scale, minimum;
};

struct Plain {  // what most formats are: a number for each weight or block, nothing added
  static constexpr bool kFloat = false, kBias = false, kHalves = false;
  static constexpr int kColumns = 32, kGroups = 1, kOffset = 0;
};

struct Q8_0 : Plain {
  static constexpr int kBytes = 544;
  struct Raw {
    Word d;
    uint2 low, high;
  };
  __device__ static Raw read(const Byte* tile, int, Lane at) {
    const Byte* line = tile + 32 + 64 * at.quad + 8 * at.pair;
    return {load<Word>(tile + 4 * at.pair), stream(line), stream(line + 256)};
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), {}}; }
  __device__ static float2 scale(const Raw&, const Head& head, int, int) { return head.scale; }
  __device__ static void codes(const Raw& raw, int, Lane, Word (&a)[4]) {
    a[0] = raw.low.x, a[1] = raw.low.y, a[2] = raw.high.x, a[3] = raw.high.y;
  }
};

// Q4_0, Q4_1, Q5_0 and Q5_1: nibbles, with a minimum (bias) or not, with a fifth bit or not.
template <int kOffsetOfCode, bool kHasMinimum, bool kHasFifth>
struct Nibbles : Plain {
  static constexpr bool kBias = kHasMinimum;
  static constexpr int kOffset = kOffsetOfCode, kFifths = kHasMinimum ? 64 : 32;
  static constexpr int kCodes = kFifths + (kHasFifth ? 64 : 0), kBytes = kCodes + 256;
  struct Raw {
    Word d, m;
    uint2 fifth, line;
  };
  __device__ static Raw read(const Byte* tile, int, Lane at) {
    Raw raw = {};
    raw.d = load<Word>(tile + 4 * at.pair);
    if constexpr (kHasMinimum) raw.m = load<Word>(tile + 32 + 4 * at.pair);
    if constexpr (kHasFifth) raw.fifth = load<uint2>(tile + kFifths + 8 * at.pair);
    raw.line = stream(tile + kCodes + 64 * at.quad + 8 * at.pair);
    return raw;
  }
  __device__ static Head head(const Raw& raw) {
    if constexpr (kHasMinimum) return {halves(raw.d), halves(raw.m)};
    return {halves(raw.d), {}};
  }
  __device__ static float2 scale(const Raw&, const Head& head, int, int) { return head.scale; }
  __device__ static float2 bias(const Raw&, const Head& head, int, int) { return head.minimum; }
  __device__ static void codes(const Raw& raw, int, Lane at, Word (&a)[4]) {
    nibbles(raw.line, a);
    if constexpr (kHasFifth) {  // bit p of a byte belongs to columns 4p ..
      a[0] |= (raw.fifth.x >> at.quad & kBits) << 4, a[1] |= (raw.fifth.y >> at.quad & kBits) << 4;
      a[2] |= (raw.fifth.x >> (at.quad + 4) & kBits) << 4, a[3] |= (raw.fifth.y >> (at.quad + 4) & kBits) << 4;
    }
  }
};
using Q4_0 = Nibbles<8, false, false>;
using Q4_1 = Nibbles<0, true, false>;
using Q5_0 = Nibbles<16, false, true>;
using Q5_1 = Nibbles<0, true, true>;

struct IQ4_NL : Q4_0 {
  static constexpr int kOffset = 0;
  __device__ static void codes(const Raw& raw, int, Lane, Word (&a)[4]) { NonLinear::nibbles(raw.line, a); }
};

struct MXFP4 : Plain {
  static constexpr int kBytes = 272;
  struct Raw {
    Word e;
    uint2 line;
  };
  __device__ static Raw read(const Byte* tile, int, Lane at) {
    return {load<unsigned short>(tile + 2 * at.pair), stream(tile + 16 + 64 * at.quad + 8 * at.pair)};
  }
  // Half of 2 ** (e - 127), because the values are doubled; the two smallest are subnormal.
  __device__ static float power(Word e) { return __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23); }
  __device__ static Head head(const Raw& raw) { return {{power(raw.e & 255), power(raw.e >> 8)}, {}}; }
  __device__ static float2 scale(const Raw&, const Head& head, int, int) { return head.scale; }
  __device__ static void codes(const Raw& raw, int, Lane, Word (&a)[4]) { Float4::nibbles(raw.line, a); }
};

// Floats lie row by row. Four columns of a row at a time.
struct Row4 {
  float x, y, z, w;
};

struct F32 {
  static constexpr bool kFloat = true;
  static constexpr int kBytes = 4;
  using Raw = float4;
  __device__ static Raw read(const Byte* address) { return load<float4>(address); }
  __device__ static Row4 values(const Raw& raw) { return {raw.x, raw.y, raw.z, raw.w}; }
};

struct F16 {
  static constexpr bool kFloat = true;
  static constexpr int kBytes = 2;
  using Raw = uint2;
  __device__ static Raw read(const Byte* address) { return stream(address); }
  __device__ static Row4 values(const Raw& raw) {
    const float2 low = halves(raw.x), high = halves(raw.y);
    return {low.x, low.y, high.x, high.y};
  }
};

struct BF16 : F16 {
  __device__ static Row4 values(const Raw& raw) {
    return {__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xFFFF0000), __uint_as_float(raw.y << 16),
            __uint_as_float(raw.y & 0xFFFF0000)};
  }
};
