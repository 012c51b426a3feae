#include "pool.h"

#include <chrono>
#include <cstdlib>
#include <new>
#include <set>
#include <string>

#if defined(_WIN32)
#include <windows.h>
#elif defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <fstream>
#endif

namespace rooftop {
namespace {

constexpr size_t kHugePage = size_t(1) << 21;
constexpr int kSpinsBeforeYield = 20000;       // a barrier: others are about to arrive
constexpr int64_t kSleepAfterNs = 3'000'000;   // no job for so long: sleep
constexpr int64_t kAskEveryNs = 4'000'000;     // how often the stop request is asked

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Large buffers in huge pages, where the system has them: a prompt's steps go through them row by row.
std::align_val_t alignment(size_t size) { return std::align_val_t(size >= kHugePage ? kHugePage : 64); }

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// One logical processor of every physical core that this process may use.
std::vector<int> cores() {
  std::vector<int> result;
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return result;
  std::set<std::string> seen;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::string siblings;
    std::ifstream("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list") >> siblings;
    if (siblings.empty() || seen.insert(siblings).second) result.push_back(cpu);
  }
#elif defined(_WIN32)
  DWORD size = 0;
  GetLogicalProcessorInformation(nullptr, &size);
  std::vector<SYSTEM_LOGICAL_PROCESSOR_INFORMATION> all(size / sizeof(SYSTEM_LOGICAL_PROCESSOR_INFORMATION));
  if (!GetLogicalProcessorInformation(all.data(), &size)) return result;
  for (const auto& entry : all) {
    if (entry.Relationship != RelationProcessorCore) continue;
    for (int cpu = 0; cpu < 64; cpu++) {
      if (entry.ProcessorMask >> cpu & 1) {
        result.push_back(cpu);
        break;
      }
    }
  }
#endif
  return result;
}

void pin_this_thread(int cpu) {
#if defined(__linux__)
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  pthread_setaffinity_np(pthread_self(), sizeof one, &one);
#elif defined(_WIN32)
  SetThreadAffinityMask(GetCurrentThread(), DWORD_PTR(1) << cpu);
#else
  (void)cpu;
#endif
}

}  // namespace

Buffer::~Buffer() { ::operator delete(memory_, alignment(size_)); }

void* Buffer::reserve(size_t size) {
  if (size > size_) {
    ::operator delete(memory_, alignment(size_));
    memory_ = nullptr, size_ = 0;
    memory_ = ::operator new(size, alignment(size));
    size_ = size;
#ifdef MADV_HUGEPAGE
    if (size >= kHugePage) madvise(memory_, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }
  return memory_;
}

Pool::Pool(int threads, bool pin) : threads_(threads), taken_(new Taken[size_t(threads)]) {
  const std::vector<int> places = pin ? cores() : std::vector<int>();
  workers_.reserve(size_t(threads - 1));
  for (int i = 1; i < threads; i++) {
    const int place = size_t(i) < places.size() ? places[size_t(i)] : -1;
    workers_.emplace_back([this, i, place] {
      if (place >= 0) pin_this_thread(place);
      work(i);
    });
  }
}

Pool::~Pool() {
  quitting_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::poll() {
  if (!stop_) return;
  const int64_t now = now_ns();
  if (now - asked_ns_ < kAskEveryNs) return;
  asked_ns_ = now;
  if (stop_()) stopping_ = true;
}

void Pool::give_back_items() {
  for (int i = 0; i < threads_; i++) taken_[i].count.store(0, std::memory_order_relaxed);
}

bool Pool::barrier() {
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    give_back_items();
    ended_ = stopping_.load(std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
  } else {
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++) {
      if (spins < kSpinsBeforeYield)
        pause();
      else
        std::this_thread::yield();
    }
  }
  return !ended_;
}

bool Pool::run_on_all(Entry entry, void* context, StopRequest stop) {
  entry_ = entry, context_ = context, stop_ = stop;
  asked_ns_ = now_ns();
  stopping_ = false, ended_ = false;
  give_back_items();
  busy_ = threads_ - 1;
  job_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  entry(context, 0);
  for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; spins++) {
    if (spins < kSpinsBeforeYield)
      pause();
    else
      std::this_thread::yield();
  }
  std::fill(soon_, soon_ + kMostSoon, Soon{});
  return !stopping_;
}

// A prefetch of what is gone does nothing.
void Pool::fetch(const Soon* soon, int thread, uint32_t done) {
  constexpr size_t kLines = 16;
  for (int i = 0; i < kMostSoon; i++) {
    const size_t lines = soon[i].size / 64, others = size_t(threads_ - 1);
    const size_t end = lines * size_t(thread) / others;
    for (size_t line = lines * size_t(thread - 1) / others; line < end; line++) {
      if (line % kLines == 0 && job_.load(std::memory_order_relaxed) != done) return;
      __builtin_prefetch(soon[i].bytes + 64 * line, 0, 2);
    }
  }
}

void Pool::work(int thread) {
  uint32_t done = 0;
  while (true) {
    const int64_t since = now_ns();
    for (int spins = 1; job_.load(std::memory_order_acquire) == done; spins++) {
      pause();
      if (spins % 1024 == 0 && now_ns() - since > kSleepAfterNs) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return job_.load(std::memory_order_seq_cst) != done; });
        sleeping_.fetch_sub(1, std::memory_order_seq_cst);
      }
    }
    done = job_.load(std::memory_order_acquire);
    if (quitting_) return;
    entry_(context_, thread);
    Soon soon[kMostSoon];
    std::copy(soon_, soon_ + kMostSoon, soon);
    busy_.fetch_sub(1, std::memory_order_acq_rel);
    fetch(soon, thread, done);
  }
}

}  // namespace rooftop
