// What kernels call in the runtime (../runtime), which is compiled once and loaded beside every kernel library.
//
// The runtime is never instrumented by a sanitizer: what it does on behalf of other lanes is no access of the kernel.
// Whatever touches the kernel's own memory therefore stays in headers, where sanitizers see it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vector_types.h"

extern dim3 threadIdx;
extern dim3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

namespace cuda_emulator {

// A place in the kernel's text, named in reports of divergence and deadlock.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

// Ends the launch with a message; the calling thread never goes on.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

int lane();
unsigned lanes_not_finished();

// Counts the threads whose predicate holds, of all threads of the block.
int block_barrier(bool predicate, Site site);
void warp_barrier(unsigned mask, Site site);

// Gives `out` the bytes `in` of `source`; a lane outside the mask, of which a device promises nothing, gives 0xFF.
void exchange(unsigned mask, const void* in, void* out, size_t size, int source, Site site);
unsigned ballot(unsigned mask, bool predicate, Site site);
// Gives `out` the bytes `in` of all 32 lanes, 0xFF for those that take no part; returns those that do.
unsigned gather(unsigned mask, const void* in, void* out, size_t size, Site site);

enum class Operand { float16, bfloat16, tensor_float32 };

// D (16 x 8) += A (16 x depth) B (depth x 8), fragments laid out as the PTX manual has it for mma.sync.
void matrix_multiply(Operand operand, int depth, float* d, const unsigned* a, const unsigned* b, Site site);

// One declaration of a __shared__ variable: where it lies in the block that runs now.
struct SharedVariable {
  uint64_t block = 0;
  char* address = nullptr;
};

char* shared_variable(SharedVariable& variable, size_t size, size_t alignment);
char* dynamic_shared_memory();
bool in_shared_memory(const void* address, size_t size);

// Lets other threads run now and then, so that a thread that spins on an atomic waits for somebody.
void before_atomic();
// Lets other threads run now.
void yield_thread();

struct AsynchronousCopy {
  void* target;
  const void* source;
  int size;
  int source_size;
};

void begin_copy(const AsynchronousCopy& copy);
void commit_copies();
// Takes the next copy that waiting for all but the last `groups_left` groups completes; false if there is none.
bool complete_copy(int groups_left, AsynchronousCopy& copy);
// The same for every copy, committed or not.
bool complete_any_copy(AsynchronousCopy& copy);

// One launch, as Python describes it.
struct Launch {
  unsigned grid[3];
  unsigned block[3];
  unsigned dynamic_shared;
  unsigned shared_limit;
  unsigned order;
  uint64_t seed;
};

// Runs `body(argument)` once for each thread of the grid; 0, or 1 with a message.
int run_grid(const Launch& launch, void (*body)(void*), void* argument, char* message, size_t message_size);

}  // namespace cuda_emulator
