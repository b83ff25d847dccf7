// Gather along a window: each result of one array is a sum over taps of values of the other array.
//
//   forward   result = output, source = input   tap i of output o reads (o * step + i * dilation - before) / upsampling
//   BACKWARD  result = input, source = output   tap i of sample q reads (q * upsampling + before - i * dilation) / step
//
// With the order of taps reversed, BACKWARD has the same form as forward with step and upsampling exchanged. One kernel
// therefore computes both.
//
// With upsampling > 1, a result reads only the taps that hit a source sample. Which ones depends on its phase, the
// index of the result modulo upsampling. Results of one phase are numbered m = 0, 1, ...: result = phase + upsampling *
// m, and each tap of the phase is a constant shift: source = m * step + shift. All results of a block have the same
// phase.
//
//   results   0 1 2 3 4 5 6 7    upsampling = 2        step and upsampling are never both above 1
//   phase 0   m   m   m   m
//   phase 1     m   m   m   m

#pragma once

#include "pac.cuh"

struct gather_axis {
    int source, result;
    int step, upsampling;
    int first_tap, tap_step, taps;      // taps of the phase: first_tap + tap_step * v for v < taps
    int first_shift, shift_step;        // their shifts: first_shift + shift_step * v
    int phase;
};

// Gather along one axis, for results of one phase.
__device__ inline gather_axis make_gather_axis(const window_axis& w, int filter, int phase)
{
    gather_axis g;
#if defined(BACKWARD)
    g.source = w.output;
    g.result = w.input;
    g.step = w.upsampling;
    g.upsampling = w.step;
    const int before = (filter - 1) * w.dilation - w.before;
#else
    g.source = w.input;
    g.result = w.output;
    g.step = w.step;
    g.upsampling = w.upsampling;
    const int before = w.before;
#endif
    g.phase = phase;
    g.first_tap = g.taps = g.first_shift = g.shift_step = 0;
    g.tap_step = 1;
    for (int i = 0; i < filter; ++i) {
        const int upsampled = phase * g.step + i * w.dilation - before;
        // In C++ the remainder of a negative number is negative or 0, so comparing it with 0 is correct.
        if (upsampled % g.upsampling != 0) continue;
        if (g.taps == 0) {
            g.first_tap = i;
            g.first_shift = upsampled / g.upsampling;
        } else if (g.taps == 1) {
            g.tap_step = i - g.first_tap;
            g.shift_step = upsampled / g.upsampling - g.first_shift;
        }
        ++g.taps;
    }
    return g;
}

// Gather along both axes, and the image. The same for all threads of a block.
struct gather {
    gather_axis rows, columns;
    int image;
};

// Block indices enumerate column phases (innermost), row phases and images. `block` is what is left of the block index
// after the caller has removed its inner dimensions.
__device__ inline gather make_gather(const window& w, int block)
{
#if defined(BACKWARD)
    const int row_phases = w.rows.step, column_phases = w.columns.step;
#else
    const int row_phases = w.rows.upsampling, column_phases = w.columns.upsampling;
#endif
    gather g;
    g.columns = make_gather_axis(w.columns, FILTER_WIDTH, block % column_phases);
    block /= column_phases;
    g.rows = make_gather_axis(w.rows, FILTER_HEIGHT, block % row_phases);
    g.image = block / row_phases;
    return g;
}

// Index in the whole filter of tap v of the phase.
__device__ inline int filter_tap(const gather_axis& g, int filter, int v)
{
    const int tap = g.first_tap + v * g.tap_step;
#if defined(BACKWARD)
    return filter - 1 - tap;
#else
    return tap;
#endif
}

// K for the result (row, column) and the source (from_row, from_column) that it reads through a tap.
__device__ inline accumulator kernel_between(
    const adaptive_source& a, const window& w, int image, int channel,
    int row, int column, int from_row, int from_column, bool from_valid, int tap_row, int tap_column)
{
    pixel_position p;
#if defined(BACKWARD)
    // Sources are outputs here: without an output there is no kernel.
    if (!from_valid) return 0;
    p.row = row;
    p.column = column;
    p.valid = true;
    return kernel_at(a, w, image, channel, from_row, from_column, tap_row, tap_column, p);
#else
    p.row = from_row;
    p.column = from_column;
    p.valid = from_valid;
    return kernel_at(a, w, image, channel, row, column, tap_row, tap_column, p);
#endif
}

__device__ inline bool inside(int index, int size) { return index >= 0 && index < size; }

// A value of the source; 0 outside the image and for input samples that are masked out, even if the array holds NaN
// there.
__device__ inline accumulator source_at(
    const scalar* source, const adaptive_source& a, int image, long long channel_base, const image_strides& strides,
    int row, int column, bool valid)
{
    if (!valid) return 0;
#if defined(MASKED) && !defined(BACKWARD)
    if (!a.mask[image * a.layout.mask.batch + at_pixel(a.layout.mask, row, column)]) return 0;
#endif
    return widen(source[channel_base + at_pixel(strides, row, column)]);
}
