#pragma once
// Packing into planes of channels, whose rows follow each other: for kernels whose vectors are pixels.

#include "vectors.h"
#include "window.h"

template <class T> INLINE void widen_row(accumulator *RESTRICT target, const T *source, int64_t stride, int64_t count) {
    if (stride == 1)
        widen_row(target, source, count);
    else
        for (int64_t i = 0; i < count; i++) target[i] = widen(source[i * stride]);
}

// Pixels far apart are not foreseen by the processor, and a square waits for all of its pixels.
template <class T> INLINE void prefetch_pixels(const T *source, int64_t stride, int64_t count, int64_t channels) {
    enum { LINE = 64 / (int)sizeof(T) };
    if (stride == channels) channels *= count, count = 1;
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c += LINE) __builtin_prefetch(source + i * stride + c);
}

// A row of several channels: `step` elements to the next sample in the source, `channel` to the next channel, in planes
// `distance` apart.
template <class T>
NOINLINE void widen_rows(accumulator *target, int64_t distance, const T *source, int64_t step, int64_t channel, int64_t count, int64_t channels) {
    if (channel == 1 && 2 * channels > LANES && step != 1)
        transpose_squares(
            count, channels, [&](int64_t i, int64_t c, int64_t some) { return load_first(source + i * step + c, some); },
            [&](int64_t c, int64_t i, vector values, int64_t some) { store_first(target + c * distance + i, values, some); });
    else if (few_adjacent(channels, channel, step, count))
        for_equal_parts<FEW_CHANNELS>(channels, [&](auto all, int64_t) { split_pixels<decltype(all)::value>(target, distance, source, count); });
    else
        for (int64_t c = 0; c < channels; c++) widen_row(target + c * distance, source + c * channel, step, count);
}

// Rows of adjacent samples. Their ends are whole vectors; what exceeds a row is overwritten by the next ones. Samples `next`
// elements away, which are packed soon, are prefetched: rows are too short for the processor to foresee them.
template <class T> INLINE void pack_adjacent(accumulator *target, const PackedRows &rows, const T *source, int64_t next) {
    const int64_t pitch = rows.pitch;
    clear(target, rows.top * pitch);
    for (int64_t r = rows.top; r < rows.bottom; r++) {
        accumulator *const row = target + r * pitch;
        const T *const samples = source + r * rows.row;
        auto end = [&](int64_t x) {
            const vector values = masked(load_widened(samples + x), rows.first - x, rows.last - x);
            store_first(row + x, values, smaller((rows.rows - r) * pitch - x, LANES));
        };
        for (int64_t i = 0; i < pitch; i += 64 / (int)sizeof(T)) __builtin_prefetch(samples + next + i);
        int64_t x = 0;
        for (; x < rows.first; x += LANES) end(x);
        const int64_t whole = rows.last / LANES * LANES;
        if (x < whole) widen_row(row + x, samples + x, whole - x), x = whole;
        for (; x < pitch; x += LANES) end(x);
    }
    clear(target + rows.bottom * pitch, (rows.rows - rows.bottom) * pitch);
}

// `channels` channels of an image, `distance` apart, as a block of outputs reads them.
template <class T>
NOINLINE void pack_planes(accumulator *packed, int64_t distance, const Phase &phase, const Range &range, const Images &images,
                          int64_t image, int64_t channel, int64_t channels) {
    const T *const data = (const T *)images.data;
    const int64_t step = images.strides.channel;
    for_packed_rows(phase, range, images, [&](const PackedRows &rows) {
        const int64_t start = image_at(images, image, channel) + rows.source;
        // The rows of `count` channels from `c` on, one by one.
        auto pack = [&](int64_t c, int64_t count) {
            for_rows(rows, [&](int64_t r, int64_t first, int64_t last) {
                accumulator *target = packed + c * distance + rows.position + r * rows.pitch;
                for (int64_t k = 0; k < count; k++) {
                    clear(target + k * distance, first);
                    clear(target + k * distance + last, rows.pitch - last);
                }
                if (first == last) return;
                const T *source = data + start + c * step + r * rows.row + first * rows.column;
                if (step == 1) prefetch_pixels(source + rows.row, rows.column, last - first, count);
                widen_rows(target + first, distance, source, rows.column, step, last - first, count);
            });
        };
        if (rows.column != 1 || step == 1) return pack(0, channels);
        // Vectors may exceed rows, but not the array.
        const int64_t top = rows.top * rows.row, bottom = (rows.bottom - 1) * rows.row;
        const int64_t lowest = start + smaller(top, bottom), highest = start + larger(top, bottom) + rounded_up(rows.pitch, LANES);
        for (int64_t c = 0; c < channels; c++)
            if (lowest + c * step >= images.begin && highest + c * step <= images.end)
                pack_adjacent(packed + c * distance + rows.position, rows, data + start + c * step, 2 * step);
            else
                pack(c, 1);
    });
}
