// Geometry shared by all sliding-window operators: windows, images and weights.
//
//   FILTER_HEIGHT, FILTER_WIDTH   size of the filter in taps; macros from the host, as is the scalar type
//
// The parameters of a window along one axis cover transposed convolution as well. Tap i of output o reads position
//
//   u = o * step + i * dilation - before      which is sample u / upsampling if that is an integer inside the image
//
// A convolution has step = stride and upsampling = 1. A transposed convolution has step = 1 and upsampling = stride:
// stride - 1 zeros are inserted between its input samples. The guide is read at o * guide_step + i * dilation -
// guide_before, whether or not there is an input sample.

#pragma once

#include "scalars.cuh"

#define FILTER_TAPS (FILTER_HEIGHT * FILTER_WIDTH)

struct window_axis {
    int input, output, guide;
    int step, upsampling, dilation, before;
    int guide_step, guide_before;
};

// Strides in elements; they may be negative. Arrays are read in place, in any layout.
struct image_strides {
    long long batch, channel, row, column;
};

// Strides of a weight in the order of the correlation: a flipped filter has negative row and column strides, and
// `first` is the offset of its first tap.
struct weight_strides {
    long long first;
    int group, result, source, row, column;
};

struct window {
    window_axis rows, columns;
    int batch, guides;
};

struct pixel_position {
    int row, column;
    bool valid;
};

__device__ inline long long at_pixel(const image_strides& strides, int row, int column)
{
    return row * strides.row + column * strides.column;
}

// Weight of one tap between a source channel and a result channel of a group.
__device__ inline accumulator weight_at(
    const scalar* weight, const weight_strides& s, int group, int result, int source, int tap_row, int tap_column)
{
    return widen(weight[
        s.first + static_cast<long long>(group) * s.group + static_cast<long long>(result) * s.result
        + static_cast<long long>(source) * s.source + tap_row * s.row + tap_column * s.column]);
}

// Index of the input sample that a tap of an output reads, along one axis; -1 if there is none.
__device__ inline int input_index(const window_axis& axis, int output, int tap)
{
    const int upsampled = output * axis.step + tap * axis.dilation - axis.before;
    if (upsampled < 0 || upsampled % axis.upsampling != 0) return -1;
    const int sample = upsampled / axis.upsampling;
    return sample < axis.input ? sample : -1;
}

// Index of the output that reads an input sample through a tap, along one axis; -1 if there is none.
__device__ inline int output_index(const window_axis& axis, int sample, int tap)
{
    const int stepped = sample * axis.upsampling + axis.before - tap * axis.dilation;
    if (stepped < 0 || stepped % axis.step != 0) return -1;
    const int output = stepped / axis.step;
    return output < axis.output ? output : -1;
}

__device__ inline pixel_position sample_position(const window& w, int row, int column, int tap_row, int tap_column)
{
    pixel_position p;
    p.row = input_index(w.rows, row, tap_row);
    p.column = input_index(w.columns, column, tap_column);
    p.valid = p.row >= 0 && p.column >= 0;
    return p;
}

// Offset of an output in an array of (batch, channels, output rows, output columns).
__device__ inline long long output_offset(const window& w, int image, int channels, int channel, int row, int column)
{
    return ((static_cast<long long>(image) * channels + channel) * w.rows.output + row) * w.columns.output + column;
}
