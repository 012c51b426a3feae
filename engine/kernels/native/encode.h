// Floats to blocks of a GGUF file, compiled once per instruction set; engine/quant/encoding.py is the reference.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rooftop {

struct EncodeTask {
  int format;             // kQ8_0, kQ4_1 or kQ4_K
  int source_format;      // kF32, kF16 or kBF16
  const uint8_t* source;  // groups * 32 weights
  size_t groups;          // a multiple of 8 for kQ4_K
  uint8_t* blocks;
  bool search;            // false: plain rounding
  double squared_error, squared_weights;  // added to
};

using Encode = void (*)(EncodeTask& task);

Encode encode_scalar();
Encode encode_avx2();  // null where the build lacks it
Encode encode_avxvnni();
Encode encode_avx512();

}  // namespace rooftop
