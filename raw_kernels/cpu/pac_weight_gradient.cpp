// Gradients of the filters of a pixel-adaptive convolution with groups of channels: sums over all windows of scaled samples
// times gradients of outputs.
//
// The windows are split among blocks by shapes alone. Each block adds its products over a tile at a time, and those sums in
// the dtype of the accumulator; sums of all blocks are added in float64, in order (weight_gradient.h). With more than FEW
// outputs a group, vectors are outputs:
//
//     column   [tap, input][position of the tile]     scaled samples of a few taps, zeros between the rows
//     grad     [position][output]
//     sums     [tap, input][output]
//
// else positions, whose lanes are added at the end of a block:
//
//     grad     [output][position]
//     sums     [tap][input][output][lane]

#include "pac.h"
#include "pack_pixels.h"

enum { FEW = 4 };
#if VECTOR_REGISTERS == 32
enum { PAIR_ROWS = 12, SINGLE_ROWS = 16 };
#else
enum { PAIR_ROWS = 5, SINGLE_ROWS = 10 };
#endif

struct PacWeightGradient {
    Pac call;
    const storage *grad;        // of the output
    Strides grad_strides;
    accumulator *partial;       // of every split: groups, taps of the filter, inputs, outputs
    const int64_t *filter_taps; // of all phases: number of each tap in the filter
    int64_t listed_taps;        // taps of all phases
    int64_t filter_size;
    int64_t parts;              // ranges of windows, of all phases
    int64_t splits;
    int64_t grouped;            // groups of a block
    int64_t chunk;              // taps of which samples are scaled at a time
    int64_t input_blocks, output_blocks;  // ranges of the channels of a group that are blocks of their own
};

// Outputs of a group with those that fill up vectors.
INLINE int64_t filled(int64_t outputs) { return outputs <= FEW ? outputs : rounded_up(outputs, outputs <= LANES ? LANES : 2 * LANES); }

EXPORTED int64_t filled_outputs(int64_t outputs) { return filled(outputs); }
EXPORTED int64_t few_outputs() { return FEW; }

struct Buffers {
    accumulator *samples, *grad, *column, *sums;
    lane_number *inside;

    Buffers(const PacWeightGradient &gradient, Workspace &workspace) {
        const Pac &call = gradient.call;
        const int64_t inputs = ceil_div(call.inputs, gradient.input_blocks), outputs = ceil_div(call.outputs, gradient.output_blocks);
        const bool few = outputs <= FEW;
        samples = workspace.take<accumulator>(gradient.grouped * inputs * call.distance + TILE);
        grad = workspace.take<accumulator>(gradient.grouped * filled(outputs) * call.positions);
        column = workspace.take<accumulator>(few ? 0 : gradient.chunk * inputs * TILE);
        sums = workspace.take<accumulator>(gradient.grouped * gradient.listed_taps * inputs * filled(outputs) * (few ? LANES : 1));
        inside = workspace.take<lane_number>(call.positions);
    }
};

EXPORTED int64_t pac_weight_gradient_workspace(const PacWeightGradient *gradient) {
    Workspace workspace = {};
    Adaptive(gradient->call, workspace, false);
    Buffers(*gradient, workspace);
    return (int64_t)workspace.next;
}

// Channels of a block.
struct Channels {
    int64_t group, groups, input, inputs, output, outputs;
};

NOINLINE void scale_samples(const accumulator *RESTRICT samples, int64_t distance, const int64_t *RESTRICT offsets, int64_t taps, int64_t channels,
                            const accumulator *RESTRICT kernel, const lane_number *RESTRICT inside, accumulator *RESTRICT column) {
    for (int64_t t = 0; t < taps; t++, kernel += TILE)
        for (int64_t x = 0; x < TILE; x += PART) {
            vector factors[VECTORS];
            lane_numbers lanes[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) {
                factors[v] = load(kernel + x + v * LANES);
                lanes[v] = *(const lane_numbers *)(inside + x + v * LANES);
            }
            const accumulator *source = samples + offsets[t] + x;
            accumulator *target = column + t * channels * TILE + x;
            for (int64_t c = 0; c < channels; c++, source += distance, target += TILE)
                UNROLL for (int v = 0; v < VECTORS; v++) store(target + v * LANES, (vector)(lanes[v] & (lane_numbers)(load(source + v * LANES) * factors[v])));
        }
}

