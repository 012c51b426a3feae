// What float products with many tokens and attention of many tokens share: a panel of lines, each a number of kPanelLanes
// rows (of weights, or of queries) side by side, in a first-level cache, and a block of sums in registers that runs over it.
#pragma once
#include <type_traits>

#include "kernels.h"

namespace {

constexpr int kPanelLanes = 16 * V::kFloatTiles;
static_assert(kPanelLanes <= rooftop::kMostPanelLanes, "what attention_scratch reckons with");

// sum[t][i] += factor(t, k) * vector i of line k, for all lines.
template <int Columns, class Factor>
ROOFTOP_INLINE void add_products(V::F (&sum)[Columns][V::kFloatTiles], const float* panel, int lines, Factor factor) {
  for (int k = 0; k < lines; k++, panel += kPanelLanes) {
    V::F x[V::kFloatTiles];
    for (int i = 0; i < V::kFloatTiles; i++) x[i] = V::load(panel + 16 * i);
    for (int t = 0; t < Columns; t++) {
      const V::F f = V::set1(factor(t, k));
      for (int i = 0; i < V::kFloatTiles; i++) sum[t][i] = V::fma(f, x[i], sum[t][i]);
    }
  }
}

// body(size as a constant) for a size of 1 .. Columns
template <int Columns = V::kFloatColumns, class Body>
ROOFTOP_INLINE void sized(int size, Body body) {
  if constexpr (Columns > 1) {
    if (size < Columns) return sized<Columns - 1>(size, body);
  }
  body(std::integral_constant<int, Columns>());
}

// body(size as a constant, first) for blocks of nearly equal size, at most V::kFloatColumns, that make up `count`: one of
// one or two would wait for its own results.
template <class Body>
inline void in_blocks(int count, Body body) {
  for (int at = 0, left = (count + V::kFloatColumns - 1) / V::kFloatColumns; left > 0; left--) {
    const int size = (count - at + left - 1) / left;
    sized(size, [&](auto columns) { body(columns, at); });
    at += size;
  }
}

}  // namespace
