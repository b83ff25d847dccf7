// What kernels share with the scheduler.
#pragma once

#include <stdint.h>

#include "export.h"

// Computes blocks first .. last - 1. The workspace is the thread's own: aligned to 64 bytes, of undefined contents, null
// if the job asks for none. Results do not depend on how blocks are grouped into ranges, nor on the thread.
typedef void (*BlockFunction)(const void* arguments, int64_t first, int64_t last, char* workspace);

struct Task {
    BlockFunction function;
    const void* arguments;
    int64_t blocks;
    int64_t most;     // blocks of one range at most; larger ranges let a function reuse what it packed
    int64_t barrier;  // this task and those after it start when all blocks before it are finished
};
