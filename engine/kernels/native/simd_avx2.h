// Vectors of 16 lanes for AVX2, as two registers; with AVX-VNNI where the compiler may use it.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

struct V {
  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  using B = I;
#ifdef ROOFTOP_ISA_AVXVNNI
  static constexpr bool kSignedWide = false;
#else
  static constexpr bool kSignedWide = true;  // wide codes would overflow 16 bits: accumulate_wide takes them as signed
#endif
  static constexpr int kTiles = 1, kTokens = 3;  // register block of large products
  static constexpr int kFloatTiles = 1, kFloatColumns = 6;  // and where floats are multiplied; see panels.h
  static constexpr int kFewFloatTokens = 12;  // up to so many, floats go from memory to registers
  static constexpr int kFewRows = 2, kFewFloats = 3;  // register block of theirs
  static constexpr int kFewSums = 2;  // of a row where it is alone
  static constexpr int kFewTokens = 12, kFewTokens256 = 5;  // up to so many, codes go from memory to registers;
  // beyond, through a panel: sooner where blocks have 256 columns and more is to be done for each code
  static constexpr int kFew = 4;  // most of them at a time

  static inline F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static inline F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static inline void store(float* p, F x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
  static inline F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static inline F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static inline F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static inline F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static inline F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
  static inline F minimum(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static inline F maximum(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static inline F absolute(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static inline F round(F x) {
    return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  static inline F times_power_of_two(F x, F n) {
    return {_mm256_mul_ps(x.a, power(n.a)), _mm256_mul_ps(x.b, power(n.b))};
  }
  static inline float sum(F x) {
    const __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
  // The sums of 4 vectors at once.
  static constexpr int kSums = 4;
  static inline void store_sums(const F* x, float* out) {
    __m256 sum[4];
    for (int i = 0; i < 4; i++) sum[i] = _mm256_add_ps(x[i].a, x[i].b);
    const __m256 fours = _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
  }
  static inline float largest(F x) {
    const __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
  }

  // x[i][j] <-> x[j][i]
  static inline void transpose(F* x) {
    __m256 quarter[2][2][8];  // of columns 0..7 or 8..15, rows 0..7 or 8..15
    for (int i = 0; i < 16; i++) quarter[0][i / 8][i % 8] = x[i].a, quarter[1][i / 8][i % 8] = x[i].b;
    for (auto& columns : quarter)
      for (auto& rows : columns) transpose_eight(rows);
    for (int i = 0; i < 16; i++) x[i] = {quarter[i / 8][0][i % 8], quarter[i / 8][1][i % 8]};
  }

  static inline F half(const void* p) {
    const __m128i* q = (const __m128i*)p;
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
  }
  static inline float half1(const void* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
  }
  static inline F bfloat(const void* p) {
    const __m128i* q = (const __m128i*)p;
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1)), 16))};
  }
  static inline void store_half(void* p, F x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i*)p + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static inline int32_t store_int8(int8_t* p, F x) {
    const __m256i a = _mm256_cvtps_epi32(x.a), b = _mm256_cvtps_epi32(x.b);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    const __m256i s = _mm256_add_epi32(a, b);
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xB1)));
  }

  static inline I izero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static inline I iset1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static inline I iadd(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
  static inline I iand(I x, int32_t mask) {
    const __m256i m = _mm256_set1_epi32(mask);
    return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
  }
  static inline I ior(I x, I y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
  template <int n> static inline I ishl(I x) { return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
  static inline I ishr(I x, int n) {
    const __m128i k = _mm_cvtsi32_si128(n);
    return {_mm256_srl_epi32(x.a, k), _mm256_srl_epi32(x.b, k)};
  }
  static inline F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static inline F as_float(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
  static inline I bytes(const uint8_t* p) {
    return {_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))};
  }
  static inline I signed_bytes(const uint8_t* p) {
    return {_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)),
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))};
  }
  template <int n> static inline I shifted(const int32_t* p) { return iset1((int32_t)((uint32_t)*p << n)); }

  static inline B line(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
  }
  static inline void store_line(uint8_t* p, B x) {
    _mm256_store_si256((__m256i*)p, x.a), _mm256_store_si256((__m256i*)(p + 32), x.b);
  }
  static inline B panel_line(const uint8_t* p) { return line(p); }
  static inline B right(B x, int n, uint8_t mask) {
    const __m128i k = _mm_cvtsi32_si128(n);
    const __m256i m = _mm256_set1_epi8((char)mask);
    return {_mm256_and_si256(_mm256_srl_epi16(x.a, k), m), _mm256_and_si256(_mm256_srl_epi16(x.b, k), m)};
  }
  static inline B left(B x, int n, uint8_t mask) {
    const __m128i k = _mm_cvtsi32_si128(n);
    const __m256i m = _mm256_set1_epi8((char)mask);
    return {_mm256_and_si256(_mm256_sll_epi16(x.a, k), m), _mm256_and_si256(_mm256_sll_epi16(x.b, k), m)};
  }
  static inline B bor(B x, B y) { return ior(x, y); }
  static inline B flip(B x) {
    const __m256i m = _mm256_set1_epi8((char)0x80);
    return {_mm256_xor_si256(x.a, m), _mm256_xor_si256(x.b, m)};
  }
  static inline B lookup(const uint8_t* table, B index) {
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table));
    return {_mm256_shuffle_epi8(t, index.a), _mm256_shuffle_epi8(t, index.b)};
  }

  using A = __m256i;
  static inline A spread(const int8_t* activations) {
    int32_t four;
    std::memcpy(&four, activations, 4);
    return _mm256_set1_epi32(four);
  }
