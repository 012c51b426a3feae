// Attention as a step of a decoder layer: heads are normed, rotated and kept in the cache, then shared out among threads.
#pragma once
#include <algorithm>
#include <cmath>

#include "work.h"

namespace rooftop {

constexpr int kAttentionTokens = 32;  // queries of one item of a prompt's attention

class LayerAttention {
 public:
  LayerAttention(rooftop_pool& pool, const rooftop_model& model, int tokens, int start)
      : p_(pool), k_(*pool.kernels), m_(model), tokens_(tokens), start_(start),
        group_(model.heads / model.kv_heads), width_((model.heads + 2 * model.kv_heads) * model.dim) {}

  // Of each thread's `attention` memory.
  size_t scratch_floats() const {
    return in_parts() ? attention_part_scratch(m_.dim)
                      : attention_scratch(m_.dim, group_, std::min(tokens_, kAttentionTokens));
  }

  // All other memory; throws std::bad_alloc.
  void take_memory() {
    const size_t n = size_t(tokens_);
    mixed_ = p_.mixed.of<float>(n * width_);
    attended_ = p_.attended.of<float>(n * m_.heads * m_.dim);
    rotation_ = p_.rotation.of<float>(n * m_.dim);
    if (!in_parts()) return;
    const size_t parts = size_t(m_.kv_heads) * size_t(start_ / kPartKeys + 1);
    parts_ = p_.attention_parts.of<float>(parts * attention_part_floats(group_, m_.dim));
  }

  float* mixed() const { return mixed_; }        // [tokens, width]: queries, keys and values, from the projections
  float* attended() const { return attended_; }  // [tokens, heads, dim]: the result
  int width() const { return width_; }

  // Cosines and sines of a token's position.
  void set_rotation(int token) {
    const int half = m_.dim / 2;
    float* cosines = rotation_ + size_t(token) * m_.dim;
    for (int d = 0; d < half; d++) {
      const float angle = float(start_ + token) * m_.inverse_frequencies[d];
      cosines[d] = m_.rotation_scale * std::cos(angle), cosines[half + d] = m_.rotation_scale * std::sin(angle);
    }
  }

  // Inside a job: false where that is to end.
  bool run(int thread, const rooftop_layer& w) {
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

 private:
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
    const size_t at = size_t(head) * m_.capacity * cache_row_bytes(m_.cache_format, m_.dim);
    AttentionTask task;
    task.queries = mixed_ + size_t(first) * width_ + size_t(head) * group_ * m_.dim;
    task.query_stride = size_t(width_);
    task.out = attended_ + size_t(first) * m_.heads * m_.dim + size_t(head) * group_ * m_.dim;
    task.out_stride = size_t(m_.heads) * m_.dim;
    task.keys = w.keys + at, task.values = w.values + at;
    task.cache_format = m_.cache_format;
    task.heads = group_, task.dim = m_.dim, task.start = start_ + first, task.tokens = count, task.window = w.window;
    task.sinks = w.sinks ? w.sinks + size_t(head) * group_ : nullptr;
    task.scratch = p_.space[thread].attention.of<float>(attention_scratch(m_.dim, group_, count));
    k_.attend(task);
  }

  // A short context is one part, which the thread that rotates a head attends to at once; a long one is cut into parts, so
  // that there are enough of them for all threads.
  bool attention_of_one(int thread, const rooftop_layer& w) {
    const int first = w.window > 0 ? std::max(0, start_ + 1 - w.window) : 0;
    const int parts = (start_ - first) / kPartKeys + 1;
    p_.pool.each(thread, m_.kv_heads, [&](int head) {
      rotate_heads(mixed_ + size_t(head) * group_ * m_.dim, group_, w.query_norm, 0, m_.query_scale);
      rotate_heads(mixed_ + size_t(m_.heads + head) * m_.dim, 1, w.key_norm, 0, 1.0f);
      write_cache(w, 0, head);
      if (!in_parts()) attend(thread, w, head, 0, 1);
      if (!in_parts() || parts > 1) return;
      attend_part(thread, w, head, first, start_ + 1 - first, parts_of(head, 1));
      join_parts(w, head, 1);
    });
    if (!p_.pool.barrier()) return false;
    if (!in_parts() || parts == 1) return true;
    p_.pool.each(thread, m_.kv_heads * parts, [&](int item) {
      const int head = item / parts, part = item % parts, key = first + part * kPartKeys;
      attend_part(thread, w, head, key, std::min(kPartKeys, start_ + 1 - key),
                  parts_of(head, parts) + part * attention_part_floats(group_, m_.dim));
    });
    if (!p_.pool.barrier()) return false;
    p_.pool.each(thread, m_.kv_heads, [&](int head) { join_parts(w, head, parts); });
    return p_.pool.barrier();
  }

  float* parts_of(int head, int parts) const {
    return parts_ + size_t(head) * parts * attention_part_floats(group_, m_.dim);
  }

  void attend_part(int thread, const rooftop_layer& w, int head, int first, int count, float* part) {
    const size_t at = (size_t(head) * m_.capacity + size_t(first)) * cache_row_bytes(m_.cache_format, m_.dim);
    AttentionPart task;
    task.queries = mixed_ + size_t(head) * group_ * m_.dim;
    task.keys = w.keys + at, task.values = w.values + at;
    task.cache_format = m_.cache_format;
    task.heads = group_, task.dim = m_.dim, task.count = count;
    task.out = part, task.most = part + size_t(group_) * m_.dim, task.total = task.most + group_;
    task.scratch = p_.space[thread].attention.of<float>(attention_part_scratch(m_.dim));
    k_.attend_part(task);
  }

  void join_parts(const rooftop_layer& w, int head, int parts) {
    k_.join_parts(parts_of(head, parts), parts, group_, m_.dim, w.sinks ? w.sinks + size_t(head) * group_ : nullptr,
                  attended_ + size_t(head) * group_ * m_.dim);
  }

  // One token's keys are attended to in parts.
  bool in_parts() const { return tokens_ == 1 && has_attention_parts(m_.dim); }

  rooftop_pool& p_;
  const Kernels& k_;
  const rooftop_model& m_;
  const int tokens_, start_;
  const int group_;  // query heads that share a key
  const int width_;
  float *mixed_ = nullptr, *attended_ = nullptr, *rotation_ = nullptr;
  float* parts_ = nullptr;  // [kv_heads, parts, attention_part_floats]
};

}  // namespace rooftop