template <int ROWS, int OUTPUT_VECTORS>
NOINLINE void rows_product(const accumulator *RESTRICT column, const accumulator *RESTRICT grad, int64_t positions, int64_t width, accumulator *RESTRICT result) {
    vector sums[ROWS][OUTPUT_VECTORS] = {};
    for (int64_t p = 0; p < positions; p++, grad += width) {
        vector values[OUTPUT_VECTORS];
        UNROLL for (int v = 0; v < OUTPUT_VECTORS; v++) values[v] = load(grad + v * LANES);
        UNROLL for (int row = 0; row < ROWS; row++) {
            vector sample = broadcast(column[row * TILE + p]);
            if constexpr (OUTPUT_VECTORS > 1) KEEP_IN_REGISTER(sample);
            UNROLL for (int v = 0; v < OUTPUT_VECTORS; v++) sums[row][v] += sample * values[v];
        }
    }
    UNROLL for (int row = 0; row < ROWS; row++) UNROLL for (int v = 0; v < OUTPUT_VECTORS; v++) {
        accumulator *const target = result + row * width + v * LANES;
        store(target, load(target) + sums[row][v]);
    }
}

template <int ROWS, int OUTPUT_VECTORS> 
INLINE void all_rows(const accumulator *column, int64_t rows, const accumulator *grad, int64_t positions, int64_t width, accumulator *sums) {
    for (int64_t o = 0; o < width; o += OUTPUT_VECTORS * LANES)
        for_equal_parts<ROWS>(rows, [&](auto count, int64_t first) {
            rows_product<decltype(count)::value, OUTPUT_VECTORS>(column + first * TILE, grad + o, positions, width, sums + first * width + o);
        });
}

// One tap of a tile, of some inputs.
template <int OUTPUTS>
NOINLINE void lanes_product(const accumulator *RESTRICT samples, int64_t distance, int64_t channels, const accumulator *RESTRICT kernel,
                            const accumulator *RESTRICT grad, int64_t pitch, const lane_number *RESTRICT inside, vector *RESTRICT result) {
    for (int64_t c = 0; c < channels; c++, samples += distance, result += OUTPUTS) {
        vector sums[OUTPUTS] = {};
        UNROLL for (int x = 0; x < TILE; x += LANES) {
            const vector value = (vector)(*(const lane_numbers *)(inside + x) & (lane_numbers)(load(samples + x) * load(kernel + x)));
            UNROLL for (int o = 0; o < OUTPUTS; o++) sums[o] += value * load(grad + o * pitch + x);
        }
        UNROLL for (int o = 0; o < OUTPUTS; o++) result[o] += sums[o];
    }
}

// The gradients of the outputs of a part, zeros between its rows.
INLINE void pack_grad(const PacWeightGradient &gradient, const Block &block, const Channels &channels, const Buffers &buffers) {
    const int64_t pitch = block.phase->pitch, columns = block.range.columns, positions = gradient.call.positions;
    const int64_t width = filled(channels.outputs);
    const Strides &strides = gradient.grad_strides;
    const int64_t step = block.phase->step[1] * strides.column;
    memset((void *)buffers.inside, 0, positions * sizeof(lane_number));
    for (int64_t r = 0; r < block.range.rows; r++) {
        const int64_t from = r * pitch, to = from + columns, next = r + 1 < block.range.rows ? from + pitch : positions;
        for (int64_t x = from; x < to; x++) buffers.inside[x] = -1;
        for (int64_t g = 0; g < channels.groups; g++) {
            const int64_t channel = (channels.group + g) * gradient.call.outputs + channels.output;
            const storage *source = gradient.grad + output_offset(block, strides, r, 0) + channel * strides.channel;
            accumulator *target = buffers.grad + g * width * positions;
            if (channels.outputs <= FEW) {
                widen_rows(target + from, positions, source, step, strides.channel, columns, channels.outputs);
                for (int64_t o = 0; o < channels.outputs; o++) clear(target + o * positions + to, next - to);
            } else {
                gather_pixels(target + from * width, width, source, step, strides.channel, columns, channels.outputs, false);
                clear(target + to * width, (next - to) * width);
            }
        }
    }
}

