// Activations as the products read them: int8 before block formats, fp32 before floats.
//
// Int8, because a token would cost fp32 units one FMA and a quarter of a 16-byte load a weight, and 16 tokens more than
// cards have to spare: at 360 GB/s and 28 SMs (RTX 3060) 4.5 bits a weight leave 10 instructions for each of them. The
// matrix unit multiplies 256 weights with 8 tokens in one, so that all of 1 to 16 tokens wait for memory alone.
//
// Each 16 activations have an fp32 scale: 16 rows, one strip, are what a block of `gate_up` finishes at once. A group
// of 32 columns is 32 bytes, 8 to each `quad` of lanes (columns 4 * quad .. + 3, and those 16 further), and a record.
// All codes of all rows come first, [rows, columns] bytes, then all records, [rows, columns / 32].
#pragma once
#include "device.cuh"

// float4: the scales of both halves, then the sums of their codes (what offsets and biases are multiplied with).
constexpr int kRecordBytes = 16;

// The larger one; what is no number stays, and is seen in the product.
__device__ inline float larger(float a, float b) { return b > a || b != b ? b : a; }

// Writes one activation of a group of 16 that 16 neighbouring lanes hold, in order of columns; all lanes take part.
__device__ inline void write_int8(Byte* activations, int rows, int columns, int row, int column, float value,
                                  bool kept) {
  float largest = fabsf(value);
  for (int step = 8; step > 0; step /= 2) largest = larger(largest, __shfl_xor_sync(kWholeWarp, largest, step));
  const int code = largest > 1e-30f ? __float2int_rn(value * (127.0f / largest)) : 0;
  int sum = code;
  for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, step);
  if (!kept) return;
  const long long group = static_cast<long long>(row) * (columns / 32) + column / 32;
  const int half = column / 16 % 2, word = column / 4 % 4;
  store(activations + group * 32 + (2 * word + half) * 4 + column % 4, static_cast<Byte>(code));
  if (column % 16 == 0) {
    Byte* record = activations + static_cast<long long>(rows) * columns + group * kRecordBytes;
    store(record + 4 * half, largest <= 1e-30f ? 0.0f : largest / 127.0f);
    store(record + 8 + 4 * half, static_cast<float>(sum));
  }
}

__device__ inline void write_float(Byte* activations, int columns, int row, int column, float value) {
  store(activations + (static_cast<long long>(row) * columns + column) * 4, value);
}

struct PrepareArguments {  // struct Prepare in gpu_plans.py
  const void* hidden;      // [rows, columns] of `type`
  Byte* activations;
  int rows, columns, type, as_int8;
};

__device__ inline void prepare_activations(const PrepareArguments& a) {
  const long long index = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= static_cast<long long>(a.rows) * a.columns) return;  // with int8, whole warps
  const int row = static_cast<int>(index / a.columns), column = static_cast<int>(index % a.columns);
  const float value = load_as(a.hidden, index, a.type);
  if (a.as_int8) {
    write_int8(a.activations, a.rows, a.columns, row, column, value, true);
  } else {
    write_float(a.activations, a.columns, row, column, value);
  }
}
