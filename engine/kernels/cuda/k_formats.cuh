// How a lane reads its part of a tile, for formats with blocks of 256 columns: half a tile (4 groups) at a time.
#pragma once
#include "formats.cuh"

struct Plain256 : Plain {
  static constexpr int kColumns = 256, kGroups = 4;
};

// Small scales: bytes of the two rows side by side.
__device__ inline Word byte_pair(const Byte* row, Lane at) { return load<unsigned short>(row + 2 * at.pair); }

// Lines p and p + 4 of eight: the two halves of a group.
struct Lines {
  uint2 low, high;
};

__device__ inline Lines read_lines(const Byte* lines, Lane at) {
  const Byte* line = lines + 64 * at.quad + 8 * at.pair;
  return {stream(line), stream(line + 256)};
}

__device__ inline void take(const Lines& lines, int shift, Word mask, Word (&a)[4]) {
  a[0] = lines.low.x >> shift & mask, a[1] = lines.low.y >> shift & mask;
  a[2] = lines.high.x >> shift & mask, a[3] = lines.high.y >> shift & mask;
}

__device__ inline void add_upper(const Lines& lines, int shift, Word mask, int place, Word (&a)[4]) {
  Word upper[4];
  take(lines, shift, mask, upper);
  for (int i = 0; i < 4; i++) a[i] |= upper[i] << place;
}

// Q4_K and Q5_K. Scales and mins: note (c) of the layout.
template <bool kHasFifth>
struct PairedNibbles : Plain256 {
  static constexpr bool kBias = true;
  static constexpr int kCodes = kHasFifth ? 768 : 256, kBytes = kCodes + 2048;
  struct Raw {
    Word d, dmin, low[4], upper[2];
    Lines fifth, lines[2];
    int part;
  };
  __device__ static Raw read(const Byte* tile, int part, Lane at) {
    Raw raw = {};
    raw.part = part;
    raw.d = load<Word>(tile + 4 * at.pair), raw.dmin = load<Word>(tile + 32 + 4 * at.pair);
    for (int s = 0; s < 4; s++) raw.low[s] = byte_pair(tile + 64 + 16 * (4 * part + s), at);
    for (int p = 0; p < 2; p++) {
      raw.upper[p] = byte_pair(tile + 192 + 16 * (2 * part + p), at);
      raw.lines[p] = read_lines(tile + kCodes + 512 * (2 * part + p), at);
    }
    if constexpr (kHasFifth) raw.fifth = read_lines(tile + 256, at);
    return raw;
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), negative(halves(raw.dmin))}; }
  __device__ static float2 scale(const Raw& raw, const Head& head, int s, int) {
    const Word number = (raw.low[s] & 0x0F0F) | (raw.upper[s / 2] >> 4 * (s % 2) & 0x0303) << 4;
    return scaled(head.scale, number & 255, number >> 8);
  }
  __device__ static float2 bias(const Raw& raw, const Head& head, int s, int) {
    const Word number = (raw.low[s] >> 4 & 0x0F0F) | (raw.upper[s / 2] >> (4 * (s % 2) + 2) & 0x0303) << 4;
    return scaled(head.minimum, number & 255, number >> 8);
  }
  __device__ static void codes(const Raw& raw, int s, Lane, Word (&a)[4]) {
    take(raw.lines[s / 2], 4 * (s % 2), kNibbles, a);
    if constexpr (kHasFifth) add_upper(raw.fifth, 4 * raw.part + s, kBits, 4, a);
  }
};
using Q4_K = PairedNibbles<false>;
using Q5_K = PairedNibbles<true>;

struct Q6_K : Plain256 {
  static constexpr bool kHalves = true;
  static constexpr int kBytes = 3360, kOffset = 32;
  struct Raw {
    Word d, scales[8];
    Lines low[2], upper;
  };
  __device__ static Raw read(const Byte* tile, int part, Lane at) {
    Raw raw;
    raw.d = load<Word>(tile + 4 * at.pair);
    for (int g = 0; g < 8; g++) raw.scales[g] = byte_pair(tile + 32 + 16 * (8 * part + g), at);
    for (int i = 0; i < 2; i++) raw.low[i] = read_lines(tile + 288 + 1024 * part + 512 * i, at);
    raw.upper = read_lines(tile + 288 + 2048 + 512 * part, at);
    return raw;
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), {}}; }
  __device__ static float2 scale(const Raw& raw, const Head& head, int s, int h) {
    const Word both = raw.scales[2 * s + h];
    return scaled(head.scale, static_cast<signed char>(both), static_cast<signed char>(both >> 8));
  }
  __device__ static void codes(const Raw& raw, int s, Lane, Word (&a)[4]) {
    take(raw.low[s % 2], 4 * (s / 2), kNibbles, a);
    add_upper(raw.upper, 2 * s, kCrumbs, 4, a);
  }
};

