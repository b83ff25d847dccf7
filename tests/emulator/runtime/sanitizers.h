// What sanitizers have to be told: where stacks are, which thread runs, and which accesses are ordered.
//
// The runtime is compiled without instrumentation. EMULATOR_ADDRESS and EMULATOR_THREAD say which sanitizer watches the
// kernels; its functions come with the library that is preloaded.
#pragma once

#include <stddef.h>

#if defined(EMULATOR_ADDRESS)
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
void __asan_poison_memory_region(void const volatile* address, size_t size);
void __asan_unpoison_memory_region(void const volatile* address, size_t size);
}
#endif

#if defined(EMULATOR_THREAD)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace cuda_emulator {

inline void poison([[maybe_unused]] const void* address, [[maybe_unused]] size_t size) {
#if defined(EMULATOR_ADDRESS)
  __asan_poison_memory_region(address, size);
#endif
}

inline void unpoison([[maybe_unused]] const void* address, [[maybe_unused]] size_t size) {
#if defined(EMULATOR_ADDRESS)
  __asan_unpoison_memory_region(address, size);
#endif
}

// Whatever a thread did before a release is ordered before what another one does behind an acquire of the same tag.
inline void release([[maybe_unused]] void* tag) {
#if defined(EMULATOR_THREAD)
  __tsan_release(tag);
#endif
}

inline void acquire([[maybe_unused]] void* tag) {
#if defined(EMULATOR_THREAD)
  __tsan_acquire(tag);
#endif
}

}  // namespace cuda_emulator
