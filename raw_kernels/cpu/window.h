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

// Images that windows slide over.
struct Images {
    const void *data;            // their first element, of the type that packing is told
    int64_t begin, end;          // memory of the array, in elements from there: vectors may read all of it
    Strides strides;
    int64_t size[2], stride[2];  // rows and columns; at which windows read them
};

// Ranges of the outputs of a block along both axes.
struct Range {
    int64_t row, rows, column, columns;
};

// What a block of outputs reads of one segment of the rows and one of the columns: `rows` packed rows, from `position` on.
// Those from `top` to `bottom` are inside of the image, and of their samples those from `first` to `last`; the others of
// the `pitch` are zeros.
struct PackedRows {
    int64_t position, rows, pitch;
    int64_t top, bottom, first, last;
    int64_t source, row, column;  // elements from the image's first to the first sample, which may be outside; to the next row, column
};

// Of the samples `start + i * stride`, with `i` below `count`: the range of those from 0 to `size`.
INLINE void range_inside(int64_t start, int64_t stride, int64_t count, int64_t size, int64_t &first, int64_t &last) {
    first = smaller(larger(ceil_div(-start, stride), 0), count);
    last = larger(smaller(ceil_div(size - start, stride), count), first);
}

template <class Body> INLINE void for_packed_rows(const Phase &phase, const Range &range, const Images &images, Body body) {
    const Strides &strides = images.strides;
    PackedRows packed;
    packed.pitch = phase.pitch;
    packed.row = images.stride[0] * strides.row;
    packed.column = images.stride[1] * strides.column;
    for (int64_t s = 0; s < phase.segments[1]; s++) {
        const Segment &columns = phase.segment[1][s];
        const int64_t x = columns.start + range.column * images.stride[1];
        range_inside(x, images.stride[1], range.columns + columns.extra, images.size[1], packed.first, packed.last);
        for (int64_t q = 0; q < phase.segments[0]; q++) {
            const Segment &rows = phase.segment[0][q];
            const int64_t y = rows.start + range.row * images.stride[0];
            packed.rows = range.rows + rows.extra;
            packed.position = s * phase.plane + rows.base * phase.pitch;
            packed.source = y * strides.row + x * strides.column;
            range_inside(y, images.stride[0], packed.rows, images.size[0], packed.top, packed.bottom);
            body(packed);
        }
    }
}

// Calls `body(row, first, last)` for every packed row: with none of its samples inside of the image, first and last are 0.
template <class Body> INLINE void for_rows(const PackedRows &rows, Body body) {
    for (int64_t r = 0; r < rows.rows; r++) {
        const bool inside = r >= rows.top && r < rows.bottom;
        body(r, inside ? rows.first : 0, inside ? rows.last : 0);
    }
}

INLINE int64_t image_at(const Images &images, int64_t image, int64_t channel) {
    return image * images.strides.image + channel * images.strides.channel;
}
