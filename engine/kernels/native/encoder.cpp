// The C interface of the encoder.
#include "cpu.h"
#include "encode.h"

namespace rooftop {

#ifndef ROOFTOP_HAS_AVX2
Encode encode_avx2() { return nullptr; }
#endif
#ifndef ROOFTOP_HAS_AVXVNNI
Encode encode_avxvnni() { return nullptr; }
#endif
#ifndef ROOFTOP_HAS_AVX512
Encode encode_avx512() { return nullptr; }
#endif

}  // namespace rooftop

ROOFTOP_API void rooftop_encode(int isa, int format, int source_format, const uint8_t* source, size_t groups,
                                uint8_t* blocks, int search, double* squares) {
  using namespace rooftop;
  EncodeTask task = {format, source_format, source, groups, blocks, search != 0, 0.0, 0.0};
  switch (isa) {
    case ROOFTOP_AVX2: encode_avx2()(task); break;
    case ROOFTOP_AVXVNNI: encode_avxvnni()(task); break;
    case ROOFTOP_AVX512: encode_avx512()(task); break;
    default: encode_scalar()(task);
  }
  squares[0] = task.squared_error, squares[1] = task.squared_weights;
}
