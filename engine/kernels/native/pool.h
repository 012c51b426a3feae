// Our own threads: one per core, the caller is the first of them. They spin while work flows and sleep when it stops.
//
// A job is one function that every thread runs from beginning to end; inside it, `each` hands out items and `barrier`
// waits for all. A thread has a run of neighbouring items of its own, as memory is read fastest from one end to the
// other, and takes over others' when it is done. Items never depend on which thread takes them, so neither do results.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rooftop {

// Asked by the caller's thread now and then while a job runs: true stops it between items.
using StopRequest = int (*)();

// Memory that grows and never shrinks, 64-byte aligned.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  void* reserve(size_t size);
  template <class T> T* of(size_t count) { return static_cast<T*>(reserve(count * sizeof(T))); }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0;
};

// Bytes that are read soon.
struct Soon {
  const uint8_t* bytes;
  size_t size;
};
constexpr int kMostSoon = 4;

class Pool {
 public:
  // threads: the caller's included. pin: keep each of the others on a core of its own.
  Pool(int threads, bool pin);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // What the other threads fetch into the caches when the next job is done and until another begins, while the caller does
  // something else: kMostSoon pieces, empty ones where there are fewer. They may have gone by then.
  void afterwards(const Soon* soon) { std::copy(soon, soon + kMostSoon, soon_); }

  // Runs job(thread) on every thread. False if `stop` ended it early.
  template <class Job>
  bool run(Job& job, StopRequest stop) {
    return run_on_all([](void* context, int thread) { (*static_cast<Job*>(context))(thread); }, &job, stop);
  }

  // Inside a job: item(i) for i in 0..count-1, each on one thread. Threads leave as they run out; see barrier.
  template <class Item>
  void each(int thread, int count, Item item) {
    for (int owner = thread, left = threads_; left > 0; left--, owner = owner + 1 < threads_ ? owner + 1 : 0) {
      const int begin = first_of(owner, count), size = first_of(owner + 1, count) - begin;
      std::atomic<int>& taken = taken_[owner].count;
      while (taken.load(std::memory_order_relaxed) < size) {
        const int i = taken.fetch_add(1, std::memory_order_relaxed);
        if (i >= size) break;
        if (stopping_.load(std::memory_order_relaxed)) return;
        item(begin + i);
        if (thread == 0) poll();
      }
    }
  }

  // Where a thread's own run of `count` items begins; it ends where the next thread's begins.
  int first_of(int thread, int count) const { return int(int64_t(count) * thread / threads_); }

  // Inside a job: waits for every thread, then the items of the next `each` begin at 0. False: the job is to end.
  bool barrier();

 private:
  using Entry = void (*)(void*, int);
  bool run_on_all(Entry entry, void* context, StopRequest stop);
  void work(int thread);
  void poll();
  void give_back_items();
  void fetch(const Soon* soon, int thread, uint32_t done);

  struct alignas(64) Taken {
    std::atomic<int> count{0};
  };

  const int threads_;
  const std::unique_ptr<Taken[]> taken_;  // items taken of each thread's run
  std::vector<std::thread> workers_;
  alignas(64) std::atomic<int> waiting_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  alignas(64) std::atomic<uint32_t> job_{0};
  alignas(64) std::atomic<int> busy_{0};
  std::atomic<bool> stopping_{false};
  bool ended_ = false;  // what all threads agreed on at the last barrier
  std::atomic<bool> quitting_{false};
  Entry entry_ = nullptr;
  void* context_ = nullptr;
  StopRequest stop_ = nullptr;
  int64_t asked_ns_ = 0;
  Soon soon_[kMostSoon] = {};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace rooftop
