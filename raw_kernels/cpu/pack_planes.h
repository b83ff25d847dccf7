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

// Rows of channels `channel` apart in `target`, from pixels whose channels are adjacent: squares are transposed.
NOINLINE void widen_transposed(accumulator *target, int64_t channel, const storage *source, int64_t stride, int64_t count, int64_t channels) {
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t high = smaller(LANES, channels - c);
        for (int64_t i = 0; i < count; i += LANES) {
            const int64_t wide = smaller(LANES, count - i);
            if (high == LANES && wide == LANES) {
                vector square[LANES];
                UNROLL for (int row = 0; row < LANES; row++) square[row] = load_widened(source + (i + row) * stride + c);
                transpose(square);
                UNROLL for (int row = 0; row < LANES; row++) store(target + (c + row) * channel + i, square[row]);
            } else
                for (int64_t row = 0; row < high; row++)
                    for (int64_t k = 0; k < wide; k++)
                        target[(c + row) * channel + i + k] = widen(source[(i + k) * stride + c + row]);
        }
    }
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
        widen_rows(target + first, distance, source, step, strides.channel, last - first, channels);
    });
}
