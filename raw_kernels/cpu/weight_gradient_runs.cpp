// Gradients of the weights of narrow groups, with vectors of taps and inputs.
//
// The samples of a group are packed as pixels whose channels are adjacent, so that what adjacent taps of a row read is a
// run of samples. Vectors of such runs are multiplied by the gradients of outputs, which are broadcast:
//
//     packed   [row][column][input]     a run: 3 taps x 4 inputs = 12 of 16 lanes
//     sums     [output][vector]         in registers over the positions of a part, then added in the workspace

#include "pack_pixels.h"
#include "weight_gradient.h"

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

// A block: group, split.
EXPORTED void weight_gradient_runs(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const WeightGradient &call = *(const WeightGradient *)arguments;
    const Phase &phase = *call.phase;
    // Outputs at a time: 4, 2 or 1.
    const int64_t together = call.outputs >= 3 ? 4 : call.outputs, outputs = rounded_up(call.outputs, together);
    accumulator *const samples = (accumulator *)workspace;
    accumulator *const grad = samples + rounded_up(phase.plane * phase.segments[1] * call.inputs + LANES, LANES);
    accumulator *const sums = grad + rounded_up(outputs * phase.size[0] * phase.size[1], LANES);
    for (int64_t number = first; number < last; number++) {
        const int64_t split = number % call.splits, group = number / call.splits;
        memset(sums, 0, outputs * call.runs * LANES * sizeof(accumulator));
        for_parts(call, split, [&](const Part &part) {
            const Range &range = part.range;
            pack_pixels(samples, call.inputs, phase, range, call.input, part.image, group * call.inputs, call.inputs);
            const int64_t positions = range.rows * range.columns;
            for (int64_t o = 0; o < outputs; o += together) {
                // [block of outputs][position][output of the block]
                const storage *source = grad_at(call, part, group * call.outputs + o);
                const int64_t count = smaller(together, call.outputs - o);
                accumulator *target = grad + o * positions;
                for (int64_t r = 0; r < range.rows; r++, source += call.grad_strides.row, target += range.columns * together)
                    if (count == 4)
                        widen_pixels<4>(target, source, call.grad_strides.column, call.grad_strides.channel, range.columns);
                    else
                        for (int64_t x = 0; x < range.columns; x++)
                            for (int64_t k = 0; k < together; k++)
                                target[x * together + k] = k < count ? widen(source[x * call.grad_strides.column + k * call.grad_strides.channel]) : 0;
                accumulator *result = sums + o * call.runs * LANES;
                if (together == 4) all_runs<4>(call, samples, grad + o * positions, range, result);
                else if (together == 2) all_runs<2>(call, samples, grad + o * positions, range, result);
                else all_runs<1>(call, samples, grad + o * positions, range, result);
            }
        });
        accumulator *target = call.partial + (split * call.groups + group) * call.taps * call.inputs * call.outputs;
        for (int64_t v = 0; v < call.runs; v++)
            for (int64_t k = 0; k < call.run_list[3 * v + 2]; k++)
                for (int64_t o = 0; o < call.outputs; o++)
                    target[(call.run_list[3 * v + 1] + k) * call.outputs + o] = sums[(o * call.runs + v) * LANES + k];
    }
}
