// Rounds gradients that were added in the dtype of sums.

#include "task.h"
#include "vectors.h"

struct Rounding {
    const accumulator *values;
    storage *result;
    int64_t count;
};

enum { ROUNDED_AT_ONCE = 1 << 14 };

EXPORTED int64_t rounded_at_once() { return ROUNDED_AT_ONCE; }

EXPORTED void round_values(const void *arguments, int64_t first, int64_t last, char *) {
    const Rounding &call = *(const Rounding *)arguments;
    const int64_t from = first * ROUNDED_AT_ONCE, to = smaller(last * ROUNDED_AT_ONCE, call.count);
    narrow_row(call.result + from, call.values + from, to - from);
}
