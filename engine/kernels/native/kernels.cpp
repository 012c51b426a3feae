// Compiled once per instruction set, each time with other flags and another ROOFTOP_ISA_*.
#include "kernels.h"

#if defined(ROOFTOP_ISA_AVX512)
#include "simd_avx512.h"
#define ROOFTOP_TABLE kernels_avx512
#define ROOFTOP_NAME "avx512"
#elif defined(ROOFTOP_ISA_AVXVNNI)
#include "simd_avx2.h"
#define ROOFTOP_TABLE kernels_avxvnni
#define ROOFTOP_NAME "avxvnni"
#elif defined(ROOFTOP_ISA_AVX2)
#include "simd_avx2.h"
#define ROOFTOP_TABLE kernels_avx2
#define ROOFTOP_NAME "avx2"
#else
#include "simd_scalar.h"
#define ROOFTOP_TABLE kernels_scalar
#define ROOFTOP_NAME "scalar"
#endif

// The order matters: each of these uses the ones above it.
#include "unpack.h"
#include "matmul.h"
#include "float_matmul.h"
#include "rows.h"
#include "attention.h"
#include "attend_one.h"

namespace {

void read_row(const uint8_t* matrix, int format, int columns, int row, float* out) {
  using namespace rooftop;
  const uint8_t* const plain = matrix + size_t(row) * (is_float(format) ? row_bytes(format, columns) : 0);
  switch (format) {
    case kF32: return read_float_row<Float32>(plain, columns, out);
    case kF16: return read_float_row<Float16>(plain, columns, out);
    case kBF16: return read_float_row<BFloat16>(plain, columns, out);
    case kQ8_0: return read_block_row<Q8_0>(matrix, columns, row, out);
    case kQ4_0: return read_block_row<Q4_0>(matrix, columns, row, out);
    case kQ4_1: return read_block_row<Q4_1>(matrix, columns, row, out);
    case kQ5_0: return read_block_row<Q5_0>(matrix, columns, row, out);
    case kQ5_1: return read_block_row<Q5_1>(matrix, columns, row, out);
    case kQ2_K: return read_block_row<Q2_K>(matrix, columns, row, out);
    case kQ3_K: return read_block_row<Q3_K>(matrix, columns, row, out);
    case kQ4_K: return read_block_row<Q4_K>(matrix, columns, row, out);
    case kQ5_K: return read_block_row<Q5_K>(matrix, columns, row, out);
    case kQ6_K: return read_block_row<Q6_K>(matrix, columns, row, out);
    case kIQ4_NL: return read_block_row<IQ4_NL>(matrix, columns, row, out);
    case kIQ4_XS: return read_block_row<IQ4_XS>(matrix, columns, row, out);
    case kMXFP4: return read_block_row<MXFP4>(matrix, columns, row, out);
    default: return;
  }
}

uint64_t read_bytes(const uint8_t* bytes, size_t size) {
  if (size < 256) return 0;
  V::B seen[4] = {V::line(bytes), V::line(bytes), V::line(bytes), V::line(bytes)};
  for (size_t i = 0; i + 256 <= size; i += 256) {
    __builtin_prefetch(bytes + i + 4096);
    __builtin_prefetch(bytes + i + 4096 + 64);
    __builtin_prefetch(bytes + i + 4096 + 128);
    __builtin_prefetch(bytes + i + 4096 + 192);
    // Not through a V::I: where that is two registers, GCC 12 copies each line by way of the stack.
    for (int j = 0; j < 4; j++) seen[j] = V::bor(seen[j], V::line(bytes + i + 64 * j));
  }
  uint32_t lanes[16];
  const V::B all = V::bor(V::bor(seen[0], seen[1]), V::bor(seen[2], seen[3]));
  __builtin_memcpy(lanes, &all, 64);
  uint64_t result = 0;
  for (const uint32_t lane : lanes) result += lane;
  return result;
}

uint64_t spin_int8(uint64_t steps, uint64_t* operations) {
  constexpr int kChains = V::kTiles * V::kTokens < 12 ? 6 : 12, kRepeats = 16;
  alignas(64) uint8_t codes[kChains][64];
  int8_t activations[kRepeats][4];  // all different, and unknown after every step: each product has to be made
  for (int i = 0; i < kChains * 64; i++) codes[i / 64][i % 64] = uint8_t(i % 15);
  for (int i = 0; i < kRepeats * 4; i++) activations[i / 4][i % 4] = int8_t(i - 30);
  V::I sum[kChains];
  for (auto& s : sum) s = V::izero();
  for (uint64_t i = 0; i < steps; i++) {
    __asm__ volatile("" : : "r"(codes), "r"(activations) : "memory");
    V::B weights[kChains];
    for (int c = 0; c < kChains; c++) weights[c] = V::line(codes[c]);
    for (int repeat = 0; repeat < kRepeats; repeat++) {
      const V::A a = V::spread(activations[repeat]);
#pragma GCC unroll 12
      for (int c = 0; c < kChains; c++) sum[c] = V::finish(sum[c], V::accumulate(V::start(sum[c]), weights[c], a));
    }
  }
  *operations = steps * kRepeats * kChains * 128;
  uint64_t result = 0;
  for (auto& s : sum) {
    int32_t lanes[16];
    __builtin_memcpy(lanes, &s, 64);
    result += uint32_t(lanes[0]);
  }
  return result;
}

}  // namespace

namespace rooftop {

const Kernels* ROOFTOP_TABLE() {
  static const Kernels table = {
      ROOFTOP_NAME,
      {pair_of_floats<Float32>, pair_of_floats<Float16>, pair_of_floats<BFloat16>, pair_of_blocks<Q8_0>,
       pair_of_blocks<Q4_0>, pair_of_blocks<Q4_1>, pair_of_blocks<Q5_0>, pair_of_blocks<Q5_1>, pair_of_blocks<Q2_K>,
       pair_of_blocks<Q3_K>, pair_of_blocks<Q4_K>, pair_of_blocks<Q5_K>, pair_of_blocks<Q6_K>, pair_of_blocks<IQ4_NL>,
       pair_of_blocks<IQ4_XS>, pair_of_blocks<MXFP4>},
      quantise,
      rms_norm,
      silu_multiply,
      clamped_multiply,
      add_scaled,
      rotate,
      store_as,
      read_row,
      attend,
      attend_part,
      join_parts,
      read_bytes,
      spin_int8,
  };
  return &table;
}

}  // namespace rooftop
