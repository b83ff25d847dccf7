// Runs the blocks of jobs on the calling thread and on helper threads of the library's own.
//
// A job is a list of tasks, and a task a number of blocks. All threads that take part in a call of `arrayops_run` take
// ranges of consecutive blocks from one counter until there are none, or until the caller's time is up:
//
//     caller     offers the call to idle helpers | ranges ... | takes back offers, waits for helpers at work | returns
//     helper     sleeps ........ accepts the offer | ranges ...................... | sleeps
//
// A helper reads the memory of a call between accepting its offer and leaving it alone, both under the pool's mutex, and
// the caller does not return before all have left. So nothing is computed, read or written between calls. Nobody holds
// the mutex while blocks are computed, nor while any code of a caller's runs.

#include "float_mode.h"
#include "registers.h"
#include "system.h"
#include "task.h"

// One job, as Python lays it out.
struct Job {
    const Task* tasks;
    int64_t count;
    int64_t threads;      // at most, the caller included
    int64_t workspace;    // bytes of each thread
    int64_t nanoseconds;  // estimated work of all blocks on one thread
    int64_t next;         // blocks finished between calls; zero at first
};

enum { FINISHED = 0, TIME_IS_UP = 1, OUT_OF_MEMORY = 2 };

static const int64_t MAX_HELPERS = 1023;
static const int64_t HELPER_STACK_BYTES = 512 << 10;
static const int64_t RANGE_NANOSECONDS = 2000000;  // a caller whose time is up waits this long for its helpers
static const int64_t RANGES_PER_THREAD = 4;        // of the blocks that are left: the last ranges are small
static const int64_t SPIN_NANOSECONDS = 50000;     // about what it costs to sleep and wake
static const int64_t RELAXED_SPINS = 64;           // before a spinning thread lets others have its processor
static const int64_t ALIGNMENT = 64;
static const int64_t KEPT_BUFFER_BYTES = 1 << 20;
static const int64_t KEPT_BUFFERS = 64;

// One call of arrayops_run: lies on the caller's stack.
struct Call {
    const Job* job;
    int64_t blocks;
    int64_t next;      // atomic: the first block that nobody has taken
    int64_t done;      // atomic: finished blocks
    int64_t stopped;   // atomic: no more ranges are to be taken
    int64_t active;    // atomic, changed under the mutex: helpers that have accepted and not left
    int64_t sleepers;  // atomic, changed under the mutex: threads that wait for `changed`
    Condition changed;
};

struct Helper {
    Condition offered;
    Call* call;  // the call that is offered to it or that it takes part in; null if idle
    bool accepted;
    Thread thread;
    Processors processors;  // its mask, as last set
    bool restricted;        // `processors` is set
};

struct KeptBuffer {
    char* memory;
    const Helper* owner;  // null: a caller
};

static struct {
    Mutex mutex;  // guards all of the pool
    int64_t helpers;
    Helper helper[MAX_HELPERS];
    int64_t buffers;
    KeptBuffer buffer[KEPT_BUFFERS];
} pool;

template <class T> static T load(const T* value) { return __atomic_load_n(value, __ATOMIC_SEQ_CST); }
template <class T> static T add(T* value, T amount) { return __atomic_add_fetch(value, amount, __ATOMIC_SEQ_CST); }
template <class T> static void store(T* value, T other) { __atomic_store_n(value, other, __ATOMIC_SEQ_CST); }
static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

// A forked child has none of the helpers, and none of the calls in which other threads of its parent are. The mutex may
// have been held by one of those, and the list of buffers half changed: both begin anew, and what buffers there were
// (64 MiB at most) is forgotten, not freed.
static void reset_pool() {
    initialize(&pool.mutex);
    pool.helpers = pool.buffers = 0;
}

__attribute__((constructor)) static void start_pool() {
    reset_pool();
#if !defined(_WIN32)
    pthread_atfork(0, 0, reset_pool);
#endif
}

// Memory of one thread for one call: kept buffers all have the same size, so that any serves any request up to it, and
// each thread prefers its own, which its processor's caches may still hold.
class Workspace {
    int64_t bytes;
    const Helper* owner;

  public:
    char* memory = 0;

    Workspace(int64_t bytes, const Helper* owner) : bytes(bytes), owner(owner) {
        if (bytes <= 0) return;
        if (bytes <= KEPT_BUFFER_BYTES) memory = take_kept();
        if (!memory) memory = allocate_aligned(max(bytes, KEPT_BUFFER_BYTES), ALIGNMENT);
    }