#ifdef ROOFTOP_ISA_AVXVNNI
  using P = I;
  static constexpr int most_in_partial(int) { return 8; }
  static inline P start(I sum) { return sum; }
  static inline P accumulate(P part, B codes, A x) {
    return {_mm256_dpbusd_avx_epi32(part.a, codes.a, x), _mm256_dpbusd_avx_epi32(part.b, codes.b, x)};
  }
  static inline P accumulate_wide(P part, B codes, A x) { return accumulate(part, codes, x); }
  static inline I finish(I, P part) { return part; }
#else
  using P = I;  // 16-bit sums of pairs: 2 * 127 * (2^bits - 1) for each of those that a partial takes
  static constexpr int most_in_partial(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }
  static inline P start(I) { return izero(); }
  static inline P accumulate(P part, B codes, A x) {
    part.a = _mm256_add_epi16(part.a, _mm256_maddubs_epi16(codes.a, x));
    part.b = _mm256_add_epi16(part.b, _mm256_maddubs_epi16(codes.b, x));
    __asm__("" : "+x"(part.a), "+x"(part.b));  // one after the other: GCC would add in a tree, and run out of registers
    return part;
  }
  static inline P accumulate_wide(P, B codes, A x) {
    const B s = flip(codes);
    return {_mm256_maddubs_epi16(_mm256_abs_epi8(s.a), _mm256_sign_epi8(x, s.a)),
            _mm256_maddubs_epi16(_mm256_abs_epi8(s.b), _mm256_sign_epi8(x, s.b))};
  }
  static inline I finish(I sum, P part) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(part.a, ones)),
            _mm256_add_epi32(sum.b, _mm256_madd_epi16(part.b, ones))};
  }
#endif

 private:
  static inline void transpose_eight(__m256* x) {
    __m256 y[8];
    for (int i = 0; i < 8; i += 4) {
      const __m256 a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
      const __m256 c = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
      y[i] = _mm256_shuffle_ps(a, c, 0x44), y[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
      y[i + 2] = _mm256_shuffle_ps(b, d, 0x44), y[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
      x[i] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x20);
      x[i + 4] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x31);
    }
  }
  static inline __m256 power(__m256 n) {
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_castsi256_ps(bits);
  }
};

}  // namespace
