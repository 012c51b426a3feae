// Included once for each program: its kernels, in a namespace of their own, and a list of them by name.
#define ROOFTOP_JOIN_(a, b, c) a##b##_##c
#define ROOFTOP_JOIN(a, b, c) ROOFTOP_JOIN_(a, b, c)
#define ROOFTOP_TEXT_(a) #a
#define ROOFTOP_TEXT(a) ROOFTOP_TEXT_(a)
#ifndef UP_FORMAT
#define UP_FORMAT FORMAT
#endif

namespace ROOFTOP_JOIN(program_, FORMAT, UP_FORMAT) {
#include "kernels.cu"

#define ROOFTOP_ENTRY(kernel) \
  {"kernels.cu/" ROOFTOP_TEXT(FORMAT) "/" ROOFTOP_TEXT(UP_FORMAT) "/" #kernel, call<&kernel>}
const emulation::Listed listed{
    ROOFTOP_ENTRY(prepare),
    ROOFTOP_ENTRY(gate_up_8),
    ROOFTOP_ENTRY(gate_up_16),
    ROOFTOP_ENTRY(down_8),
    ROOFTOP_ENTRY(down_16),
    ROOFTOP_ENTRY(linear_8),
    ROOFTOP_ENTRY(linear_16),
#ifndef ROOFTOP_FLOATS
    ROOFTOP_ENTRY(group_gate_up),
    ROOFTOP_ENTRY(group_down),
    ROOFTOP_ENTRY(group_add),
    ROOFTOP_ENTRY(unpack_tiles),
#endif
};
}  // namespace ROOFTOP_JOIN(program_, FORMAT, UP_FORMAT)

#undef FORMAT
#undef UP_FORMAT
