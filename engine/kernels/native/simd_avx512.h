// Vectors of 16 lanes for AVX-512 with VNNI. The same operations exist in simd_avx2.h and simd_scalar.h.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // both in GCC 12's own avx512fintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

struct V {
  using F = __m512;   // 16 floats
  using I = __m512i;  // 16 int32
  using B = __m512i;  // 64 bytes: 16 rows x 4 columns
  static constexpr bool kSignedWide = false;
  static constexpr int kTiles = 2, kTokens = 5;  // register block of large products
  static constexpr int kFloatTiles = 2, kFloatColumns = 8;  // and where floats are multiplied; see panels.h
  static constexpr int kFewFloatTokens = 16;  // up to so many, floats go from memory to registers
  static constexpr int kFewRows = 4, kFewFloats = 4;  // register block of theirs
  static constexpr int kFewSums = 4;  // of a row where it is alone
  static constexpr int kFewTokens = 24, kFewTokens256 = 10;  // up to so many, codes go from memory to registers;
  // beyond, through a panel: sooner where blocks have 256 columns and more is to be done for each code
  static constexpr int kFew = 8;  // most of them at a time

  static inline F zero() { return _mm512_setzero_ps(); }
  static inline F set1(float x) { return _mm512_set1_ps(x); }
  static inline F load(const float* p) { return _mm512_loadu_ps(p); }
  static inline void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
  static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static inline F div(F a, F b) { return _mm512_div_ps(a, b); }
  static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static inline F minimum(F a, F b) { return _mm512_min_ps(a, b); }
  static inline F maximum(F a, F b) { return _mm512_max_ps(a, b); }
  static inline F absolute(F a) { return _mm512_abs_ps(a); }
  static inline F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static inline F times_power_of_two(F a, F n) { return _mm512_scalef_ps(a, n); }
  static inline float sum(F a) { return _mm512_reduce_add_ps(a); }
  // The sums of 16 vectors at once.
  static constexpr int kSums = 16;
  static inline void store_sums(const F* x, float* out) {
    F pairs[8], fours[4], halves[2];
    for (int i = 0; i < 8; i++)
      pairs[i] = add(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
      const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
      fours[i] = add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++) {
      const F a = fours[2 * i], b = fours[2 * i + 1];
      halves[i] = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    store(out, add(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88), _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd)));
  }
  static inline float largest(F a) { return _mm512_reduce_max_ps(a); }

  // x[i][j] <-> x[j][i]
  static inline void transpose(F* x) {
    F y[16];
    for (int i = 0; i < 16; i += 4) {
      const F a = _mm512_unpacklo_ps(x[i], x[i + 1]), b = _mm512_unpackhi_ps(x[i], x[i + 1]);
      const F c = _mm512_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm512_unpackhi_ps(x[i + 2], x[i + 3]);
      y[i] = pairs_low(a, c), y[i + 1] = pairs_high(a, c), y[i + 2] = pairs_low(b, d), y[i + 3] = pairs_high(b, d);
    }
    for (int i = 0; i < 4; i++) {
      const F a = _mm512_shuffle_f32x4(y[i], y[i + 4], 0x88), b = _mm512_shuffle_f32x4(y[i], y[i + 4], 0xdd);
      const F c = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0x88), d = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0xdd);
      x[i] = _mm512_shuffle_f32x4(a, c, 0x88), x[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
      x[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd), x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
  }

  static inline F half(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
  static inline float half1(const void* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
  }
  static inline F bfloat(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
  }
  static inline void store_half(void* p, F x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  // Rounds to int8 (|x| <= 127), stores 16 bytes and returns their sum.
  static inline int32_t store_int8(int8_t* p, F x) {
    const __m512i i = _mm512_cvtps_epi32(x);
    _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(i));
    return _mm512_reduce_add_epi32(i);
  }

  static inline I izero() { return _mm512_setzero_si512(); }
  static inline I iset1(int32_t x) { return _mm512_set1_epi32(x); }
  static inline I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
  static inline I iand(I a, int32_t mask) { return _mm512_and_si512(a, _mm512_set1_epi32(mask)); }
  static inline I ior(I a, I b) { return _mm512_or_si512(a, b); }
  template <int n> static inline I ishl(I a) { return _mm512_slli_epi32(a, n); }
  static inline I ishr(I a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static inline F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static inline F as_float(I a) { return _mm512_castsi512_ps(a); }
  static inline I bytes(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
  static inline I signed_bytes(const uint8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
  // p[0] << n in every lane
  template <int n> static inline I shifted(const int32_t* p) { return _mm512_slli_epi32(_mm512_set1_epi32(*p), n); }

  static inline B line(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static inline void store_line(uint8_t* p, B x) { _mm512_store_si512(p, x); }
  static inline B panel_line(const uint8_t* p) { return _mm512_load_si512(p); }
  // (byte >> n) & mask and (byte << n) & mask, where the mask hides what came from the next byte
  static inline B right(B a, int n, uint8_t mask) {
    return _mm512_and_si512(_mm512_srl_epi16(a, _mm_cvtsi32_si128(n)), _mm512_set1_epi8((char)mask));
  }
  static inline B left(B a, int n, uint8_t mask) {
    return _mm512_and_si512(_mm512_sll_epi16(a, _mm_cvtsi32_si128(n)), _mm512_set1_epi8((char)mask));
  }
  static inline B bor(B a, B b) { return _mm512_or_si512(a, b); }
  static inline B flip(B a) { return _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80)); }
  static inline B lookup(const uint8_t* table, B index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), index);
  }

  using A = __m512i;  // 4 activations in every lane
  static inline A spread(const int8_t* activations) {
    int32_t four;
    std::memcpy(&four, activations, 4);
    return _mm512_set1_epi32(four);
  }
  // Dot products, each lane: 4 unsigned bytes of codes . 4 signed bytes of activations. A partial sum takes up to
  // most_in_partial of them (codes below 2^bits); `wide` ones, whose codes use all 8 bits, may need partials of one.
  using P = I;
  static constexpr int most_in_partial(int) { return 8; }
  static inline P start(I sum) { return sum; }
  static inline P accumulate(P part, B codes, A a) { return _mm512_dpbusd_epi32(part, codes, a); }
  static inline P accumulate_wide(P part, B codes, A a) { return accumulate(part, codes, a); }
  static inline I finish(I, P part) { return part; }

 private:
  static inline F pairs_low(F a, F b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  static inline F pairs_high(F a, F b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
};

}  // namespace
