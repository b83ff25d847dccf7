// Gradients of the weights of groups of channels, in two algorithms.
//
// `weight_gradient_wide`: vectors of outputs, for groups of many outputs. Samples and gradients are packed in panels of a few
// channels side by side, so that what some taps and inputs read is a run of samples. Each sample of a run is broadcast and
// multiplied by the gradients at its position:
//
//     samples  [panel][row][column][input]     a run: up to ROWS samples from a pixel on, of adjacent inputs and taps
//     grad     [panel][position][output]       one or two vectors
//     sums     [panel][tap, input][output]     in registers over the positions, then added in the workspace
//
// `weight_gradient_narrow`: vectors of positions, for groups of few outputs; lanes are added at the end of a split.
//
//     samples  [input][packed row, column]  read at each tap
//     grad     [output][row, column]        rows filled up to whole vectors
//     sums     [input][tap][output][lane]
//
// Lanes beyond the end of a row take no part: their samples are those of other windows, perhaps not finite.

#include "pack_grad.h"
#include "pack_planes.h"
#include "weight_gradient.h"

#if VECTOR_REGISTERS == 32
enum { PAIR_ROWS = 8, SINGLE_ROWS = 16, MOST_TAPS = 3, SINGLE_TAPS = 9 };
#else
enum { PAIR_ROWS = 5, SINGLE_ROWS = 8, MOST_TAPS = 2, SINGLE_TAPS = 5 };
#endif

template <int ROWS, int VECTORS>
NOINLINE void run_product(const accumulator *RESTRICT samples, int64_t pixel, int64_t pitch, const accumulator *RESTRICT grad, const Range &range,
                          accumulator *RESTRICT result, int64_t width) {
    vector sums[ROWS][VECTORS] = {};
    for (int64_t r = 0; r < range.rows; r++) {
        const accumulator *source = samples + r * pitch;
        for (int64_t x = 0; x < range.columns; x++, source += pixel, grad += VECTORS * LANES) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(grad + v * LANES);
            UNROLL for (int row = 0; row < ROWS; row++) {
                vector sample = broadcast(source[row]);
                if constexpr (VECTORS > 1) KEEP_IN_REGISTER(sample);
                UNROLL for (int v = 0; v < VECTORS; v++) sums[row][v] += sample * values[v];
            }
        }
    }
    UNROLL for (int row = 0; row < ROWS; row++) UNROLL for (int v = 0; v < VECTORS; v++) {
        accumulator *target = result + row * width + v * LANES;
        store(target, load(target) + sums[row][v]);
    }
}

template <int ROWS, int VECTORS> INLINE void wide(const WeightGradient &call, int64_t number, char *workspace) {
    enum { PANEL = VECTORS * LANES };
    const Phase &phase = *call.phase;
    // Blocks of one split follow each other: they read the same samples and gradients.
    int64_t rest = number;
    const int64_t ob = rest % call.output_blocks;
    rest /= call.output_blocks;
    const int64_t ib = rest % call.input_blocks;
    rest /= call.input_blocks;
    const int64_t split = rest % call.splits, group = rest / call.splits;
    const int64_t panels = ceil_div(call.inputs, call.panel);
    const int64_t first_panel = panels * ib / call.input_blocks, last_panel = panels * (ib + 1) / call.input_blocks;
    const int64_t output = call.outputs * ob / call.output_blocks, outputs = call.outputs * (ob + 1) / call.output_blocks - output;
    const int64_t width = rounded_up(outputs, PANEL), rows = call.taps * call.panel, distance = phase.plane * phase.segments[1] * call.panel;
    const int64_t positions = phase.size[0] * phase.size[1];
    accumulator *const samples = (accumulator *)workspace;
    accumulator *const grad = samples + rounded_up(distance, LANES);
    accumulator *const sums = grad + positions * width;
    memset(sums, 0, (last_panel - first_panel) * rows * width * sizeof(accumulator));
    for_parts(call, split, [&](const Part &part) {
        const Range &range = part.range;
        for (int64_t o = 0; o < outputs; o += PANEL)
            pack_grad_pixels(grad + o * positions, PANEL, call, part, group * call.outputs + output + o, smaller(PANEL, outputs - o));
        for (int64_t p = first_panel; p < last_panel; p++) {
            pack_pixels(samples, call.panel, phase, range, call.input, part.image, group * call.inputs + p * call.panel,
                        smaller(call.panel, call.inputs - p * call.panel));
            accumulator *const result = sums + (p - first_panel) * rows * width;
            for (int64_t o = 0; o < width; o += PANEL)
                for (int64_t v = 0; v < call.runs; v++) {
                    const int64_t *run = call.run_list + 3 * v;
                    for_equal_parts<ROWS>(run[2], [&](auto length, int64_t from) {
                        run_product<decltype(length)::value, VECTORS>(samples + run[0] + from, call.panel, phase.pitch * call.panel, grad + o * positions,
                                                                      range, result + (run[1] + from) * width + o, width);
                    });
                }
        }
    });
    accumulator *target = call.partial + (split * call.groups + group) * call.taps * call.inputs * call.outputs + output;
    for (int64_t p = first_panel; p < last_panel; p++)
        for (int64_t t = 0; t < call.taps; t++)
            for (int64_t c = 0; c < smaller(call.panel, call.inputs - p * call.panel); c++)
                copy(target + (t * call.inputs + p * call.panel + c) * call.outputs, sums + (((p - first_panel) * call.taps + t) * call.panel + c) * width, outputs);
}

