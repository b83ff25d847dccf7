// Shared memory: an arena from which every block gets its variables, with poisoned gaps, filled with 0xFF.
#include <stdlib.h>
#include <sys/mman.h>

#include "sanitizers.h"
#include "state.h"

namespace cuda_emulator {

// ThreadSanitizer remembers accesses by address, and blocks are not ordered: there, no two blocks of a launch may be
// given the same address, or they would seem to race. Elsewhere every block starts anew.
#if defined(EMULATOR_THREAD)
constexpr bool fresh_for_each_block = true;
constexpr size_t arena_size = size_t(1) << 30;
#else
constexpr bool fresh_for_each_block = false;
constexpr size_t arena_size = size_t(1) << 22;
#endif
// What a block can use at most, gaps included.
constexpr size_t reserve = size_t(1) << 21;
constexpr size_t gap = 64;

static char* arena = nullptr;
static char* top = nullptr;
static char* block_begins = nullptr;
static char* dynamic_begins = nullptr;
static size_t dynamic_bytes = 0;
static size_t static_bytes = 0;
static size_t allowed_bytes = 0;

// An address that is a multiple of `alignment` and not of twice as much, so that a vector access to something that only
// happens to be aligned well enough is seen.
static char* allocate(size_t size, size_t alignment) {
  const size_t step = 2 * alignment;
  const uintptr_t from = reinterpret_cast<uintptr_t>(top) + gap;
  char* address = reinterpret_cast<char*>((from + step - 1) / step * step + alignment);
  unpoison(address, size);
  // A loop over volatile bytes, and no memset: sanitizers intercept that one.
  for (volatile char* byte = address; byte < address + size; ++byte) {
    *byte = static_cast<char>(0xFF);
  }
  top = address + size;
  poison(top, gap);
  return address;
}

void begin_launch_memory(size_t dynamic_size, size_t limit) {
  if (arena == nullptr) {
    const int protection = PROT_READ | PROT_WRITE;
    void* memory = mmap(nullptr, arena_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      abort();
    }
    arena = static_cast<char*>(memory);
    top = arena;
    block_begins = arena;
  }
  dynamic_bytes = dynamic_size;
  allowed_bytes = limit;
}

void begin_block_memory() {
  const bool full = static_cast<size_t>(top - arena) > arena_size - reserve;
  poison(block_begins, static_cast<size_t>(top - block_begins));
  if (!fresh_for_each_block || full) {
    top = arena;
  }
  block_begins = top;
  static_bytes = 0;
  poison(top, 2 * gap);
  dynamic_begins = allocate(dynamic_bytes, 128);
}

char* shared_variable(SharedVariable& variable, size_t size, size_t alignment) {
  if (variable.block != block.number) {
    static_bytes += size;
    if (static_bytes + dynamic_bytes > allowed_bytes) {
      fail("%zu bytes of static and %zu of dynamic shared memory, %zu are allowed", static_bytes, dynamic_bytes,
           allowed_bytes);
    }
    variable.block = block.number;
    variable.address = allocate(size, alignment);
  }
  return variable.address;
}

char* dynamic_shared_memory() {
  return dynamic_begins;
}

bool in_shared_memory(const void* address, size_t size) {
  const char* first = static_cast<const char*>(address);
  return first >= block_begins && first + size <= top;
}

}  // namespace cuda_emulator
