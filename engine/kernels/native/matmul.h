// 32 rows of a matrix in a block format times some tokens: the kernel that all the time goes into.
//
// Few tokens: codes go from memory into registers and straight into the dot products, so that memory is
// the limit. Many tokens: 256 columns of the rows are unpacked once into a panel that stays in the first-level
// cache, and a register block of kTiles x kTokens accumulators runs over it (weights times activations in int8, one
// scale per 32 or 16 columns applied in fp32).
// Whatever the path, a result is summed in an order that depends on nothing but the path.
#pragma once
#include <algorithm>

#include "kernels.h"
#include "unpack.h"

namespace {

using rooftop::Activations;
using rooftop::kGroup;
using rooftop::kPanelGroups;
using rooftop::kPairRows;
using rooftop::QuantisedGroup;

constexpr int kTokenBlock = 192;        // most tokens that share one unpacking
constexpr int kLeastTokenBlock = 96;    // though their activations may be more than
constexpr int kBlockBytes = 640 << 10;  // what the second-level cache holds of them
constexpr int kPrefetchBytes = 8192;

// What the arithmetic depends on; formats that agree in it share their code.
template <bool Halves, bool Bias, bool Wide, int Bits, int OffsetBits>
struct Arithmetic {
  static constexpr bool kHalves = Halves, kBias = Bias, kWide = Wide && V::kSignedWide;
  static constexpr int kBits = Bits, kOffsetBits = OffsetBits;
};

template <class Format>
using ArithmeticOf =
    Arithmetic<Format::kHalves, Format::kBias, Format::kWide, Format::kBits, Format::kOffsetBits>;

// sum[i][t] += v[i][p] . activations[t][p] for Lanes vectors of Tiles tiles and Tokens tokens.
template <class Format, int Tiles, int Tokens, int Lanes, class Codes, class Quantised>
ROOFTOP_INLINE void dots(V::I (&sum)[Tiles][Tokens], Codes codes, Quantised activations) {
  constexpr int step = std::min(Lanes, Format::kWide ? 1 : V::most_in_partial(Format::kBits));
#pragma GCC unroll 8
  for (int first = 0; first < Lanes; first += step) {
    V::P part[Tiles][Tokens];
    for (int i = 0; i < Tiles; i++)
      for (int t = 0; t < Tokens; t++) part[i][t] = V::start(sum[i][t]);
#pragma GCC unroll 8
    for (int p = first; p < first + step; p++) {
      V::B v[Tiles];
      for (int i = 0; i < Tiles; i++) v[i] = codes(i, p);
      for (int t = 0; t < Tokens; t++) {
        const V::A a = V::spread(activations(t) + 4 * p);
        for (int i = 0; i < Tiles; i++)
          part[i][t] = Format::kWide ? V::accumulate_wide(part[i][t], v[i], a) : V::accumulate(part[i][t], v[i], a);
      }
    }
    for (int i = 0; i < Tiles; i++)
      for (int t = 0; t < Tokens; t++) sum[i][t] = V::finish(sum[i][t], part[i][t]);
  }
}

// Where the integer sum begins: minus offset times the sum of the activations' codes.
template <class Format>
ROOFTOP_INLINE V::I first_sum(const int32_t* minus_sum) {
  if constexpr (Format::kOffsetBits < 0 || (Format::kWide && V::kSignedWide))
    return V::izero();
  else
    return V::shifted<(Format::kOffsetBits < 0 ? 0 : Format::kOffsetBits)>(minus_sum);
}

// What to fetch while some weights are read: those that follow, and past the last of the run the beginning of the next.
// Always as data that is read once, which leaves the caches to the activations.
struct Ahead {
  const uint8_t *end, *next;
  ROOFTOP_INLINE const uint8_t* of(const uint8_t* tile) const {
    const uint8_t* ahead = tile + kPrefetchBytes;
    return ahead < end ? ahead : next + (ahead - end);
  }
};

// ---- few tokens -------------------------------------------------------------------------------------------------

// Group s of a tile (group g behind each of `rows`) times Tokens tokens.
template <class Format, int Tokens>
ROOFTOP_INLINE void few_group(const uint8_t* tile, const Head& head, int s, const QuantisedGroup* const* rows, size_t g,
                              V::F* total) {
  constexpr int halves = Format::kHalves ? 2 : 1, lanes = 8 / halves;
  V::B v[8];
  Scales k;
  Format::codes(tile, s, v);
  Format::scales(tile, s, head, &k);
  for (int t = 0; t < Tokens; t++) {
    const QuantisedGroup& a = rows[t][g];
    for (int h = 0; h < halves; h++) {
      V::I sum[1][1] = {{first_sum<Format>(Format::kHalves ? a.minus_half + h : &a.minus_sum)}};
      dots<Format, 1, 1, lanes>(
          sum, [&](int, int p) { return v[h * lanes + p]; }, [&](int) { return a.codes + 4 * h * lanes; });
      total[t] = V::fma(V::to_float(sum[0][0]), V::mul(k.scale[h], V::set1(a.scale)), total[t]);
      if constexpr (Format::kBias)
        total[t] = V::fma(k.bias[h], V::set1(Format::kHalves ? a.half[h] : a.sum), total[t]);
    }
  }
}

// `groups` groups, those of the tokens from `offset` behind each of `rows`, whole tiles: out[t] = ... or, with `more`, +=.
// `fetch`: nobody has read the weights yet.
template <class Format, int Tokens>
void few_groups(const uint8_t* tile, int groups, const QuantisedGroup* const* rows, size_t offset, bool more,
                float* const* out, const Ahead& ahead, bool fetch) {
  constexpr int per_tile = Format::kColumns / kGroup, lines = (Format::kBytes / per_tile + 63) / 64;
  constexpr int turn = std::min(per_tile, Tokens <= 4 ? Format::kTurn : 4);
  V::F total[Tokens];
  for (int t = 0; t < Tokens; t++) total[t] = more ? V::load(out[t]) : V::zero();
  for (int first = 0; first < groups; first += per_tile, tile += Format::kBytes) {
    const Head head = Format::head(tile);
    const uint8_t* fetched = ahead.of(tile);
#pragma GCC unroll 1
    for (int at = 0; at < per_tile / turn; at++) {
#pragma GCC unroll 4
      for (int i = 0; i < turn; i++) {
        const int s = at * turn + i;
        if (fetch) {
          for (int line = 0; line < lines; line++)
            __builtin_prefetch(fetched + s * (Format::kBytes / per_tile) + 64 * line, 0, 0);
        }
        few_group<Format, Tokens>(tile, head, s, rows, offset + first + s, total);
        // Else the compiler puts all of these fetches side by side, and memory has long pauses. The sum of a single token is
        // even kept in memory, which is slower from the caches and faster from memory: nothing runs ahead of the fetches.
        if constexpr (per_tile > 1 && Tokens == 1)
          __asm__ volatile("" ::: "memory");
        else if constexpr (per_tile > 1)
          __asm__ volatile("" : "+r"(tile), "+r"(fetched));
      }
    }
  }
  for (int t = 0; t < Tokens; t++) V::store(out[t], total[t]);
}

template <class Format, int Tokens>
void few_sized(const uint8_t* tile, int groups, const QuantisedGroup* const* rows, size_t offset, bool more,
               float* const* out, int count, const Ahead& ahead, bool fetch) {
  if constexpr (Tokens > 1) {
    if (count < Tokens) {
      few_sized<Format, Tokens - 1>(tile, groups, rows, offset, more, out, count, ahead, fetch);
      return;
    }
  }
  few_groups<Format, Tokens>(tile, groups, rows, offset, more, out, ahead, fetch);
}

// The only token goes along the whole strip. More go 256 columns at a time, up to kFew at a time: memory is read by the
// first of them. `plane`: groups from one panel of the activations to the next.
template <class Format>
void multiply_few(const uint8_t* strip, int columns, const QuantisedGroup* const* rows, size_t plane, float* const* out,
                  int count, const Ahead& ahead) {
  const int all = columns / kGroup, step = plane == kPanelGroups ? all : kPanelGroups;
  for (int first = 0; first < all; first += step) {
    const int groups = all - first < step ? all - first : step;
    const uint8_t* tile = strip + size_t(first) * kGroup / Format::kColumns * Format::kBytes;
    for (int t = 0; t < count;) {
      const int parts = (count - t + V::kFew - 1) / V::kFew, part = (count - t + parts - 1) / parts;
      few_sized<Format, V::kFew>(tile, groups, rows + t, first / kPanelGroups * plane, first > 0, out + t, part, ahead, t == 0);
      t += part;
    }
  }
}

// ---- many tokens --------------------------------------------------------------------------------------------

struct Panel {
  alignas(64) uint8_t codes[2][kPanelGroups][8][64];
  alignas(64) float scale[2][2 * kPanelGroups][kTileRows];
  alignas(64) float bias[2][2 * kPanelGroups][kTileRows];
};

// What the panel after this one is unpacked from, in each of the two strips. It is fetched a few lines at a time, beside
// the arithmetic, into the second-level cache: the first is full of activations.
struct NextPanel {
  const uint8_t* strip[2];
  int lines;
};

template <class Format>
void unpack(const uint8_t* tile, int groups, int which, Panel* panel) {
  constexpr int per_tile = Format::kColumns / kGroup, halves = Format::kHalves ? 2 : 1;
  for (int first = 0; first < groups; first += per_tile, tile += Format::kBytes) {
    const Head head = Format::head(tile);
#pragma GCC unroll 8
    for (int s = 0; s < per_tile; s++) {
      V::B v[8];
      Scales k;
      Format::codes(tile, s, v);
      Format::scales(tile, s, head, &k);
      for (int p = 0; p < 8; p++) V::store_line(panel->codes[which][first + s][p], v[p]);
      for (int h = 0; h < halves; h++) {
        V::store(panel->scale[which][(first + s) * halves + h], k.scale[h]);
        if constexpr (Format::kBias) V::store(panel->bias[which][(first + s) * halves + h], k.bias[h]);
      }
    }
  }
}

template <class Format, int Tiles, int Tokens>
void multiply_block(const Panel& panel, int which, int groups, const QuantisedGroup* const* rows, size_t offset, bool more,
                    float* const* out) {
  V::F total[Tiles][Tokens];
  for (int i = 0; i < Tiles; i++)
    for (int t = 0; t < Tokens; t++) total[i][t] = more ? V::load(out[t] + kTileRows * (which + i)) : V::zero();
  constexpr int halves = Format::kHalves ? 2 : 1, lanes = 8 / halves;
  for (int s = 0; s < groups; s++) {
    const size_t g = offset + s;
#pragma GCC unroll 2
    for (int h = 0; h < halves; h++) {
      V::I sum[Tiles][Tokens];
      for (int t = 0; t < Tokens; t++) {
        const V::I first = first_sum<Format>(Format::kHalves ? rows[t][g].minus_half + h : &rows[t][g].minus_sum);
        for (int i = 0; i < Tiles; i++) sum[i][t] = first;
      }
      dots<Format, Tiles, Tokens, lanes>(
          sum, [&](int i, int p) { return V::panel_line(panel.codes[which + i][s][h * lanes + p]); },
          [&](int t) { return rows[t][g].codes + 4 * h * lanes; });
      for (int t = 0; t < Tokens; t++) {
        const V::F scale = V::set1(rows[t][g].scale);
        for (int i = 0; i < Tiles; i++) {
          const V::F k = V::mul(V::load(panel.scale[which + i][s * halves + h]), scale);
          total[i][t] = V::fma(V::to_float(sum[i][t]), k, total[i][t]);
          if constexpr (Format::kBias) {
            const V::F of = V::set1(Format::kHalves ? rows[t][g].half[h] : rows[t][g].sum);
            total[i][t] = V::fma(V::load(panel.bias[which + i][s * halves + h]), of, total[i][t]);
          }
        }
      }
    }
  }
  for (int i = 0; i < Tiles; i++)
    for (int t = 0; t < Tokens; t++) V::store(out[t] + kTileRows * (which + i), total[i][t]);
}

template <class Format, int Tiles, int Tokens>
void multiply_sized(const Panel& panel, int which, int groups, const QuantisedGroup* const* rows, size_t offset, bool more,
                    float* const* out, int count) {
  if constexpr (Tokens > 0) {
    if (count == Tokens)
      multiply_block<Format, Tiles, Tokens>(panel, which, groups, rows, offset, more, out);
    else
      multiply_sized<Format, Tiles, Tokens - 1>(panel, which, groups, rows, offset, more, out, count);
  }
}

// Blocks of nearly equal size: a block of one or two tokens would wait for its own results.
template <class Format, int Tiles>
void multiply_panel(const Panel& panel, int which, int groups, const QuantisedGroup* const* rows, size_t offset, bool more,
                    float* const* out, int count, const NextPanel& next) {
  const int blocks = (count + V::kTokens - 1) / V::kTokens;
  for (int t = 0, block = 0; t < count; block++) {
    for (int i = which; i < which + Tiles; i++)
      for (int line = next.lines * block / blocks; line < next.lines * (block + 1) / blocks; line++)
        __builtin_prefetch(next.strip[i] + 64 * line, 0, 2);
    const int parts = (count - t + V::kTokens - 1) / V::kTokens, part = (count - t + parts - 1) / parts;
    multiply_sized<Format, Tiles, V::kTokens>(panel, which, groups, rows + t, offset, more, out + t, part);
    t += part;
  }
}

template <class Format>
void multiply_many(const uint8_t* strip, size_t strip_bytes, int columns, const QuantisedGroup* const* rows,
                   size_t plane, float* const* out, int count, const uint8_t* after) {
  constexpr size_t kPanelBytes = size_t(kPanelGroups) * kGroup / Format::kColumns * Format::kBytes;
  Panel panel;
  const int all = columns / kGroup;
  for (int first = 0; first < all; first += kPanelGroups) {
    const int groups = all - first < kPanelGroups ? all - first : kPanelGroups;
    const size_t offset = size_t(first) * kGroup / Format::kColumns * Format::kBytes;
    for (int i = 0; i < 2; i++) unpack<Format>(strip + i * strip_bytes + offset, groups, i, &panel);
    const uint8_t* next = first + kPanelGroups < all ? strip + offset + kPanelBytes : after;
    const NextPanel next_panel = {{next, next + strip_bytes}, int((kPanelBytes + 63) / 64)};
    for (int i = 0; i < 2; i += V::kTiles)
      multiply_panel<ArithmeticOf<Format>, V::kTiles>(panel, i, groups, rows, first / kPanelGroups * plane, first > 0, out,
                                                       count, next_panel);
  }
}

template <class Format>
void pair_of_blocks(const uint8_t* matrix, int rows, int columns, int first_row, const Activations& activations,
                    const int32_t* tokens, int count, float* out, size_t out_stride, const uint8_t* next) {
  const size_t strip_bytes = size_t(columns) / Format::kColumns * Format::kBytes;
  const uint8_t* strip = matrix + size_t(first_row / kTileRows) * strip_bytes;
  const int tiles = rows - first_row > kTileRows ? 2 : 1;
  const Ahead ahead = {strip + size_t(tiles) * strip_bytes, next ? next : strip};
  const size_t plane = size_t(activations.tokens) * kPanelGroups;
  constexpr int few = Format::kColumns > kGroup ? V::kFewTokens256 : V::kFewTokens;
  const QuantisedGroup* row[kTokenBlock];
  float* target[kTokenBlock];
  const int most = std::clamp(kBlockBytes / (2 * columns), kLeastTokenBlock, kTokenBlock);
  const int blocks = (count + most - 1) / most;
  for (int block = 0; block < blocks; block++) {
    const int first = int(int64_t(count) * block / blocks), part = int(int64_t(count) * (block + 1) / blocks) - first;
    for (int t = 0; t < part; t++) {
      const int token = tokens ? tokens[first + t] : first + t;
      row[t] = activations.quantised + size_t(token) * kPanelGroups;
      target[t] = out + size_t(first + t) * out_stride;
    }
    if (part <= few || tiles == 1) {
      for (int i = 0; i < tiles; i++) {
        multiply_few<Format>(strip + i * strip_bytes, columns, row, plane, target, part, ahead);
        for (int t = 0; t < part; t++) target[t] += kTileRows;
      }
    } else {
      multiply_many<Format>(strip, strip_bytes, columns, row, plane, target, part,
                            block + 1 < blocks ? strip : ahead.next);
    }
  }
}

}  // namespace
