#pragma once
// A correlation of images with the filters of groups of channels: what a convolution, a transposed convolution and the
// gradients of their inputs are.

#include "task.h"
#include "vectors.h"
#include "window.h"

struct Correlation {
    Images input;
    const accumulator *weight;  // packed
    const accumulator *bias;    // packed: of every group, filled up to whole blocks of outputs
    storage *output;
    Strides output_strides;
    int64_t images, groups;
    int64_t inputs, outputs;              // channels of a group
    int64_t width;                        // outputs that are computed at a time
    int64_t output_blocks;                // ranges of the outputs of a group that are blocks of their own
    int64_t channels;                     // inputs of a group that are packed at a time
    int64_t grouped;                      // groups that are packed at a time
    int64_t together;                     // blocks along the rows that are packed at a time, at most
    int64_t phase_count;
    const Phase *phases;
};

// One block, or several that follow each other along the rows.
struct Block {
    const Phase *phase;
    Range range;
    int64_t image, group, output_block;
    int64_t count;
};

// Block `number` and those after it in the same column of blocks, up to `last`. The order of blocks: phase, image,
// groups, range of outputs, column, row.
INLINE Block block_of(const Correlation &call, int64_t number, int64_t last) {
    const Phase *phase = call.phases;
    while (phase + 1 < call.phases + call.phase_count && phase[1].first_block <= number) phase++;
    int64_t rest = number - phase->first_block;
    Block block;
    block.phase = phase;
    const int64_t row = rest % phase->blocks[0];
    rest /= phase->blocks[0];
    const int64_t column = rest % phase->blocks[1];
    rest /= phase->blocks[1];
    block.output_block = rest % call.output_blocks;
    rest /= call.output_blocks;
    const int64_t groups = ceil_div(call.groups, call.grouped);
    block.group = rest % groups * call.grouped;
    block.image = rest / groups;
    block.count = smaller(smaller(last - number, phase->blocks[0] - row), call.together);
    Range &range = block.range;
    range.row = row * phase->size[0];
    range.rows = smaller(block.count * phase->size[0], phase->length[0] - range.row);
    range.column = column * phase->size[1];
    range.columns = smaller(phase->size[1], phase->length[1] - range.column);
    return block;
}

INLINE storage *output_at(const Correlation &call, const Block &block, int64_t channel, int64_t row, int64_t column) {
    const Phase &phase = *block.phase;
    const Strides &strides = call.output_strides;
    return call.output + block.image * strides.image + channel * strides.channel +
           (phase.first[0] + (block.range.row + row) * phase.step[0]) * strides.row +
           (phase.first[1] + (block.range.column + column) * phase.step[1]) * strides.column;
}

// How many consecutive taps read adjacent pixels, `pixel` elements apart, as consecutive outputs do: 3, 5, 7, or 0 if none.
INLINE int64_t adjacent_taps(const Phase &phase, int64_t pixel) {
    for (int64_t adjacent = 7; adjacent >= 3; adjacent -= 2) {
        bool runs = phase.taps % adjacent == 0;
        for (int64_t t = 0; t < phase.taps; t++)
            runs = runs && (t % adjacent == 0 || phase.offsets[t] == phase.offsets[t - 1] + pixel);
        if (runs) return adjacent;
    }
    return 0;
}
