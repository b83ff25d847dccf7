#pragma once
// Storing of planes of results in images.

#include "vectors.h"

// A row of `columns` results of `count` channels, in planes `pitch` apart: stored `step` elements apart, in channels `channel`
// apart. The rows of the planes may be read a vector beyond their end.
template <class T>
NOINLINE void store_row(T *target, int64_t channel, int64_t step, int64_t count, int64_t columns, const accumulator *source, int64_t pitch) {
    if (channel == 1 && 2 * count > LANES)
        // Pixels whose channels are adjacent.
        return transpose_squares(
            count, columns, [&](int64_t c, int64_t x, int64_t) { return load(source + c * pitch + x); },
            [&](int64_t x, int64_t c, vector values, int64_t some) { store_first(target + x * step + c, values, some); });
    if (few_adjacent(count, channel, step, columns))
        return for_equal_parts<FEW_CHANNELS>(count, [&](auto all, int64_t) { join_planes<decltype(all)::value>(target, source, pitch, columns); });
    for (int64_t c = 0; c < count; c++, target += channel, source += pitch)
        if (step == 1)
            narrow_row(target, source, columns);
        else
            for (int64_t x = 0; x < columns; x++) narrow(target[x * step], source[x]);
}
