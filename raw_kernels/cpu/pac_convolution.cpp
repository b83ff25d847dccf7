// Pixel-adaptive convolution with filters of groups of channels.
//
// The samples of a tile at all taps, scaled by its adaptive kernel, are a matrix that is multiplied by the weights. With
// more than FEW outputs a group, the matrix is stored:
//
//     column    [tap, input][position]
//     weight    [block of outputs][tap, input][output]
//
// and a part of a tile has some outputs in registers. For fewer, samples are scaled in registers.

#include "pac.h"
#include "pack_weights.h"

#if VECTOR_REGISTERS == 32
enum { WIDE_OUTPUTS = 8 };
#else
enum { WIDE_OUTPUTS = 4 };
#endif
enum { FEW = 4 };

// Outputs that are computed at a time.
EXPORTED int64_t output_width(int64_t outputs) { return outputs <= FEW ? larger(outputs, 1) : (int64_t)WIDE_OUTPUTS; }

struct Buffers {
    accumulator *samples, *column, *results;
    double *totals;

    Buffers(const Pac &call, Workspace &workspace) {
        samples = workspace.take<accumulator>(call.groups * call.inputs * call.distance + TILE);
        column = workspace.take<accumulator>(call.outputs <= FEW ? 0 : call.taps * call.chunk * TILE);
        // Squares that are transposed may end a vector after the last row.
        results = workspace.take<accumulator>((call.groups * call.outputs + call.width) * TILE + LANES);
        totals = workspace.take<double>(call.chunk < call.inputs ? rounded_up(call.outputs, call.width) * TILE : 0);
    }
};

EXPORTED int64_t pac_convolution_workspace(const Pac *call) {
    Workspace workspace = {};
    Adaptive(*call, workspace, false);
    Buffers(*call, workspace);
    return (int64_t)workspace.next;
}

// Some inputs of a tile at all taps, scaled.
NOINLINE void scale_samples(const accumulator *RESTRICT samples, int64_t distance, const int64_t *RESTRICT offsets, int64_t taps, int64_t channels,
                            const accumulator *RESTRICT kernel, accumulator *RESTRICT column) {
    for (int64_t t = 0; t < taps; t++, kernel += TILE) {
        vector factors[VECTORS * PARTS];
        UNROLL for (int v = 0; v < VECTORS * PARTS; v++) factors[v] = load(kernel + v * LANES);
        const accumulator *source = samples + offsets[t];
        for (int64_t c = 0; c < channels; c++, source += distance, column += TILE)
            UNROLL for (int v = 0; v < VECTORS * PARTS; v++) store(column + v * LANES, load(source + v * LANES) * factors[v]);
    }
}

// OUTPUTS outputs of a part of a tile. `skipped` weights belong to inputs that are not in the column.
template <int OUTPUTS>
NOINLINE void product(const accumulator *RESTRICT column, int64_t taps, int64_t channels, const accumulator *RESTRICT weight, int64_t skipped,
                      const accumulator *RESTRICT initial, accumulator *RESTRICT result) {
    vector sums[OUTPUTS][VECTORS];
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] = broadcast(initial[o]);
    for (int64_t t = 0; t < taps; t++, weight += skipped)
        for (int64_t c = 0; c < channels; c++, weight += OUTPUTS, column += TILE) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(column + v * LANES);
            UNROLL for (int o = 0; o < OUTPUTS; o++) {
                vector factor = broadcast(weight[o]);
                KEEP_IN_REGISTER(factor);
                UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += factor * values[v];
            }
        }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + o * TILE + v * LANES, sums[o][v]);
}

// The same without a column.
template <int OUTPUTS>
NOINLINE void scaled_product(const accumulator *RESTRICT samples, int64_t distance, const int64_t *RESTRICT offsets, int64_t taps, int64_t channels,
                             const accumulator *RESTRICT kernel, const accumulator *RESTRICT weight, int64_t skipped, const accumulator *RESTRICT initial,
                             accumulator *RESTRICT result) {
    vector sums[OUTPUTS][VECTORS];
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] = broadcast(initial[o]);
    for (int64_t t = 0; t < taps; t++, kernel += TILE, weight += skipped) {
        vector factors[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) factors[v] = load(kernel + v * LANES);
        const accumulator *source = samples + offsets[t];
        for (int64_t c = 0; c < channels; c++, weight += OUTPUTS, source += distance) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(source + v * LANES) * factors[v];
            UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += weight[o] * values[v];
        }
    }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + o * TILE + v * LANES, sums[o][v]);
}

// The outputs of one group at a tile.
INLINE void group_product(const Pac &call, const Block &block, const accumulator *kernel, const accumulator *samples, int64_t group, const Buffers &buffers) {
    const Phase &phase = *block.phase;
    const int64_t width = call.width, blocks = ceil_div(call.outputs, width), taps = phase.taps;
    const accumulator zeros[8] = {};
    accumulator *const results = buffers.results + group * call.outputs * TILE;
    // Without inputs there is still the bias.
    for (int64_t c = 0; c < larger(call.inputs, 1); c += call.chunk) {
        const int64_t channels = smaller(call.chunk, call.inputs - c), skipped = (call.inputs - channels) * width;
        const accumulator *source = samples + (group * call.inputs + c) * call.distance;
        if (call.outputs > FEW) scale_samples(source, call.distance, phase.offsets, taps, channels, kernel, buffers.column);
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t number = group * blocks + b;
            const accumulator *weight = call.weight + phase.weight + (number * taps * call.inputs + c) * width;
            const accumulator *initial = c ? zeros : call.bias + number * width;
            accumulator *const result = results + b * width * TILE;
            for (int64_t at = 0; at < TILE; at += PART) {
                if (call.outputs > FEW) {
                    product<WIDE_OUTPUTS>(buffers.column + at, taps, channels, weight, skipped, initial, result + at);
                    continue;
                }
                const auto compute = width == 1   ? scaled_product<1>
                                     : width == 2 ? scaled_product<2>
                                     : width == 3 ? scaled_product<3>
                                                  : scaled_product<4>;
                compute(source + at, call.distance, phase.offsets, taps, channels, kernel + at, weight, skipped, initial, result + at);
            }
        }
        if (call.chunk >= call.inputs) continue;
        // Sums of many inputs: of some at a time, which are added in float64.
        for (int64_t i = 0; i < blocks * width * TILE; i++) {
            const double sum = (c ? buffers.totals[i] : 0) + results[i];
            buffers.totals[i] = sum;
            results[i] = (accumulator)sum;
        }
    }
}

EXPORTED void pac_convolution(const void *arguments, int64_t first, int64_t last, char *memory) {
    const Pac &call = *(const Pac *)arguments;
    Workspace workspace = {memory};
    const Adaptive adaptive(call, workspace, false);
    const Buffers buffers(call, workspace);
    for (int64_t number = first; number < last; number++) {
        const Block block = block_of(call, number);
        pack_adaptive(call, block, adaptive);
        pack_samples(call, block, adaptive, buffers.samples, 0, call.groups * call.inputs);
        for (int64_t p = 0; p < block.length; p += TILE) {
            any_kernel(call, block, adaptive, p, 0);
            // Outputs that fill up a group are overwritten by the next.
            for (int64_t group = 0; group < call.groups; group++) group_product(call, block, adaptive.values, buffers.samples + p, group, buffers);
            store_tile(call, block, p, buffers.results, call.groups * call.outputs);
            if (call.output_mask) store_output_mask(call, block, p, adaptive.left);
        }
    }
}
