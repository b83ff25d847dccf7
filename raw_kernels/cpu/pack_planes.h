#pragma once
// Packing into planes of channels, whose rows follow each other: for kernels whose vectors are pixels.

#include "vectors.h"
#include "window.h"

INLINE void widen_row(accumulator *RESTRICT target, const storage *source, int64_t stride, int64_t count) {
    if (stride == 1)
        widen_row(target, source, count);
    else
        for (int64_t i = 0; i < count; i++) target[i] = widen(source[i * stride]);
}

// Rows of channels `channel` apart in `target`, from pixels whose channels are adjacent: squares are transposed. The last
// square of a row ends with it and overlaps the one before; of a shorter row, the last pixel is repeated.
NOINLINE void widen_transposed(accumulator *target, int64_t channel, const storage *source, int64_t stride, int64_t count, int64_t channels) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        for (int64_t i = 0; i < count; i += LANES) {
            const int64_t wide = smaller(LANES, count), from = smaller(i, count - wide);
            const storage *pixels = source + from * stride + c;
            accumulator *rows = target + c * channel + from;
            vector square[LANES];
            if (wide == LANES) {
                UNROLL for (int k = 0; k < LANES; k++) square[k] = load_widened(pixels + k * stride);
                transpose(square);
                UNROLL for (int k = 0; k < LANES; k++) store(rows + k * channel, square[k]);
            } else {
                UNROLL for (int k = 0; k < LANES; k++) square[k] = load_widened(pixels + smaller(k, wide - 1) * stride);
                transpose(square);
                UNROLL for (int k = 0; k < LANES; k++) store_first(rows + k * channel, square[k], wide);
            }
        }
    for (; c < channels; c++)
        for (int64_t i = 0; i < count; i++) target[c * channel + i] = widen(source[i * stride + c]);
}

// Pixels far apart are not foreseen by the processor, and a square waits for all of its pixels.
INLINE void prefetch_pixels(const storage *source, int64_t stride, int64_t count, int64_t channels) {
    enum { LINE = 64 / (int)sizeof(storage) };
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c += LINE) __builtin_prefetch(source + i * stride + c);
}

// A row of several channels: `step` elements to the next sample in the source, `channel` to the next channel, in planes
// `distance` apart.
INLINE void widen_rows(accumulator *target, int64_t distance, const storage *source, int64_t step, int64_t channel, int64_t count, int64_t channels) {
    if (channel == 1 && channels > 1 && step != 1)
        widen_transposed(target, distance, source, step, count, channels);
    else
        for (int64_t c = 0; c < channels; c++) widen_row(target + c * distance, source + c * channel, step, count);
}

// `channels` channels of an image, `distance` apart, as a block of outputs reads them.
NOINLINE void pack_planes(accumulator *packed, int64_t distance, const Phase &phase, const Range &range,
                          const int64_t (&size)[2], const int64_t (&stride)[2], const storage *image,
                          const Strides &strides, int64_t channels) {
    for_packed_rows(phase, range, size, stride, [&](int64_t row, int64_t plane, int64_t first, int64_t last, int64_t y, int64_t x) {
        accumulator *target = packed + plane * phase.plane + row * phase.pitch;
        const storage *source = image + y * strides.row + (x + first * stride[1]) * strides.column;
        const int64_t step = stride[1] * strides.column;
        for (int64_t c = 0; c < channels; c++) {
            accumulator *t = target + c * distance;
            clear(t, first);
            clear(t + last, phase.pitch - last);
        }
        if (strides.channel == 1) prefetch_pixels(source + stride[0] * strides.row, step, last - first, channels);
        widen_rows(target + first, distance, source, step, strides.channel, last - first, channels);
    });
}
