// The experts of one layer that are in VRAM, for 1 to 16 tokens: two kernels, one after the other.
//
// `gate_up`: a block computes 16 rows of silu(gate x) * (up x) for one expert and all tokens that chose it. There is a
// row of blocks for each visit (a token and an expert it chose); the first visit of an expert does the work of all.
// `down`: a block adds 16 rows of all tokens' weighted sums to the output; sums go over the experts in the order of
// their first visits, so nothing depends on which block ends first.
//
// Where an expert lies is read from a table at the time of the launch's execution, 0 for one that is not in VRAM: its
// visits add nothing. Nothing of the launches depends on who was chosen, or on who is there: they fit a CUDA graph.
#pragma once
#include "product.cuh"

struct ExpertsArguments {       // struct Experts in gpu_plans.py
  const long long* addresses;   // [experts], of gate | up | down, 0 where not in VRAM
  const void* ids;              // [tokens, per_token] int32 or int64
  const float* weights;         // [tokens, per_token]
  const Byte* hidden;           // [tokens, hidden_size], prepared for gate and up
  Byte* activations;            // [tokens * per_token, intermediate], prepared for down
  float* out;                   // [tokens, hidden_size]
  long long up_offset, down_offset;
  int experts, id_bytes, tokens, per_token, hidden_size, intermediate, int8_activations;
};

// Where the expert of a visit lies; 0 for none.
__device__ inline long long expert_address(const ExpertsArguments& a, int visit) {
  const long long id = a.id_bytes == 8 ? load<long long>(static_cast<const long long*>(a.ids) + visit)
                                       : load<int>(static_cast<const int*>(a.ids) + visit);
  return id >= 0 && id < a.experts ? load<long long>(a.addresses + id) : 0;
}

// How many threads of the block before this one have set a flag, and how many in all.
struct Ranked {
  int rank, count;
};

__device__ inline Ranked rank_of(bool flag, Lane at, Word (&masks)[kWarps]) {
  const Word mask = __ballot_sync(kWholeWarp, flag);
  if (at.lane == 0) masks[at.warp] = mask;
  __syncthreads();
  Ranked ranked = {__popc(mask & ((1u << at.lane) - 1)), 0};
  for (int w = 0; w < kWarps; w++) {
    const int bits = __popc(masks[w]);
    if (w < at.warp) ranked.rank += bits;
    ranked.count += bits;
  }
  return ranked;
}

// All visits of one expert, in order. 0 of them where `visit` is not the first.
template <int kEights>
struct Visits {
  Word masks[kWarps];
  int list[8 * kEights], tokens[8 * kEights];

  __device__ int gather(const ExpertsArguments& a, int visit, long long address, Lane at) {
    const int thread = static_cast<int>(threadIdx.x);
    const bool same = thread < a.tokens * a.per_token && expert_address(a, thread) == address;
    const Ranked ranked = rank_of(same, at, masks);
    if (same && ranked.rank < 8 * kEights) list[ranked.rank] = thread, tokens[ranked.rank] = thread / a.per_token;
    __syncthreads();
    return list[0] == visit ? min(ranked.count, 8 * kEights) : 0;
  }

};

template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

template <class Gate, class Up, int kEights>
__device__ inline void gate_up_products(const ExpertsArguments& a, const Byte* expert, const Visits<kEights>& visits,
                                        int count, int strip, Lane at, Partials<kEights>& partials) {
  constexpr int kEach = kWarps / 2;  // warps of the gate, warps of the up
  const bool is_up = at.warp >= kEach;
  const Byte* matrix = is_up ? expert + a.up_offset : expert;
  if constexpr (Gate::kFloat) {
    float total[kTileRows / kEach][8 * kEights] = {};
    const int first = at.warp % kEach * (kTileRows / kEach);
    const auto row = [&](int t) { return t < count ? visits.tokens[t] : -1; };
    const auto one = [](int) { return 1.0f; };
    const int from = strip * kTileRows + first;
    if (is_up) {
      multiply_floats<Up>(matrix, a.intermediate, a.hidden_size, from, a.hidden, at, row, one, total);
    } else {
      multiply_floats<Gate>(matrix, a.intermediate, a.hidden_size, from, a.hidden, at, row, one, total);
    }
    keep_floats(partials, is_up ? kEach : 0, first, at, total);
  } else {
    const int groups = a.hidden_size / 32;
    const auto row = [&](int place) { return visits.tokens[place < count ? place : 0]; };
    const long long bytes = is_up ? strip_bytes<Up>(a.hidden_size) : strip_bytes<Gate>(a.hidden_size);
    const OneStrip<kEights> work = {matrix + strip * bytes, (groups + 3) / 4, groups,
                                    Columns<kEights>(a.hidden, a.tokens, a.hidden_size, at, row)};
    float total[kEights][4] = {};
    if (is_same<Gate, Up> || !is_up) {
      multiply<Gate>(work, at.warp % kEach, kEach, at, total);
    } else {
      multiply<Up>(work, at.warp % kEach, kEach, at, total);
    }
    partials.keep(at, total);
  }
}

template <class Gate, class Up, int kEights>
__device__ inline void gate_up(const ExpertsArguments& a) {
  __shared__ Visits<kEights> visits;
  __shared__ Partials<kEights> partials;
  const Lane at = this_lane();
  const int strip = static_cast<int>(blockIdx.x), visit = static_cast<int>(blockIdx.y);
  const long long address = expert_address(a, visit);
  if (address == 0) return;
  const int count = visits.gather(a, visit, address, at);
  if (count == 0) return;
  const Byte* expert = reinterpret_cast<const Byte*>(address);
  gate_up_products<Gate, Up>(a, expert, visits, count, strip, at, partials);
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x) % kTileRows, place = static_cast<int>(threadIdx.x) / kTileRows;
  if (place >= 8 * kEights) return;  // whole warps
  const int parts = Gate::kFloat ? 1 : kWarps / 2;
  const float gate = partials.added(0, parts, place, row), up = partials.added(kWarps / 2, parts, place, row);
  const float value = gate / (1 + expf(-gate)) * up;
  const int column = strip * kTileRows + row, of = visits.list[place < count ? place : 0];
  if (a.int8_activations) {
    write_int8(a.activations, a.tokens * a.per_token, a.intermediate, of, column, value, place < count);
  } else if (place < count && column < a.intermediate) {
    write_float(a.activations, a.intermediate, of, column, value);
  }
}

