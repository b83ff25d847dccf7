#pragma once
// Packing of the gradients of a part into pixels, whose channels are adjacent.

#include "pack_pixels.h"
#include "weight_gradient.h"

// Pixels of a part with outputs from `channel` on side by side, `width` of them, zeros after the last output.
INLINE void pack_grad_pixels(accumulator *packed, int64_t width, const WeightGradient &call, const Part &part, int64_t channel, int64_t outputs) {
    const Strides &strides = call.grad_strides;
    const storage *source = grad_at(call, part, channel);
    // Rows that follow each other are one.
    const bool flat = strides.row == part.range.columns * strides.column;
    const int64_t rows = flat ? 1 : part.range.rows, columns = flat ? part.range.rows * part.range.columns : part.range.columns;
    for (int64_t r = 0; r < rows; r++, source += strides.row)
        gather_pixels(packed + r * columns * width, width, source, strides.column, strides.channel, columns, outputs, false);
}
