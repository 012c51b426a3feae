// The C interface: which kernels this processor runs, and the calls that are no layers.
#include "cpu.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>

#include "work.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

using namespace rooftop;

namespace rooftop {

#ifndef ROOFTOP_HAS_AVX2
const Kernels* kernels_avx2() { return nullptr; }
#endif
#ifndef ROOFTOP_HAS_AVXVNNI
const Kernels* kernels_avxvnni() { return nullptr; }
#endif
#ifndef ROOFTOP_HAS_AVX512
const Kernels* kernels_avx512() { return nullptr; }
#endif

size_t attention_scratch(int dim, int heads, int tokens) {
  const size_t lanes = size_t((heads * tokens + kMostPanelLanes - 1) / kMostPanelLanes * kMostPanelLanes);
  return lanes * size_t(2 * dim + 4) + 64 * (2 * size_t(dim) + kMostPanelLanes);
}

}  // namespace rooftop

namespace {

// Whether the processor has them and the system saves their registers.
bool runs_here(int isa) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
  switch (isa) {
    case ROOFTOP_AVX2:
      return avx2 && f16c;
    case ROOFTOP_AVXVNNI:
      return avx2 && f16c && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
    case ROOFTOP_AVX512:
      return avx2 && f16c && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
    default:
      return isa == ROOFTOP_SCALAR;
  }
#else
  return isa == ROOFTOP_SCALAR;
#endif
}

const Kernels* kernels_for(int isa) {
  switch (isa) {
    case ROOFTOP_SCALAR:
      return kernels_scalar();
    case ROOFTOP_AVX2:
      return kernels_avx2();
    case ROOFTOP_AVXVNNI:
      return kernels_avxvnni();
    case ROOFTOP_AVX512:
      return kernels_avx512();
    default:
      return nullptr;
  }
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

ROOFTOP_API void rooftop_struct_bytes(int32_t* layer, int32_t* model) {
  *layer = int32_t(sizeof(rooftop_layer)), *model = int32_t(sizeof(rooftop_model));
}

ROOFTOP_API int rooftop_isas(void) {
  int result = 0;
  for (int isa = 0; isa < ROOFTOP_ISAS; isa++)
    if (kernels_for(isa) && runs_here(isa)) result |= 1 << isa;
  return result;
}

ROOFTOP_API rooftop_pool* rooftop_pool_create(int threads, int isa, int pin) {
  if (threads < 1 || !kernels_for(isa) || !runs_here(isa)) return nullptr;
  try {
    return new rooftop_pool(threads, kernels_for(isa), pin != 0);
  } catch (...) {  // no memory, or the system gives no more threads
    return nullptr;
  }
}

ROOFTOP_API void rooftop_pool_destroy(rooftop_pool* pool) { delete pool; }

ROOFTOP_API void rooftop_read_row(rooftop_pool* pool, const rooftop_matrix* matrix, int row, float* out) {
  pool->kernels->read_row(matrix->data, matrix->format, matrix->columns, row, out);
}

ROOFTOP_API int rooftop_matmul(rooftop_pool* pool, const rooftop_matrix* matrix, const float* x, int tokens, float* y,
                               rooftop_stop stop) {
  const int columns = matrix->columns;
  if (!pool->reserve(tokens, columns)) return ROOFTOP_NO_MEMORY;
  QuantisedGroup* codes = pool->quantised.of<QuantisedGroup>(quantised_size(tokens, columns));
  const Activations activations = {x, size_t(columns), codes, columns, tokens};
  auto job = [&](int thread) {
    if (needs_int8(*matrix)) {
      pool->pool.each(thread, tokens, [&](int t) {
        quantise_row(*pool->kernels, x + size_t(t) * columns, columns, tokens, t, codes);
      });
      if (!pool->pool.barrier()) return;
    }
    pool->products(thread, pairs(matrix->rows), tokens, [&](int item, Tokens block) {
      pool->multiply(thread, *matrix, 0, item, block, activations, y, size_t(matrix->rows), false);
    });
  };
  return pool->pool.run(job, stop);
}

ROOFTOP_API double rooftop_measure_bandwidth(rooftop_pool* pool, const uint8_t* memory, size_t size) {
  constexpr size_t kPiece = 1 << 20;
  const int count = int(size / kPiece);
  std::atomic<uint64_t> sum{0};
  double best = 0;
  for (int repeat = 0; repeat < 5; repeat++) {
    const auto started = std::chrono::steady_clock::now();
    auto job = [&](int thread) {
      uint64_t own = 0;
      pool->pool.each(thread, count, [&](int i) { own += pool->kernels->read_bytes(memory + size_t(i) * kPiece, kPiece); });
      sum += own;
    };
    pool->pool.run(job, nullptr);
    best = std::max(best, double(count) * double(kPiece) / seconds_since(started));
  }
  return sum == 1 ? 0 : best;  // the sum is used, so that nothing is left out
}

ROOFTOP_API double rooftop_measure_int8(rooftop_pool* pool, double seconds) {
  std::atomic<uint64_t> operations{0}, sum{0};
  const auto started = std::chrono::steady_clock::now();
  auto job = [&](int) {
    uint64_t own = 0, results = 0;
    while (seconds_since(started) < seconds) {
      uint64_t part = 0;
      results += pool->kernels->spin_int8(5000, &part);
      own += part;
    }
    operations += own, sum += results;
  };
  pool->pool.run(job, nullptr);
  return sum == 1 ? 0 : double(operations) / seconds_since(started);
}
