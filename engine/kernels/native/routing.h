// Which experts a token visits, and how much each of them counts.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu.h"

namespace rooftop {

// Sparsemixer: each weight is a softmax over the scores near the best one of those that are left.
inline void choose_sparsely(const rooftop_model& m, const float* scores, int32_t* chosen, float* weights) {
  for (int i = 0; i < m.experts_per_token; i++) {
    const auto taken = [&](int e) { return std::find(chosen, chosen + i, e) != chosen + i; };
    int best = -1;
    for (int e = 0; e < m.experts; e++)
      if (!taken(e) && (best < 0 || scores[e] > scores[best])) best = e;
    float total = 0;
    for (int e = 0; e < m.experts; e++) {
      const float distance = (scores[best] - scores[e]) / std::max(std::fabs(scores[e]), scores[best]);
      if (!taken(e) && !(distance > 2 * m.router_jitter)) total += std::exp(scores[e] - scores[best]);
    }
    chosen[i] = best, weights[i] = m.residual_scale / total;
  }
}

// The experts of one token, the largest score first, and their weights.
inline void choose_experts(const rooftop_model& m, const float* scores, int32_t* chosen, float* weights) {
  if (m.router_jitter >= 0) return choose_sparsely(m, scores, chosen, weights);
  float total = 0;
  for (int i = 0; i < m.experts_per_token; i++) {
    int best = -1;
    for (int e = 0; e < m.experts; e++) {
      bool taken = false;
      for (int j = 0; j < i; j++) taken |= chosen[j] == e;
      if (!taken && (best < 0 || scores[e] > scores[best])) best = e;
    }
    chosen[i] = best;
    weights[i] = std::exp(scores[best] - scores[chosen[0]]);
    total += weights[i];
  }
  if (!m.normalise_top_k) {
    total = 0;
    for (int e = 0; e < m.experts; e++) total += std::exp(scores[e] - scores[chosen[0]]);
  }
  for (int i = 0; i < m.experts_per_token; i++) weights[i] *= m.residual_scale / total;
}

}  // namespace rooftop
