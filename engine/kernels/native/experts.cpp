// The experts of a layer in one call: gate and up, activation function, requantised at once, then down and the sum.
//
// First half: an item is 32 rows of gate and up of one expert, which are one int8 group of the down projection's input.
// Second half: an item is 32 rows of the output; it goes through all experts in their order, so that the sum of a token
// is always formed in the same order and no partial sums are kept. With few tokens an item is a run of such rows, as
// memory is read slowly just after each change from one matrix to another.
#include <new>

#include "work.h"

using namespace rooftop;

namespace {

// Up to so many tokens a product is written where it belongs. More go through a tile first: rows of a wide result lie a
// multiple of 4 KiB apart, where they push each other out of the cache.
constexpr int kDirectTokens = 8;

constexpr int kItemsPerThread = 4;  // at least, so that no thread waits long for another

// Where a row begins (a multiple of 16), null past the last.
const uint8_t* rows_at(const rooftop_matrix& matrix, const uint8_t* data, int row) {
  return row < matrix.rows ? data + size_t(row) * row_bytes(matrix.format, matrix.columns) : nullptr;
}

}  // namespace

bool rooftop_pool::reserve(int tokens, int columns, int visits, int width, size_t attention, int choices) noexcept {
  const size_t n = size_t(tokens), groups = size_t(groups_of(columns));
  try {
    quantised.of<QuantisedGroup>(quantised_size(tokens, columns));
    inner_values = inner.of<float>(quantised_size(visits, width) * kGroup);  // larger than the same as int8
    inner_quantised = reinterpret_cast<QuantisedGroup*>(inner_values);
    for (int i = 0; i < pool.threads(); i++) {
      for (Buffer& tile : space[i].tile) tile.of<float>(std::max(n, size_t(kRunVisits)) * kPairRows);
      space[i].values.of<float>(groups * kGroup);
      space[i].quantised.of<QuantisedGroup>(quantised_size(1, columns));
      space[i].attention.of<float>(attention);
      space[i].choice.of<int32_t>(size_t(choices));
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void rooftop_pool::multiply(int thread, const rooftop_matrix& matrix, int first_item, int item, const Tokens& block,
                            const Activations& all, float* y, size_t y_stride, bool add, const float* bias,
                            float scale) {
  const int row = (item - first_item) * kPairRows, rows = std::min(matrix.rows - row, kPairRows);
  const PairKernel kernel = kernels->pair[matrix.format];
  const uint8_t* next = rows_at(matrix, matrix.data, row + kPairRows);
  const Activations x = all.from(block.first);
  y += block.first * y_stride;
  if (!add && !bias && rows == kPairRows && block.count <= kDirectTokens) {
    kernel(matrix.data, matrix.rows, matrix.columns, row, x, nullptr, block.count, y + row, y_stride, next);
    return;
  }
  float* tile = space[thread].tile[0].of<float>(size_t(block.count) * kPairRows);
  kernel(matrix.data, matrix.rows, matrix.columns, row, x, nullptr, block.count, tile, kPairRows, next);
  for (int t = 0; t < block.count; t++) {
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
  int most = 1;  // visits of one expert
  for (int i = 0; i < visits.count; i++) most = std::max(most, visits.first[i + 1] - visits.first[i]);
  gate_and_up(thread, layer, x, visits, most);
  if (!pool.barrier()) return false;
  down(thread, layer, visits, most, out);
  return true;
}

Runs rooftop_pool::runs_of(int pairs, int matrices, int most_visits) const {
  const int items = kItemsPerThread * pool.threads();
  const int length = std::max(1, std::min({pairs, pairs * matrices / items, kRunVisits / most_visits}));
  return {length, (pairs + length - 1) / length};
}

void rooftop_pool::gate_and_up(int thread, const rooftop_experts& layer, const Activations& x, const Visits& visits,
                               int most_visits) {
  const rooftop_matrix &g = layer.gate, &u = layer.up;
  const int width = layer.down.columns, inner_pairs = pairs(width);
  const Runs runs = runs_of(inner_pairs, visits.count, most_visits);
  const Runs down_runs = runs_of(pairs(layer.down.rows), 1, most_visits);
  const int items = visits.count * runs.count, own_end = pool.first_of(thread + 1, items);
  pool.each(thread, items, [&](int item) {
    const int i = item / runs.count, first = item % runs.count * runs.length;
    const int end = std::min(first + runs.length, inner_pairs);
    const int begin = visits.first[i], n = visits.first[i + 1] - begin;
    const size_t tile_size = size_t(n) * kPairRows;
    const uint8_t* expert = layer.data + visits.experts[i] * layer.stride;
    const uint8_t *gate_data = expert + size_t(g.data), *up_data = expert + size_t(u.data), *next;
    float* gates = space[thread].tile[0].of<float>(tile_size * runs.length);
    float* ups = space[thread].tile[1].of<float>(tile_size * runs.length);
    if (item + 1 < own_end)
      next = rows_at(g, layer.data + visits.experts[(item + 1) / runs.count] * layer.stride + size_t(g.data),
                     (item + 1) % runs.count * runs.length * kPairRows);
    else
      next = down_rows(layer, visits, 0, pool.first_of(thread, down_runs.count) * down_runs.length);
    const auto product = [&](const rooftop_matrix& matrix, const uint8_t* data, float* tiles, const uint8_t* after) {
      for (int pair = first; pair < end; pair++)
        kernels->pair[matrix.format](data, width, matrix.columns, pair * kPairRows, x, visits.token + begin, n,
                                     tiles + tile_size * (pair - first), kPairRows,
                                     pair + 1 < end ? rows_at(matrix, data, (pair + 1) * kPairRows) : after);
    };
    product(g, gate_data, gates, rows_at(u, up_data, first * kPairRows));
    product(u, up_data, ups, next);
    for (int pair = first; pair < end; pair++)
      activate(layer, visits, i, pair, gates + tile_size * (pair - first), ups + tile_size * (pair - first));
  });
}

void rooftop_pool::activate(const rooftop_experts& layer, const Visits& visits, int i, int pair, float* gate,
                            const float* up) {
  const uint8_t* expert = layer.data + visits.experts[i] * layer.stride;
  const int begin = visits.first[i], n = visits.first[i + 1] - begin, all = visits.first[visits.count];
  const int width = layer.down.columns, row = pair * kPairRows, rows = std::min(width - row, kPairRows);
  const float* bias = layer.biases ? reinterpret_cast<const float*>(expert + layer.biases) + row : nullptr;
  const bool whole = !bias && rows == kPairRows;
  if (whole) kernels->silu_multiply(gate, up, n * kPairRows);
  for (int t = 0; t < n; t++) {
    float* values = gate + size_t(t) * kPairRows;
    if (bias)
      kernels->clamped_multiply(values, up + size_t(t) * kPairRows, bias, bias + width, rows, layer.slope, layer.limit);
    else if (!whole)
      kernels->silu_multiply(values, up + size_t(t) * kPairRows, rows);
    if (needs_int8(layer.down))
      kernels->quantise(values, rows, inner_quantised + group_index(all, begin + t, pair));
    else
      std::memcpy(inner_values + size_t(begin + t) * width + row, values, size_t(rows) * sizeof(float));
  }
}

const uint8_t* rooftop_pool::down_rows(const rooftop_experts& layer, const Visits& visits, int i, int pair) const {
  return rows_at(layer.down, layer.data + visits.experts[i] * layer.stride + size_t(layer.down.data), pair * kPairRows);
}

void rooftop_pool::down(int thread, const rooftop_experts& layer, const Visits& visits, int most_visits, float* out) {
  const rooftop_matrix& d = layer.down;
  const int hidden = d.rows, width = d.columns, out_pairs = pairs(hidden);
  const Activations inner_activations = {inner_values, size_t(width), inner_quantised, width, visits.first[visits.count]};
  const Runs runs = runs_of(out_pairs, 1, most_visits);
  pool.each(thread, runs.count, [&](int item) {
    const int first = item * runs.length, end = std::min(first + runs.length, out_pairs);
    for (int i = 0; i < visits.count; i++) {
      const int begin = visits.first[i], n = visits.first[i + 1] - begin;
      const uint8_t* expert = layer.data + visits.experts[i] * layer.stride;
      const bool last = i + 1 == visits.count;
      const Activations part = inner_activations.from(begin);
      for (int pair = first; pair < end; pair++) {
        const int row = pair * kPairRows, rows = std::min(hidden - row, kPairRows);
        float* tile = space[thread].tile[0].of<float>(size_t(n) * kPairRows);
        const uint8_t* next = pair + 1 < end ? down_rows(layer, visits, i, pair + 1)
                                             : down_rows(layer, visits, last ? 0 : i + 1, last ? end : first);
        kernels->pair[d.format](expert + size_t(d.data), hidden, width, row, part, nullptr, n, tile, kPairRows, next);
        const float* bias =
            layer.biases ? reinterpret_cast<const float*>(expert + layer.biases) + 2 * size_t(width) + row : nullptr;
        for (int t = 0; t < n; t++) {
          float* values = tile + size_t(t) * kPairRows;
          if (bias) kernels->add_scaled(values, bias, 1.0f, rows);
          kernels->add_scaled(out + size_t(visits.token[begin + t]) * hidden + row, values, visits.weight[begin + t],
                              rows);
        }
      }
    }
  });
}

ROOFTOP_API int rooftop_run_experts(rooftop_pool* pool, const rooftop_experts* layer, const float* hidden, int tokens,
                                    int count, const int32_t* experts, const int32_t* first, const int32_t* visit_token,
                                    const float* visit_weight, float* out, rooftop_stop stop) {
  const int columns = layer->gate.columns;
  if (!pool->reserve(tokens, columns, first[count], layer->down.columns)) return ROOFTOP_NO_MEMORY;
  const bool int8 = needs_int8(layer->gate) || needs_int8(layer->up);
  QuantisedGroup* codes = int8 ? pool->quantised.of<QuantisedGroup>(quantised_size(tokens, columns)) : nullptr;
  const Activations x = {hidden, size_t(columns), codes, columns, tokens};
  const Visits visits = {count, experts, first, visit_token, visit_weight};
  auto job = [&](int thread) {
    if (int8) {
      pool->pool.each(thread, tokens, [&](int t) {
        quantise_row(*pool->kernels, hidden + size_t(t) * columns, columns, tokens, t, codes);
      });
      if (!pool->pool.barrier()) return;
    }
    pool->run_experts(thread, *layer, x, visits, out);
  };
  return pool->pool.run(job, stop);
}
