#pragma once
// Gradients of the weights of a correlation: sums of products of samples and gradients over all windows,
//
//     dW[group][tap][input][output] = sum over images and outputs' positions of x[input, position at the tap] * g[output, position].
//
// The windows are split among blocks by shapes alone. Each block adds its products in registers over a few hundred
// positions at a time, those sums in the dtype of the accumulator, and stores them; then sums of all blocks are added in
// float64, in order.

#include "task.h"
#include "vectors.h"
#include "window.h"

struct WeightGradient {
    Images input;
    const storage *grad;
    accumulator *partial;                   // of every split: groups, taps, inputs, outputs
    storage *result;
    Strides grad_strides;
    int64_t strides[5];                     // of the result: group, row and column of taps, input, output
    int64_t images, groups, inputs, outputs;
    int64_t grouped;                        // groups of a block, in the algorithms for narrow groups
    int64_t splits;                         // of the windows
    int64_t input_blocks, output_blocks;    // ranges of channels of a group that are blocks of their own
    int64_t taps;
    const int64_t *tap_numbers;             // row and column of each tap
    int64_t panel;                          // inputs that are packed side by side, in the wide algorithm
    int64_t runs;                           // of samples that taps and inputs read, in the algorithms of runs
    const int64_t *run_list;                // of each: offset in the packed samples, number of the first tap and input, length
    const Phase *phase;
};

// A part of the windows of a split: some rows and columns of one image.
struct Part {
    int64_t image;
    Range range;
};

// Calls `body` for every part of a split.
template <class Body> INLINE void for_parts(const WeightGradient &call, int64_t split, Body body) {
    const Phase &phase = *call.phase;
    const int64_t parts = call.images * phase.blocks[0] * phase.blocks[1];
    for (int64_t number = parts * split / call.splits; number < parts * (split + 1) / call.splits; number++) {
        const int64_t row = number % phase.blocks[0], column = number / phase.blocks[0] % phase.blocks[1];
        Part part;
        part.image = number / phase.blocks[0] / phase.blocks[1];
        part.range.row = row * phase.size[0];
        part.range.rows = smaller(phase.size[0], phase.length[0] - part.range.row);
        part.range.column = column * phase.size[1];
        part.range.columns = smaller(phase.size[1], phase.length[1] - part.range.column);
        body(part);
    }
}

// Outputs that the algorithms for narrow groups compute at a time: 4, 2 or 1.
INLINE int64_t outputs_together(const WeightGradient &call) { return call.outputs >= 3 ? 4 : call.outputs; }

INLINE const storage *grad_at(const WeightGradient &call, const Part &part, int64_t channel) {
    const Strides &strides = call.grad_strides;
    return call.grad + part.image * strides.image + channel * strides.channel + part.range.row * strides.row + part.range.column * strides.column;
}
