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

// `channels` channels of an image as a block of outputs reads them, with pixels `distance` apart.
NOINLINE void pack_pixels(accumulator *packed, int64_t distance, const Phase &phase, const Range &range,
                          const int64_t (&size)[2], const int64_t (&stride)[2], const storage *image,
                          const Strides &strides, int64_t channels) {
    for_packed_rows(phase, range, size, stride, [&](int64_t row, int64_t plane, int64_t first, int64_t last, int64_t y, int64_t x) {
        accumulator *target = packed + (plane * phase.plane + row * phase.pitch) * distance;
        const storage *source = image + y * strides.row + x * strides.column;
        const int64_t step = stride[1] * strides.column;
        clear(target, first * distance);
        clear(target + last * distance, (phase.pitch - last) * distance);
        if (strides.channel == 1 && step == channels && distance == channels)
            widen_row(target + first * channels, source + first * channels, (last - first) * channels);
        else if (distance == channels && channels == 4)
            widen_pixels<4>(target + first * 4, source + first * step, step, strides.channel, last - first);
        else if (distance == channels && channels == 8)
            widen_pixels<8>(target + first * 8, source + first * step, step, strides.channel, last - first);
        else
            for (int64_t i = first; i < last; i++) {
                accumulator *RESTRICT pixel = target + i * distance;
                const storage *values = source + i * step;
                if (strides.channel == 1)
                    widen_row(pixel, values, channels);
                else
                    for (int64_t c = 0; c < channels; c++) pixel[c] = widen(values[c * strides.channel]);
                clear(pixel + channels, distance - channels);
            }
    });
}
