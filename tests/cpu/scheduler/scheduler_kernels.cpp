// Kernels whose doings test_scheduler*.py can see.

#include <stdint.h>
#include <time.h>

#include "task.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
static int64_t thread_id() { return syscall(SYS_gettid); }
static int64_t processor() { return sched_getcpu(); }
#else
static int64_t thread_id() { return 0; }
static int64_t processor() { return 0; }
#endif

struct Arguments {
    int64_t* counts;       // one more for each block that is computed
    int64_t* threads;      // of each block
    int64_t* processors;   // of each block
    int64_t* sizes;        // of the range of each block
    int64_t* seen;         // the total when a block began
    int64_t* total;        // one more for each block of any task, after it is computed
    int64_t nanoseconds;   // that a block takes
    int64_t workspace;     // bytes to write to
};

static int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

EXPORTED void observe(const void* memory, int64_t first, int64_t last, char* workspace) {
    const Arguments* a = (const Arguments*)memory;
    for (int64_t block = first; block < last; block++) {
        a->seen[block] = __atomic_load_n(a->total, __ATOMIC_SEQ_CST);
        for (int64_t end = now() + a->nanoseconds; a->nanoseconds && now() < end;) {
        }
        // Another thread with the same workspace would overwrite the first bytes.
        bool mine = !a->workspace || (uintptr_t)workspace % 64 == 0;
        for (int64_t i = 0; i < a->workspace; i++) ((volatile char*)workspace)[i] = (char)(block + i);
        for (int64_t i = 0; i < a->workspace; i++) mine = mine && ((volatile char*)workspace)[i] == (char)(block + i);
        __atomic_add_fetch(&a->counts[block], mine ? 1 : 1000, __ATOMIC_SEQ_CST);
        a->threads[block] = thread_id();
        a->processors[block] = processor();
        a->sizes[block] = last - first;
        __atomic_add_fetch(a->total, 1, __ATOMIC_SEQ_CST);
    }
}

// Values of cells are halved: subnormal numbers come out as they are or as zeros.
EXPORTED void halve(const void* memory, int64_t first, int64_t last, char*) {
    volatile double* cells = *(double* const*)memory;
    for (int64_t block = first; block < last; block++) {
        for (int64_t end = now() + 100000; now() < end;) {
        }
        cells[block] = cells[block] / 2;
    }
}

#if defined(__SSE__)
EXPORTED uint32_t float_mode() { return __builtin_ia32_stmxcsr(); }
EXPORTED void set_float_mode(uint32_t mode) { __builtin_ia32_ldmxcsr(mode); }
#endif
