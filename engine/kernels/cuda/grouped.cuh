// Experts of one layer with any number of tokens, some at once: three kernels, one after the other.
//
// Visits are sorted by expert, and those of each expert are cut into tiles of up to 16.
// `group_gate_up`: a warp computes 16 rows of silu(gate x) * (up x) for a tile, and rounds them itself.
// `group_down`: a warp computes 16 rows of what the expert says to a tile.
// `group_add`: a thread adds to 4 numbers of a token what its experts said, weighted, in the order of its choices.
//
// Blocks of neighbouring tiles come first, so that weights are read again from L2 as long as other tiles need them.
// Which expert lies where is part of the arguments: the host knows by then who visits whom.
#pragma once
#include "product.cuh"

constexpr int kGroupedEights = 2, kTileVisits = 8 * kGroupedEights, kShares = 128;

struct Share {          // struct Share in gpu_grouped_plans.py
  long long address;    // of gate | up | down
  int end, tile_end;    // of its visits, in the order of all; of its tiles
};

struct GroupedArguments {       // struct Grouped in gpu_grouped_plans.py
  const Byte* hidden;           // [tokens, hidden_size], prepared for gate and up
  const long long* order;       // of each visit, sorted: token * per_token + choice
  const long long* places;      // [tokens, per_token], where each is in that order, -1 where it is not
  const float* weights;         // [tokens, per_token]
  Byte* activations;            // [visits, intermediate], prepared for down
  void* said;                   // [visits, hidden_size] of `type`
  float* out;                   // [tokens, hidden_size]
  long long up_offset, down_offset;
  int tokens, per_token, begin, visits, hidden_size, intermediate, type, experts;
  Share shares[kShares];        // the first `experts`
};

// What a block works on: up to 16 visits of an expert, `first` in the order of all.
struct Tile {
  const Byte* expert;
  int first, count;

  __device__ Tile(const GroupedArguments& a, int index) {
    int low = 0, high = a.experts - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (index < a.shares[middle].tile_end) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int tiles = low > 0 ? a.shares[low - 1].tile_end : 0;
    first = (low > 0 ? a.shares[low - 1].end : a.begin) + (index - tiles) * kTileVisits;
    count = min(kTileVisits, a.shares[low].end - first);
    expert = reinterpret_cast<const Byte*>(a.shares[low].address);
  }

  // Places past the last repeat it; nobody reads their sums.
  __device__ int visit(int place) const { return first + min(place, count - 1); }
};

template <class F, class Tokens>
__device__ inline void multiply_strip(const Byte* matrix, int columns, int strip, const Tokens& tokens, Lane at,
                                      float (&total)[kGroupedEights][4]) {
  const int groups = columns / 32;
  const OneStrip<kGroupedEights> work = {matrix + strip * strip_bytes<F>(columns), (groups + 3) / 4, groups, tokens};
  multiply<F>(work, 0, 1, at, total);
}

// Writes rows 2 * pair and 2 * pair + 1 of a strip of 16, which the 8 lanes of a `quad` hold together.
__device__ inline void write_strip(Byte* activations, int rows, int columns, int row, int strip, Lane at, float first,
                                   float second, bool kept) {
  float largest = larger(fabsf(first), fabsf(second));
  for (int step = 4; step < 32; step *= 2) largest = larger(largest, __shfl_xor_sync(kWholeWarp, largest, step));
  const float factor = 127.0f / largest;
  const int low = largest > 1e-30f ? __float2int_rn(first * factor) : 0;
  const int high = largest > 1e-30f ? __float2int_rn(second * factor) : 0;
  int sum = low + high;
  for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, step);
  if (!kept) return;
  const long long group = static_cast<long long>(row) * (columns / 32) + strip / 2;
  const int half = strip % 2, word = at.pair / 2;
  const Word both = (static_cast<Word>(low) & 255) | (static_cast<Word>(high) & 255) << 8;
  store(activations + group * 32 + (2 * word + half) * 4 + at.pair % 2 * 2, static_cast<unsigned short>(both));
  if (at.pair == 0) {
    Byte* record = activations + static_cast<long long>(rows) * columns + group * kRecordBytes;
    store(record + 4 * half, largest <= 1e-30f ? 0.0f : largest / 127.0f);
    store(record + 8 + 4 * half, static_cast<float>(sum));
  }
}

