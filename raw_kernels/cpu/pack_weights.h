#pragma once
// Packing of weights: for each phase, group and block of outputs, the weights of all taps and inputs in the order in
// which a kernel reads them, `width` outputs side by side; outputs that fill up the last block have zeros.

#include "task.h"
#include "vectors.h"

struct PackWeights {
    const storage *weight;
    const storage *bias;  // may be null
    accumulator *packed, *packed_bias;
    int64_t bias_stride;
    int64_t strides[5];   // of group, row and column of taps, input, output
    int64_t groups, inputs, outputs;
    int64_t width, blocks;    // outputs of a block, blocks of a group
    int64_t taps_first;   // whether the taps are the outer loop, else the inputs
    int64_t phase_count;
    const int64_t *phases;  // for each phase: taps, offset of the packed weights
    const int64_t *taps;    // of all phases: row and column
};

// A block is a block of outputs of one group.
EXPORTED void pack_weights(const void *arguments, int64_t first, int64_t last, char *) {
    const PackWeights &call = *(const PackWeights *)arguments;
    const int64_t width = call.width, inputs = call.inputs;
    for (int64_t number = first; number < last; number++) {
        const int64_t group = number / call.blocks, from = number % call.blocks * width;
        const int64_t count = smaller(width, call.outputs - from);
        const storage *source = call.weight + group * call.strides[0] + from * call.strides[4];
        accumulator *bias = call.packed_bias + number * width;
        for (int64_t o = 0; o < width; o++)
            bias[o] = call.bias && o < count ? (accumulator)widen(call.bias[(group * call.outputs + from + o) * call.bias_stride]) : 0;
        const int64_t *tap = call.taps;
        for (int64_t p = 0; p < call.phase_count; p++) {
            const int64_t taps = call.phases[2 * p];
            accumulator *target = call.packed + call.phases[2 * p + 1] + number * taps * inputs * width;
            const int64_t tap_step = (call.taps_first ? inputs : 1) * width, input_step = (call.taps_first ? 1 : taps) * width;
            for (int64_t t = 0; t < taps; t++, tap += 2) {
                const storage *weights = source + tap[0] * call.strides[1] + tap[1] * call.strides[2];
                accumulator *row = target + t * tap_step;
                for (int64_t c = 0; c < inputs; c++, row += input_step, weights += call.strides[3]) {
                    if (call.strides[4] == 1)
                        for (int64_t o = 0; o < count; o++) row[o] = widen(weights[o]);
                    else
                        for (int64_t o = 0; o < count; o++) row[o] = widen(weights[o * call.strides[4]]);
                    for (int64_t o = count; o < width; o++) row[o] = 0;
                }
            }
        }
    }
}
