// Layout of the gradient of the adaptive kernel, for a band of output rows.
//
//   kernel_grad   (images, channels of K, taps, rows, output columns), accumulators

#pragma once

#include "pac.cuh"

struct band {
    int first_image, images;
    int first_row, rows;                // of the output
};

__device__ inline long long kernel_grad_index(
    const window& w, const band& b, int channels, int image, int channel, int tap, int row, int column)
{
    return (((static_cast<long long>(image - b.first_image) * channels + channel) * FILTER_TAPS + tap) * b.rows
            + (row - b.first_row)) * w.columns.output + column;
}
