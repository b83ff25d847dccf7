// Pixel-adaptive convolution with filters of groups of channels.
//
// The samples of a tile at all taps, scaled by its adaptive kernel, are a matrix that is multiplied by the weights. With
// more than FEW outputs a group, the matrix is stored:
//
//     column    [tap, input][position]
//     weight    [block of outputs][tap, input][output]
//
// a few inputs at a time, so that the first cache holds it, and a part of a tile has some outputs in registers. For fewer,
// samples are scaled in registers.

#include "pac.h"
#include "pack_weights.h"

#if VECTOR_REGISTERS == 32
enum { WIDE_OUTPUTS = 8 };
#else
enum { WIDE_OUTPUTS = 4 };
#endif
enum { FEW = 4, MAX_TERMS = 4096 };  // products that are added in the dtype of the accumulator; more are added in float64

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
        totals = workspace.take<double>(2 * call.inputs * call.taps > MAX_TERMS ? rounded_up(call.outputs, call.width) * TILE : 0);
    }
};

EXPORTED int64_t pac_convolution_workspace(const Pac *call) { return forward_workspace<Buffers>(*call); }

// Sums of outputs begin with the bias, or if that is null with what was added before.
template <int OUTPUTS, int VECTORS> INLINE void begin_sums(vector (&sums)[OUTPUTS][VECTORS], const accumulator *bias, const accumulator *result) {
    if (bias) UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] = broadcast(bias[o]);
    else UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] = load(result + o * TILE + v * LANES);
}

// Some inputs of a part of a tile at all taps.
struct Samples {
    const accumulator *samples;  // planes, from the tile's first position on
    int64_t distance;
    const int64_t *offsets;
    const accumulator *kernel;   // what scales them
    int64_t taps, channels;
};

// OUTPUTS outputs of a part of a tile. `skipped` weights belong to other inputs. The first outputs SCALE samples, and store
// what the others read in the column.
template <int OUTPUTS, bool SCALE, int VECTORS>
NOINLINE void product(const Samples &input, accumulator *RESTRICT column, const accumulator *RESTRICT weight, int64_t skipped, const accumulator *bias,
                      accumulator *RESTRICT result) {
    const int64_t channels = input.channels, distance = input.distance;
    vector sums[OUTPUTS][VECTORS];
    begin_sums(sums, bias, result);
    for (int64_t t = 0; t < input.taps; t++, weight += skipped) {
        vector factors[VECTORS];
        const accumulator *source = nullptr;
        if (SCALE) {
            source = input.samples + input.offsets[t];
            UNROLL for (int v = 0; v < VECTORS; v++) factors[v] = load(input.kernel + t * TILE + v * LANES);
        }
        for (int64_t c = 0; c < channels; c++, weight += OUTPUTS, column += TILE) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) {
                if (SCALE) {
                    values[v] = load(source + v * LANES) * factors[v];
                    store(column + v * LANES, values[v]);
                } else
                    values[v] = load(column + v * LANES);
            }
            if (SCALE) source += distance;
            UNROLL for (int o = 0; o < OUTPUTS; o++) {
                vector factor = broadcast(weight[o]);
                KEEP_IN_REGISTER(factor);
                UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += factor * values[v];
            }
        }
    }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + o * TILE + v * LANES, sums[o][v]);
}

// The same without a column.
template <int OUTPUTS, int VECTORS>
NOINLINE void scaled_product(const Samples &input, const accumulator *RESTRICT weight, int64_t skipped, const accumulator *bias, accumulator *RESTRICT result) {
    const int64_t channels = input.channels, distance = input.distance;
    vector sums[OUTPUTS][VECTORS];
    begin_sums(sums, bias, result);
    for (int64_t t = 0; t < input.taps; t++, weight += skipped) {
        vector factors[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) factors[v] = load(input.kernel + t * TILE + v * LANES);
        const accumulator *source = input.samples + input.offsets[t];
        for (int64_t c = 0; c < channels; c++, weight += OUTPUTS, source += distance) {
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(source + v * LANES) * factors[v];
            UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += weight[o] * values[v];
        }
    }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + o * TILE + v * LANES, sums[o][v]);
}

// The outputs of one group at a tile.
INLINE void group_product(const Pac &call, const Block &block, int64_t p, const accumulator *kernel, int64_t group, const Buffers &buffers) {
    const Phase &phase = *block.phase;
    const int64_t width = call.width, blocks = ceil_div(call.outputs, width), taps = phase.taps;
    const accumulator zeros[WIDE_OUTPUTS] = {};
    // Inputs whose products are added in the dtype of the accumulator.
    const int64_t together = larger(MAX_TERMS / larger(taps, 1) / call.chunk, 1) * call.chunk;
    accumulator *const results = buffers.results + group * call.outputs * TILE;
    // Without inputs there is still the bias.
    for (int64_t c = 0; c < larger(call.inputs, 1); c += call.chunk) {
        const int64_t channels = smaller(call.chunk, call.inputs - c), skipped = (call.inputs - channels) * width;
        const accumulator *source = buffers.samples + p + (group * call.inputs + c) * call.distance;
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t number = group * blocks + b;
            const accumulator *weight = call.weight + phase.weight + (number * taps * call.inputs + c) * width;
            const accumulator *initial = c == 0 ? call.bias + number * width : c % together == 0 ? zeros : nullptr;
            accumulator *const result = results + b * width * TILE;
            for_parts(block, p, [&](auto vectors, int64_t at) {
                enum { COUNT = decltype(vectors)::value };
                const Samples input = {source + at, call.distance, phase.offsets, kernel + at, taps, channels};
                const auto few = width == 1   ? scaled_product<1, COUNT>
                                 : width == 2 ? scaled_product<2, COUNT>
                                 : width == 3 ? scaled_product<3, COUNT>
                                              : scaled_product<4, COUNT>;
                const auto wide = b ? product<WIDE_OUTPUTS, false, COUNT> : product<WIDE_OUTPUTS, true, COUNT>;
                if (call.outputs > FEW) wide(input, buffers.column + at, weight, skipped, initial, result + at);
                else few(input, weight, skipped, initial, result + at);
            });
        }
        const bool last = c + channels >= call.inputs;
        if (together >= call.inputs || !(last || (c + channels) % together == 0)) continue;
        for (int64_t i = 0; i < blocks * width * TILE; i++) {
            const double sum = (c < together ? 0 : buffers.totals[i]) + results[i];
            buffers.totals[i] = sum;
            results[i] = (accumulator)sum;
        }
    }
}

EXPORTED void pac_convolution(const void *arguments, int64_t first, int64_t last, char *memory) {
    const Pac &call = *(const Pac *)arguments;
    forward_blocks<Buffers>(call, first, last, memory, [&](const Block &block, const Adaptive &adaptive, const Buffers &buffers, int64_t p) {
        any_kernel(call, block, adaptive, p, 0);
        // Outputs that fill up a group are overwritten by the next.
        for (int64_t group = 0; group < call.groups; group++) group_product(call, block, p, adaptive.values, group, buffers);
    });
}
