// The scheduler alone, for sanitizers: callers at once, barriers, pauses, dropped jobs, workspaces of all sizes, and
// children, amid the calls of other threads (with FORK_AMID_CALLS) or after them (FORK_AFTER_CALLS). Prints what went wrong,
// and returns 1 then.

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scheduler.cpp"

static const int64_t BLOCKS = 120, CALLERS = 4;
static int64_t failures = 0;

// Written and read without atomic operations: a sanitizer sees blocks that are not ordered as they must be.
struct Cells {
    const int64_t* before;  // the cells of the phase before, all of which are read
    int64_t cells[BLOCKS];
    int64_t workspace;
};

static void write_cells(const void* memory, int64_t first, int64_t last, char* workspace) {
    Cells* cells = (Cells*)memory;
    char* end = workspace ? workspace + cells->workspace - 1 : 0;
    if (workspace) *workspace = *end = (char)first;
    for (int64_t block = first; block < last; block++) {
        int64_t sum = 1;
        if (cells->before)
            for (int64_t i = 0; i < BLOCKS; i++) sum += cells->before[i];
        cells->cells[block] += sum;
    }
    if (workspace && (*workspace != (char)first || *end != (char)first)) __atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
}

static void run_jobs(int64_t caller, int64_t repetitions) {
    static const int64_t sizes[] = {0, 1, 1000, 1 << 20, 2 << 20};
    for (int64_t repetition = 0; repetition < repetitions; repetition++) {
        int64_t workspace = sizes[(repetition + caller) % 5];
        Cells cells[3] = {};
        Task tasks[3];
        for (int64_t i = 0; i < 3; i++) {
            cells[i].before = i ? cells[i - 1].cells : 0;
            cells[i].workspace = workspace;
            tasks[i] = {write_cells, &cells[i], BLOCKS, 1 + repetition % 7, i > 0};
        }
        Job job = {tasks, 3, 1 + (repetition + caller) % 6, workspace, 1000000, 0};
        bool pauses = repetition % 3 == 0, dropped = repetition % 11 == 0;
        int64_t calls = 0;
        int32_t state;
        while ((state = arrayops_run(&job, pauses ? 0 : 1000000000)) == TIME_IS_UP && !(dropped && ++calls == 5)) {
        }
        if (dropped) continue;  // the cells are gone: a helper that still writes to them is seen
        int64_t expected = 1;
        for (int64_t i = 0; i < 3; i++, expected = 1 + BLOCKS * expected)
            for (int64_t block = 0; block < BLOCKS; block++)
                if (cells[i].cells[block] != expected || state != FINISHED) __atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
    }
}

static void* caller_main(void* number) {
    run_jobs((int64_t)(intptr_t)number, 150);
    return 0;
}

#if defined(FORK_AMID_CALLS) || defined(FORK_AFTER_CALLS)
static void run_children() {
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            run_jobs(i, 5);
            _exit(failures != 0);
        }
        int status;
        if (waitpid(child, &status, 0) != child || status != 0) __atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
    }
}
#endif

int main() {
    pthread_t callers[CALLERS];
    for (int64_t i = 0; i < CALLERS; i++) pthread_create(&callers[i], 0, caller_main, (void*)(intptr_t)i);
    run_jobs(CALLERS, 150);
#if defined(FORK_AMID_CALLS)
    run_children();
#endif
    for (pthread_t caller : callers) pthread_join(caller, 0);
#if defined(FORK_AFTER_CALLS)
    run_children();
#endif
    Job impossible = {};
    Cells cells = {};
    Task task = {write_cells, &cells, BLOCKS, 1, 0};
    impossible.tasks = &task;
    impossible.count = 1;
    impossible.threads = 3;
    impossible.workspace = (int64_t)1 << 60;
    if (arrayops_run(&impossible, 0) != OUT_OF_MEMORY) failures++;
    if (pool.helpers > 5) failures++;
    printf("%lld failures\n", (long long)failures);
    return failures != 0;
}
