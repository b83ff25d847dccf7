// Floating-point environment of a thread.
#pragma once

#include <stdint.h>

// Round to nearest, subnormal numbers kept, no traps, for the life of the object: results must not depend on the settings
// of the thread that happens to compute a block. Control word and flags are those of before afterwards.
class DefaultFloatMode {
#if defined(__SSE__)
    unsigned control = __builtin_ia32_stmxcsr();

  public:
    DefaultFloatMode() { __builtin_ia32_ldmxcsr(0x1f80); }
    ~DefaultFloatMode() { __builtin_ia32_ldmxcsr(control); }
#elif defined(__aarch64__)
    uint64_t control, status;

  public:
    DefaultFloatMode() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(control));
        __asm__ volatile("mrs %0, fpsr" : "=r"(status));
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    }
    ~DefaultFloatMode() {
        __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
        __asm__ volatile("msr fpsr, %0" : : "r"(status) : "memory");
    }
#else
  public:
    DefaultFloatMode() {}
    ~DefaultFloatMode() {}
#endif
    DefaultFloatMode(const DefaultFloatMode&) = delete;
    DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;
};
