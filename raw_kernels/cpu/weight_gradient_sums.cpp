// Adds the gradients of weights of all splits of the windows.

#include "weight_gradient.h"

// Sums of all splits, added in order: of `count` outputs of one input at one tap, whose first one is at `source`.
template <int MOST> INLINE void add_splits(const WeightGradient &call, const accumulator *source, int64_t count, accumulator (&sums)[MOST]) {
    const int64_t size = call.groups * call.taps * call.inputs * call.outputs;
    double added[MOST] = {};
    for (int64_t split = 0; split < call.splits; split++)
        for (int64_t o = 0; o < count; o++) added[o] += source[split * size + o];
    for (int64_t o = 0; o < count; o++) sums[o] = (accumulator)added[o];
}

// A block is the weights of one input of one group at all taps, which may be adjacent in the result: threads that wrote in
// turn to the same cache lines would wait for each other. Of some inputs and taps, all weights of an output are written
// before those of the next, which may be far away.
EXPORTED void add_partial(const void *arguments, int64_t first, int64_t last, char *) {
    enum { PAIRS = 128, OUTPUTS = 64 };
    const WeightGradient &call = *(const WeightGradient *)arguments;
    const int64_t taps = smaller(call.taps, PAIRS);
    accumulator sums[PAIRS][OUTPUTS];
    int64_t places[PAIRS];
    while (first < last) {
        const int64_t group = first / call.inputs, input = first % call.inputs;
        const int64_t inputs = smaller(smaller(last - first, call.inputs - input), PAIRS / taps);
        for (int64_t from = 0; from < call.outputs; from += OUTPUTS) {
            const int64_t outputs = smaller(OUTPUTS, call.outputs - from);
            for (int64_t tap = 0; tap < call.taps; tap += taps) {
                int64_t pairs = 0;
                for (int64_t i = 0; i < inputs; i++)
                    for (int64_t t = tap; t < smaller(tap + taps, call.taps); t++, pairs++) {
                        add_splits(call, call.partial + ((group * call.taps + t) * call.inputs + input + i) * call.outputs + from, outputs, sums[pairs]);
                        places[pairs] = group * call.strides[0] + call.tap_numbers[2 * t] * call.strides[1] +
                                        call.tap_numbers[2 * t + 1] * call.strides[2] + (input + i) * call.strides[3] + from * call.strides[4];
                    }
                if (call.strides[4] == 1)
                    for (int64_t k = 0; k < pairs; k++) narrow_row(call.result + places[k], sums[k], outputs);
                else
                    for (int64_t o = 0; o < outputs; o++)
                        for (int64_t k = 0; k < pairs; k++) narrow(call.result[places[k] + o * call.strides[4]], sums[k][o]);
            }
        }
        first += inputs;
    }
}
