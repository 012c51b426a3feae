// Runs the kernels of engine/kernels/cuda as fibers; `emulate` is called from Python with what the driver would get.
#include <setjmp.h>
#include <ucontext.h>

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "attention.cuh"
#include "experts.cuh"
#include "grouped.cuh"
#include "matrices.cuh"
#include "router.cuh"
#include "rows.cuh"

namespace emulation {

using Call = void (*)(const void* arguments);

std::map<std::string, Call>& kernels() {
  static std::map<std::string, Call> all;
  return all;
}

struct Entry {
  const char* name;
  Call call;
};
struct Listed {
  Listed(std::initializer_list<Entry> entries) {
    for (const Entry& entry : entries) kernels()[entry.name] = entry.call;
  }
};

template <auto kKernel>
struct ArgumentOf;
template <class A, void (*kKernel)(A)>
struct ArgumentOf<kKernel> {
  using Type = A;
};

template <auto kKernel>
void call(const void* arguments) {
  typename ArgumentOf<kKernel>::Type value;
  std::memcpy(static_cast<void*>(&value), arguments, sizeof(value));
  kKernel(value);
}

constexpr size_t kStackBytes = 1 << 16;

struct Meeting {
  int arrived = 0, generation = 0;
};

// Made once, and used for one block after the other: a system call for each switch would take most of the time.
struct Fiber {
  ucontext_t beginning;
  jmp_buf place;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  bool begun = false;  // else it is to be made
  bool ended = true;
  const int* watched = nullptr;  // waits until this is no longer `seen`
  int seen = 0, exchanges = 0;
};

struct Range {
  const char* first;
  int64_t bytes;
  int64_t writable;
};

Fiber fibers[kThreads];
jmp_buf scheduler;
Meeting block_meeting, warp_meetings[kWarps];
unsigned slots[kWarps][2][32][3];
int operations[kWarps][2];
std::string first_fault;
const Range* ranges;
int64_t range_count;
Call running;
const void* running_arguments;

void fault(const char* what, const void* address) {
  if (!first_fault.empty()) return;
  first_fault = std::string(what) + " in thread " + std::to_string(thread.x) + " of block " + std::to_string(block.x) +
                ", " + std::to_string(block.y);
  if (address == nullptr) return;
  first_fault += " at " + std::to_string(reinterpret_cast<uintptr_t>(address));
  for (const Range* range = ranges; range < ranges + range_count; range++) {
    const std::string first = std::to_string(reinterpret_cast<uintptr_t>(range->first));
    first_fault += ", range " + first + " + " + std::to_string(range->bytes);
  }
}

void leave(Fiber& fiber) {
  if (_setjmp(fiber.place) == 0) _longjmp(scheduler, 1);
}

void give_up() {  // a fiber that cannot go on never returns
  fibers[thread.x].ended = true, fibers[thread.x].begun = false;
  _longjmp(scheduler, 1);
}

void check(const void* address, size_t bytes, bool writes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) fault("an unaligned address", address), give_up();
  if (range_count == 0) return;
  const auto first = static_cast<const char*>(address);
  for (const Range* range = ranges; range < ranges + range_count; range++)
    if (first >= range->first && first + bytes <= range->first + range->bytes && (range->writable || !writes)) return;
  fault(writes ? "a write out of bounds" : "a read out of bounds", address);
  give_up();
}

void meet(Meeting& meeting, int members) {
  Fiber& fiber = fibers[thread.x];
  if (++meeting.arrived == members) {
    meeting.arrived = 0, meeting.generation++;
    return;
  }
  fiber.watched = &meeting.generation, fiber.seen = meeting.generation;
  leave(fiber);
}

void wait_for_block() { meet(block_meeting, kThreads); }

const unsigned (*exchange(int operation, unsigned a, unsigned b, unsigned c))[3] {
  const int warp = static_cast<int>(thread.x) / 32, turn = fibers[thread.x].exchanges++ % 2;
  if (warp_meetings[warp].arrived == 0) operations[warp][turn] = operation;
  if (operations[warp][turn] != operation) fault("lanes of a warp meet in different operations");
  unsigned* slot = slots[warp][turn][lane()];
  slot[0] = a, slot[1] = b, slot[2] = c;
  meet(warp_meetings[warp], 32);
  return slots[warp][turn];
}

void run_fiber() {
  for (;;) {
    running(running_arguments);
    fibers[thread.x].ended = true;
    leave(fibers[thread.x]);
  }
}

