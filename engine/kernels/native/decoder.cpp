// Decoder layers as one job: norms, projections, rotation, attention, router and experts, for one token or many.
//
// With one token every thread works out the small steps (norm, int8, choice of experts) for itself, which is cheaper
// than waiting for another; with many they are shared out by token.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>

#include "layer_attention.h"
#include "routing.h"
#include "work.h"

using namespace rooftop;

namespace {

class Forward {
 public:
  Forward(rooftop_pool* pool, const rooftop_model* model, int tokens, int start, float* hidden, rooftop_trace* trace)
      : p_(*pool), k_(*pool->kernels), m_(*model), attention_(*pool, *model, tokens, start), tokens_(tokens),
        hidden_(hidden), trace_(trace) {}

  // Takes all memory that the pass needs; false where there is none.
  bool reserve() noexcept {
    const int attended = m_.heads * m_.dim;
    const size_t n = size_t(tokens_), visits = n * m_.experts_per_token;
    if (!p_.reserve(tokens_, std::max(m_.hidden, attended), int(visits), m_.intermediate, attention_.scratch_floats(),
                    4 * m_.experts_per_token + 1))
      return false;
    const rooftop_experts& shared = m_.layer[0].shared;
    if (shared.data && !p_.reserve(tokens_, m_.hidden, tokens_, shared.down.columns)) return false;
    try {
      normed_ = p_.normed.of<float>(n * m_.hidden);
      quantised_ = p_.quantised.of<QuantisedGroup>(quantised_size(tokens_, m_.hidden));
      attention_.take_memory();
      attended_quantised_ = p_.attended_quantised.of<QuantisedGroup>(quantised_size(tokens_, attended));
      scores_ = p_.scores.of<float>(n * m_.experts);
      choice_ = p_.choice.of<int32_t>(4 * visits + 3 * size_t(m_.experts) + 1 + 2 * n);
      shared_visits_ = choice_ + 4 * visits + 3 * size_t(m_.experts) + 1;
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

  void run(int thread, const int32_t* token_ids, int first_layer, int last_layer) {
    if (!prepare(thread, token_ids)) return;
    for (int i = first_layer; i < last_layer; i++)
      if (!layer(thread, m_.layer[i], i - first_layer)) return;
  }

 private:
  // Embeddings where wanted, and the rotation of every position.
  bool prepare(int thread, const int32_t* token_ids) {
    p_.pool.each(thread, tokens_, [&](int t) {
      if (token_ids) embed(token_ids[t], hidden_ + size_t(t) * m_.hidden);
      attention_.set_rotation(t);
    });
    return p_.pool.barrier();
  }

  void embed(int token_id, float* out) const {
    k_.read_row(m_.embedding.data, m_.embedding.format, m_.hidden, token_id, out);
    if (m_.embedding_scale != 1.0f)
      for (int i = 0; i < m_.hidden; i++) out[i] *= m_.embedding_scale;
  }

  bool layer(int thread, const rooftop_layer& w, int index) {
    Activations x;
    const bool int8 = needs_int8(w.query) || needs_int8(w.key) || needs_int8(w.value);
    if (!normed(thread, w.attention_norm, w.attention_norm_bias, int8, &x)) return false;
    const int q = pairs(w.query.rows), k = q + pairs(w.key.rows), v = k + pairs(w.value.rows);
    p_.products(thread, v, tokens_, [&](int item, Tokens block) {
      const rooftop_matrix& matrix = item < q ? w.query : item < k ? w.key : w.value;
      const int first_item = item < q ? 0 : item < k ? q : k;
      const int column = item < q ? 0 : item < k ? w.query.rows : w.query.rows + w.key.rows;
      const float* bias = w.qkv_bias ? w.qkv_bias + column : nullptr;
      p_.multiply(thread, matrix, first_item, item, block, x, attention_.mixed() + column, size_t(attention_.width()), false, bias);
    });
    if (!p_.pool.barrier() || !attention_.run(thread, w)) return false;

    if (!attended(thread, w.output, &x)) return false;
    p_.products(thread, pairs(w.output.rows), tokens_, [&](int item, Tokens block) {
      p_.multiply(thread, w.output, 0, item, block, x, hidden_, size_t(m_.hidden), true, w.output_bias,
                  m_.residual_scale);
    });
    if (!p_.pool.barrier()) return false;

    const bool shared_int8 = w.shared.data && (needs_int8(w.shared.gate) || needs_int8(w.shared.up));
    const bool experts_int8 =
        needs_int8(w.experts.gate) || needs_int8(w.experts.up) || needs_int8(w.router) || shared_int8;
    if (!normed(thread, w.expert_norm, w.expert_norm_bias, experts_int8, &x)) return false;
    p_.products(thread, pairs(w.router.rows), tokens_, [&](int item, Tokens block) {
      p_.multiply(thread, w.router, 0, item, block, x, scores_, size_t(m_.experts), false, w.router_bias);
    });
    if (!p_.pool.barrier()) return false;
    if (w.shared.data && !shared_expert(thread, w, x)) return false;
    return experts(thread, w, index, x);
  }

  // Norm of the residual stream, as fp32 and, where wanted, as int8.
  bool normed(int thread, const float* weight, const float* bias, bool int8, Activations* x) {
    const int n = m_.hidden;
    if (tokens_ == 1) {
      float* values = p_.space[thread].values.of<float>(size_t(n));
      QuantisedGroup* codes = p_.space[thread].quantised.of<QuantisedGroup>(quantised_size(1, n));
      norm_row(k_, hidden_, weight, bias, m_.epsilon, n, values);
      if (int8) k_.quantise(values, n, codes);
      *x = {values, size_t(n), codes, n, 1};
      return true;
    }
    p_.pool.each(thread, tokens_, [&](int t) {
      float* values = normed_ + size_t(t) * n;
      norm_row(k_, hidden_ + size_t(t) * n, weight, bias, m_.epsilon, n, values);
      if (int8) quantise_row(k_, values, n, tokens_, t, quantised_);
    });
    *x = {normed_, size_t(n), quantised_, n, tokens_};
    return p_.pool.barrier();
  }

  // The attention's output as the output projection wants it.
  bool attended(int thread, const rooftop_matrix& output, Activations* x) {
    const int n = output.columns;
    *x = {attention_.attended(), size_t(n), attended_quantised_, n, tokens_};
    if (!needs_int8(output)) return true;
    if (tokens_ == 1) {
      QuantisedGroup* codes = p_.space[thread].quantised.of<QuantisedGroup>(quantised_size(1, n));
      k_.quantise(attention_.attended(), n, codes);
      x->quantised = codes;
      return true;
    }
    p_.pool.each(thread, tokens_, [&](int t) {
      quantise_row(k_, attention_.attended() + size_t(t) * n, n, tokens_, t, attended_quantised_);
    });
    return p_.pool.barrier();
  }

  // The expert that every token visits, each with a weight of its own.
  bool shared_expert(int thread, const rooftop_layer& w, const Activations& x) {
    const int32_t none = 0, first[2] = {0, tokens_};
    float one = 0;
    Visits visits = {1, &none, first, &none, &one};
    if (tokens_ == 1) {
      one = shared_weight(w.shared_gate, x.values);
    } else {
      int32_t* token = shared_visits_;
      float* weights = reinterpret_cast<float*>(shared_visits_ + tokens_);
      p_.pool.each(thread, tokens_, [&](int t) {
        token[t] = t, weights[t] = shared_weight(w.shared_gate, x.values + size_t(t) * m_.hidden);
      });
      visits.token = token, visits.weight = weights;
      if (!p_.pool.barrier()) return false;
    }
    return p_.run_experts(thread, w.shared, x, visits, hidden_) && p_.pool.barrier();
  }

  float shared_weight(const float* gate, const float* values) const {
    if (!gate) return m_.residual_scale;
    const float score = sum_of(m_.hidden, [&](int i) { return gate[i] * values[i]; });
    return m_.residual_scale / (1.0f + std::exp(-score));
  }

  bool experts(int thread, const rooftop_layer& w, int index, const Activations& x) {
    Visits visits;
    if (!(tokens_ == 1 ? visits_of_one(thread, &visits) : visits_of_many(thread, &visits))) return false;
    const size_t per_layer = size_t(tokens_) * m_.experts_per_token;
    const auto started = std::chrono::steady_clock::now();
    if (!p_.run_experts(thread, w.experts, x, visits, hidden_)) return false;
    if (!p_.pool.barrier()) return false;
    if (thread == 0 && trace_) {
      trace_->seconds[index] = std::chrono::duration<float>(std::chrono::steady_clock::now() - started).count();
      const int32_t* chosen = tokens_ == 1 ? visits.experts : choice_;
      std::memcpy(trace_->experts + size_t(index) * per_layer, chosen, per_layer * 4);
    }
    return true;
  }

  bool visits_of_one(int thread, Visits* visits) {
    const int a = m_.experts_per_token;
    int32_t* chosen = p_.space[thread].choice.of<int32_t>(size_t(4 * a + 1));
    float* weights = reinterpret_cast<float*>(chosen + a);
    int32_t *token = chosen + 2 * a, *first = chosen + 3 * a;
    choose_experts(m_, scores_, chosen, weights);
    for (int i = 0; i <= a; i++) {
      first[i] = i;
      if (i < a) token[i] = 0;
    }
    *visits = {a, chosen, first, token, weights};
    return true;
  }

  // choice_: chosen [n a], weights [n a], visit tokens [n a], visit weights [n a], experts [E], first [E + 1], cursor [E]
  bool visits_of_many(int thread, Visits* visits) {
    const int a = m_.experts_per_token, n = tokens_ * a;
    int32_t *token = choice_ + 2 * n, *experts = choice_ + 4 * n, *first = experts + m_.experts;
    int32_t* cursor = first + m_.experts + 1;
    float *weights = reinterpret_cast<float*>(choice_ + n), *weight = reinterpret_cast<float*>(choice_ + 3 * n);
    p_.pool.each(thread, tokens_, [&](int t) {
      choose_experts(m_, scores_ + size_t(t) * m_.experts, choice_ + size_t(t) * a, weights + size_t(t) * a);
    });
    if (!p_.pool.barrier()) return false;
    if (thread == 0) {
      for (int e = 0; e < m_.experts; e++) cursor[e] = 0;
      for (int i = 0; i < n; i++) cursor[choice_[i]]++;
      active_ = 0, first[0] = 0;
      for (int e = 0; e < m_.experts; e++) {
        if (!cursor[e]) continue;
        experts[active_] = e, first[active_ + 1] = first[active_] + cursor[e];
        cursor[e] = first[active_++];
      }
      for (int i = 0; i < n; i++) {
        const int at = cursor[choice_[i]]++;
        token[at] = i / a, weight[at] = weights[i];
      }
    }
    if (!p_.pool.barrier()) return false;
    *visits = {active_, experts, first, token, weight};
    return true;
  }

  rooftop_pool& p_;
  const Kernels& k_;
  const rooftop_model& m_;
  LayerAttention attention_;
  const int tokens_;
  float* const hidden_;
  rooftop_trace* const trace_;
  int active_ = 0;
  float *normed_ = nullptr, *scores_ = nullptr;
  QuantisedGroup *quantised_ = nullptr, *attended_quantised_ = nullptr;
  int32_t *choice_ = nullptr, *shared_visits_ = nullptr;
};

}  // namespace

ROOFTOP_API int rooftop_forward(rooftop_pool* pool, const rooftop_model* model, int first_layer, int last_layer,
                                const int32_t* token_ids, int tokens, int start, float* hidden, rooftop_trace* trace,
                                rooftop_stop stop) {
  Forward forward(pool, model, tokens, start, hidden, trace);
  if (!forward.reserve()) return ROOFTOP_NO_MEMORY;
  auto job = [&](int thread) { forward.run(thread, token_ids, first_layer, last_layer); };
  return pool->pool.run(job, stop);
}

// The next token begins with these, while the caller draws it.
static Soon bytes_of(const rooftop_matrix& matrix) {
  return {matrix.data, size_t(matrix.rows) * row_bytes(matrix.format, matrix.columns)};
}

ROOFTOP_API int rooftop_logits(rooftop_pool* pool, const rooftop_model* model, const float* hidden, int tokens,
                               float* logits, rooftop_stop stop) {
  const int n = model->hidden;
  if (!pool->reserve(tokens, n)) return ROOFTOP_NO_MEMORY;
  float* values = nullptr;
  try {
    values = pool->normed.of<float>(size_t(tokens) * n);
  } catch (const std::bad_alloc&) {
    return ROOFTOP_NO_MEMORY;
  }
  QuantisedGroup* codes = pool->quantised.of<QuantisedGroup>(quantised_size(tokens, n));
  const Activations x = {values, size_t(n), codes, n, tokens};
  if (tokens == 1) {
    const rooftop_layer& first = model->layer[0];
    const Soon soon[kMostSoon] = {bytes_of(first.query), bytes_of(first.key), bytes_of(first.value), bytes_of(first.output)};
    pool->pool.afterwards(soon);
  }
  auto job = [&](int thread) {
    pool->pool.each(thread, tokens, [&](int t) {
      norm_row(*pool->kernels, hidden + size_t(t) * n, model->norm, model->norm_bias, model->epsilon, n,
               values + size_t(t) * n);
      if (needs_int8(model->head)) quantise_row(*pool->kernels, values + size_t(t) * n, n, tokens, t, codes);
    });
    if (!pool->pool.barrier()) return;
    pool->products(thread, pairs(model->head.rows), tokens, [&](int item, Tokens block) {
      pool->multiply(thread, model->head, 0, item, block, x, logits, size_t(model->head.rows), false,
                     model->head_bias);
    });
  };
  return pool->pool.run(job, stop);
}
