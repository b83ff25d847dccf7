// Which thread runs next, which block runs next, and what to say when none can.
#include <stdio.h>
#include <string.h>

#include <numeric>
#include <vector>

#include "sanitizers.h"
#include "state.h"

dim3 threadIdx;
dim3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace cuda_emulator {

Thread threads[most_threads];
Warp warps[most_warps];
Block block;
Order order = Order::fifo;

static uint64_t random_state = 1;

void seed_random_numbers(uint64_t seed) {
  random_state = seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
}

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// ---- threads that can run: a ring of their numbers

static int ring[most_threads];
static int ring_first = 0;
static int ring_size = 0;

void clear_ready() {
  ring_first = 0;
  ring_size = 0;
}

bool any_ready() {
  return ring_size > 0;
}

void make_ready(Thread& thread) {
  thread.state = ThreadState::ready;
  ring[(ring_first + ring_size) % most_threads] = thread.number;
  ++ring_size;
}

static Thread* take_ready() {
  if (ring_size == 0) {
    return nullptr;
  }
  if (order == Order::fifo) {
    Thread& first = threads[ring[ring_first]];
    ring_first = (ring_first + 1) % most_threads;
    --ring_size;
    return &first;
  }
  int& last = ring[(ring_first + ring_size - 1) % most_threads];
  if (order == Order::random) {
    int& chosen = ring[(ring_first + random_number() % static_cast<uint64_t>(ring_size)) % most_threads];
    std::swap(chosen, last);
  }
  --ring_size;
  return &threads[last];
}

void wait_for_others() {
  Thread* next = take_ready();
  // With nobody left to run, the host decides whether a barrier is complete or the block is stuck.
  switch_to(next != nullptr ? *next : host);
}

void yield_thread() {
  if (any_ready()) {
    make_ready(*running);
    wait_for_others();
  }
}

void before_atomic() {
  constexpr uint64_t turns_between_yields = 4096;
  constexpr uint64_t most_atomics = 400'000'000;
  Thread& self = *running;
  ++self.atomics;
  if (self.atomics > most_atomics) {
    fail("thread %d spins on an atomic that nobody changes", self.number);
  }
  if (self.atomics % turns_between_yields == 0) {
    yield_thread();
  }
}

// ---- a block

static void (*kernel_body)(void*) = nullptr;
static void* kernel_argument = nullptr;
static char launch_begins;
static char launch_ends;

static void run_thread() {
  Thread& self = *running;
  acquire(&launch_begins);
  kernel_body(kernel_argument);
  release(&launch_ends);
  self.state = ThreadState::finished;
  ++block.finished;
  warps[self.warp].finished |= 1u << self.lane;
  switch_to(host, true);
}

static void report_deadlock() {
  char text[1500];
  int used = snprintf(text, sizeof(text), "deadlock in block (%u,%u,%u): %d of %d threads have finished", blockIdx.x,
                      blockIdx.y, blockIdx.z, block.finished, block.threads);
  bool told[most_threads] = {};
  int groups = 0;
  for (int first = 0; first < block.threads && groups < 5; ++first) {
    const Thread& example = threads[first];
    if (told[first] || example.state == ThreadState::finished) {
      continue;
    }
    int count = 0;
    int last = first;
    for (int other = first; other < block.threads; ++other) {
      const Thread& thread = threads[other];
      if (thread.state == example.state && thread.site.line == example.site.line && thread.mask == example.mask &&
          thread.operation == example.operation) {
        told[other] = true;
        ++count;
        last = other;
      }
    }
    used += snprintf(text + used, sizeof(text) - static_cast<size_t>(used), "; %d wait in %s (threads %d to %d)", count,
                     describe(example), first, last);
    ++groups;
  }
  record_failure("%s", text);
}

// All threads that go on wait in barriers: fine if it is one barrier, and nobody has left without it.
static void complete_barrier() {
  const Thread* first = nullptr;
  for (int number = 0; number < block.threads; ++number) {
    const Thread& thread = threads[number];
    if (thread.state != ThreadState::in_block_barrier) {
      continue;
    }
    if (first == nullptr) {
      first = &thread;
    } else if (thread.site.line != first->site.line || strcmp(thread.site.file, first->site.file) != 0) {
      record_failure("divergent __syncthreads in block (%u,%u,%u): thread %d waits in %s, thread %d in %s", blockIdx.x,
                     blockIdx.y, blockIdx.z, first->number, describe(*first), thread.number, describe(thread));
      return;
    }
  }
  if (block.finished != 0) {
    record_failure("divergent __syncthreads in block (%u,%u,%u): %d threads wait in %s, %d have finished", blockIdx.x,
                   blockIdx.y, blockIdx.z, block.in_barrier, describe(*first), block.finished);
    return;
  }
  ++block.barriers;
  block.in_barrier = 0;
  for (int number = 0; number < block.threads; ++number) {
    make_ready(threads[number]);
  }
}

static void begin_block() {
  ++block.number;
  block.finished = 0;
  block.in_barrier = 0;
  block.predicates[0] = 0;
  block.predicates[1] = 0;
  clear_ready();
  begin_block_memory();
  for (int warp = 0; warp < block.warps; ++warp) {
    warps[warp].finished = 0;
    warps[warp].waiting = 0;
  }
  for (int number = 0; number < block.threads; ++number) {
    Thread& thread = threads[number];
    thread.atomics = 0;
    forget_copies(thread);
    prepare_thread(thread, run_thread);
    make_ready(thread);
  }
}

void run_block(void (*body)(void*), void* argument) {
  kernel_body = body;
  kernel_argument = argument;
  begin_block();
  while (!failed() && block.finished < block.threads) {
    Thread* next = take_ready();
    if (next != nullptr) {
      switch_to(*next);
    } else if (block.in_barrier > 0 && block.in_barrier + block.finished == block.threads) {
      complete_barrier();
    } else {
      report_deadlock();
    }
  }
}

// ---- a launch

static bool prepare_launch(const Launch& launch) {
  const unsigned* size = launch.block;
  const unsigned* grid = launch.grid;
  const uint64_t count = uint64_t(size[0]) * size[1] * size[2];
  if (count == 0 || count > most_threads || size[0] > 1024 || size[1] > 1024 || size[2] > 64) {
    record_failure("a block of (%u,%u,%u) threads is not possible", size[0], size[1], size[2]);
  }
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > 2147483647u || grid[1] > 65535 || grid[2] > 65535) {
    record_failure("a grid of (%u,%u,%u) blocks is not possible", grid[0], grid[1], grid[2]);
  }
  if (launch.dynamic_shared > launch.shared_limit) {
    record_failure("%u bytes of dynamic shared memory, %u are allowed", launch.dynamic_shared, launch.shared_limit);
  }
  if (failed()) {
    return false;
  }
  block.threads = static_cast<int>(count);
  block.warps = (block.threads + lanes_per_warp - 1) / lanes_per_warp;
  for (Warp& warp : warps) {
    warp = Warp();
  }
  for (int number = 0; number < block.threads; ++number) {
    Thread& thread = threads[number];
    const unsigned position = static_cast<unsigned>(number);
    thread.number = number;
    thread.warp = number / lanes_per_warp;
    thread.lane = number % lanes_per_warp;
    thread.index = dim3(position % size[0], position / size[0] % size[1], position / (size[0] * size[1]));
    warps[thread.warp].existing |= 1u << thread.lane;
  }
  blockDim = dim3(size[0], size[1], size[2]);
  gridDim = dim3(grid[0], grid[1], grid[2]);
  order = static_cast<Order>(launch.order);
  seed_random_numbers(launch.seed);
  begin_launch_memory(launch.dynamic_shared, launch.shared_limit);
  prepare_host();
  return true;
}

