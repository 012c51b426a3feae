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

constexpr float kCuts[] = {0.0f, 0.04f, 0.08f};
constexpr float kQ8Steps[] = {127.0f, 127.5f, 126.5f, 126.0f, 125.5f, 125.0f, 124.5f, 124.0f, 123.5f};
constexpr float kSmallestRange = 1e-30f;
constexpr float kScaleSteps[] = {0.0f, -1.0f, 1.0f};

struct Fit {
  F gain, scale, minimum;
};

inline float widen(const EncodeTask& task, const uint8_t* weight) {
  float value;
  if (task.source_format == kF32) {
    std::memcpy(&value, weight, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, weight, 2);
  if (task.source_format == kF16) return float_of(half);
  const uint32_t bits = uint32_t(half) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The next groups, zeros where there are none: x[part][column][lane].
void load(const EncodeTask& task, size_t first, int count, F x[][kGroup]) {
  alignas(64) float columns[kParts][kGroup][kLanes];
  const size_t weight_bytes = size_t(kBlocks[task.source_format].bytes);
  for (int group = 0; group < kBatch; group++) {
    float(*const part)[kLanes] = columns[group / kLanes];
    const int lane = group % kLanes;
    const uint8_t* const weights = task.source + (first + size_t(group)) * kGroup * weight_bytes;
    for (int column = 0; column < kGroup; column++)
      part[column][lane] = group < count ? widen(task, weights + size_t(column) * weight_bytes) : 0.0f;
  }
  std::memcpy(x, columns, sizeof columns);
}

// Whole numbers below 256, as bytes [columns][lane].
inline void to_bytes(const F* codes, int columns, uint8_t bytes[][kLanes]) {
  for (int column = 0; column < columns; column++) {
    const I whole = __builtin_convertvector(codes[column], I);
    for (int lane = 0; lane < kLanes; lane++) bytes[column][lane] = uint8_t(whole[lane]);
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

// The better of what there is and the least-squares fit of some codes.
inline void fit(Fit& best, const F* y, const F& total, const F& low, const F* codes, bool below_zero) {
  F q = codes[0], qq = codes[0] * codes[0], qy = codes[0] * y[0];
  for (int column = 1; column < kGroup; column++) {
    q += codes[column];
    qq += codes[column] * codes[column];
    qy += codes[column] * y[column];
  }
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
  for (int column = 1; column < kGroup; column++) width = x[column] > width ? x[column] : width;
  width -= low;
  const F one = F{} + 1.0f;
  const I wide = width > F{} + kSmallestRange;
  width = wide ? width : one;
  if (!search) {
    scale = wide ? width / 15.0f : F{};
    minimum = low + F{};  // no negative zero
    return;
  }
  F y[kGroup], codes[kGroup], total = x[0] - low;
  y[0] = total;
  for (int column = 1; column < kGroup; column++) {
    y[column] = x[column] - low;
    total += y[column];
  }
  Fit best = {F{} - __builtin_inff(), F{}, F{}};
  for (const float cut_low : kCuts) {
    for (const float cut_high : kCuts) {
      const F inverse = 15.0f / (width * (1.0f - cut_low - cut_high)), start = cut_low * width;
      for (int column = 0; column < kGroup; column++) {
        codes[column] = (y[column] - start) * inverse;
        nearest(codes[column], 0.0f, 15.0f);
      }
      fit(best, y, total, low, codes, below_zero);
    }
  }
  F inverse;
  invert(best.scale, inverse);
  const F start = best.minimum;
  for (int column = 0; column < kGroup; column++) {
    codes[column] = (y[column] - start) * inverse;
    nearest(codes[column], 0.0f, 15.0f);
  }
  fit(best, y, total, low, codes, below_zero);
  scale = wide ? best.scale : F{};
  minimum = low + (wide ? best.minimum : F{});
}

inline void smallest(const F* x, F& low) {
  low = x[0];
  for (int column = 1; column < kGroup; column++) low = x[column] < low ? x[column] : low;
}

void encode_q8_0(EncodeTask& task, const F* x, int count, uint8_t* blocks) {
  uint8_t bytes[kGroup][kLanes];
  F largest = F{};
  for (int column = 0; column < kGroup; column++) {
    const F size = x[column] < F{} ? -x[column] : x[column];
    largest = size > largest ? size : largest;
  }
  F best = F{} + __builtin_inff(), scale = F{}, codes[kGroup];
  uint16_t halves[kLanes] = {};
  for (F& code : codes) code = F{};
  for (const float steps : kQ8Steps) {
    F d = largest / steps, inverse, q[kGroup], error = F{};
    uint16_t tried[kLanes];
    round_to_half(d, tried);
    invert(d, inverse);
    for (int column = 0; column < kGroup; column++) {
      q[column] = x[column] * inverse;
      nearest(q[column], -127.0f, 127.0f);
      const F off = x[column] - d * q[column];
      error += off * off;
    }
    const I better = error < best;
    best = better ? error : best;
    scale = better ? d : scale;
    for (int column = 0; column < kGroup; column++) codes[column] = better ? q[column] : codes[column];
    for (int lane = 0; lane < kLanes; lane++) halves[lane] = better[lane] ? tried[lane] : halves[lane];
    if (!task.search) break;
  }
  F decoded[kGroup];
  for (int column = 0; column < kGroup; column++) decoded[column] = scale * codes[column];
  account(task, x, decoded, count);
  to_bytes(codes, kGroup, bytes);
  for (int lane = 0; lane < count; lane++) {
    uint8_t* const block = blocks + size_t(lane) * 34;
    std::memcpy(block, halves + lane, 2);
    for (int column = 0; column < kGroup; column++) block[2 + column] = bytes[column][lane];
  }
}

void encode_q4_1(EncodeTask& task, const F* x, int count, uint8_t* blocks) {
  F low, d, m, inverse, codes[kGroup], decoded[kGroup];
  uint16_t scales[kLanes], minima[kLanes];
  smallest(x, low);
  find_range(x, low, task.search, false, d, m);
  round_to_half(d, scales);
  round_to_half(m, minima);
  invert(d, inverse);
  for (int column = 0; column < kGroup; column++) {
    codes[column] = (x[column] - m) * inverse;
    nearest(codes[column], 0.0f, 15.0f);
    decoded[column] = d * codes[column] + m;
  }
  account(task, x, decoded, count);
  for (int i = 0; i < 16; i++) codes[i] += 16.0f * codes[i + 16];
  uint8_t bytes[16][kLanes];
  to_bytes(codes, 16, bytes);
  for (int lane = 0; lane < count; lane++) {
    uint8_t* const block = blocks + size_t(lane) * 20;
    std::memcpy(block, scales + lane, 2);
    std::memcpy(block + 2, minima + lane, 2);
    for (int i = 0; i < 16; i++) block[4 + i] = bytes[i][lane];
  }
}

// The codes that come nearest to x with a scale and an offset, and their squared error.
inline void codes_and_error(const F* x, const F& scale, const F& offset, F* codes, F& error) {
  F inverse;
  invert(scale, inverse);
  error = F{};
  for (int column = 0; column < kGroup; column++) {
    codes[column] = (x[column] + offset) * inverse;
    nearest(codes[column], 0.0f, 15.0f);
    const F off = x[column] - (scale * codes[column] - offset);
    error += off * off;
  }
}

// Of each 8 groups the largest, divided by 63 and as fp16 keeps it.
void share_scale(const F* values, F* shared, uint16_t halves[][kLanes]) {
  for (int first = 0; first < kBatch; first += 8) {
    float largest = 0;
    for (int group = first; group < first + 8; group++) {
      const float value = values[group / kLanes][group % kLanes];
      largest = value > largest ? value : largest;
    }
    for (int group = first; group < first + 8; group++) shared[group / kLanes][group % kLanes] = largest / 63.0f;
  }
  for (int part = 0; part < kParts; part++) round_to_half(shared[part], halves[part]);
}

// Codes, 6-bit scales and mins of some groups of Q4_K, and what they lost.
struct KGroups {
  F codes[kGroup], scales, mins, error;
};

void choose(const F* x, const F& d, const F& dmin, const F& scale, const F& offset, bool search, KGroups& best) {
  F inverse, inverse_min;
  invert(d, inverse);
  invert(dmin, inverse_min);
  best.scales = scale * inverse, best.mins = offset * inverse_min;
  nearest(best.scales, 0.0f, 63.0f);
  nearest(best.mins, 0.0f, 63.0f);
  codes_and_error(x, d * best.scales, dmin * best.mins, best.codes, best.error);
  if (!search) return;
  F sums = x[0];
  for (int column = 1; column < kGroup; column++) sums += x[column];
  for (const float step : kScaleSteps) {
    F tried = best.scales + step, q = best.codes[0], codes[kGroup], error;
    least(tried, 0.0f), most(tried, 63.0f);
    for (int column = 1; column < kGroup; column++) q += best.codes[column];
    F mins = (d * tried * q - sums) * (1.0f / 32.0f) * inverse_min;
    nearest(mins, 0.0f, 63.0f);
    codes_and_error(x, d * tried, dmin * mins, codes, error);
    const I better = error < best.error;
    best.scales = better ? tried : best.scales;
    best.mins = better ? mins : best.mins;
    best.error = better ? error : best.error;
    for (int column = 0; column < kGroup; column++) best.codes[column] = better ? codes[column] : best.codes[column];
  }
}

// ggml's block_q4_K of 8 groups.
void pack_q4_k(const uint16_t* d, const uint16_t* dmin, const uint8_t* sc, const uint8_t* mn, uint8_t codes[][kGroup],
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
  uint16_t d_bits[kParts][kLanes], dmin_bits[kParts][kLanes];
  for (int part = 0; part < kParts; part++) {
    F low, minimum;
    smallest(x[part], low);
    most(low, 0.0f);
    find_range(x[part], low, task.search, true, scale[part], minimum);
    offset[part] = -minimum;
    least(offset[part], 0.0f);
  }
  share_scale(scale, d, d_bits);
  share_scale(offset, dmin, dmin_bits);
  uint8_t codes[kBatch][kGroup], sc[kBatch], mn[kBatch];
  for (int part = 0; part < kParts; part++) {
    KGroups best;
    F decoded[kGroup];
    choose(x[part], d[part], dmin[part], scale[part], offset[part], task.search, best);
    for (int column = 0; column < kGroup; column++)
      decoded[column] = d[part] * best.scales * best.codes[column] - dmin[part] * best.mins;
    account(task, x[part], decoded, lanes_of(count, part));
    uint8_t bytes[kGroup][kLanes];
    to_bytes(best.codes, kGroup, bytes);
    for (int lane = 0; lane < kLanes; lane++) {
      const int group = part * kLanes + lane;
      sc[group] = uint8_t(best.scales[lane]), mn[group] = uint8_t(best.mins[lane]);
      for (int column = 0; column < kGroup; column++) codes[group][column] = bytes[column][lane];
    }
  }
  for (int first = 0; first < count; first += 8) {
    const int part = first / kLanes, lane = first % kLanes;
    pack_q4_k(d_bits[part] + lane, dmin_bits[part] + lane, sc + first, mn + first, codes + first,
              blocks + size_t(first / 8) * 144);
  }
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