// The experts that are there, in the order of their first visits, and who visits them.
template <int kEights>
struct Residents {
  static constexpr int kTokens = 8 * kEights, kVisits = 128 * kEights, kNobody = 255;
  Word masks[kWarps];
  long long addresses[kVisits];      // by visit, then by expert
  long long experts[kVisits];
  Byte places[kVisits];              // of the expert of a first visit
  Byte choices[kVisits][kTokens];    // which of its choices the expert is to a token

  __device__ int gather(const ExpertsArguments& a, Lane at) {
    const int visit = static_cast<int>(threadIdx.x), visits = a.tokens * a.per_token;
    for (int i = visit; i < visits * kTokens; i += kThreads) choices[i / kTokens][i % kTokens] = kNobody;
    const long long address = visit < visits ? expert_address(a, visit) : 0;
    if (visit < visits) addresses[visit] = address;
    __syncthreads();
    int first = 0;
    if (address != 0)
      while (addresses[first] != address) first++;
    const bool leads = address != 0 && first == visit;
    const Ranked ranked = rank_of(leads, at, masks);
    if (leads) experts[ranked.rank] = address, places[visit] = static_cast<Byte>(ranked.rank);
    __syncthreads();
    if (address != 0) choices[places[first]][visit / a.per_token] = static_cast<Byte>(visit % a.per_token);
    __syncthreads();
    return ranked.count;
  }

  // The visit of a token to an expert, -1 for none.
  __device__ int visit(const ExpertsArguments& a, int expert, int token) const {
    const int choice = choices[expert][token];
    return choice == kNobody ? -1 : token * a.per_token + choice;
  }
};

// The units of all experts' strips in a row. Tokens that did not choose the expert see another's activations.
template <class F, int kEights>
struct ExpertStrips {
  const ExpertsArguments& a;
  const Residents<kEights>& residents;
  int strip_index, units, count, groups;
  Lane at;

  __device__ const Byte* strip(int i) const {
    return reinterpret_cast<const Byte*>(residents.experts[i / units]) + a.down_offset +
           strip_index * strip_bytes<F>(a.intermediate);
  }
  __device__ int unit(int i) const { return i % units; }
  __device__ Columns<kEights> columns(int i) const {
    const int expert = i / units;
    const auto row = [&](int token) { return max(residents.visit(a, expert, token), 0); };
    return Columns<kEights>(a.activations, a.tokens * a.per_token, a.intermediate, at, row);
  }
  __device__ void add(int i, const float (&sums)[kEights][4], float (&total)[kEights][4]) const {
    for (int e = 0; e < kEights; e++) {
      for (int t = 0; t < 2; t++) {
        const int visit = residents.visit(a, i / units, 8 * e + 2 * at.quad + t);
        if (visit < 0) continue;
        const float weight = load<float>(a.weights + visit);
        total[e][t] = fmaf(weight, sums[e][t], total[e][t]);
        total[e][t + 2] = fmaf(weight, sums[e][t + 2], total[e][t + 2]);
      }
    }
  }
};

template <class F, int kEights>
__device__ inline void down_products(const ExpertsArguments& a, const Residents<kEights>& residents, int experts,
                                     int strip, Lane at, Partials<kEights>& partials) {
  if constexpr (F::kFloat) {
    constexpr int kRows = kTileRows / kWarps;
    float total[kRows][8 * kEights] = {};
    for (int e = 0; e < experts; e++) {
      const Byte* matrix = reinterpret_cast<const Byte*>(residents.experts[e]) + a.down_offset;
      const auto row = [&](int t) { return residents.visit(a, e, t); };
      const auto weight = [&](int t) { return load<float>(a.weights + residents.visit(a, e, t)); };
      multiply_floats<F>(matrix, a.hidden_size, a.intermediate, strip * kTileRows + at.warp * kRows, a.activations, at,
                         row, weight, total);
    }
    keep_floats(partials, 0, at.warp * kRows, at, total);
  } else {
    const int groups = a.intermediate / 32, units = (groups + 3) / 4;
    const ExpertStrips<F, kEights> work = {a, residents, strip, units, experts * units, groups, at};
    float total[kEights][4] = {};
    multiply<F>(work, at.warp, kWarps, at, total);
    partials.keep(at, total);
  }
}

template <class F, int kEights>
__device__ inline void down(const ExpertsArguments& a) {
  __shared__ Residents<kEights> residents;
  __shared__ Partials<kEights> partials;
  const Lane at = this_lane();
  const int experts = residents.gather(a, at), strip = static_cast<int>(blockIdx.x);
  if (experts == 0) return;
  down_products<F>(a, residents, experts, strip, at, partials);
  __syncthreads();
  const int token = static_cast<int>(threadIdx.x) / kTileRows, row = static_cast<int>(threadIdx.x) % kTileRows;
  const int feature = strip * kTileRows + row;
  if (token >= a.tokens || feature >= a.hidden_size) return;
  float* out = a.out + static_cast<long long>(token) * a.hidden_size + feature;
  store(out, load_own<float>(out) + partials.added(0, F::kFloat ? 1 : kWarps, token, row));
}
