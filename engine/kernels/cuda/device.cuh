// What the kernels ask of the hardware beyond plain C++: memory, bit patterns, the matrix unit.
//
// The one file with inline PTX, and the one that the CPU emulation of the tests replaces. No header of CUDA is
// included: NVRTC brings none along but its own built-ins.
#pragma once

using Byte = unsigned char;
using Word = unsigned int;  // codes of 4 neighbouring columns of a row, or two fp16 scales of two rows

constexpr int kThreads = 256, kWarps = 8;  // of every block of every kernel
constexpr Word kWholeWarp = 0xFFFFFFFF;

#ifdef ROOFTOP_EMULATION
#include "emulation.h"
#else

// So many blocks to a multiprocessor at least, which is what limits a thread's registers: 128 with two.
#define ROOFTOP_KERNEL_OF(blocks) extern "C" __global__ void __launch_bounds__(kThreads, blocks)
// 16 warps, with a unit of weights on its way to each.
#define ROOFTOP_KERNEL ROOFTOP_KERNEL_OF(2)

// Global memory that the kernel does not write.
template <class T>
__device__ inline T load(const void* address) {
  return __ldg(static_cast<const T*>(address));
}

// Weights: each is read once, so they leave the first cache to the activations.
__device__ inline uint2 stream(const Byte* address) {
  uint2 value;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(address));
  return value;
}

// Global memory that this thread changes.
template <class T>
__device__ inline T load_own(const void* address) {
  return *static_cast<const T*>(address);
}

template <class T>
__device__ inline void store(void* address, T value) {
  *static_cast<T*>(address) = value;
}

__device__ inline float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ inline unsigned short float_to_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// sums[16 x 8] += a[16 x 16] b[16 x 8] in int8, the 32 lanes together. Lane 4g + q holds columns 4q .. 4q+3 of rows g
// (a0) and g + 8 (a1), of b the same rows of column g, and sums of rows g (0, 1) and g + 8 (2, 3), columns 2q, 2q + 1.
__device__ inline void multiply_int8(int (&sums)[4], Word a0, Word a1, Word b) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(b));
#else
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(sums[0]), "+r"(sums[1])
      : "r"(a0), "r"(b));
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(sums[2]), "+r"(sums[3])
      : "r"(a1), "r"(b));
#endif
}

// sums[16 x 8] += a[16 x 16] b[16 x 8] in fp16 with sums in fp32. Of two neighbours along what is summed, the first in
// the low half, lane 4g + q holds 2q, 2q + 1 of rows g (a[0]) and g + 8 (a[1]), 8 further those of a[2] and a[3]; of b
// the same rows of column g. Sums are as those of `multiply_int8`.
__device__ inline void multiply_fp16(float (&sums)[4], const Word (&a)[4], const Word (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; half++)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

// The same in bf16, where the unit knows it.
#if __CUDA_ARCH__ >= 800
#define ROOFTOP_MULTIPLIES_BF16
__device__ inline void multiply_bf16(float (&sums)[4], const Word (&a)[4], const Word (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#endif

// Types of activations and results, by their numbers in gpu_launch.py.
constexpr int kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2;

__device__ inline float bfloat_to_float(unsigned short bits) { return __uint_as_float(static_cast<Word>(bits) << 16); }

__device__ inline unsigned short float_to_bfloat(float value) {  // to nearest even
  const Word bits = __float_as_uint(value);
  if (value != value) return 0x7FC0;
  return static_cast<unsigned short>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

__device__ inline float load_as(const void* address, long long index, int type) {
  if (type == kFloat32) return load<float>(static_cast<const float*>(address) + index);
  const auto bits = load<unsigned short>(static_cast<const unsigned short*>(address) + index);
  return type == kFloat16 ? half_to_float(bits) : bfloat_to_float(bits);
}

// Four neighbours at once; `index` is a multiple of 4.
__device__ inline float4 load_four(const void* address, long long index, int type) {
  if (type == kFloat32) return load<float4>(static_cast<const float*>(address) + index);
  const uint2 words = load<uint2>(static_cast<const unsigned short*>(address) + index);
  const unsigned short bits[4] = {static_cast<unsigned short>(words.x), static_cast<unsigned short>(words.x >> 16),
                                  static_cast<unsigned short>(words.y), static_cast<unsigned short>(words.y >> 16)};
  float values[4];
  for (int i = 0; i < 4; i++) values[i] = type == kFloat16 ? half_to_float(bits[i]) : bfloat_to_float(bits[i]);
  return {values[0], values[1], values[2], values[3]};
}

__device__ inline Word rounded(float value, int type) {
  return type == kFloat16 ? float_to_half(value) : float_to_bfloat(value);
}

__device__ inline void store_as(void* address, long long index, int type, float value) {
  if (type == kFloat32) {
    store<float>(static_cast<float*>(address) + index, value);
  } else {
    store(static_cast<unsigned short*>(address) + index, static_cast<unsigned short>(rounded(value, type)));
  }
}

// Four neighbours at once; `index` is a multiple of 4.
__device__ inline void store_as(void* address, long long index, int type, const float (&values)[4]) {
  if (type == kFloat32) {
    store(static_cast<float*>(address) + index, float4{values[0], values[1], values[2], values[3]});
  } else {
    const uint2 words = {rounded(values[0], type) | rounded(values[1], type) << 16,
                         rounded(values[2], type) | rounded(values[3], type) << 16};
    store(static_cast<unsigned short*>(address) + index, words);
  }
}

// A thread's place in its warp, and in a tile: rows 2 * pair and 2 * pair + 1, of a line the 4 columns of `quad`.
struct Lane {
  int warp, lane, pair, quad;
};

__device__ inline Lane this_lane() {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  return {thread / 32, lane, lane / 4, lane % 4};
}

// In every lane what all lanes add up to; the order is always the same.
__device__ inline float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kWholeWarp, value, step);
  return value;
}

// Of the sequence: what stands at an int32 or int64.
__device__ inline int position_at(const void* address, int bytes) {
  return bytes == 8 ? static_cast<int>(load<long long>(address)) : load<int>(address);
}
