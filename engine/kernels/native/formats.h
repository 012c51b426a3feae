// Weight formats by number, as in engine/quant/formats.py, and the sizes of their blocks.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rooftop {

enum Format : int32_t {
  kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4,
  kFormats
};

constexpr int kTileRows = 16;  // rows of a tile of a block format
constexpr int kPairRows = 32;  // rows that one call of a kernel computes: two tiles
constexpr int kGroup = 32;     // activations that share one scale

struct BlockSize {
  int columns, bytes;
};

constexpr BlockSize kBlocks[kFormats] = {{1, 4},    {1, 2},     {1, 2},     {32, 34},   {32, 18},   {32, 20},
                                         {32, 22},  {32, 24},   {256, 84},  {256, 110}, {256, 144}, {256, 176},
                                         {256, 210}, {32, 18},  {256, 136}, {32, 17}};

static inline constexpr bool is_float(int format) { return kBlocks[format].columns == 1; }

// Bytes of one row, in the file as in memory.
static inline constexpr size_t row_bytes(int format, int columns) {
  return size_t(columns) / kBlocks[format].columns * kBlocks[format].bytes;
}

// A cache holds rows of a float format, or as kQ8_0: `dim` int8 codes, then an fp16 scale for each cache_group of them.
static inline constexpr int cache_group(int dim) { return dim % 32 ? dim : 32; }

static inline constexpr size_t cache_row_bytes(int format, int dim) {
  return format == kQ8_0 ? size_t(dim) + 2 * size_t(dim / cache_group(dim)) : row_bytes(format, dim);
}

}  // namespace rooftop
