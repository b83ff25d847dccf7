// Threads, locks, clock, aligned memory and processors, on POSIX systems and on Windows.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)

#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <malloc.h>

typedef SRWLOCK Mutex;
typedef CONDITION_VARIABLE Condition;
typedef HANDLE Thread;

static inline void initialize(Mutex* mutex) { InitializeSRWLock(mutex); }
static inline void lock(Mutex* mutex) { AcquireSRWLockExclusive(mutex); }
static inline void unlock(Mutex* mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void initialize(Condition* condition) { InitializeConditionVariable(condition); }
static inline void destroy(Condition*) {}
static inline void wait(Condition* condition, Mutex* mutex) { SleepConditionVariableSRW(condition, mutex, INFINITE, 0); }
static inline void wake_one(Condition* condition) { WakeConditionVariable(condition); }
static inline void wake_all(Condition* condition) { WakeAllConditionVariable(condition); }
static inline void yield_processor() { SwitchToThread(); }

static inline int64_t clock_nanoseconds() {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    int64_t second = frequency.QuadPart;
    return ticks.QuadPart / second * 1000000000 + ticks.QuadPart % second * 1000000000 / second;
}

static inline char* allocate_aligned(int64_t bytes, int64_t alignment) {
    return (char*)_aligned_malloc((size_t)bytes, (size_t)alignment);
}
static inline void free_aligned(char* memory) { _aligned_free(memory); }

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
typedef pthread_t Thread;

static inline void initialize(Mutex* mutex) { pthread_mutex_init(mutex, 0); }
static inline void lock(Mutex* mutex) { pthread_mutex_lock(mutex); }
static inline void unlock(Mutex* mutex) { pthread_mutex_unlock(mutex); }
static inline void initialize(Condition* condition) { pthread_cond_init(condition, 0); }
static inline void destroy(Condition* condition) { pthread_cond_destroy(condition); }
static inline void wait(Condition* condition, Mutex* mutex) { pthread_cond_wait(condition, mutex); }
static inline void wake_one(Condition* condition) { pthread_cond_signal(condition); }
static inline void wake_all(Condition* condition) { pthread_cond_broadcast(condition); }
static inline void yield_processor() { sched_yield(); }

static inline int64_t clock_nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline char* allocate_aligned(int64_t bytes, int64_t alignment) {
    void* memory;
    return posix_memalign(&memory, (size_t)alignment, (size_t)bytes) == 0 ? (char*)memory : 0;
}
static inline void free_aligned(char* memory) { free(memory); }

#endif

// For loops that wait for another processor.
static inline void relax_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// What a new thread is given; it frees it.
struct ThreadStart {
    void (*main)(void*);
    void* argument;
    char name[16];
};

#if defined(_WIN32)

static DWORD WINAPI thread_entry(void* memory) {
    ThreadStart start = *(ThreadStart*)memory;
    free(memory);
    start.main(start.argument);
    return 0;
}

static inline bool create_thread(Thread* thread, int64_t stack_bytes, ThreadStart* start) {
    *thread = CreateThread(0, (size_t)stack_bytes, thread_entry, start, STACK_SIZE_PARAM_IS_A_RESERVATION, 0);
    return *thread != 0;
}

#else

static void* thread_entry(void* memory) {
    ThreadStart start = *(ThreadStart*)memory;
    free(memory);
#if defined(__APPLE__)
    pthread_setname_np(start.name);  // a thread names itself there
#endif
    start.main(start.argument);
    return 0;
}

static inline bool create_thread(Thread* thread, int64_t stack_bytes, ThreadStart* start) {
#if defined(__linux__)
    char name[sizeof(start->name)];
    memcpy(name, start->name, sizeof(name));
#endif
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, (size_t)stack_bytes);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the new thread
    bool created = pthread_create(thread, &attributes, thread_entry, start) == 0;
    pthread_sigmask(SIG_SETMASK, &before, 0);
    pthread_attr_destroy(&attributes);
#if defined(__linux__)
    if (created) pthread_setname_np(*thread, name);
#endif
    return created;
}

#endif

// Starts a thread that runs for the life of the process and blocks all signals: handlers run on threads of the process's
// own. Debuggers and profilers show it as "arrayops-number".
static inline bool start_thread(Thread* thread, int64_t stack_bytes, int number, void (*main)(void*), void* argument) {
    ThreadStart* start = (ThreadStart*)malloc(sizeof(ThreadStart));
    if (!start) return false;
    start->main = main;
    start->argument = argument;
    snprintf(start->name, sizeof(start->name), "arrayops-%hd", (short)number);
    bool created = create_thread(thread, stack_bytes, start);
    if (!created) free(start);
    return created;
}

#if defined(__linux__)

typedef cpu_set_t Processors;

// Processors of the calling thread's mask except the one it runs on, or all of the mask if there is no other. False if
// they are not known, as on machines with more than CPU_SETSIZE (1024) of them.
static inline bool other_processors(Processors* processors) {
    if (sched_getaffinity(0, sizeof(cpu_set_t), processors) != 0) return false;
    int mine = sched_getcpu();
    if (mine >= 0 && mine < CPU_SETSIZE && CPU_COUNT(processors) > 1) CPU_CLR(mine, processors);
    return true;
}

static inline bool same_processors(const Processors* one, const Processors* other) { return CPU_EQUAL(one, other); }

static inline bool restrict_thread(Thread thread, const Processors* processors) {
    return pthread_setaffinity_np(thread, sizeof(cpu_set_t), processors) == 0;
}

#else

// Other systems have no masks, or place threads well without.
struct Processors {};
static inline bool other_processors(Processors*) { return false; }
static inline bool same_processors(const Processors*, const Processors*) { return true; }
static inline bool restrict_thread(Thread, const Processors*) { return true; }

#endif
