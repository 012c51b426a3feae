// Attention over one cache, chosen when this is compiled: HEAD_DIM columns of a head, CACHE the type of its numbers.
//
// gpu_decoder_plans.py says what these are launched with. Sums of wide heads need all registers that a thread can have.
#include "attention.cuh"

ROOFTOP_KERNEL_OF(HEAD_DIM > 128 ? 1 : 2) attend(const AttendArguments a) { attend_part<CACHE, HEAD_DIM>(a); }
ROOFTOP_KERNEL combine(const AttendArguments a) { combine_parts<HEAD_DIM>(a); }
