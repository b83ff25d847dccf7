// Gradients of the weights of narrow groups, with vectors of taps and inputs.
//
// The samples of a group are packed as pixels whose channels are adjacent, so that what adjacent taps of a row read is a
// run of samples. Vectors of such runs are multiplied by the gradients of outputs, which are broadcast:
//
//     packed   [row][column][input]     a run: 3 taps x 4 inputs = 12 of 16 lanes
//     sums     [output][vector]         in registers over the positions of a part, then added in the workspace

#include "pack_grad.h"

#if VECTOR_REGISTERS == 32
enum { MOST_VECTORS = 6 };
#else
enum { MOST_VECTORS = 3 };
#endif

template <int OUTPUTS, int VECTORS>
NOINLINE void runs_product(const accumulator *RESTRICT samples, const int64_t *RESTRICT list, int64_t pixel, int64_t pitch,
                           const accumulator *RESTRICT grad, int64_t grad_pitch, const Range &range,
                           accumulator *RESTRICT result, int64_t distance) {
    vector sums[OUTPUTS][VECTORS] = {};
    int64_t offsets[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) offsets[v] = list[3 * v];
    for (int64_t r = 0; r < range.rows; r++) {
        const accumulator *source = samples + r * pitch, *g = grad + r * grad_pitch;
        for (int64_t x = 0; x < range.columns; x++, source += pixel, g += OUTPUTS) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(source + offsets[v]);
            UNROLL for (int o = 0; o < OUTPUTS; o++) {
                vector gradient = broadcast(g[o]);
                if constexpr (VECTORS > 1) KEEP_IN_REGISTER(gradient);
                UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += gradient * values[v];
            }
        }
    }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) {
        accumulator *target = result + o * distance + v * LANES;
        store(target, load(target) + sums[o][v]);
    }
}

template <int OUTPUTS>
INLINE void all_runs(const WeightGradient &call, const accumulator *samples, const accumulator *grad, const Range &range, accumulator *sums) {
    const Phase &phase = *call.phase;
    for_equal_parts<MOST_VECTORS>(call.runs, [&](auto vectors, int64_t first) {
        runs_product<OUTPUTS, decltype(vectors)::value>(samples, call.run_list + 3 * first, call.inputs, phase.pitch * call.inputs, grad,
                                                        range.columns * OUTPUTS, range, sums + first * LANES, call.runs * LANES);
    });
}

// Adds the sums of a part of one group, whose channels are packed as [block of outputs][position][output of the block].
INLINE void add_part(const WeightGradient &call, const Part &part, int64_t group, accumulator *samples, accumulator *grad, accumulator *sums) {
    const Range &range = part.range;
    const int64_t together = outputs_together(call);
    pack_pixels(samples, call.inputs, *call.phase, range, call.input, part.image, group * call.inputs, call.inputs);
    for (int64_t o = 0; o < call.outputs; o += together) {
        pack_grad_pixels(grad, together, call, part, group * call.outputs + o, smaller(together, call.outputs - o));
        accumulator *result = sums + o * call.runs * LANES;
        if (together == 4) all_runs<4>(call, samples, grad, range, result);
        else if (together == 2) all_runs<2>(call, samples, grad, range, result);
        else all_runs<1>(call, samples, grad, range, result);
    }
}

// A block: groups, split. Groups whose channels share cache lines are computed in turn for each part.
EXPORTED void weight_gradient_runs(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const WeightGradient &call = *(const WeightGradient *)arguments;
    const Phase &phase = *call.phase;
    const int64_t outputs = rounded_up(call.outputs, outputs_together(call)), sums_of_group = outputs * call.runs * LANES;
    accumulator *const samples = (accumulator *)workspace;
    accumulator *const grad = samples + rounded_up(phase.plane * phase.segments[1] * call.inputs + LANES, LANES);
    accumulator *const sums = grad + rounded_up(outputs_together(call) * phase.size[0] * phase.size[1], LANES);
    for (int64_t number = first; number < last; number++) {
        const int64_t split = number % call.splits, from = number / call.splits * call.grouped;
        const int64_t groups = smaller(call.grouped, call.groups - from);
        memset(sums, 0, groups * sums_of_group * sizeof(accumulator));
        for_parts(call, split, [&](const Part &part) {
            for (int64_t g = 0; g < groups; g++) add_part(call, part, from + g, samples, grad, sums + g * sums_of_group);
        });
        accumulator *target = call.partial + (split * call.groups + from) * call.taps * call.inputs * call.outputs;
        for (int64_t g = 0; g < groups; g++, target += call.taps * call.inputs * call.outputs)
            for (int64_t v = 0; v < call.runs; v++)
                for (int64_t k = 0; k < call.run_list[3 * v + 2]; k++)
                    for (int64_t o = 0; o < call.outputs; o++)
                        target[(call.run_list[3 * v + 1] + k) * call.outputs + o] = sums[g * sums_of_group + (o * call.runs + v) * LANES + k];
    }
}