    ~Workspace() {
        if (memory && !(bytes <= KEPT_BUFFER_BYTES && keep())) free_aligned(memory);
    }

    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    bool failed() const { return bytes > 0 && !memory; }

  private:
    char* take_kept() {
        char* found = 0;
        lock(&pool.mutex);
        if (pool.buffers) {
            int64_t index = pool.buffers - 1;
            while (index > 0 && pool.buffer[index].owner != owner) index--;
            if (pool.buffer[index].owner != owner) index = pool.buffers - 1;
            found = pool.buffer[index].memory;
            pool.buffer[index] = pool.buffer[--pool.buffers];
        }
        unlock(&pool.mutex);
        return found;
    }

    bool keep() {
        lock(&pool.mutex);
        bool room = pool.buffers < KEPT_BUFFERS;
        if (room) pool.buffer[pool.buffers++] = {memory, owner};
        unlock(&pool.mutex);
        return room;
    }
};

// True as soon as `ready()` is, false if it is not within a short time.
template <class Ready> static bool spin_until(Ready ready) {
    for (int64_t spins = 0; spins < RELAXED_SPINS; spins++) {
        if (ready()) return true;
        relax_processor();
    }
    for (int64_t end = clock_nanoseconds() + SPIN_NANOSECONDS; clock_nanoseconds() < end;) {
        if (ready()) return true;
        yield_processor();
    }
    return false;
}

// Sleeps until `ready()`, under the mutex. Whoever makes it true looks at `sleepers` afterwards, and the sleeper looks at
// `ready()` after it has counted itself: in the one order of all of these atomic operations one of them sees the other.
template <class Ready> static void sleep_until(Call* call, Ready ready) {
    lock(&pool.mutex);
    add(&call->sleepers, (int64_t)1);
    while (!ready()) wait(&call->changed, &pool.mutex);
    add(&call->sleepers, (int64_t)-1);
    unlock(&pool.mutex);
}

static void wake_sleepers(Call* call) {
    if (!load(&call->sleepers)) return;
    lock(&pool.mutex);
    wake_all(&call->changed);
    unlock(&pool.mutex);
}

// A thread's place in a call's list of tasks, and the ranges that it takes there.
class Ranges {
    Call* call;
    const Task* task;
    int64_t start, end;  // blocks of the task, counted over all tasks
    int64_t gate;        // as many blocks must be done before one of this task begins
    int64_t cost;        // nanoseconds of one block: the estimate, or what was measured if that is more

  public:
    explicit Ranges(Call* call) : call(call), task(call->job->tasks), start(0), end(task->blocks), gate(0) {
        cost = estimate();
    }

    // Computes the next range; false if there is none, or if the call has been stopped.
    bool compute_next(char* workspace) {
        int64_t first, size;
        do {
            first = load(&call->next);
            if (first >= call->blocks || load(&call->stopped)) return false;
            while (first >= end) next_task();
            if (load(&call->done) < gate) {
                wait_at_gate();
                if (load(&call->stopped)) return false;
            }
            size = size_at(first);
        } while (!take(first, size));
        int64_t began = clock_nanoseconds();
        task->function(task->arguments, first - start, first - start + size, workspace);
        cost = max(cost, (clock_nanoseconds() - began) / size);
        // All that have been taken are done: the only thing that a thread at a gate may wait for.
        if (add(&call->done, size) == load(&call->next)) wake_sleepers(call);
        return true;
    }

  private:
    int64_t estimate() const { return max(1, call->job->nanoseconds / max(1, call->blocks)); }

    void next_task() {
        task++;
        start = end;
        end += task->blocks;
        if (task->barrier) gate = start;
        cost = estimate();
    }

    int64_t size_at(int64_t first) const {
        int64_t share = (end - first) / (RANGES_PER_THREAD * call->job->threads);
        return max(1, min(min(share, task->most), RANGE_NANOSECONDS / cost));
    }

