// Decoder layers as one job: norms, projections, rotation, attention, router and experts, for one token or many.
//
// With one token every thread works out the small steps (norm, int8, choice of experts) for itself, which is cheaper
// than waiting for another; with many they are shared out by token.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>

#include "routing.h"
#include "work.h"

using namespace rooftop;

namespace {

constexpr int kAttentionTokens = 32;  // queries of one item of a prompt's attention

class Forward {
 public:
  Forward(rooftop_pool* pool, const rooftop_model* model, int tokens, int start, float* hidden, rooftop_trace* trace)
      : p_(*pool), k_(*pool->kernels), m_(*model), tokens_(tokens), start_(start), hidden_(hidden), trace_(trace) {
    width_ = (m_.heads + 2 * m_.kv_heads) * m_.dim;
  }

  // Takes all memory that the pass needs; false where there is none.
  bool reserve() noexcept {
    const int attended = m_.heads * m_.dim, group = m_.heads / m_.kv_heads;
    const size_t n = size_t(tokens_), visits = n * m_.experts_per_token;
    const int queries = std::min(tokens_, kAttentionTokens);
    const bool parts = tokens_ == 1 && has_attention_parts(m_.dim);
    const size_t attention = parts ? attention_part_scratch(m_.dim) : attention_scratch(m_.dim, group, queries);
    if (!p_.reserve(tokens_, std::max(m_.hidden, attended), int(visits), m_.intermediate, attention,
                    4 * m_.experts_per_token + 1))
      return false;
    const rooftop_experts& shared = m_.layer[0].shared;
    if (shared.data && !p_.reserve(tokens_, m_.hidden, tokens_, shared.down.columns)) return false;
    try {
      normed_ = p_.normed.of<float>(n * m_.hidden);
      quantised_ = p_.quantised.of<QuantisedGroup>(quantised_size(tokens_, m_.hidden));
      mixed_ = p_.mixed.of<float>(n * width_);
      attended_ = p_.attended.of<float>(n * attended);
      attended_quantised_ = p_.attended_quantised.of<QuantisedGroup>(quantised_size(tokens_, attended));
      scores_ = p_.scores.of<float>(n * m_.experts);
      rotation_ = p_.rotation.of<float>(n * m_.dim);
      if (parts) {
        const size_t most_parts = size_t(m_.kv_heads) * size_t(start_ / kPartKeys + 1);
        parts_ = p_.attention_parts.of<float>(most_parts * attention_part_floats(group, m_.dim));
      }
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
  // Embeddings where wanted, and cosines and sines of every position.
  bool prepare(int thread, const int32_t* token_ids) {
    const int half = m_.dim / 2;
    p_.pool.each(thread, tokens_, [&](int t) {
      if (token_ids)
        embed(token_ids[t], hidden_ + size_t(t) * m_.hidden);
      float* cosines = rotation_ + size_t(t) * m_.dim;
      for (int d = 0; d < half; d++) {
        const float angle = float(start_ + t) * m_.inverse_frequencies[d];
        cosines[d] = m_.rotation_scale * std::cos(angle), cosines[half + d] = m_.rotation_scale * std::sin(angle);
      }
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
      p_.multiply(thread, matrix, first_item, item, block, x, mixed_ + column, size_t(width_), false, bias);
    });
    if (!p_.pool.barrier() || !attention(thread, w)) return false;

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
    *x = {attended_, size_t(n), attended_quantised_, n, tokens_};
    if (!needs_int8(output)) return true;
    if (tokens_ == 1) {
      QuantisedGroup* codes = p_.space[thread].quantised.of<QuantisedGroup>(quantised_size(1, n));
      k_.quantise(attended_, n, codes);
      x->quantised = codes;
      return true;
    }
    p_.pool.each(thread, tokens_, [&](int t) {
      quantise_row(k_, attended_ + size_t(t) * n, n, tokens_, t, attended_quantised_);
    });
    return p_.pool.barrier();
  }

  // Norms, rotates and scales one token's queries or keys of some heads.
  void rotate_heads(float* heads, int count, const float* norm, int token, float scale) {
    const float* cosines = rotation_ + size_t(token) * m_.dim;
    for (int h = 0; h < count; h++, heads += m_.dim) {
      if (norm && !m_.wide_norms) k_.rms_norm(heads, norm, m_.epsilon, m_.dim, heads);
      k_.rotate(heads, cosines, cosines + m_.dim / 2, m_.dim);
      if (scale != 1.0f)
        for (int d = 0; d < m_.dim; d++) heads[d] *= scale;
    }
  }

  // What concerns all heads of a token at once.
  bool norm_and_clip(int thread, const rooftop_layer& w) {
    if (!m_.wide_norms && m_.clip == 0.0f) return true;
    const int queries = m_.heads * m_.dim, keys = m_.kv_heads * m_.dim;
    p_.pool.each(thread, tokens_, [&](int t) {
      float* row = mixed_ + size_t(t) * width_;
      if (m_.wide_norms) {
        k_.rms_norm(row, w.query_norm, m_.epsilon, queries, row);
        k_.rms_norm(row + queries, w.key_norm, m_.epsilon, keys, row + queries);
      }
      if (m_.clip != 0.0f)
        for (int i = 0; i < width_; i++) row[i] = std::min(std::max(row[i], -m_.clip), m_.clip);
    });
    return p_.pool.barrier();
  }

  // One token's key and value of one head go into the cache.
  void write_cache(const rooftop_layer& w, int token, int head) {
    const size_t row_bytes = cache_row_bytes(m_.cache_format, m_.dim);
    const size_t at = (size_t(head) * m_.capacity + size_t(start_ + token)) * row_bytes;
    const float* key = mixed_ + size_t(token) * width_ + size_t(m_.heads + head) * m_.dim;
    k_.store_as(key, m_.dim, m_.cache_format, w.keys + at);
    k_.store_as(key + size_t(m_.kv_heads) * m_.dim, m_.dim, m_.cache_format, w.values + at);
  }

  void attend(int thread, const rooftop_layer& w, int head, int first, int count) {
    const int group = m_.heads / m_.kv_heads;
    const size_t at = size_t(head) * m_.capacity * cache_row_bytes(m_.cache_format, m_.dim);
    AttentionTask task;
    task.queries = mixed_ + size_t(first) * width_ + size_t(head) * group * m_.dim;
    task.query_stride = size_t(width_);
    task.out = attended_ + size_t(first) * m_.heads * m_.dim + size_t(head) * group * m_.dim;
    task.out_stride = size_t(m_.heads) * m_.dim;
    task.keys = w.keys + at, task.values = w.values + at;
    task.cache_format = m_.cache_format;
    task.heads = group, task.dim = m_.dim, task.start = start_ + first, task.tokens = count, task.window = w.window;
    task.sinks = w.sinks ? w.sinks + size_t(head) * group : nullptr;
    task.scratch = p_.space[thread].attention.of<float>(attention_scratch(m_.dim, group, count));
    k_.attend(task);
  }

  bool attention(int thread, const rooftop_layer& w) {
    if (!norm_and_clip(thread, w)) return false;
    if (tokens_ == 1) return attention_of_one(thread, w);
    p_.pool.each(thread, tokens_, [&](int t) {
      float* row = mixed_ + size_t(t) * width_;
      rotate_heads(row, m_.heads, w.query_norm, t, m_.query_scale);
      rotate_heads(row + size_t(m_.heads) * m_.dim, m_.kv_heads, w.key_norm, t, 1.0f);
      for (int head = 0; head < m_.kv_heads; head++) write_cache(w, t, head);
    });
    if (!p_.pool.barrier()) return false;
    const int blocks = (tokens_ + kAttentionTokens - 1) / kAttentionTokens;
    p_.pool.each(thread, blocks * m_.kv_heads, [&](int item) {
      const int first = (blocks - 1 - item / m_.kv_heads) * kAttentionTokens;  // the longest first
      attend(thread, w, item % m_.kv_heads, first, std::min(kAttentionTokens, tokens_ - first));
    });
    return p_.pool.barrier();
  }

  // A short context is one part, which the thread that rotates a head attends to at once; a long one is cut into parts, so
  // that there are enough of them for all threads.
  bool attention_of_one(int thread, const rooftop_layer& w) {
    const int group = m_.heads / m_.kv_heads, first = w.window > 0 ? std::max(0, start_ + 1 - w.window) : 0;
    const int parts = (start_ - first) / kPartKeys + 1;
    p_.pool.each(thread, m_.kv_heads, [&](int head) {
      rotate_heads(mixed_ + size_t(head) * group * m_.dim, group, w.query_norm, 0, m_.query_scale);
      rotate_heads(mixed_ + size_t(m_.heads + head) * m_.dim, 1, w.key_norm, 0, 1.0f);
      write_cache(w, 0, head);
      if (!has_attention_parts(m_.dim)) attend(thread, w, head, 0, 1);
      if (!has_attention_parts(m_.dim) || parts > 1) return;
      attend_part(thread, w, head, first, start_ + 1 - first, parts_of(head, 1));
      join_parts(w, head, 1);
    });
    if (!p_.pool.barrier()) return false;
    if (!has_attention_parts(m_.dim) || parts == 1) return true;
    p_.pool.each(thread, m_.kv_heads * parts, [&](int item) {
      const int head = item / parts, part = item % parts, key = first + part * kPartKeys;
      attend_part(thread, w, head, key, std::min(kPartKeys, start_ + 1 - key),
                  parts_of(head, parts) + part * attention_part_floats(group, m_.dim));
    });
    if (!p_.pool.barrier()) return false;
    p_.pool.each(thread, m_.kv_heads, [&](int head) { join_parts(w, head, parts); });
    return p_.pool.barrier();
  }

  float* parts_of(int head, int parts) const {
    return parts_ + size_t(head) * parts * attention_part_floats(m_.heads / m_.kv_heads, m_.dim);
  }

  void attend_part(int thread, const rooftop_layer& w, int head, int first, int count, float* part) {
    const int group = m_.heads / m_.kv_heads;
    const size_t at = (size_t(head) * m_.capacity + size_t(first)) * cache_row_bytes(m_.cache_format, m_.dim);
    AttentionPart task;
    task.queries = mixed_ + size_t(head) * group * m_.dim;
    task.keys = w.keys + at, task.values = w.values + at;
    task.cache_format = m_.cache_format;
    task.heads = group, task.dim = m_.dim, task.count = count;
    task.out = part, task.most = part + size_t(group) * m_.dim, task.total = task.most + group;
    task.scratch = p_.space[thread].attention.of<float>(attention_part_scratch(m_.dim));
    k_.attend_part(task);
  }

  void join_parts(const rooftop_layer& w, int head, int parts) {
    const int group = m_.heads / m_.kv_heads;
    k_.join_parts(parts_of(head, parts), parts, group, m_.dim, w.sinks ? w.sinks + size_t(head) * group : nullptr,
                  attended_ + size_t(head) * group * m_.dim);
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
  const int tokens_, start_;
  float* const hidden_;
  rooftop_trace* const trace_;
  int width_ = 0, active_ = 0;
  float *normed_ = nullptr, *mixed_ = nullptr, *attended_ = nullptr, *scores_ = nullptr, *rotation_ = nullptr;
  float* parts_ = nullptr;  // [kv_heads, parts, attention_part_floats]
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
