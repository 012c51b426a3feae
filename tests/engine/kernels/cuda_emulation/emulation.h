// A block of CUDA threads on the CPU, as far as our kernels go: device.cuh includes this in place of the hardware.
//
// Each thread is a fiber with a stack of its own; one runs at a time, until it must wait for others of its warp or
// block. Blocks run one after the other. What the hardware would punish in silence is a fault here: memory outside of
// what the caller named, an address that is not a multiple of its type, lanes of a warp that meet in different
// operations, threads that wait for others that have ended.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __shared__ static  // one block at a time
#define ROOFTOP_KERNEL_OF(blocks) [[maybe_unused]] static void
#define ROOFTOP_KERNEL ROOFTOP_KERNEL_OF(2)
#define ROOFTOP_MULTIPLIES_BF16

struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct Index {
  unsigned x, y, z;
};

namespace emulation {

inline Index thread, block;

void fault(const char* what, const void* address = nullptr);
void wait_for_block();
// Gives the other lanes four words and gets theirs: [lane][word]. `operation` must be the same in all.
const unsigned (*exchange(int operation, unsigned a, unsigned b = 0, unsigned c = 0))[3];
void check(const void* address, size_t bytes, bool writes);
inline unsigned lane() { return thread.x % 32; }

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

}  // namespace emulation

#define threadIdx emulation::thread
#define blockIdx emulation::block

template <class T>
inline T load(const void* address) {
  emulation::check(address, sizeof(T), false);
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}
inline uint2 stream(const Byte* address) { return load<uint2>(address); }
template <class T>
inline T load_own(const void* address) {
  return load<T>(address);
}
template <class T>
inline void store(void* address, T value) {
  emulation::check(address, sizeof(T), true);
  std::memcpy(address, &value, sizeof(T));
}

inline float __int_as_float(int value) { return emulation::bits<float>(value); }
inline float __uint_as_float(unsigned value) { return emulation::bits<float>(value); }
inline unsigned __float_as_uint(float value) { return emulation::bits<unsigned>(value); }
inline int __float2int_rn(float value) { return std::isfinite(value) ? static_cast<int>(std::nearbyintf(value)) : 0; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int __popc(unsigned value) { return __builtin_popcount(value); }

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selectors) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned selector = selectors >> 4 * i & 15;
    unsigned byte = bytes >> 8 * (selector & 7) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}

inline void __syncthreads() { emulation::wait_for_block(); }

inline unsigned __ballot_sync(unsigned mask, bool flag) {
  if (mask != 0xFFFFFFFF) emulation::fault("a ballot of a part of a warp");
  const auto flags = emulation::exchange(1, flag);
  unsigned result = 0;
  for (int i = 0; i < 32; i++) result |= flags[i][0] << i;
  return result;
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int step) {
  if (mask != 0xFFFFFFFF) emulation::fault("a shuffle of a part of a warp");
  const auto words = emulation::exchange(16 + step, emulation::bits<unsigned>(value));
  return emulation::bits<T>(words[emulation::lane() ^ step][0]);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane) {
  if (mask != 0xFFFFFFFF) emulation::fault("a shuffle of a part of a warp");
  return emulation::bits<T>(emulation::exchange(3, emulation::bits<unsigned>(value))[lane][0]);
}

inline float half_to_float(unsigned short bits) {
  const unsigned sign = bits >> 15, exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                : std::ldexp(static_cast<float>(fraction | 1024), static_cast<int>(exponent) - 25);
  return sign ? -value : value;
}

inline unsigned short float_to_half(float value) {  // to nearest even
  const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) return 0x7FFF;
  if (size == 0) return sign;
  if (size >= 65520.0f) return sign | 0x7C00;
  int exponent = 0;
  std::frexp(size, &exponent);
  exponent = exponent < -13 ? -13 : exponent;  // subnormal: steps of 2^-24
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  return static_cast<unsigned short>(sign | (steps + ((exponent + 13) << 10)));
}

inline void multiply_int8(int (&sums)[4], unsigned a0, unsigned a1, unsigned b) {
  const auto words = emulation::exchange(2, a0, a1, b);
  const int group = emulation::lane() / 4, quad = emulation::lane() % 4;
  for (int i = 0; i < 4; i++) {
    const int row = group, column = 2 * quad + i % 2;
    for (int k = 0; k < 16; k++) {
      const auto x = static_cast<int8_t>(words[4 * row + k / 4][i / 2] >> 8 * (k % 4));
      const auto y = static_cast<int8_t>(words[4 * column + k / 4][2] >> 8 * (k % 4));
      sums[i] += x * y;
    }
  }
}

namespace emulation {

// As the PTX manual lays out m16n8k16 in 16 bits: `value` makes a number of a pair's half.
template <class Value>
inline void multiply_pairs(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], const Value& value) {
  unsigned words[32][6];
  const auto first = exchange(4, a[0], a[1], a[2]);
  for (int lane = 0; lane < 32; lane++) std::memcpy(words[lane], first[lane], 12);
  const auto second = exchange(5, a[3], b[0], b[1]);
  for (int lane = 0; lane < 32; lane++) std::memcpy(words[lane] + 3, second[lane], 12);
  for (int i = 0; i < 4; i++) {
    const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; k++) {
      const int quad = k % 8 / 2, shift = k % 2 * 16;
      const unsigned x = words[row % 8 * 4 + quad][k / 8 * 2 + row / 8], y = words[column * 4 + quad][4 + k / 8];
      sums[i] += value(static_cast<uint16_t>(x >> shift)) * value(static_cast<uint16_t>(y >> shift));
    }
  }
}

}  // namespace emulation

inline void multiply_fp16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  emulation::multiply_pairs(sums, a, b, [](uint16_t bits) { return half_to_float(bits); });
}
inline void multiply_bf16(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  emulation::multiply_pairs(sums, a, b, [](uint16_t bits) {
    return emulation::bits<float>(static_cast<unsigned>(bits) << 16);
  });
}