void start(Fiber& fiber) {
  if (!fiber.ended) fiber.begun = false;  // the block before left it waiting
  fiber.ended = false, fiber.watched = nullptr, fiber.exchanges = 0;
}

void go_on(Fiber& fiber) {
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  getcontext(&fiber.beginning);
  fiber.beginning.uc_stack.ss_sp = fiber.stack.data();
  fiber.beginning.uc_stack.ss_size = fiber.stack.size();
  makecontext(&fiber.beginning, run_fiber, 0);
  setcontext(&fiber.beginning);
}

// Threads take turns in order, or against it: results must not depend on that.
void run_block(bool backwards) {
  block_meeting = Meeting();
  for (Meeting& meeting : warp_meetings) meeting = Meeting();
  for (Fiber& fiber : fibers) start(fiber);
  for (bool progress = true; progress;) {
    progress = false;
    for (int turn = 0; turn < kThreads; turn++) {
      const int index = backwards ? kThreads - 1 - turn : turn;
      Fiber& fiber = fibers[index];
      if (fiber.ended || (fiber.watched != nullptr && *fiber.watched == fiber.seen)) continue;
      fiber.watched = nullptr, thread.x = static_cast<unsigned>(index), progress = true;
      go_on(fiber);
    }
  }
  for (int i = 0; i < kThreads; i++)
    if (!fibers[i].ended) thread.x = static_cast<unsigned>(i), fault("a wait for threads that have ended");
}

}  // namespace emulation

extern "C" void __ubsan_on_report() { emulation::fault("undefined behaviour, reported on stderr"); }

// Runs a grid. Returns an empty text, or the first fault.
extern "C" const char* emulate(const char* kernel, int blocks_x, int blocks_y, const void* arguments,
                               const emulation::Range* ranges, int64_t range_count, int backwards) {
  using namespace emulation;
  first_fault.clear();
  emulation::ranges = ranges, emulation::range_count = range_count;
  const auto found = kernels().find(kernel);
  if (found == kernels().end()) return "there is no such kernel";
  running = found->second, running_arguments = arguments;
  for (int y = 0; y < blocks_y && first_fault.empty(); y++) {
    for (int x = 0; x < blocks_x && first_fault.empty(); x++) {
      block = {static_cast<unsigned>(x), static_cast<unsigned>(y), 0};
      run_block(backwards != 0);
    }
  }
  return first_fault.c_str();
}

using emulation::call;

#define FORMAT Q8_0
#include "program.h"
#define FORMAT Q4_0
#include "program.h"
#define FORMAT Q4_1
#include "program.h"
#define FORMAT Q5_0
#include "program.h"
#define FORMAT Q5_1
#include "program.h"
#define FORMAT Q2_K
#include "program.h"
#define FORMAT Q3_K
#include "program.h"
#define FORMAT Q4_K
#include "program.h"
#define FORMAT Q5_K
#include "program.h"
#define FORMAT Q6_K
#include "program.h"
#define FORMAT IQ4_NL
#include "program.h"
#define FORMAT IQ4_XS
#include "program.h"
#define FORMAT MXFP4
#include "program.h"
#define FORMAT Q4_K
#define UP_FORMAT Q6_K
#include "program.h"

#define ROOFTOP_FLOATS
#define FORMAT F32
#include "program.h"
#define FORMAT F16
#include "program.h"
#define FORMAT BF16
#include "program.h"

#define HEAD_DIM 64
#define CACHE Bfloat16
#include "attention_program.h"
#define HEAD_DIM 64
#define CACHE Bfloat16ByHand
#include "attention_program.h"
#define HEAD_DIM 80
#define CACHE Float16
#include "attention_program.h"
#define HEAD_DIM 96
#define CACHE Bfloat16
#include "attention_program.h"
#define HEAD_DIM 128
#define CACHE Bfloat16
#include "attention_program.h"
#define HEAD_DIM 128
#define CACHE Float32
#include "attention_program.h"
#define HEAD_DIM 256
#define CACHE Float16
#include "attention_program.h"
#define HEAD_DIM 256
#define CACHE Float32
#include "attention_program.h"
#define HEAD_DIM 24
#define CACHE Float32
#include "attention_program.h"
#define HEAD_DIM 24
#define CACHE Float16
#include "attention_program.h"

namespace decoder {
#include "decoder.cu"

#define ROOFTOP_DECODER(kernel) {"decoder.cu/" #kernel, call<&kernel>}
const emulation::Listed listed{ROOFTOP_DECODER(join_norm), ROOFTOP_DECODER(rotate_store), ROOFTOP_DECODER(route)};
}  // namespace decoder
