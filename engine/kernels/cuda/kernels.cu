// The kernels of one format, chosen when this is compiled: FORMAT of all matrices, UP_FORMAT of up where it differs.
//
// Of the numbered ones, _8 serve up to 8 tokens, _16 up to 16. Every block has 256 threads, and no shared memory but
// what is declared. gpu_plans.py says what they are launched with.
#include "experts.cuh"
#include "grouped.cuh"
#include "matrices.cuh"

#ifndef UP_FORMAT
#define UP_FORMAT FORMAT
#endif

ROOFTOP_KERNEL prepare(const PrepareArguments a) { prepare_activations(a); }

ROOFTOP_KERNEL gate_up_8(const ExpertsArguments a) { gate_up<FORMAT, UP_FORMAT, 1>(a); }
ROOFTOP_KERNEL gate_up_16(const ExpertsArguments a) { gate_up<FORMAT, UP_FORMAT, 2>(a); }
ROOFTOP_KERNEL down_8(const ExpertsArguments a) { down<FORMAT, 1>(a); }
ROOFTOP_KERNEL down_16(const ExpertsArguments a) { down<FORMAT, 2>(a); }

ROOFTOP_KERNEL linear_8(const LinearArguments a) { linear<FORMAT, 1>(a); }
ROOFTOP_KERNEL linear_16(const LinearArguments a) { linear<FORMAT, 2>(a); }

#ifndef ROOFTOP_FLOATS  // of those torch takes care
ROOFTOP_KERNEL group_gate_up(const GroupedArguments a) { gate_up_of_group<FORMAT, UP_FORMAT>(a); }
ROOFTOP_KERNEL group_down(const GroupedArguments a) { down_of_group<FORMAT>(a); }
ROOFTOP_KERNEL group_add(const GroupedArguments a) { add_group(a); }
ROOFTOP_KERNEL unpack_tiles(const UnpackArguments a) { unpack<FORMAT>(a); }
#endif
