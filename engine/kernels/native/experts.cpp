// The experts of a layer in one call: gate and up, activation function, requantised at once, then down and the sum.
//
// First half: an item is 32 rows of gate and up of one expert, which are one int8 group of the down projection's input.
// Second half: an item is 32 rows of the output; it goes through all experts in their order, so that the sum of a token
// is always formed in the same order and no partial sums are kept.
#include <new>

#include "work.h"

using namespace rooftop;

namespace {

// Up to so many tokens a product is written where it belongs. More go through a tile first: rows of a wide result lie a
// multiple of 4 KiB apart, where they push each other out of the cache.
constexpr int kDirectTokens = 8;

// Where a row begins (a multiple of 16), null past the last.
const uint8_t* rows_at(const rooftop_matrix& matrix, const uint8_t* data, int row) {
  return row < matrix.rows ? data + size_t(row) * row_bytes(matrix.format, matrix.columns) : nullptr;
}

}  // namespace

bool rooftop_pool::reserve(int tokens, int columns, int visits, int width, size_t attention, int choices) noexcept {
  const size_t n = size_t(tokens), groups = size_t(groups_of(columns));
  try {
    quantised.of<QuantisedGroup>(n * groups);
    inner_values = inner.of<float>(size_t(visits) * groups_of(width) * kGroup);  // larger than the same as int8
    inner_quantised = reinterpret_cast<QuantisedGroup*>(inner_values);
    for (int i = 0; i < pool.threads(); i++) {
      for (Buffer& tile : space[i].tile) tile.of<float>(n * kPairRows);
      space[i].values.of<float>(groups * kGroup);
      space[i].quantised.of<QuantisedGroup>(groups);
      space[i].attention.of<float>(attention);
      space[i].choice.of<int32_t>(size_t(choices));
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void rooftop_pool::multiply(int thread, const rooftop_matrix& matrix, int first_item, int item, const Activations& x,
                            int tokens, float* y, size_t y_stride, bool add, const float* bias, float scale) {
  const int row = (item - first_item) * kPairRows, rows = std::min(matrix.rows - row, kPairRows);
  const PairKernel kernel = kernels->pair[matrix.format];
  const uint8_t* next = rows_at(matrix, matrix.data, row + kPairRows);
  if (!add && !bias && rows == kPairRows && tokens <= kDirectTokens) {
    kernel(matrix.data, matrix.rows, matrix.columns, row, x, nullptr, tokens, y + row, y_stride, next);
    return;
  }
  float* tile = space[thread].tile[0].of<float>(size_t(tokens) * kPairRows);
  kernel(matrix.data, matrix.rows, matrix.columns, row, x, nullptr, tokens, tile, kPairRows, next);
  for (int t = 0; t < tokens; t++) {
    float *target = y + t * y_stride + row, *product = tile + size_t(t) * kPairRows;
    if (bias) kernels->add_scaled(product, bias + row, 1.0f, rows);
    if (add)
      kernels->add_scaled(target, product, scale, rows);
    else
      std::memcpy(target, product, size_t(rows) * sizeof(float));
  }
}

bool rooftop_pool::run_experts(int thread, const rooftop_experts& layer, const Activations& x, const Visits& visits,
                               float* out) {
  const int hidden = layer.down.rows, width = layer.down.columns;
  const int inner_pairs = pairs(width), out_pairs = pairs(hidden);
  const size_t row_groups = size_t(groups_of(width));
  const bool int8 = needs_int8(layer.down);
  ThreadSpace& own = space[thread];

  const int items = visits.count * inner_pairs, own_end = pool.first_of(thread + 1, items);
  const auto down_rows = [&](int i, int row) {
    return rows_at(layer.down, layer.data + visits.experts[i] * layer.stride + size_t(layer.down.data), row);
  };
  pool.each(thread, items, [&](int item) {
    const int i = item / inner_pairs, pair = item % inner_pairs, row = pair * kPairRows;
    const int begin = visits.first[i], n = visits.first[i + 1] - begin, rows = std::min(width - row, kPairRows);
    const uint8_t* expert = layer.data + visits.experts[i] * layer.stride;
    float* gate = own.tile[0].of<float>(size_t(n) * kPairRows);
    float* up = own.tile[1].of<float>(size_t(n) * kPairRows);
    const rooftop_matrix &g = layer.gate, &u = layer.up;
    const uint8_t *gate_data = expert + size_t(g.data), *up_data = expert + size_t(u.data), *next;
    if (item + 1 < own_end)
      next = rows_at(g, layer.data + visits.experts[(item + 1) / inner_pairs] * layer.stride + size_t(g.data),
                     (item + 1) % inner_pairs * kPairRows);
    else
      next = down_rows(0, pool.first_of(thread, out_pairs) * kPairRows);
    kernels->pair[g.format](gate_data, width, g.columns, row, x, visits.token + begin, n, gate, kPairRows,
                            rows_at(u, up_data, row));
    kernels->pair[u.format](up_data, width, u.columns, row, x, visits.token + begin, n, up, kPairRows, next);
    if (layer.biases) {
      const float* bias = reinterpret_cast<const float*>(expert + layer.biases) + row;
      for (int t = 0; t < n; t++)
        kernels->clamped_multiply(gate + size_t(t) * kPairRows, up + size_t(t) * kPairRows, bias, bias + width, rows,
                                  layer.slope, layer.limit);
    } else if (rows == kPairRows) {
      kernels->silu_multiply(gate, up, n * kPairRows);
    } else {
      for (int t = 0; t < n; t++) kernels->silu_multiply(gate + size_t(t) * kPairRows, up + size_t(t) * kPairRows, rows);
    }
    for (int t = 0; t < n; t++) {
      const float* values = gate + size_t(t) * kPairRows;
      if (int8)
        kernels->quantise(values, rows, inner_quantised + (begin + t) * row_groups + pair);
      else
        std::memcpy(inner_values + size_t(begin + t) * width + row, values, size_t(rows) * sizeof(float));
    }
  });
  if (!pool.barrier()) return false;

  pool.each(thread, out_pairs, [&](int pair) {
    const int row = pair * kPairRows, rows = std::min(hidden - row, kPairRows);
    for (int i = 0; i < visits.count; i++) {
      const int begin = visits.first[i], n = visits.first[i + 1] - begin;
      const uint8_t* expert = layer.data + visits.experts[i] * layer.stride;
      float* tile = own.tile[0].of<float>(size_t(n) * kPairRows);
      const Activations part = {inner_values + size_t(begin) * width, size_t(width),
                                inner_quantised + begin * row_groups, width};
      const rooftop_matrix& d = layer.down;
      const bool last = i + 1 == visits.count;
      const uint8_t* next = down_rows(last ? 0 : i + 1, last ? row + kPairRows : row);
      kernels->pair[d.format](expert + size_t(d.data), hidden, width, row, part, nullptr, n, tile, kPairRows, next);
      if (layer.biases) {
        const float* bias = reinterpret_cast<const float*>(expert + layer.biases) + 2 * size_t(width) + row;
        for (int t = 0; t < n; t++) kernels->add_scaled(tile + size_t(t) * kPairRows, bias, 1.0f, rows);
      }
      for (int t = 0; t < n; t++)
        kernels->add_scaled(out + size_t(visits.token[begin + t]) * hidden + row, tile + size_t(t) * kPairRows,
                            visits.weight[begin + t], rows);
    }
  });
  return true;
}

ROOFTOP_API int rooftop_run_experts(rooftop_pool* pool, const rooftop_experts* layer, const float* hidden, int tokens,
                                    int count, const int32_t* experts, const int32_t* first, const int32_t* visit_token,
                                    const float* visit_weight, float* out, rooftop_stop stop) {
  const int columns = layer->gate.columns;
  if (!pool->reserve(tokens, columns, first[count], layer->down.columns)) return ROOFTOP_NO_MEMORY;
  const bool int8 = needs_int8(layer->gate) || needs_int8(layer->up);
  const size_t row_groups = size_t(groups_of(columns));
  QuantisedGroup* codes = int8 ? pool->quantised.of<QuantisedGroup>(size_t(tokens) * row_groups) : nullptr;
  const Activations x = {hidden, size_t(columns), codes, columns};
  const Visits visits = {count, experts, first, visit_token, visit_weight};
  auto job = [&](int thread) {
    if (int8) {
      pool->pool.each(thread, tokens, [&](int t) {
        pool->kernels->quantise(hidden + size_t(t) * columns, columns, codes + t * row_groups);
      });
      if (!pool->pool.barrier()) return;
    }
    pool->run_experts(thread, *layer, x, visits, out);
  };
  return pool->pool.run(job, stop);
}
