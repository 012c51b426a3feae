// The kernels of a decoder layer that know no weight format and no head's width. gpu_decoder_plans.py launches them.
#include "router.cuh"
#include "rows.cuh"

ROOFTOP_KERNEL join_norm(const JoinNormArguments a) { join_and_norm(a); }
ROOFTOP_KERNEL rotate_store(const RotateStoreArguments a) { rotate_and_store(a); }
ROOFTOP_KERNEL route(const RouteArguments a) { choose_experts(a); }
