#pragma once
// Packing into pixels, whose channels are adjacent: for kernels whose vectors are channels.

#include "vectors.h"
#include "window.h"

// Pixels of COUNT channels: of a number that the compiler knows.
template <int COUNT>
INLINE void widen_pixels(accumulator *RESTRICT target, const storage *source, int64_t step, int64_t channel, int64_t count) {
    if (channel == 1)
        for (int64_t i = 0; i < count; i++)
            for (int c = 0; c < COUNT; c++) target[i * COUNT + c] = widen(source[i * step + c]);
    else
        for (int64_t i = 0; i < count; i++)
            for (int c = 0; c < COUNT; c++) target[i * COUNT + c] = widen(source[i * step + c * channel]);
}

// Pixels `distance` apart from planes of channels. Vectors may exceed rows if there are `readable` values behind them. The
// channels after these, which are often packed next, are prefetched.
NOINLINE void widen_planes(accumulator *target, int64_t distance, const storage *source, int64_t channel, int64_t count, int64_t channels, bool readable) {
    transpose_squares(
        channels, count,
        [&](int64_t c, int64_t i, int64_t some) {
            const storage *values = source + c * channel + i;
            __builtin_prefetch(values + channels * channel);
            return load_first(values, readable ? (int64_t)LANES : some);
        },
        [&](int64_t i, int64_t c, vector values, int64_t some) { store_first(target + i * distance + c, values, some); });
}

// `count` pixels, `distance` apart, of channels side by side: from pixels `step` apart whose channels are `channel` apart.
NOINLINE void gather_pixels(accumulator *target, int64_t distance, const storage *source, int64_t step, int64_t channel, int64_t count, int64_t channels, bool readable) {
    if (channel == 1 && step == channels && distance == channels)
        widen_row(target, source, count * channels);
    else if (distance == channels && channels == 4)
        widen_pixels<4>(target, source, step, channel, count);
    else if (distance == channels && channels == 8)
        widen_pixels<8>(target, source, step, channel, count);
    else if (channel == 1)
        for (int64_t i = 0; i < count; i++) widen_row(target + i * distance, source + i * step, channels);
    else if (step == 1 && 2 * channels > LANES)
        widen_planes(target, distance, source, channel, count, channels, readable);
    else
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < count; i++) target[i * distance + c] = widen(source[i * step + c * channel]);
    if (distance > channels)
        for (int64_t i = 0; i < count; i++) clear(target + i * distance + channels, distance - channels);
}

// `channels` channels of an image as a block of outputs reads them, with pixels `distance` apart.
NOINLINE void pack_pixels(accumulator *packed, int64_t distance, const Phase &phase, const Range &range, const Images &images,
                          int64_t image, int64_t channel, int64_t channels) {
    const int64_t step = images.strides.channel;
    for_packed_rows(phase, range, images, [&](const PackedRows &rows) {
        for_rows(rows, [&](int64_t r, int64_t first, int64_t last) {
            accumulator *target = packed + (rows.position + r * rows.pitch) * distance;
            clear(target, first * distance);
            clear(target + last * distance, (rows.pitch - last) * distance);
            if (first == last) return;
            const int64_t source = image_at(images, image, channel) + rows.source + r * rows.row + first * rows.column;
            gather_pixels(target + first * distance, distance, (const storage *)images.data + source, rows.column, step, last - first, channels,
                          step > 0 && source + (channels - 1) * step + LANES <= images.end);
        });
    });
}
