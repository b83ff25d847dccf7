// What the kernels of the grouped contraction share: which results a block makes, K for them, and packed weights.
//
//   result[n, o, r] = bias[o] + sum over taps t of K[n, t, r] * sum over channels c of weight[o, c, t] * source[n, c, r + t]
//
// Forward it makes the output; BACKWARD the gradient of the input (see window_gather.cuh), with K of the output it comes from.
//
// A block makes TILE_ROWS x TILE_COLUMNS results of one phase for OUTPUT_TILE channels of one group. It stages in
// shared memory, for CHANNELS channels at a time, the source tile with its halo, once for all taps; K for TAP_CHUNK
// taps, unless it is PLAIN; and the weights of WEIGHT_TAPS taps:
//
//        . . . . . . . . . . . .      the staged source: rows and columns that any tap of any result reads
//        . # # # # # # # # . . .      #  the tile's own places under one tap; the next tap is the same window
//        . # # # # # # # # . . .         shifted, so nothing is loaded again
//        . # # # # # # # # . . .
//        . . . . . . . . . . . .
//
// No sum is shared between threads that run apart, and the order of every sum is fixed.

#pragma once

#include "window_gather.cuh"

#define TILE (TILE_ROWS * TILE_COLUMNS)

// Taps whose K is kept in shared memory.
#if defined(PLAIN)
#define KERNEL_TAPS 0
#else
#define KERNEL_TAPS TAP_CHUNK
#endif

struct contraction {
    image_strides source, result;
    int groups, sources, results;                   // channels of one group
    int padded_sources, padded_results;             // and of the packed weights
    int tiles_down, tiles_across;                   // tiles of one phase
    int stage_rows, stage_pitch;                    // the staged source of one channel
};

// A block's share of the results. Same for all its threads.
struct contraction_block {
    gather_axis rows, columns;
    int image, group, first_output;
    int first_row, first_column;                    // of the tile, within the phase
    int top, left;                                  // place of the source that is staged first
    int taps;                                       // of the phase
};

// Image, phase and tile lie along x of the grid; group and tile of channels along y.
__device__ inline contraction_block make_block(const window& w, const contraction& g)
{
    contraction_block b;
    int block = blockIdx.x;
    b.first_column = block % g.tiles_across * TILE_COLUMNS;
    block /= g.tiles_across;
    b.first_row = block % g.tiles_down * TILE_ROWS;
    block /= g.tiles_down;
    const gather from = make_gather(w, block);
    b.rows = from.rows;
    b.columns = from.columns;
    b.image = from.image;
    const int output_tiles = g.padded_results / OUTPUT_TILE;
    b.group = blockIdx.y / output_tiles;
    b.first_output = blockIdx.y % output_tiles * OUTPUT_TILE;
    b.top = b.first_row * b.rows.step + b.rows.first_shift;
    b.left = b.first_column * b.columns.step + b.columns.first_shift;
    b.taps = b.rows.taps * b.columns.taps;
    return b;
}

// K of a result of the tile, numbered `pixel`, for tap `tap` of the phase; 0 beyond the results.
__device__ inline accumulator tile_kernel(
    const adaptive_source& a, const window& w, const contraction_block& b, int tap, int pixel)
{
    const int tap_row = tap / b.columns.taps, tap_column = tap % b.columns.taps;
    const int m = b.first_row + pixel / TILE_COLUMNS, k = b.first_column + pixel % TILE_COLUMNS;
    const int row = b.rows.phase + b.rows.stuff * m, column = b.columns.phase + b.columns.stuff * k;
    if (row >= b.rows.result || column >= b.columns.result) return 0;
    const int from_row = m * b.rows.step + b.rows.first_shift + tap_row * b.rows.shift_step;
    const int from_column = k * b.columns.step + b.columns.first_shift + tap_column * b.columns.shift_step;
    return kernel_between(
        a, w, b.image, 0, row, column, from_row, from_column,
        inside(from_row, b.rows.source) && inside(from_column, b.columns.source),
        true_tap(b.rows, FILTER_HEIGHT, tap_row), true_tap(b.columns, FILTER_WIDTH, tap_column));
}

// Number of a true tap, in the order of packed weights, from its number in the phase.
__device__ inline int packed_tap(const contraction_block& b, int tap)
{
    return true_tap(b.rows, FILTER_HEIGHT, tap / b.columns.taps) * FILTER_WIDTH
        + true_tap(b.columns, FILTER_WIDTH, tap % b.columns.taps);
}

// A place of the stage: where its first channel lies in the source, and whether there is one. Samples that the mask
// hides count as none, so that NaN may stand there.
struct staged_pixel {
    const scalar* first;
    bool valid;
};

__device__ inline staged_pixel locate_source(
    const scalar* source, const adaptive_source& a, const contraction_block& b, const contraction& g,
    int channel, int row, int column)
{
    staged_pixel p;
    p.valid = inside(row, b.rows.source) && inside(column, b.columns.source);
    // Pointers are made for valid places alone.
    p.first = source;
    if (!p.valid) return p;
#if defined(MASKED) && !defined(BACKWARD)
    p.valid = a.mask[b.image * a.layout.mask.batch + at_pixel(a.layout.mask, row, column)];
#endif
    p.first += b.image * g.source.batch + (static_cast<long long>(b.group) * g.sources + channel) * g.source.channel
        + at_pixel(g.source, row, column);
    return p;
}

// Channel `channel` of those left, from the first on; 0 beyond.
__device__ inline accumulator staged_sample(const staged_pixel& p, const contraction& g, int channel, int left)
{
    return p.valid && channel < left ? widen(p.first[channel * g.source.channel]) : accumulator(0);
}
