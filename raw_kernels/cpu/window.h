#pragma once
// Where the taps of a sliding window read, and the packing of the samples that a block of outputs reads.
//
// A window of stride s is split into phases (see arrayops/_core/taps.py): the outputs of a phase read, at tap t, the
// samples offset_t + r * s for r = 0, 1, ...; a transposed window has s phases that read with stride 1, all others one
// phase. A block of outputs has a range of r along each axis. Along an axis, *segments* are the samples that it reads:
// taps that read overlapping ranges with the stride share one, far ones (large dilations) have their own, so that the
// size depends on neither the stride nor the dilation.
//
//     samples  . 0 1 2 3 4 5 6 7 8     3 taps, stride 2, r = 0 .. 3, padding 1
//     segment 0: -1 1 3 5 7            taps 0 and 2, at positions 0 and 1
//     segment 1:  0 2 4 6              tap 1
//
// Packed rows of all segments of the rows are consecutive; every segment of the columns is a plane of such rows. Then
// each tap of each output reads at a constant distance from the first.

#include "storage.h"

struct Segment {
    int64_t start;  // sample of index 0, which may be outside of the image
    int64_t extra;  // samples beyond the number of outputs
    int64_t base;   // row of the packed block (rows), plane of it (columns)
};

struct Phase {
    int64_t first_block;           // number of the phase's first block
    int64_t first[2], step[2];     // outputs of the phase: first, first + step, ...
    int64_t length[2];             // how many there are along each axis
    int64_t size[2];               // outputs of a block: rows, columns
    int64_t blocks[2];             // of the phase along each axis
    int64_t taps, weight;          // taps of the phase; offset of its packed weights
    const int64_t *offsets;        // for each tap: from the first packed sample, in samples
    int64_t segments[2];
    const Segment *segment[2];
    int64_t pitch, plane;          // packed samples: of a row, of the rows of a segment of the columns
};

struct Strides {
    int64_t image, channel, row, column;
};

// Ranges of the outputs of a block along both axes.
struct Range {
    int64_t row, rows, column, columns;
};

// Calls `pack(row, plane, first, last, source row, source column)` for every packed row: `first` to `last` are the
// samples inside of the image, the others of the `pitch` are zeros; with none inside, first is last.
template <class Pack>
INLINE void for_packed_rows(const Phase &phase, const Range &range, const int64_t (&size)[2], const int64_t (&stride)[2], Pack pack) {
    for (int64_t s = 0; s < phase.segments[1]; s++) {
        const Segment &columns = phase.segment[1][s];
        const int64_t x = columns.start + range.column * stride[1], wide = range.columns + columns.extra;
        const int64_t first = smaller(larger(ceil_div(-x, stride[1]), 0), wide);
        const int64_t last = larger(smaller(ceil_div(size[1] - x, stride[1]), wide), first);
        for (int64_t q = 0; q < phase.segments[0]; q++) {
            const Segment &rows = phase.segment[0][q];
            for (int64_t r = 0; r < range.rows + rows.extra; r++) {
                const int64_t y = rows.start + (range.row + r) * stride[0];
                const bool inside = y >= 0 && y < size[0];
                pack(rows.base + r, s, inside ? first : 0, inside ? last : 0, y, x);
            }
        }
    }
}
