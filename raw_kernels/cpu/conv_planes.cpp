// Correlations with vectors of pixels, packed as planes of channels: for groups of few outputs.
//
// A block's rows are packed with their halo; a tile is several vectors of consecutive positions of the *packed* rows,
// across the ends of rows, so that each tap is one constant offset for all of them. The positions between the rows are
// computed as well and dropped when rows are stored:
//
//     packed row   x x x x x x x x . .    8 outputs of 3 taps: 2 of 10 positions are dropped
//     tile         [------][------][------]
//
// A tile has `width` outputs in registers; weights are broadcast.

#include "correlation.h"
#include "pack_planes.h"
#include "pack_weights.h"
#include "store_planes.h"

#if VECTOR_REGISTERS == 32
enum { WIDE = 8, WIDE_VECTORS = 3, FEW_VECTORS = 6, PAIR_VECTORS = 8 };
#else
enum { WIDE = 4, WIDE_VECTORS = 3, FEW_VECTORS = 3, PAIR_VECTORS = 4 };
#endif
enum { SINGLE_VECTORS = 8, MOST_VECTORS = 8 };

// Outputs that are computed at a time: the number whose blocks fill up least, narrow ones being slower.
EXPORTED int64_t output_width(int64_t outputs) {
    if (outputs <= 2) return larger(outputs, 1);
    if (WIDE == 4 || outputs <= 4) return 4;
    return 8 * rounded_up(outputs, 8) <= 9 * rounded_up(outputs, 4) ? 8 : 4;
}

// Elements beyond the packed samples of the last channel that tiles read and drop.
EXPORTED int64_t slack() { return MOST_VECTORS * LANES; }

// Columns of a tile of a wide group.
EXPORTED int64_t tile_columns() { return WIDE_VECTORS * LANES; }

template <int OUTPUTS, int VECTORS>
NOINLINE void tile(const accumulator *RESTRICT samples, int64_t distance, const int64_t *RESTRICT offsets, int64_t taps,
                   const accumulator *RESTRICT weight, int64_t channels, const accumulator *RESTRICT initial,
                   accumulator *RESTRICT result, int64_t pitch) {
    vector sums[OUTPUTS][VECTORS];
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] = broadcast(initial[o]);
    for (int64_t c = 0; c < channels; c++, samples += distance)
        for (int64_t t = 0; t < taps; t++, weight += OUTPUTS) {
            const accumulator *source = samples + offsets[t];
            vector values[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(source + v * LANES);
            UNROLL for (int o = 0; o < OUTPUTS; o++) {
                vector factor = broadcast(weight[o]);
                if constexpr (VECTORS > 1) KEEP_IN_REGISTER(factor);
                UNROLL for (int v = 0; v < VECTORS; v++) sums[o][v] += factor * values[v];
            }
        }
    UNROLL for (int o = 0; o < OUTPUTS; o++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + o * pitch + v * LANES, sums[o][v]);
}

// All tiles of `length` positions, about equally long.
template <int OUTPUTS, int VECTORS>
INLINE void tiles(const accumulator *samples, int64_t distance, const Phase &phase, const accumulator *weight, int64_t channels,
                  const accumulator *initial, accumulator *result, int64_t length, int64_t pitch) {
    for_equal_parts<VECTORS>(ceil_div(length, LANES), [&](auto vectors, int64_t first) {
        tile<OUTPUTS, decltype(vectors)::value>(samples + first * LANES, distance, phase.offsets, phase.taps, weight, channels, initial,
                                                result + first * LANES, pitch);
    });
}

// Rows of `count` outputs from `output` on, of which the positions between the rows are left out.
NOINLINE void store_rows(const Correlation &call, const Block &block, int64_t output, int64_t count, const accumulator *result, int64_t pitch) {
    const int64_t step = block.phase->step[1] * call.output_strides.column, columns = block.range.columns;
    for (int64_t r = 0; r < block.range.rows; r++)
        store_row(output_at(call, block, output, r, 0), call.output_strides.channel, step, count, columns, result + r * block.phase->pitch, pitch);
}

template <int OUTPUTS, int VECTORS> INLINE void correlate(const Correlation &call, const Block &block, char *workspace) {
    const Phase &phase = *block.phase;
    const int64_t distance = phase.plane * phase.segments[1];
    accumulator *const packed = (accumulator *)workspace;
    accumulator *const results = packed + rounded_up(distance * call.channels * call.grouped + MOST_VECTORS * LANES, LANES);
    const int64_t length = (block.range.rows - 1) * phase.pitch + block.range.columns;
    const int64_t pitch = rounded_up(length, LANES);
    const int64_t blocks = ceil_div(call.outputs, OUTPUTS);
    const int64_t from = blocks * block.output_block / call.output_blocks, to = blocks * (block.output_block + 1) / call.output_blocks;
    const int64_t groups = smaller(call.grouped, call.groups - block.group);
    const bool whole = call.channels == call.inputs;
    double *const totals = (double *)(results + OUTPUTS * pitch);
    for (int64_t c = 0; c < call.inputs; c += call.channels) {
        const int64_t channels = smaller(call.channels, call.inputs - c);
        pack_planes<storage>(packed, distance, phase, block.range, call.input, block.image, block.group * call.inputs + c,
                             call.grouped > 1 ? groups * call.inputs : channels);
        for (int64_t g = 0; g < groups; g++)
            for (int64_t b = from; b < to; b++) {
                const int64_t number = (block.group + g) * blocks + b, output = (block.group + g) * call.outputs + b * OUTPUTS;
                const accumulator *weight = call.weight + phase.weight + (number * call.inputs + c) * phase.taps * OUTPUTS;
                const accumulator zeros[OUTPUTS] = {};
                // Groups that are packed together are stored together. Outputs that fill up a group are overwritten by the next.
                accumulator *const result = results + (call.grouped > 1 ? (g * call.outputs + b * OUTPUTS) * pitch : 0);
                tiles<OUTPUTS, VECTORS>(packed + g * call.inputs * distance, distance, phase, weight, channels,
                                        c ? zeros : call.bias + number * OUTPUTS, result, length, pitch);
                if (call.grouped > 1) continue;
                if (!whole) {
                    // Sums of many channels: of some at a time, which are added in float64.
                    double *total = totals + (b - from) * OUTPUTS * pitch;
                    const bool final = c + channels == call.inputs;
                    for (int64_t i = 0; i < OUTPUTS * pitch; i++) {
                        const double sum = (c ? total[i] : 0) + results[i];
                        total[i] = sum;
                        results[i] = (accumulator)sum;
                    }
                    if (!final) continue;
                }
                store_rows(call, block, output, smaller(OUTPUTS, call.outputs - b * OUTPUTS), results, pitch);
            }
    }
    if (call.grouped > 1) store_rows(call, block, block.group * call.outputs, groups * call.outputs, results, pitch);
}

EXPORTED void correlate_planes(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const Correlation &call = *(const Correlation *)arguments;
    while (first < last) {
        const Block block = block_of(call, first, last);
        switch (call.width) {
        case 8: if constexpr (WIDE == 8) correlate<8, WIDE_VECTORS>(call, block, workspace); break;
        case 4: correlate<4, FEW_VECTORS>(call, block, workspace); break;
        case 2: correlate<2, PAIR_VECTORS>(call, block, workspace); break;
        case 1: correlate<1, SINGLE_VECTORS>(call, block, workspace); break;
        }
        first += block.count;
    }
}
