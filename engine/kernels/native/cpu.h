// The C interface of the CPU library: plain numbers and pointers, no C++ types, no exceptions.
//
// A pool owns threads and work space; one thread at a time may call functions that take the same pool. Matrices are
// packed as docs/packed-layout.md says. All activations are fp32. Functions that compute return one of the results below.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ROOFTOP_API extern "C" __declspec(dllexport)
#else
#define ROOFTOP_API extern "C" __attribute__((visibility("default")))
#endif

typedef struct rooftop_pool rooftop_pool;
typedef int (*rooftop_stop)(void);  // true: stop; asked every few milliseconds, on the caller's thread

enum { ROOFTOP_STOPPED, ROOFTOP_DONE, ROOFTOP_NO_MEMORY };
enum { ROOFTOP_SCALAR, ROOFTOP_AVX2, ROOFTOP_AVXVNNI, ROOFTOP_AVX512, ROOFTOP_ISAS };

typedef struct {
  const uint8_t* data;
  int32_t format, rows, columns, reserved;
} rooftop_matrix;

// The experts of one layer: expert e begins at data + e * stride; gate, up and down are its matrices with `data`
// relative to that. Where `biases` is not 0, fp32 biases of gate, up and down begin there, one behind the other, and the
// expert is down((up + 1) * gate * sigmoid(slope * gate)) with gate and up clamped; otherwise down(silu(gate) * up).
typedef struct {
  const uint8_t* data;
  int64_t stride;
  rooftop_matrix gate, up, down;
  int64_t biases;
  float slope, limit;
} rooftop_experts;

typedef struct {
  const float* attention_norm;  // [hidden]
  const float* attention_norm_bias;  // [hidden]: a layer norm; null for an RMS norm, as below
  rooftop_matrix query, key, value, output;
  const float* qkv_bias;     // [(heads + 2 kv_heads) dim], null for none
  const float* output_bias;  // [hidden], null for none
  const float* query_norm;   // [dim], or [heads dim] for wide_norms, null for none
  const float* key_norm;
  const float* sinks;  // [heads]: a score that no key has, null for none
  const float* expert_norm;  // [hidden]
  const float* expert_norm_bias;
  rooftop_matrix router;     // [experts, hidden]
  const float* router_bias;  // [experts], null for none
  rooftop_experts experts;
  rooftop_experts shared;    // the one that every token visits, its `data` null for none
  const float* shared_gate;  // [hidden]: its weight is sigmoid(gate . x); null for 1
  uint8_t* keys;    // [kv_heads, capacity] rows of dim numbers in cache_format
  uint8_t* values;
  int32_t window, reserved;  // keys that a query looks back on, itself included; 0 for all
} rooftop_layer;

typedef struct {
  int32_t hidden, heads, kv_heads, dim, experts, experts_per_token, intermediate, layers;
  int32_t normalise_top_k, cache_format, capacity;
  float epsilon;
  int32_t wide_norms;  // queries and keys are normed over all heads together
  float embedding_scale, residual_scale;
  float query_scale;  // of rotated queries, beside 1 / sqrt(dim)
  float clip;         // the largest magnitude of queries, keys and values, 0 for any
  float rotation_scale;  // of rotated queries and keys
  float router_jitter;   // sparsemixer's, negative for a softmax over scores
  const float* inverse_frequencies;  // [dim / 2]
  rooftop_matrix embedding, head;
  const float* norm;  // [hidden]
  const float* norm_bias;
  const float* head_bias;  // [vocabulary], null for none
  const rooftop_layer* layer;
} rooftop_model;

// What a forward pass tells of each layer that it ran.
typedef struct {
  int32_t* experts;  // [layers, tokens, experts_per_token]
  float* seconds;    // [layers]: time in the experts
} rooftop_trace;

// Bytes of rooftop_layer and of rooftop_model: who calls holds them against what it was written for.
ROOFTOP_API void rooftop_struct_bytes(int32_t* layer, int32_t* model);
// Bit i: instruction set i runs on this processor and is in this build.
ROOFTOP_API int rooftop_isas(void);

// isa: one of the above. Null: that one is missing, or there is no memory.
ROOFTOP_API rooftop_pool* rooftop_pool_create(int threads, int isa, int pin);
ROOFTOP_API void rooftop_pool_destroy(rooftop_pool* pool);

// One row of a packed matrix as fp32.
ROOFTOP_API void rooftop_read_row(rooftop_pool* pool, const rooftop_matrix* matrix, int row, float* out);
// x [tokens, columns] -> y [tokens, rows]
ROOFTOP_API int rooftop_matmul(rooftop_pool* pool, const rooftop_matrix* matrix, const float* x, int tokens, float* y,
                               rooftop_stop stop);
// Some experts of a layer: out[token] += weight * expert(hidden[token]) for every visit.
//   visits of experts[i] are first[i] .. first[i + 1] - 1, each with its token and weight; tokens of an expert differ.
ROOFTOP_API int rooftop_run_experts(rooftop_pool* pool, const rooftop_experts* layer, const float* hidden, int tokens,
                                    int count, const int32_t* experts, const int32_t* first, const int32_t* visit_token,
                                    const float* visit_weight, float* out, rooftop_stop stop);
// Layers first_layer .. last_layer - 1 over `tokens` tokens at positions start .., hidden [tokens, hidden] in place.
// Writes their keys and values. Where token_ids is given, hidden is filled from the embedding first.
ROOFTOP_API int rooftop_forward(rooftop_pool* pool, const rooftop_model* model, int first_layer, int last_layer,
                                const int32_t* token_ids, int tokens, int start, float* hidden, rooftop_trace* trace,
                                rooftop_stop stop);
// Final norm and head: hidden [tokens, hidden] -> logits [tokens, vocabulary]
ROOFTOP_API int rooftop_logits(rooftop_pool* pool, const rooftop_model* model, const float* hidden, int tokens,
                               float* logits, rooftop_stop stop);
// Bytes per second that all threads read together from `size` bytes of memory; operations per second of int8 dot
// products in registers (a multiplication and an addition each).
ROOFTOP_API double rooftop_measure_bandwidth(rooftop_pool* pool, const uint8_t* memory, size_t size);
ROOFTOP_API double rooftop_measure_int8(rooftop_pool* pool, double seconds);

// Floats to blocks of a GGUF file (not packed): groups * 32 weights of source_format (kF32, kF16, kBF16) as kQ8_0, kQ4_1 or,
// where groups is a multiple of 8, kQ4_K. isa: one that rooftop_isas names. Writes squares: of what was lost, of the
// weights; not finite where these are not. search = 0 rounds plainly. Any thread may call it.
ROOFTOP_API void rooftop_encode(int isa, int format, int source_format, const uint8_t* source, size_t groups,
                                uint8_t* blocks, int search, double* squares);