INLINE void tile_products(const PacWeightGradient &gradient, const Block &block, const Channels &channels, const Adaptive &adaptive, const Buffers &buffers,
                          int64_t p) {
    const Pac &call = gradient.call;
    const Phase &phase = *block.phase;
    const int64_t positions = smaller(TILE, block.length - p);
    const int64_t first = block.guide->weight, inputs = channels.inputs, width = filled(channels.outputs);
    for (int64_t g = 0; g < channels.groups; g++) {
        const accumulator *samples = buffers.samples + g * inputs * call.distance + p;
        const accumulator *grad = buffers.grad + g * width * call.positions;
        const int64_t row = (g * gradient.listed_taps + first) * inputs;
        if (channels.outputs > FEW) {
            for (int64_t t = 0; t < phase.taps; t += gradient.chunk) {
                const int64_t taps = smaller(gradient.chunk, phase.taps - t);
                scale_samples(samples, call.distance, phase.offsets + t, taps, inputs, adaptive.values + t * TILE, buffers.inside + p, buffers.column);
                (width <= LANES ? all_rows<SINGLE_ROWS, 1> : all_rows<PAIR_ROWS, 2>)(buffers.column, taps * inputs, grad + p * width, positions, width,
                                                                                   buffers.sums + (row + t * inputs) * width);
            }
            continue;
        }
        const auto compute = width == 1 ? lanes_product<1> : width == 2 ? lanes_product<2> : width == 3 ? lanes_product<3> : lanes_product<4>;
        for (int64_t t = 0; t < phase.taps; t++)
            compute(samples + phase.offsets[t], call.distance, inputs, adaptive.values + t * TILE, grad + p, call.positions, buffers.inside + p,
                    (vector *)buffers.sums + (row + t * inputs) * width);
    }
}

// A block: groups, split, range of inputs, range of outputs.
EXPORTED void pac_weight_gradient(const void *arguments, int64_t first, int64_t last, char *memory) {
    const PacWeightGradient &gradient = *(const PacWeightGradient *)arguments;
    const Pac &call = gradient.call;
    Workspace workspace = {memory};
    const Adaptive adaptive(call, workspace, false);
    const Buffers buffers(gradient, workspace);
    for (int64_t number = first; number < last; number++) {
        int64_t rest = number;
        const int64_t ob = rest % gradient.output_blocks;
        rest /= gradient.output_blocks;
        const int64_t ib = rest % gradient.input_blocks;
        rest /= gradient.input_blocks;
        const int64_t split = rest % gradient.splits;
        Channels channels;
        channels.group = rest / gradient.splits * gradient.grouped;
        channels.groups = smaller(gradient.grouped, call.groups - channels.group);
        channels.input = call.inputs * ib / gradient.input_blocks;
        channels.inputs = call.inputs * (ib + 1) / gradient.input_blocks - channels.input;
        channels.output = call.outputs * ob / gradient.output_blocks;
        channels.outputs = call.outputs * (ob + 1) / gradient.output_blocks - channels.output;
        const bool few = channels.outputs <= FEW;
        const int64_t width = filled(channels.outputs), rows = gradient.listed_taps * channels.inputs;
        memset((void *)buffers.sums, 0, channels.groups * rows * width * (few ? LANES : 1) * sizeof(accumulator));
        for (int64_t part = gradient.parts * split / gradient.splits; part < gradient.parts * (split + 1) / gradient.splits; part++) {
            const Block block = block_of(call, part);
            pack_adaptive(call, block, adaptive);
            pack_samples(call, block, adaptive, buffers.samples, channels.group * call.inputs + channels.input, channels.groups * channels.inputs);
            pack_grad(gradient, block, channels, buffers);
            for (int64_t p = 0; p < block.length; p += TILE) {
                any_kernel(call, block, adaptive, p, 0);
                tile_products(gradient, block, channels, adaptive, buffers, p);
            }
        }
        for (int64_t g = 0; g < channels.groups; g++)
            for (int64_t t = 0; t < gradient.listed_taps; t++)
                for (int64_t c = 0; c < channels.inputs; c++) {
                    const int64_t row = g * rows + t * channels.inputs + c;
                    const int64_t group = split * call.groups + channels.group + g, tap = group * gradient.filter_size + gradient.filter_taps[t];
                    accumulator *target = gradient.partial + (tap * call.inputs + channels.input + c) * call.outputs + channels.output;
                    if (few)
                        for (int64_t o = 0; o < channels.outputs; o++) target[o] = sum_of_lanes(((const vector *)buffers.sums)[row * width + o]);
                    else
                        copy(target, buffers.sums + row * width, channels.outputs);
                }
    }
}
