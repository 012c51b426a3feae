// Included once for each kind of cache: HEAD_DIM and CACHE, as program.h is for each format.
namespace ROOFTOP_JOIN(attention_, HEAD_DIM, CACHE) {
#include "attention.cu"

#define ROOFTOP_ATTENTION(kernel) \
  {"attention.cu/" ROOFTOP_TEXT(HEAD_DIM) "/" ROOFTOP_TEXT(CACHE) "/" #kernel, call<&kernel>}
const emulation::Listed listed{ROOFTOP_ATTENTION(attend), ROOFTOP_ATTENTION(combine)};
}  // namespace ROOFTOP_JOIN(attention_, HEAD_DIM, CACHE)

#undef HEAD_DIM
#undef CACHE
#undef ROOFTOP_ATTENTION
