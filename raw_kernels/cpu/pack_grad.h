#pragma once
// Packing of the gradients of a part into pixels, whose channels are adjacent.

#include "weight_gradient.h"

// Pixels of a part with outputs from `channel` on side by side, `width` of them, zeros after the last output.
INLINE void pack_grad_pixels(accumulator *packed, int64_t width, const WeightGradient &call, const Part &part, int64_t channel, int64_t outputs) {
    const Strides &strides = call.grad_strides;
    const storage *source = grad_at(call, part, channel);
    // Rows that follow each other are one.
    const bool flat = strides.row == part.range.columns * strides.column;
    const int64_t rows = flat ? 1 : part.range.rows, columns = flat ? part.range.rows * part.range.columns : part.range.columns;
    for (int64_t r = 0; r < rows; r++, source += strides.row) {
        accumulator *target = packed + r * columns * width;
        int64_t done = 0;
        if (strides.channel != 1 && strides.column == 1)
            // Squares of planes are transposed.
            for (; done + LANES <= columns; done += LANES)
                for (int64_t o = 0; o < outputs; o += LANES) {
                    vector square[LANES];
                    UNROLL for (int row = 0; row < LANES; row++) square[row] = o + row < outputs ? load_widened(source + (o + row) * strides.channel + done) : vector{};
                    transpose(square);
                    UNROLL for (int row = 0; row < LANES; row++) store(target + (done + row) * width + o, square[row]);
                }
        for (int64_t x = done; x < columns; x++) {
            const storage *pixel = source + x * strides.column;
            if (strides.channel == 1)
                widen_row(target + x * width, pixel, outputs);
            else
                for (int64_t o = 0; o < outputs; o++) target[x * width + o] = widen(pixel[o * strides.channel]);
            clear(target + x * width + outputs, width - outputs);
        }
    }
}