static std::vector<uint64_t> block_order(uint64_t count) {
  std::vector<uint64_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), uint64_t(0));
  if (order == Order::lifo) {
    std::vector<uint64_t> descending(blocks.rbegin(), blocks.rend());
    return descending;
  }
  if (order == Order::random) {
    for (uint64_t left = count; left > 1; --left) {
      std::swap(blocks[left - 1], blocks[random_number() % left]);
    }
  }
  return blocks;
}

int run_grid(const Launch& launch, void (*body)(void*), void* argument, char* message, size_t message_size) {
  clear_failure();
  if (prepare_launch(launch)) {
    release(&launch_begins);
    const uint64_t columns = launch.grid[0];
    const uint64_t rows = launch.grid[1];
    for (uint64_t number : block_order(columns * rows * launch.grid[2])) {
      blockIdx = dim3(static_cast<unsigned>(number % columns), static_cast<unsigned>(number / columns % rows),
                      static_cast<unsigned>(number / (columns * rows)));
      run_block(body, argument);
      if (failed()) {
        break;
      }
    }
    if (failed()) {
      abandon_threads(&launch_ends);
    }
    acquire(&launch_ends);
  }
  snprintf(message, message_size, "%s", failure_message());
  return failed() ? 1 : 0;
}

}  // namespace cuda_emulator