    bool take(int64_t first, int64_t size) {
        return __atomic_compare_exchange_n(&call->next, &first, first + size, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }

    // Takes no range before: a thread that waits holds nothing that others wait for.
    void wait_at_gate() {
        auto open = [this] { return load(&call->done) >= gate || load(&call->stopped); };
        if (!spin_until(open)) sleep_until(call, open);
    }
};

static void help(Call* call, const Helper* self) {
    Workspace workspace(call->job->workspace, self);
    if (workspace.failed()) return;  // the others do without this thread
    DefaultFloatMode mode;
    Ranges ranges(call);
    while (ranges.compute_next(workspace.memory)) {
    }
}

static void helper_main(void* argument) {
    Helper* self = (Helper*)argument;
    lock(&pool.mutex);
    for (;;) {
        while (!self->call) wait(&self->offered, &pool.mutex);
        Call* call = self->call;
        self->accepted = true;
        add(&call->active, (int64_t)1);
        unlock(&pool.mutex);
        help(call, self);
        lock(&pool.mutex);
        self->call = 0;
        self->accepted = false;
        // The call's memory is the caller's again as soon as the mutex is free.
        if (!add(&call->active, (int64_t)-1) && load(&call->sleepers)) wake_all(&call->changed);
    }
}

// Adds a helper to the pool, under the mutex. False if the system gives no more threads.
static bool start_helper() {
    Helper* helper = &pool.helper[pool.helpers];
    initialize(&helper->offered);
    helper->call = 0;
    helper->accepted = helper->restricted = false;
    int number = (int)pool.helpers + 1;
    if (!start_thread(&helper->thread, HELPER_STACK_BYTES, number, helper_main, helper)) return false;
    pool.helpers++;
    return true;
}

// Linux wakes a thread on the processor of the thread that wakes it, and moves it away with the next tick (4 ms) only.
// So helpers are told to stay off the caller's processor before they are woken.
static void keep_off_the_callers_processor(Helper* helper, const Processors* others) {
    if (helper->restricted && same_processors(&helper->processors, others)) return;
    helper->restricted = restrict_thread(helper->thread, others);
    helper->processors = *others;
}

// Offers the call to up to `wanted` idle helpers, and starts new ones while the pool has fewer than the job may use.
static void offer(Call* call, int64_t wanted) {
    Processors others;
    bool known = other_processors(&others);
    int16_t asked[MAX_HELPERS];
    int64_t count = 0;
    lock(&pool.mutex);
    int64_t limit = min(MAX_HELPERS, max(pool.helpers, call->job->threads - 1));
    for (int64_t i = 0; i < limit && count < wanted; i++) {
        if (i == pool.helpers && !start_helper()) break;
        Helper* helper = &pool.helper[i];
        if (helper->call) continue;
        if (known) keep_off_the_callers_processor(helper, &others);
        helper->call = call;
        asked[count++] = (int16_t)i;
    }
    unlock(&pool.mutex);
    // Woken without the mutex, which is the first thing that they want.
    for (int64_t i = 0; i < count; i++) wake_one(&pool.helper[asked[i]].offered);
}

// Returns when no helper will touch the call again.
static void stop(Call* call) {
    store(&call->stopped, (int64_t)1);
    lock(&pool.mutex);
    for (int64_t i = 0; i < pool.helpers; i++)
        if (pool.helper[i].call == call && !pool.helper[i].accepted) pool.helper[i].call = 0;
    unlock(&pool.mutex);
    wake_sleepers(call);
    auto alone = [call] { return load(&call->active) == 0; };
    spin_until(alone);
    sleep_until(call, alone);  // also when it is alone: the helper that left last may still hold the mutex
}

// Computes blocks of a job until all are finished (0), or until `nanoseconds` have passed (1): another call goes on, or the
// job is dropped. 2: no memory for the workspace of the calling thread.
EXPORTED int32_t arrayops_run(Job* job, int64_t nanoseconds) {
    int64_t end = clock_nanoseconds() + nanoseconds;
    Call call = {};
    call.job = job;
    call.next = call.done = job->next;
    for (int64_t i = 0; i < job->count; i++) call.blocks += job->tasks[i].blocks;
    if (call.next >= call.blocks) return FINISHED;
    Workspace workspace(job->workspace, 0);
    if (workspace.failed()) return OUT_OF_MEMORY;
    int64_t wanted = min(job->threads, call.blocks - call.next) - 1;
    if (wanted > 0) {
        initialize(&call.changed);
        offer(&call, wanted);
    }
    {
        DefaultFloatMode mode;
        Ranges ranges(&call);
        while (ranges.compute_next(workspace.memory) && clock_nanoseconds() < end) {
        }
    }
    if (wanted > 0) {
        stop(&call);
        destroy(&call.changed);
    }
    job->next = call.next;
    return call.next < call.blocks ? TIME_IS_UP : FINISHED;
}

// Bytes of the vectors of kernels, which are compiled as this is: what plans of their blocks need.
EXPORTED int32_t arrayops_vector_bytes() { return VECTOR_BYTES; }
