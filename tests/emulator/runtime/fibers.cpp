// One stack for each CUDA thread, and switching between them.
#include <stdlib.h>
#include <sys/mman.h>

#include "sanitizers.h"
#include "state.h"

// EMULATOR_UCONTEXT tries out what other processors get, which is slower.
#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
#define SWITCH_BY_UCONTEXT
#include <ucontext.h>
#endif

namespace cuda_emulator {

Thread host;
Thread* running = &host;

#if defined(EMULATOR_ADDRESS)
constexpr size_t stack_size = 512 << 10;
#else
constexpr size_t stack_size = 256 << 10;
#endif

#if defined(EMULATOR_ADDRESS)
static const void* host_stack = nullptr;
static size_t host_stack_size = 0;
#endif

static char* new_stack() {
  const int protection = PROT_READ | PROT_WRITE;
  void* stack = mmap(nullptr, stack_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) {
    abort();
  }
  return static_cast<char*>(stack);
}

#if defined(EMULATOR_THREAD)

// Blocks of a launch are not ordered, but the threads of one TSan fiber are. Creating a fiber takes near to a
// millisecond, so two sets take turns: neighbouring blocks are seen as concurrent, others with the same thread numbers
// not always.
// A flag of TSan's: that one thread runs after another orders nothing.
constexpr unsigned no_synchronisation = 1;

struct Fiber {
  void* tsan = nullptr;
  char* stack = nullptr;
};

static Fiber fibers[2][most_threads];

static void give_fiber(Thread& thread) {
  Fiber& fiber = fibers[block.number & 1][thread.number];
  if (fiber.tsan == nullptr) {
    fiber.tsan = __tsan_create_fiber(0);
  }
  if (fiber.stack == nullptr) {
    fiber.stack = new_stack();
  }
  thread.tsan_fiber = fiber.tsan;
  thread.stack = fiber.stack;
}

// TSan still believes that these fibers are inside of functions, so new ones take their place. What they did comes
// before whatever the host does next, as in a launch that ends well.
void abandon_threads(void* launch_ends) {
  for (Fiber(&set)[most_threads] : fibers) {
    for (Fiber& fiber : set) {
      if (fiber.tsan != nullptr) {
        __tsan_switch_to_fiber(fiber.tsan, no_synchronisation);
        release(launch_ends);
        __tsan_switch_to_fiber(host.tsan_fiber, no_synchronisation);
        __tsan_destroy_fiber(fiber.tsan);
        fiber.tsan = nullptr;
      }
    }
  }
}

#else

static void give_fiber(Thread& thread) {
  if (thread.stack == nullptr) {
    thread.stack = new_stack();
  }
}

// Frames that are never left keep their poisoned surroundings.
void abandon_threads(void*) {
  for (const Thread& thread : threads) {
    if (thread.stack != nullptr) {
      unpoison(thread.stack, stack_size);
    }
  }
}

#endif

#if !defined(SWITCH_BY_UCONTEXT)

// Saves the registers that a called function has to keep, and goes on with another stack.
__attribute__((naked, noinline)) static void switch_stacks(void** /* saved */, void* /* next */) {
  asm("pushq %rbp\n"
      "pushq %rbx\n"
      "pushq %r12\n"
      "pushq %r13\n"
      "pushq %r14\n"
      "pushq %r15\n"
      "movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n"
      "popq %r15\n"
      "popq %r14\n"
      "popq %r13\n"
      "popq %r12\n"
      "popq %rbx\n"
      "popq %rbp\n"
      "ret\n");
}

static void prepare_stack(Thread& thread, void (*entry)()) {
  // Different offsets for different threads: the tops of 1024 equal stacks would compete for a few lines of the cache.
  const size_t offset = 256 + static_cast<size_t>(thread.number) * 192 % 3072;
  const uintptr_t top = (reinterpret_cast<uintptr_t>(thread.stack) + stack_size - offset) & ~uintptr_t(15);
  void** pointer = reinterpret_cast<void**>(top);
  *--pointer = nullptr;
  *--pointer = reinterpret_cast<void*>(entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) {
    *--pointer = nullptr;
  }
  thread.stack_pointer = pointer;
}

static void exchange_stacks(Thread& previous, Thread& next) {
  switch_stacks(&previous.stack_pointer, next.stack_pointer);
}

#else

static ucontext_t contexts[most_threads + 1];

static ucontext_t& context_of(const Thread& thread) {
  return contexts[&thread == &host ? most_threads : thread.number];
}

static void prepare_stack(Thread& thread, void (*entry)()) {
  ucontext_t& context = context_of(thread);
  getcontext(&context);
  context.uc_stack.ss_sp = thread.stack;
  context.uc_stack.ss_size = stack_size;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

static void exchange_stacks(Thread& previous, Thread& next) {
  swapcontext(&context_of(previous), &context_of(next));
}

#endif

void prepare_host() {
#if defined(EMULATOR_ADDRESS)
  host_stack = nullptr;
#endif
#if defined(EMULATOR_THREAD)
  host.tsan_fiber = __tsan_get_current_fiber();
#endif
}

static void (*thread_entry)() = nullptr;

static void enter_thread() {
#if defined(EMULATOR_ADDRESS)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  // The first thread of a launch is entered from the host, whose stack is known from here on.
  if (host_stack == nullptr) {
    host_stack = bottom;
    host_stack_size = size;
  }
#endif
  thread_entry();
  abort();
}

void prepare_thread(Thread& thread, void (*entry)()) {
  thread_entry = entry;
  give_fiber(thread);
  prepare_stack(thread, enter_thread);
}

void switch_to(Thread& next, [[maybe_unused]] bool for_good) {
  Thread& previous = *running;
  if (&previous == &next) {
    return;
  }
  running = &next;
  threadIdx = next.index;
#if defined(EMULATOR_ADDRESS)
  const bool to_host = &next == &host;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &previous.asan_fake_stack, to_host ? host_stack : next.stack,
                                 to_host ? host_stack_size : stack_size);
#endif
#if defined(EMULATOR_THREAD)
  __tsan_switch_to_fiber(next.tsan_fiber, no_synchronisation);
#endif
  exchange_stacks(previous, next);
#if defined(EMULATOR_ADDRESS)
  __sanitizer_finish_switch_fiber(previous.asan_fake_stack, nullptr, nullptr);
#endif
}

}  // namespace cuda_emulator
