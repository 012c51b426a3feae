// Everything that is not a matrix: norms, activation function, rotation, int8 activations, conversions.
#pragma once
#include "kernels.h"
#include "unpack.h"

namespace {

// Vectors of 16 over n numbers; the last one is staged through a buffer, so that nothing past the end is touched.
template <class Body>
inline void each16(int n, Body body) {
  int i = 0;
  for (; i + 16 <= n; i += 16) body(i, 16);
  if (i < n) body(i, n - i);
}

inline V::F load_part(const float* p, int count, float fill = 0) {
  if (count == 16) return V::load(p);
  alignas(64) float part[16];
  for (int i = 0; i < 16; i++) part[i] = i < count ? p[i] : fill;
  return V::load(part);
}

inline void store_part(float* p, V::F x, int count) {
  if (count == 16) return V::store(p, x);
  alignas(64) float part[16];
  V::store(part, x);
  for (int i = 0; i < count; i++) p[i] = part[i];
}

// e^x to about 2 ulp: 2^n * e^r with r in [-ln2/2, ln2/2] and a polynomial of degree 6.
inline V::F exponential(V::F x) {
  x = V::minimum(V::maximum(x, V::set1(-87.0f)), V::set1(88.0f));
  const V::F n = V::round(V::mul(x, V::set1(1.44269504f)));
  V::F r = V::fma(n, V::set1(-0.693359375f), x);
  r = V::fma(n, V::set1(2.12194440e-4f), r);
  V::F p = V::set1(1.0f / 720);
  p = V::fma(p, r, V::set1(1.0f / 120));
  p = V::fma(p, r, V::set1(1.0f / 24));
  p = V::fma(p, r, V::set1(1.0f / 6));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::fma(p, r, V::set1(1.0f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::times_power_of_two(p, n);
}

void rms_norm(const float* x, const float* weight, float epsilon, int n, float* out) {
  V::F squares = V::zero();
  each16(n, [&](int i, int count) {
    const V::F v = load_part(x + i, count);
    squares = V::fma(v, v, squares);
  });
  const V::F scale = V::set1(1.0f / __builtin_sqrtf(V::sum(squares) / float(n) + epsilon));
  each16(n, [&](int i, int count) {
    const V::F v = V::mul(load_part(x + i, count), scale);
    store_part(out + i, V::mul(v, load_part(weight + i, count)), count);
  });
}

void silu_multiply(float* gate, const float* up, int n) {
  each16(n, [&](int i, int count) {
    const V::F g = load_part(gate + i, count);
    const V::F e = exponential(V::sub(V::zero(), g));
    store_part(gate + i, V::mul(V::div(g, V::add(V::set1(1), e)), load_part(up + i, count)), count);
  });
}

void clamped_multiply(float* gate, const float* up, const float* gate_bias, const float* up_bias, int n, float slope,
                      float limit) {
  const V::F most = V::set1(limit), least = V::set1(-limit), minus_slope = V::set1(-slope), one = V::set1(1);
  each16(n, [&](int i, int count) {
    const V::F g = V::minimum(V::add(load_part(gate + i, count), load_part(gate_bias + i, count)), most);
    V::F u = V::add(load_part(up + i, count), load_part(up_bias + i, count));
    u = V::add(V::maximum(V::minimum(u, most), least), one);
    const V::F e = exponential(V::mul(minus_slope, g));
    store_part(gate + i, V::mul(V::div(g, V::add(one, e)), u), count);
  });
}

void add_scaled(float* out, const float* x, float scale, int n) {
  const V::F k = V::set1(scale);
  each16(n, [&](int i, int count) {
    store_part(out + i, V::fma(load_part(x + i, count), k, load_part(out + i, count)), count);
  });
}

void rotate(float* x, const float* cosines, const float* sines, int dim) {
  const int half = dim / 2;
  each16(half, [&](int i, int count) {
    const V::F a = load_part(x + i, count), b = load_part(x + half + i, count);
    const V::F c = load_part(cosines + i, count), s = load_part(sines + i, count);
    store_part(x + i, V::sub(V::mul(a, c), V::mul(b, s)), count);
    store_part(x + half + i, V::fma(b, c, V::mul(a, s)), count);
  });
}

void quantise(const float* x, int columns, rooftop::QuantisedGroup* groups) {
  for (int left = columns; left > 0; left -= kGroup, x += kGroup, groups++) {
    const V::F a = load_part(x, left < 16 ? left : 16);
    const V::F b = left <= 16 ? V::zero() : load_part(x + 16, left < 32 ? left - 16 : 16);
    const float peak = V::largest(V::maximum(V::absolute(a), V::absolute(b)));
    const float scale = peak / 127.0f;
    // 127 / peak would overflow for the smallest numbers; they are nothing beside any weight.
    const V::F inverse = V::set1(peak > 1e-30f ? 127.0f / peak : 0.0f);
    const int32_t s0 = V::store_int8(groups->codes, V::mul(a, inverse));
    const int32_t s1 = V::store_int8(groups->codes + 16, V::mul(b, inverse));
    groups->scale = scale;
    groups->minus_sum = -(s0 + s1);
    groups->sum = scale * float(s0 + s1);
    groups->minus_half[0] = -s0, groups->minus_half[1] = -s1;
    groups->half[0] = scale * float(s0), groups->half[1] = scale * float(s1);
  }
}

inline uint16_t to_bfloat(float value) {  // to nearest even; NaN stays NaN
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 64);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A row of a cache as int8; see cache_group.
void store_codes(const float* x, int dim, uint8_t* row) {
  const int group = rooftop::cache_group(dim);
  for (int first = 0, g = 0; first < dim; first += group, g++) {
    V::F most = V::zero();
    each16(group, [&](int i, int count) { most = V::maximum(most, V::absolute(load_part(x + first + i, count))); });
    // Rounded to a bfloat16 first, so that every 16-bit type holds it as it is; the largest that fp16 holds is 65280.
    float scale = V::largest(most) / 127.0f;
    const uint32_t bits = uint32_t(to_bfloat(scale < 65280.0f ? scale : 65280.0f)) << 16;
    __builtin_memcpy(&scale, &bits, 4);
    uint16_t half[16];
    V::store_half(half, V::set1(scale));
    __builtin_memcpy(row + dim + 2 * g, half, 2);
    scale = V::half1(half);
    const V::F inverse = V::set1(scale > 0 ? 1.0f / scale : 0.0f), limit = V::set1(127.0f);
    each16(group, [&](int i, int count) {
      int8_t codes[16];
      const V::F code = V::mul(load_part(x + first + i, count), inverse);
      V::store_int8(codes, V::maximum(V::minimum(code, limit), V::sub(V::zero(), limit)));
      __builtin_memcpy(row + first + i, codes, size_t(count));
    });
  }
}

void store_as(const float* x, int n, int format, void* out) {
  uint8_t* bytes = static_cast<uint8_t*>(out);
  if (format == rooftop::kQ8_0) return store_codes(x, n, bytes);
  if (format == rooftop::kF32) {
    __builtin_memcpy(out, x, size_t(n) * 4);
  } else if (format == rooftop::kF16) {
    each16(n, [&](int i, int count) {
      uint16_t part[16];
      V::store_half(part, load_part(x + i, count));
      __builtin_memcpy(bytes + 2 * size_t(i), part, size_t(count) * 2);
    });
  } else {
    for (int i = 0; i < n; i++) {
      const uint16_t bits = to_bfloat(x[i]);
      __builtin_memcpy(bytes + 2 * size_t(i), &bits, 2);
    }
  }
}

template <class Format>
void read_block_row(const uint8_t* matrix, int columns, int row, float* out) {
  const size_t strip_bytes = size_t(columns) / Format::kColumns * Format::kBytes;
  const uint8_t* tile = matrix + size_t(row / rooftop::kTileRows) * strip_bytes;
  const int lane = row % rooftop::kTileRows;
  constexpr int groups = Format::kColumns / rooftop::kGroup;
  constexpr int offset = Format::kOffsetBits < 0 ? 0 : 1 << (Format::kOffsetBits < 0 ? 0 : Format::kOffsetBits);
  for (int block = 0; block < columns / Format::kColumns; block++, tile += Format::kBytes) {
    const Head head = Format::head(tile);
    for (int s = 0; s < groups; s++, out += rooftop::kGroup) {
      alignas(64) uint8_t codes[8][64];
      alignas(64) float scale[2][16], bias[2][16] = {};
      V::B v[8];
      Scales k;
      Format::codes(tile, s, v);
      Format::scales(tile, s, head, &k);
      for (int p = 0; p < 8; p++) V::store_line(codes[p], v[p]);
      for (int h = 0; h < (Format::kHalves ? 2 : 1); h++) {
        V::store(scale[h], k.scale[h]);
        if constexpr (Format::kBias) V::store(bias[h], k.bias[h]);
      }
      for (int c = 0; c < rooftop::kGroup; c++) {
        const int h = Format::kHalves ? c / 16 : 0;
        out[c] = scale[h][lane] * float(int(codes[c / 4][4 * lane + c % 4]) - offset) + bias[h][lane];
      }
    }
  }
}

template <class Format>
void read_float_row(const uint8_t* row, int columns, float* out) {
  each16(columns, [&](int i, int count) {
    alignas(64) uint8_t part[64] = {};
    __builtin_memcpy(part, row + size_t(i) * Format::kBytes, size_t(count) * Format::kBytes);
    store_part(out + i, Format::load(part), count);
  });
}

}  // namespace