// A block: group, split, range of inputs, range of outputs.
EXPORTED void weight_gradient_wide(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const WeightGradient &call = *(const WeightGradient *)arguments;
    for (int64_t number = first; number < last; number++)
        if (ceil_div(call.outputs, call.output_blocks) > LANES) wide<PAIR_ROWS, 2>(call, number, workspace);
        else wide<SINGLE_ROWS, 1>(call, number, workspace);
}

template <int OUTPUTS, int TAPS>
NOINLINE void lanes_product(const accumulator *RESTRICT samples, const int64_t *RESTRICT offsets, int64_t pitch, const accumulator *RESTRICT grad,
                            int64_t plane, int64_t grad_pitch, int64_t rows, int64_t columns, vector *RESTRICT result, int64_t outputs) {
    vector sums[TAPS][OUTPUTS] = {};
    const int64_t whole = columns / LANES * LANES;
    lane_numbers inside = {};
    UNROLL for (int lane = 0; lane < LANES; lane++) inside[lane] = whole + lane < columns ? -1 : 0;
    for (int64_t r = 0; r < rows; r++, samples += pitch, grad += grad_pitch) {
        for (int64_t x = 0; x < whole; x += LANES) {
            vector values[OUTPUTS];
            UNROLL for (int o = 0; o < OUTPUTS; o++) values[o] = load(grad + o * plane + x);
            UNROLL for (int t = 0; t < TAPS; t++) {
                const vector sample = load(samples + offsets[t] + x);
                UNROLL for (int o = 0; o < OUTPUTS; o++) sums[t][o] += sample * values[o];
            }
        }
        if (whole < columns) {
            vector values[OUTPUTS];
            UNROLL for (int o = 0; o < OUTPUTS; o++) values[o] = inside ? load(grad + o * plane + whole) : vector{};
            UNROLL for (int t = 0; t < TAPS; t++) {
                const vector sample = inside ? load(samples + offsets[t] + whole) : vector{};
                UNROLL for (int o = 0; o < OUTPUTS; o++) sums[t][o] += sample * values[o];
            }
        }
    }
    UNROLL for (int t = 0; t < TAPS; t++) UNROLL for (int o = 0; o < OUTPUTS; o++) result[t * outputs + o] += sums[t][o];
}

template <int OUTPUTS, int TAPS> INLINE void narrow_taps(const WeightGradient &call, const accumulator *samples, const accumulator *grad, int64_t plane, int64_t pitch, const Range &range, vector *sums, int64_t outputs) {
    const Phase &phase = *call.phase;
    for_equal_parts<TAPS>(call.taps, [&](auto taps, int64_t first) {
        lanes_product<OUTPUTS, decltype(taps)::value>(samples, phase.offsets + first, phase.pitch, grad, plane, pitch, range.rows, range.columns,
                                                      sums + first * outputs, outputs);
    });
}

// A block: groups, split.
EXPORTED void weight_gradient_narrow(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const WeightGradient &call = *(const WeightGradient *)arguments;
    const Phase &phase = *call.phase;
    const int64_t together = outputs_together(call), outputs = rounded_up(call.outputs, together);
    const int64_t distance = phase.plane * phase.segments[1], pitch = rounded_up(phase.size[1], LANES), plane = phase.size[0] * pitch;
    accumulator *const samples = (accumulator *)workspace;
    // The planes of missing outputs of a group are those of the next group, or unused; their sums are dropped.
    accumulator *const grad = samples + rounded_up(distance * call.inputs * call.grouped + LANES, LANES);
    const int64_t planes = call.outputs * call.grouped + outputs - call.outputs;
    vector *const sums = (vector *)(grad + planes * plane);
    for (int64_t number = first; number < last; number++) {
        const int64_t split = number % call.splits, from = number / call.splits * call.grouped;
        const int64_t groups = smaller(call.grouped, call.groups - from);
        memset((void *)grad, 0, planes * plane * sizeof(accumulator));
        memset((void *)sums, 0, groups * call.inputs * call.taps * outputs * sizeof(vector));
        for_parts(call, split, [&](const Part &part) {
            const Range &range = part.range;
            pack_planes<storage>(samples, distance, phase, range, call.input, part.image, from * call.inputs, groups * call.inputs);
            const storage *source = grad_at(call, part, from * call.outputs);
            for (int64_t r = 0; r < range.rows; r++, source += call.grad_strides.row)
                widen_rows(grad + r * pitch, plane, source, call.grad_strides.column, call.grad_strides.channel, range.columns, groups * call.outputs);
            for (int64_t g = 0; g < groups; g++)
                for (int64_t c = 0; c < call.inputs; c++)
                    for (int64_t o = 0; o < outputs; o += together) {
                        vector *target = sums + (g * call.inputs + c) * call.taps * outputs + o;
                        const accumulator *gradients = grad + (g * call.outputs + o) * plane;
                        const accumulator *values = samples + (g * call.inputs + c) * distance;
                        if (together == 4) narrow_taps<4, MOST_TAPS>(call, values, gradients, plane, pitch, range, target, outputs);
                        else if (together == 2) narrow_taps<2, MOST_TAPS>(call, values, gradients, plane, pitch, range, target, outputs);
                        else narrow_taps<1, SINGLE_TAPS>(call, values, gradients, plane, pitch, range, target, outputs);
                    }
        });
        accumulator *target = call.partial + (split * call.groups + from) * call.taps * call.inputs * call.outputs;
        for (int64_t g = 0; g < groups; g++)
            for (int64_t t = 0; t < call.taps; t++)
                for (int64_t c = 0; c < call.inputs; c++)
                    for (int64_t o = 0; o < call.outputs; o++)
                        *target++ = sum_of_lanes(sums[((g * call.inputs + c) * call.taps + t) * outputs + o]);
    }
}
