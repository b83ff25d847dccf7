// Shared by the kernels of the grouped contraction: the tile of results of a block, K for it, and packed weights.
//
//   result[n, o, r] = bias[o] + sum over taps t of K[n, t, r]
//                                   * sum over channels c of weight[o, c, t] * source[n, c, r + t]
//
// The forward pass computes the output; BACKWARD computes the gradient of the input (see window_gather.cuh), with K of
// the output that the gradient comes from.
//
// A block computes TILE_ROWS x TILE_COLUMNS results of one phase for OUTPUT_TILE channels of one group. It stages in
// shared memory: for CHANNELS channels at a time, the source tile with its halo, once for all taps; K for TAP_CHUNK
// taps, unless it is PLAIN; and the weights of WEIGHT_TAPS taps:
//
//        . . . . . . . . . . . .      the staged source: rows and columns that any tap of any result reads
//        . # # # # # # # # . . .      #  the samples that the tile reads under one tap; the next tap reads
//        . # # # # # # # # . . .         the same window shifted, so nothing is loaded twice
//        . # # # # # # # # . . .
//        . . . . . . . . . . . .
//
// Each sum is accumulated by one thread in a fixed order, so results are deterministic.

#pragma once

#include "window_gather.cuh"

#define TILE (TILE_ROWS * TILE_COLUMNS)

// Number of taps whose K is kept in shared memory.
#if defined(PLAIN)
#define KERNEL_TAPS 0
#else
#define KERNEL_TAPS TAP_CHUNK
#endif

struct contraction {
    image_strides source, result;
    int groups, sources, results;                   // channels of one group
    int padded_sources, padded_results;             // the same, padded as in the packed weights
    int tiles_down, tiles_across;                   // tiles of one phase
    int stage_rows, stage_pitch;                    // size of the stage of one channel
};

// The results of a block. The same for all threads of a block.
struct contraction_block {
    gather_axis rows, columns;
    int image, group, first_output;
    int first_row, first_column;                    // of the tile, within the phase
    int top, left;                                  // source position of the first staged sample
    int taps;                                       // number of taps of the phase
};

// blockIdx.x enumerates image, phase and tile; blockIdx.y enumerates group and tile of output channels.
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

// K of result `pixel` of the tile for tap `tap` of the phase; 0 for pixels beyond the edge of the results.
__device__ inline accumulator tile_kernel(
    const adaptive_source& a, const window& w, const contraction_block& b, int tap, int pixel)
{
    const int tap_row = tap / b.columns.taps, tap_column = tap % b.columns.taps;
    const int m = b.first_row + pixel / TILE_COLUMNS, k = b.first_column + pixel % TILE_COLUMNS;
    const int row = b.rows.phase + b.rows.upsampling * m, column = b.columns.phase + b.columns.upsampling * k;
    if (row >= b.rows.result || column >= b.columns.result) return 0;
    const int from_row = m * b.rows.step + b.rows.first_shift + tap_row * b.rows.shift_step;
    const int from_column = k * b.columns.step + b.columns.first_shift + tap_column * b.columns.shift_step;
    return kernel_between(
        a, w, b.image, 0, row, column, from_row, from_column,
        inside(from_row, b.rows.source) && inside(from_column, b.columns.source),
        filter_tap(b.rows, FILTER_HEIGHT, tap_row), filter_tap(b.columns, FILTER_WIDTH, tap_column));
}

// Index of a tap in the order of packed weights, from its index in the phase.
__device__ inline int packed_tap(const contraction_block& b, int tap)
{
    return filter_tap(b.rows, FILTER_HEIGHT, tap / b.columns.taps) * FILTER_WIDTH
        + filter_tap(b.columns, FILTER_WIDTH, tap % b.columns.taps);
}

// A staged pixel: the address of its first channel in the source, and whether it exists. Masked samples count as
// missing, so NaN behind the mask is never read.
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
    // Address arithmetic only for valid pixels: out-of-bounds pointers would be undefined behaviour.
    p.first = source;
    if (!p.valid) return p;
#if defined(MASKED) && !defined(BACKWARD)
    p.valid = a.mask[b.image * a.layout.mask.batch + at_pixel(a.layout.mask, row, column)];
#endif
    p.first += b.image * g.source.batch + (static_cast<long long>(b.group) * g.sources + channel) * g.source.channel
        + at_pixel(g.source, row, column);
    return p;
}

// Value of channel `channel` relative to the first; 0 if it is not below `remaining`, the number of channels left.
__device__ inline accumulator staged_sample(const staged_pixel& p, const contraction& g, int channel, int remaining)
{
    return p.valid && channel < remaining ? widen(p.first[channel * g.source.channel]) : accumulator(0);
}
