// Stands in for NVIDIA's driver where there is none: says what it was asked.
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {
char said[256] = "";
uintptr_t current = 0;
uintptr_t locked = 0;
}  // namespace

extern "C" {
const char* said_so_far() { return said; }

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return *version = 13020, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal + 40, ordinal == 0 ? 0 : 101; }
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 8 : 6, 0; }
int cuDevicePrimaryCtxRetain(uintptr_t* context, int device) { return *context = 1000 + device, 0; }
int cuCtxGetCurrent(uintptr_t* context) { return *context = current, 0; }
int cuCtxSetCurrent(uintptr_t context) { return current = context, 0; }

int cuModuleLoadDataEx(uintptr_t* module, const char* image, unsigned count, int* options, void** values) {
  if (std::strcmp(image, "good") == 0) return *module = 7, current == 1040 ? 0 : 201;
  if (count == 2 && options[0] == 5 && options[1] == 6 && reinterpret_cast<uintptr_t>(values[1]) > 20)
    std::strcpy(static_cast<char*>(values[0]), "ptxas was not amused");
  return 200;
}
int cuModuleGetFunction(uintptr_t* function, uintptr_t module, const char* name) {
  return *function = 70 + module, std::strcmp(name, "kernel") == 0 ? 0 : 500;
}
int cuLaunchKernel(uintptr_t function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, uintptr_t stream, void** arguments, void** extra) {
  struct Two {
    int64_t first;
    int32_t second;
  };
  const Two* two = static_cast<const Two*>(arguments[0]);
  std::snprintf(said, sizeof(said), "%ld: %u %u %u, %u %u %u, %u, %lx: %ld %d %s", long(function), x, y, z, block_x,
                block_y, block_z, shared, long(stream), long(two->first), two->second, extra ? "extra" : "");
  return 0;
}
int cuLaunchHostFunc(uintptr_t stream, void (*function)(void*), void* argument) {
  return stream == 5 ? (function(argument), 0) : 400;
}
int cuMemHostRegister_v2(uintptr_t address, size_t bytes, unsigned flags) {
  if (bytes > size_t{1} << 40) return 2;
  return current == 1040 && flags == 1 && bytes == size_t{3} << 32 ? (locked = address, 0) : 400;
}
int cuMemHostUnregister(uintptr_t address) { return address == locked ? (locked = 0, 0) : 713; }
int cuStreamWriteValue32_v2(uintptr_t stream, uint32_t* address, uint32_t value, unsigned flags) {
  return stream == 5 && flags == 0 ? (*address = value, 0) : 400;
}
int cuStreamWaitValue32_v2(uintptr_t stream, uint32_t* address, uint32_t value, unsigned flags) {
  const bool reached = static_cast<int32_t>(*address - value) >= 0;  // a real one would wait
  return stream == 5 && flags == 0 && reached ? 0 : 400;
}
int cuGetErrorName(int code, const char** name) {
  *name = code == 200 ? "CUDA_ERROR_INVALID_IMAGE" : code == 500 ? "CUDA_ERROR_NOT_FOUND" : nullptr;
  return *name ? 0 : 1;
}
int cuGetErrorString(int code, const char** text) {
  *text = code == 200 ? "device kernel image is invalid" : nullptr;
  return *text ? 0 : 1;
}
}
