// Everything the runtime knows. One block runs at a time, on one thread of the host; Python holds a lock meanwhile.
#pragma once

#include <deque>

#include "../shim/interface.h"

namespace cuda_emulator {

constexpr int most_threads = 1024;
constexpr int lanes_per_warp = 32;
constexpr int most_warps = most_threads / lanes_per_warp;

enum class ThreadState { ready, in_block_barrier, in_collective, finished };
enum class Operation { block_barrier, warp_barrier, shuffle, vote, gather, matrix };
enum class Order : unsigned { fifo, lifo, random };

struct PendingCopy {
  AsynchronousCopy copy;
  uint64_t group;
};

struct Thread {
  // Where the thread goes on, while another one runs.
  void* stack_pointer = nullptr;
  void* asan_fake_stack = nullptr;
  void* tsan_fiber = nullptr;
  char* stack = nullptr;

  dim3 index;
  int number = 0;
  int warp = 0;
  int lane = 0;
  ThreadState state = ThreadState::finished;

  // What it waits for.
  Operation operation = Operation::block_barrier;
  Site site = {"", 0};
  unsigned mask = 0;
  void* payload = nullptr;

  uint64_t atomics = 0;
  std::deque<PendingCopy> copies;
  uint64_t copy_group = 0;
};

struct Warp {
  unsigned existing = 0;
  unsigned finished = 0;
  unsigned waiting = 0;
};

struct Block {
  uint64_t number = 0;
  int threads = 0;
  int warps = 0;
  int finished = 0;
  int in_barrier = 0;
  uint64_t barriers = 0;
  // Of the barrier that is being filled, and of the one before it, which threads still read.
  int predicates[2] = {0, 0};
};

// The thread of the host that runs the launch, and the threads of the block.
extern Thread host;
extern Thread threads[most_threads];
extern Warp warps[most_warps];
extern Block block;
extern Thread* running;
extern Order order;

// failure.cpp
bool failed();
void record_failure(const char* format, ...) __attribute__((format(printf, 1, 2)));
const char* failure_message();
void clear_failure();
// "operation at file:line", in a buffer that the next few calls reuse.
const char* describe(const Thread& thread);

// fibers.cpp
void prepare_host();
void prepare_thread(Thread& thread, void (*entry)());
void switch_to(Thread& next, bool for_good = false);
// Makes the stacks usable again after a launch that failed, whose threads never end, and releases the tag for each.
void abandon_threads(void* launch_ends);

// scheduler.cpp
uint64_t random_number();
void seed_random_numbers(uint64_t seed);
void make_ready(Thread& thread);
void clear_ready();
bool any_ready();
// Runs other threads until somebody makes this one ready again.
void wait_for_others();
void run_block(void (*body)(void*), void* argument);

// shared_memory.cpp
void begin_launch_memory(size_t dynamic_size, size_t limit);
void begin_block_memory();

// copies.cpp
void forget_copies(Thread& thread);

}  // namespace cuda_emulator