struct Q2_K : Plain256 {
  static constexpr bool kHalves = true, kBias = true;
  static constexpr int kBytes = 1344;
  struct Raw {
    Word d, dmin, scales[8];
    Lines lines;
  };
  __device__ static Raw read(const Byte* tile, int part, Lane at) {
    Raw raw;
    raw.d = load<Word>(tile + 4 * at.pair), raw.dmin = load<Word>(tile + 32 + 4 * at.pair);
    for (int g = 0; g < 8; g++) raw.scales[g] = byte_pair(tile + 64 + 16 * (8 * part + g), at);
    raw.lines = read_lines(tile + 320 + 512 * part, at);
    return raw;
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), negative(halves(raw.dmin))}; }
  __device__ static float2 scale(const Raw& raw, const Head& head, int s, int h) {
    const Word both = raw.scales[2 * s + h];
    return scaled(head.scale, both & 15, both >> 8 & 15);
  }
  __device__ static float2 bias(const Raw& raw, const Head& head, int s, int h) {
    const Word both = raw.scales[2 * s + h];
    return scaled(head.minimum, both >> 4 & 15, both >> 12);
  }
  __device__ static void codes(const Raw& raw, int s, Lane, Word (&a)[4]) { take(raw.lines, 2 * s, kCrumbs, a); }
};

// Two numbers of 6 bits, of their low halves and upper pairs of bits, less 32: notes (b) and (d) of the layout.
__device__ inline float2 scaled_by_six_bits(float2 scale, Word low, Word upper) {
  const Word number = (low & 0x0F0F) | (upper & 0x0303) << 4;
  return scaled(scale, static_cast<int>(number & 255) - 32, static_cast<int>(number >> 8) - 32);
}

struct Q3_K : Plain256 {
  static constexpr bool kHalves = true;
  static constexpr int kBytes = 1760, kOffset = 4;
  struct Raw {
    Word d, low[4], upper[2];
    Lines mask, lines;
    int part;
  };
  __device__ static Raw read(const Byte* tile, int part, Lane at) {
    Raw raw;
    raw.part = part;
    raw.d = load<Word>(tile + 4 * at.pair);
    for (int p = 0; p < 4; p++) raw.low[p] = byte_pair(tile + 32 + 16 * (4 * part + p), at);
    for (int p = 0; p < 2; p++) raw.upper[p] = byte_pair(tile + 160 + 16 * (2 * part + p), at);
    raw.mask = read_lines(tile + 224, at), raw.lines = read_lines(tile + 736 + 512 * part, at);
    return raw;
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), {}}; }
  __device__ static float2 scale(const Raw& raw, const Head& head, int s, int h) {
    return scaled_by_six_bits(head.scale, raw.low[s] >> 4 * h, raw.upper[s / 2] >> (4 * (s % 2) + 2 * h));
  }
  __device__ static void codes(const Raw& raw, int s, Lane, Word (&a)[4]) {
    take(raw.lines, 2 * s, kCrumbs, a);
    add_upper(raw.mask, 4 * raw.part + s, kBits, 2, a);
  }
};

struct IQ4_XS : Plain256 {
  static constexpr int kBytes = 2176;
  struct Raw {
    Word d, low[2], upper;
    uint2 lines[4];
  };
  __device__ static Raw read(const Byte* tile, int part, Lane at) {
    Raw raw;
    raw.d = load<Word>(tile + 4 * at.pair);
    for (int p = 0; p < 2; p++) raw.low[p] = byte_pair(tile + 32 + 16 * (2 * part + p), at);
    raw.upper = byte_pair(tile + 96 + 16 * part, at);
    for (int s = 0; s < 4; s++) raw.lines[s] = stream(tile + 128 + 256 * (4 * part + s) + 64 * at.quad + 8 * at.pair);
    return raw;
  }
  __device__ static Head head(const Raw& raw) { return {halves(raw.d), {}}; }
  __device__ static float2 scale(const Raw& raw, const Head& head, int s, int) {
    return scaled_by_six_bits(head.scale, raw.low[s / 2] >> 4 * (s % 2), raw.upper >> 2 * s);
  }
  __device__ static void codes(const Raw& raw, int s, Lane, Word (&a)[4]) {
    NonLinear::nibbles(raw.lines[s], a);
  }
};