template <class Gate, class Up>
__device__ inline void gate_up_of_group(const GroupedArguments& a) {
  const Lane at = this_lane();
  const int strip = static_cast<int>(blockIdx.y) * kWarps + at.warp;
  if (strip * kTileRows >= a.intermediate) return;
  const Tile tile(a, static_cast<int>(blockIdx.x));
  const auto token = [&](int place) { return static_cast<int>(load<long long>(a.order + tile.visit(place))) / a.per_token; };
  const Columns<kGroupedEights> tokens(a.hidden, a.tokens, a.hidden_size, at, token);
  float gate[kGroupedEights][4] = {}, up[kGroupedEights][4] = {};
  multiply_strip<Gate>(tile.expert, a.hidden_size, strip, tokens, at, gate);
  multiply_strip<Up>(tile.expert + a.up_offset, a.hidden_size, strip, tokens, at, up);
#pragma unroll
  for (int e = 0; e < kGroupedEights; e++) {
    for (int i = 0; i < 4; i++) gate[e][i] = gate[e][i] / (1 + expf(-gate[e][i])) * up[e][i];
    for (int t = 0; t < 2; t++) {
      const int place = 8 * e + 2 * at.quad + t;
      write_strip(a.activations, a.visits, a.intermediate, tile.visit(place) - a.begin, strip, at, gate[e][t],
                  gate[e][t + 2], place < tile.count);
    }
  }
}

template <class F>
__device__ inline void down_of_group(const GroupedArguments& a) {
  const Lane at = this_lane();
  const int strip = static_cast<int>(blockIdx.y) * kWarps + at.warp;
  if (strip * kTileRows >= a.hidden_size) return;
  const Tile tile(a, static_cast<int>(blockIdx.x));
  const auto visit = [&](int place) { return tile.visit(place) - a.begin; };
  const Columns<kGroupedEights> visits(a.activations, a.visits, a.intermediate, at, visit);
  float total[kGroupedEights][4] = {};
  multiply_strip<F>(tile.expert + a.down_offset, a.intermediate, strip, visits, at, total);
#pragma unroll
  for (int e = 0; e < kGroupedEights; e++) {
    for (int i = 0; i < 4; i++) {
      const int place = 8 * e + 2 * at.quad + i % 2, row = strip * kTileRows + 2 * at.pair + i / 2;
      if (place < tile.count)
        store_as(a.said, static_cast<long long>(visit(place)) * a.hidden_size + row, a.type, total[e][i]);
    }
  }
}

__device__ inline void add_group(const GroupedArguments& a) {
  const long long index = (static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x) * 4;
  if (index >= static_cast<long long>(a.tokens) * a.hidden_size) return;
  const int token = static_cast<int>(index / a.hidden_size), column = static_cast<int>(index % a.hidden_size);
  float4 sum = {};
  bool visited = false;
  for (int choice = 0; choice < a.per_token; choice++) {
    const int which = token * a.per_token + choice;
    const int visit = static_cast<int>(load<long long>(a.places + which)) - a.begin;
    if (visit < 0 || visit >= a.visits) continue;
    if (!visited) sum = load_own<float4>(a.out + index);
    visited = true;
    const float weight = load<float>(a.weights + which);
    const float4 said = load_four(a.said, static_cast<long long>(visit) * a.hidden_size + column, a.type);
    sum = {fmaf(weight, said.x, sum.x), fmaf(weight, said.y, sum.y), fmaf(weight, said.z, sum.z),
           fmaf(weight, said.w, sum.w)};
  }
  if (visited) store(a.out + index, sum);
}
