// Compiled once per instruction set, as kernels.cpp, but without contracting a multiplication and an addition into one:
// every operation is that of engine/quant/encoding.py, in its order, so that all give the same bytes.
//
// Some groups of 32 weights at a time, each in a lane of its own: no sum crosses lanes.
#include "encode.h"

#if defined(ROOFTOP_ISA_AVX512)
#define ROOFTOP_ENCODE encode_avx512
#define ROOFTOP_LANES 16
#elif defined(ROOFTOP_ISA_AVXVNNI)
#define ROOFTOP_ENCODE encode_avxvnni
#define ROOFTOP_LANES 8
#elif defined(ROOFTOP_ISA_AVX2)
#define ROOFTOP_ENCODE encode_avx2
#define ROOFTOP_LANES 8
#else
#define ROOFTOP_ENCODE encode_scalar
#define ROOFTOP_LANES 4
#endif

#include "encode_lanes.h"

namespace {

constexpr int kCutCount = 3, kQ8StepCount = 9, kTogether = 3;
static_assert(kQ8StepCount % kTogether == 0, "each step is tried");
constexpr float kCuts[kCutCount] = {0.0f, 0.04f, 0.08f};
constexpr float kQ8Steps[kQ8StepCount] = {127.0f, 127.5f, 126.5f, 126.0f, 125.5f, 125.0f, 124.5f, 124.0f, 123.5f};
constexpr float kSmallestRange = 1e-30f;
constexpr float kScaleSteps[] = {0.0f, -1.0f, 1.0f};

struct Fit {
  F gain, scale, minimum;
};

// The next groups, zeros where there are none: x[part][column][lane]. Words of one or two weights go to their lanes, and
// are widened there.
void load(const EncodeTask& task, size_t first, int count, F x[][kGroup]) {
  alignas(64) uint32_t words[kParts][kGroup][kLanes];
  const size_t group_words = size_t(kGroup * kBlocks[task.source_format].bytes) / sizeof(uint32_t);
  for (int group = 0; group < kBatch; group++) {
    uint32_t(*const lanes)[kLanes] = words[group / kLanes];
    const uint8_t* const weights = task.source + (first + size_t(group)) * group_words * sizeof(uint32_t);
    for (size_t word = 0; word < group_words; word++) {
      uint32_t weight = 0;
      if (group < count) std::memcpy(&weight, weights + word * sizeof weight, sizeof weight);
      lanes[word][group % kLanes] = weight;
    }
  }
  for (int part = 0; part < kParts; part++) {
    for (size_t word = 0; word < group_words; word++) {
      U weights;
      std::memcpy(&weights, words[part][word], sizeof weights);
      if (task.source_format == kF32) {
        x[part][word] = F(weights);
      } else if (task.source_format == kBF16) {
        x[part][2 * word] = F(weights << 16);
        x[part][2 * word + 1] = F(weights & 0xffff0000);
      } else {
        from_halves(weights & 0xffff, x[part][2 * word]);
        from_halves(weights >> 16, x[part][2 * word + 1]);
      }
    }
  }
}

// Whole numbers from -128 to 255 as bytes, those of a lane behind each other; columns is a multiple of 4.
inline void store_bytes(const F* codes, int columns, uint8_t* bytes, size_t stride) {
  for (int column = 0; column < columns; column += 4) {
    U packed = {};
    for (int i = 0; i < 4; i++) packed |= (U(__builtin_convertvector(codes[column + i], I)) & 255) << 8 * i;
    for (int lane = 0; lane < kLanes; lane++) {
      const uint32_t word = packed[lane];
      std::memcpy(bytes + size_t(lane) * stride + column, &word, 4);
    }
  }
}

// What fp16 keeps of each lane.
inline void store_halves(const F& values, uint8_t* bytes, size_t stride) {
  U halves;
  to_halves(values, halves);
  for (int lane = 0; lane < kLanes; lane++) {
    const uint16_t half = uint16_t(halves[lane]);
    std::memcpy(bytes + size_t(lane) * stride, &half, 2);
  }
}

inline int lanes_of(int count, int part) {
  const int left = count - part * kLanes;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

// Adds what the decoded values of some lanes are away from x.
void account(EncodeTask& task, const F* x, const F* decoded, int count) {
  F error = F{}, weight = F{};
  for (int column = 0; column < kGroup; column++) {
    const F off = x[column] - decoded[column];
    error += off * off;
    weight += x[column] * x[column];
  }
  for (int lane = 0; lane < count; lane++) {
    task.squared_error += double(error[lane]);
    task.squared_weights += double(weight[lane]);
  }
}

// The sums of some codes, and with y. They begin with a negative zero, to which whatever is added stays as it is.
struct Sums {
  F q = -F{}, qq = -F{}, qy = -F{};

  void add(const F& code, const F& y) {
    q += code;
    qq += code * code;
    qy += code * y;
  }
};

// The better of what there is and the least-squares fit of some codes.
inline void fit(Fit& best, const F& total, const F& low, const Sums& sums, bool below_zero) {
  const F &q = sums.q, &qq = sums.qq, &qy = sums.qy;
  const F one = F{} + 1.0f;
  const F spread = 32.0f * qq - q * q;
  const I varied = spread > F{};
  F scale = (32.0f * qy - q * total) / (varied ? spread : one);
  F minimum = (total - scale * q) * (1.0f / 32.0f);
  I sound = varied;
  if (below_zero) {
    sound = qq > F{};
    const I bound = (minimum > -low) | ~varied;
    minimum = bound ? -low : minimum;
    scale = bound ? (qy + low * q) / (sound ? qq : one) : scale;
  }
  const F gain = 2.0f * (scale * qy + minimum * total) -
                 (scale * scale * qq + 2.0f * scale * minimum * q + 32.0f * (minimum * minimum));
  const I better = sound & (gain > best.gain);
  best.gain = better ? gain : best.gain;
  best.scale = better ? scale : best.scale;
  best.minimum = better ? minimum : best.minimum;
}

// The scale and the minimum of each lane with which codes 0 to 15 tell x best.
void find_range(const F* x, const F& low, bool search, bool below_zero, F& scale, F& minimum) {
  F width = x[0];
  for (int column = 1; column < kGroup; column++) least(width, x[column]);
  width -= low;
  const F one = F{} + 1.0f;
  const I wide = width > F{} + kSmallestRange;
  width = wide ? width : one;
  if (!search) {
    scale = wide ? width / 15.0f : F{};
    minimum = low + F{};  // no negative zero
    return;
  }
  F y[kGroup], total = -F{};
  for (int column = 0; column < kGroup; column++) {
    y[column] = x[column] - low;
    total += y[column];
  }
  Fit best = {F{} - __builtin_inff(), F{}, F{}};
  for (const float cut_low : kCuts) {
    const F start = cut_low * width;
    F inverse[kCutCount];
    Sums sums[kCutCount];  // side by side: each addition waits for the one before
    for (int cut = 0; cut < kCutCount; cut++) inverse[cut] = 15.0f / (width * (1.0f - cut_low - kCuts[cut]));
    for (int column = 0; column < kGroup; column++) {
      const F above = y[column] - start;
      for (int cut = 0; cut < kCutCount; cut++) {
        F code = above * inverse[cut];
        nearest(code, 0.0f, 15.0f);
        sums[cut].add(code, y[column]);
      }
    }
    for (const Sums& some : sums) fit(best, total, low, some, below_zero);
  }
  F inverse;
  Sums sums;
  invert(best.scale, inverse);
  for (int column = 0; column < kGroup; column++) {
    F code = (y[column] - best.minimum) * inverse;
    nearest(code, 0.0f, 15.0f);
    sums.add(code, y[column]);
  }
  fit(best, total, low, sums, below_zero);
  scale = wide ? best.scale : F{};
  minimum = low + (wide ? best.minimum : F{});
}

inline void smallest(const F* x, F& low) {
  low = x[0];
  for (int column = 1; column < kGroup; column++) most(low, x[column]);
}

// The scale of each lane, as fp16 keeps it, with which codes -127 to 127 tell x best. Some are tried side by side, as each
// addition waits for the one before.
void find_scale(const F* x, bool search, F& scale) {
  F largest = F{}, best = F{} + __builtin_inff();
  for (int column = 0; column < kGroup; column++) {
    const F size = F(U(x[column]) & 0x7fffffff);
    largest = size > largest ? size : largest;
  }
  scale = best;  // nothing can be told with that, if the weights are too large for every one
  for (int first = 0; first < (search ? kQ8StepCount : 1); first += kTogether) {
    F d[kTogether], inverse[kTogether], error[kTogether];
    for (int i = 0; i < kTogether; i++) {
      d[i] = largest / kQ8Steps[first + i];
      round_to_half(d[i]);
      invert(d[i], inverse[i]);
      error[i] = F{};
    }
    for (int column = 0; column < kGroup; column++) {
      for (int i = 0; i < kTogether; i++) {
        F code = x[column] * inverse[i];
        nearest(code, -127.0f, 127.0f);
        const F off = x[column] - d[i] * code;
        error[i] += off * off;
      }
    }
    for (int i = 0; i < (search ? kTogether : 1); i++) {
      const I better = error[i] < best;
      best = better ? error[i] : best;
      scale = better ? d[i] : scale;
    }
  }
}

void encode_q8_0(EncodeTask& task, const F* x, int count, uint8_t* blocks) {
  F scale, inverse, codes[kGroup], decoded[kGroup];
  uint8_t made[kLanes * 34];
  find_scale(x, task.search, scale);
  invert(scale, inverse);
  for (int column = 0; column < kGroup; column++) {
    codes[column] = x[column] * inverse;
    nearest(codes[column], -127.0f, 127.0f);
    decoded[column] = scale * codes[column];
  }
  account(task, x, decoded, count);
  store_halves(scale, made, 34);
  store_bytes(codes, kGroup, made + 2, 34);
  std::memcpy(blocks, made, size_t(count) * 34);
}

void encode_q4_1(EncodeTask& task, const F* x, int count, uint8_t* blocks) {
  F low, d, m, inverse, codes[kGroup], decoded[kGroup];
  smallest(x, low);
  find_range(x, low, task.search, false, d, m);
  round_to_half(d);
  round_to_half(m);
  invert(d, inverse);
  for (int column = 0; column < kGroup; column++) {
    codes[column] = (x[column] - m) * inverse;
    nearest(codes[column], 0.0f, 15.0f);
    decoded[column] = d * codes[column] + m;
  }
  account(task, x, decoded, count);
  for (int i = 0; i < 16; i++) codes[i] += 16.0f * codes[i + 16];
  uint8_t made[kLanes * 20];
  store_halves(d, made, 20);
  store_halves(m, made + 2, 20);
  store_bytes(codes, 16, made + 4, 20);
  std::memcpy(blocks, made, size_t(count) * 20);
}

// The code that comes nearest to x with a scale, its inverse and an offset, and what it means.
inline void code_of(const F& x, const F& scale, const F& inverse, const F& offset, F& code, F& decoded) {
  code = (x + offset) * inverse;
  nearest(code, 0.0f, 15.0f);
  decoded = scale * code - offset;
}

// The sum and the squared error of the codes that come nearest to x.
inline void sum_and_error(const F* x, const F& scale, const F& offset, F& sum, F& error) {
  F inverse;
  invert(scale, inverse);
  sum = -F{}, error = F{};
  for (int column = 0; column < kGroup; column++) {
    F code, decoded;
    code_of(x[column], scale, inverse, offset, code, decoded);
    const F off = x[column] - decoded;
    sum += code;
    error += off * off;
  }
}

// Of each 8 groups the largest, divided by 63 and as fp16 keeps it.
void share_scale(const F* values, F* shared) {
  for (int first = 0; first < kBatch; first += 8) {
    float largest = 0;
    for (int group = first; group < first + 8; group++) {
      const float value = values[group / kLanes][group % kLanes];
      largest = value > largest ? value : largest;
    }
    for (int group = first; group < first + 8; group++) shared[group / kLanes][group % kLanes] = largest / 63.0f;
  }
  for (int part = 0; part < kParts; part++) round_to_half(shared[part]);
}

// The 6-bit scale and min of each group of Q4_K that tell x best.
void choose(const F* x, const F& d, const F& dmin, const F& scale, const F& offset, bool search, F& best_scale,
            F& best_min) {
  F inverse, inverse_min, best_sum, best_error;
  invert(d, inverse);
  invert(dmin, inverse_min);
  best_scale = scale * inverse, best_min = offset * inverse_min;
  nearest(best_scale, 0.0f, 63.0f);
  nearest(best_min, 0.0f, 63.0f);
  if (!search) return;
  sum_and_error(x, d * best_scale, dmin * best_min, best_sum, best_error);
  F sums = -F{};
  for (int column = 0; column < kGroup; column++) sums += x[column];
  for (const float step : kScaleSteps) {
    F tried = best_scale + step, sum, error;
    least(tried, F{}), most(tried, F{} + 63.0f);
    F min = (d * tried * best_sum - sums) * (1.0f / 32.0f) * inverse_min;
    nearest(min, 0.0f, 63.0f);
    sum_and_error(x, d * tried, dmin * min, sum, error);
    const I better = error < best_error;
    best_scale = better ? tried : best_scale;
    best_min = better ? min : best_min;
    best_error = better ? error : best_error;
    best_sum = better ? sum : best_sum;
  }
}

// ggml's block_q4_K of 8 groups.
void pack_q4_k(const uint8_t* d, const uint8_t* dmin, const uint8_t* sc, const uint8_t* mn, uint8_t codes[][kGroup],
               uint8_t* block) {
  std::memcpy(block, d, 2);
  std::memcpy(block + 2, dmin, 2);
  for (int i = 0; i < 4; i++) {
    block[4 + i] = uint8_t(sc[i] | sc[i + 4] >> 4 << 6);
    block[8 + i] = uint8_t(mn[i] | mn[i + 4] >> 4 << 6);
    block[12 + i] = uint8_t((sc[i + 4] & 15) | mn[i + 4] << 4);
  }
  for (int pair = 0; pair < 4; pair++)
    for (int column = 0; column < kGroup; column++)
      block[16 + 32 * pair + column] = uint8_t(codes[2 * pair][column] | codes[2 * pair + 1][column] << 4);
}

void encode_q4_k(EncodeTask& task, F x[][kGroup], int count, uint8_t* blocks) {
  F scale[kParts], offset[kParts], d[kParts], dmin[kParts];
  for (int part = 0; part < kParts; part++) {
    F low, minimum;
    smallest(x[part], low);
    most(low, F{});
    find_range(x[part], low, task.search, true, scale[part], minimum);
    offset[part] = -minimum;
    least(offset[part], F{});
  }
  share_scale(scale, d);
  share_scale(offset, dmin);
  uint8_t codes[kBatch][kGroup], sc[kBatch], mn[kBatch], d_bits[kBatch * 2], dmin_bits[kBatch * 2];
  for (int part = 0; part < kParts; part++) {
    F scales, mins, inverse, bytes[kGroup], decoded[kGroup];
    choose(x[part], d[part], dmin[part], scale[part], offset[part], task.search, scales, mins);
    const F step = d[part] * scales, below = dmin[part] * mins;
    invert(step, inverse);
    for (int column = 0; column < kGroup; column++)
      code_of(x[part][column], step, inverse, below, bytes[column], decoded[column]);
    account(task, x[part], decoded, lanes_of(count, part));
    store_halves(d[part], d_bits + part * kLanes * 2, 2);
    store_halves(dmin[part], dmin_bits + part * kLanes * 2, 2);
    store_bytes(bytes, kGroup, codes[part * kLanes], kGroup);
    for (int lane = 0; lane < kLanes; lane++) {
      sc[part * kLanes + lane] = uint8_t(scales[lane]), mn[part * kLanes + lane] = uint8_t(mins[lane]);
    }
  }
  for (int first = 0; first < count; first += 8)
    pack_q4_k(d_bits + first * 2, dmin_bits + first * 2, sc + first, mn + first, codes + first,
              blocks + size_t(first / 8) * 144);
}

void encode(EncodeTask& task) {
  F x[kParts][kGroup];
  const size_t block_groups = size_t(kBlocks[task.format].columns / kGroup);
  const size_t block_bytes = size_t(kBlocks[task.format].bytes);
  for (size_t first = 0; first < task.groups; first += kBatch) {
    const int count = task.groups - first < kBatch ? int(task.groups - first) : kBatch;
    uint8_t* const blocks = task.blocks + first / block_groups * block_bytes;
    load(task, first, count, x);
    if (task.format == kQ4_K) {
      encode_q4_k(task, x, count, blocks);
      continue;
    }
    for (int part = 0; part < kParts; part++) {
      uint8_t* const begin = blocks + size_t(part * kLanes) * block_bytes;
      if (task.format == kQ8_0) encode_q8_0(task, x[part], lanes_of(count, part), begin);
      if (task.format == kQ4_1) encode_q4_1(task, x[part], lanes_of(count, part), begin);
    }
  }
}

}  // namespace

namespace rooftop {

Encode ROOFTOP_ENCODE() { return encode; }

}  // namespace rooftop
