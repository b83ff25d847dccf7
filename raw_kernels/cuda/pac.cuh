// The adaptive kernel K of the pixel-adaptive operators; K is 1 for plain convolution.
//
// Macros from the host, in addition to the scalar type and the filter size:
//
//   PLAIN                         no adaptive kernel: K is 1 at every tap with an input sample
//   GUIDE_FLOAT32                 the guide (or the precomputed kernel) is float32, images are half precision
//   KERNEL_PRECOMPUTED            K is an input array; otherwise it is computed from the guide:
//     KERNEL_INV                    alpha + (squared distance + 1e-4)^(lambda / 2), else exp(-squared distance / 2)
//     ASYMMETRIC                    differences of the guide are clipped: max(0, difference)
//     CHANNEL_WISE                  one K for each guide channel
//     SMOOTHED                      `centre` holds the smoothed guide at every output
//     HAS_DIVISOR                   K is 0 where a tap is not valid, and divided by `divisor`
//     NORMALIZED                    `divisor` is the sum of K over the valid taps
//     MASKED                        a tap on a sample whose mask is 0 is not valid either
//
// CALL_PARAMETERS are the leading parameters of every kernel; ADAPTIVE_SOURCE is the initializer of an adaptive_source
// from them.

#pragma once

#include "window.cuh"

#if defined(PLAIN)

struct adaptive_source {};

#define CALL_PARAMETERS window w
#define ADAPTIVE_SOURCE {}

__device__ inline bool tap_is_valid(const adaptive_source&, int, const pixel_position& p) { return p.valid; }

__device__ inline accumulator kernel_at(
    const adaptive_source&, const window&, int, int, int, int, int, int, const pixel_position&)
{
    return 1;
}

#else

#if defined(GUIDE_FLOAT32)
typedef float guide_scalar;
__device__ inline accumulator widen_guide(guide_scalar value) { return value; }
__device__ inline guide_scalar narrow_guide(accumulator value) { return value; }
#else
typedef scalar guide_scalar;
__device__ inline accumulator widen_guide(guide_scalar value) { return widen(value); }
__device__ inline guide_scalar narrow_guide(accumulator value) { return narrow(value); }
#endif

struct kernel_strides {
    long long batch, channel, tap_row, tap_column, row, column;
};

struct adaptive_layout {
    image_strides guide, mask;
    kernel_strides kernel;
    int inv_channels;                   // 1, or the number of guide channels
    int kernel_channels;                // channels of K: 1, or the number of channels of the guide or the input
};

// Arrays that define the adaptive kernel; pointers that the macros do not use are null.
struct adaptive_source {
    adaptive_layout layout;
    const guide_scalar* guide;          // K itself with KERNEL_PRECOMPUTED
    const guide_scalar* inv_alpha;
    const guide_scalar* inv_lambda;
    const bool* mask;                   // of the input
    const accumulator* centre;          // (batch, guides, output rows, output columns)
    const accumulator* divisor;         // (batch, channels of K, output rows, output columns)
};

// Pointers are separate parameters, so that their types are checked at launch.
#define CALL_PARAMETERS \
    window w, adaptive_layout layout, const guide_scalar* __restrict__ guide, \
        const guide_scalar* __restrict__ inv_alpha, const guide_scalar* __restrict__ inv_lambda, \
        const bool* __restrict__ mask, \
        const accumulator* __restrict__ centre, const accumulator* __restrict__ divisor
#define ADAPTIVE_SOURCE {layout, guide, inv_alpha, inv_lambda, mask, centre, divisor}

// Weight of one tap of a filter shared by all channels; 1 if there is no filter.
__device__ inline accumulator shared_filter_weight(
    const scalar* filter, const weight_strides& s, int tap_row, int tap_column)
{
    return filter == nullptr ? accumulator(1) : weight_at(filter, s, 0, 0, 0, tap_row, tap_column);
}

__device__ inline int guide_index(const window_axis& axis, int output, int tap)
{
    return output * axis.guide_step + tap * axis.dilation - axis.guide_before;
}

__device__ inline bool guide_inside(const window& w, int row, int column)
{
    return row >= 0 && column >= 0 && row < w.rows.guide && column < w.columns.guide;
}

// Value of one channel of the guide; 0 outside the image.
__device__ inline accumulator guide_at(
    const adaptive_source& a, const window& w, long long channel_base, int row, int column)
{
    if (!guide_inside(w, row, column)) return 0;
    return widen_guide(a.guide[channel_base + at_pixel(a.layout.guide, row, column)]);
}

__device__ inline long long guide_base(const adaptive_source& a, int image, int channel)
{
    return image * a.layout.guide.batch + channel * a.layout.guide.channel;
}

__device__ inline accumulator centre_at(
    const adaptive_source& a, const window& w, int image, int channel, int row, int column)
{
#if defined(SMOOTHED)
    return a.centre[output_offset(w, image, w.guides, channel, row, column)];
#else
    return guide_at(
        a, w, guide_base(a, image, channel),
        guide_index(w.rows, row, FILTER_HEIGHT / 2), guide_index(w.columns, column, FILTER_WIDTH / 2));
#endif
}

// Difference between the guide at a tap and at the centre.
__device__ inline accumulator difference_at(
    const adaptive_source& a, const window& w, int image, int channel,
    int row, int column, int tap_row, int tap_column)
{
    const accumulator tap = guide_at(
        a, w, guide_base(a, image, channel),
        guide_index(w.rows, row, tap_row), guide_index(w.columns, column, tap_column));
    const accumulator difference = tap - centre_at(a, w, image, channel, row, column);
#if defined(ASYMMETRIC)
    // Comparison in this direction propagates NaN.
    return difference < 0 ? accumulator(0) : difference;
#else
    return difference;
#endif
}

__device__ inline bool tap_is_valid(const adaptive_source& a, int image, const pixel_position& p)
{
#if defined(MASKED)
    return p.valid && a.mask[image * a.layout.mask.batch + at_pixel(a.layout.mask, p.row, p.column)];
#else
    return p.valid;
#endif
}

__device__ inline float exponential(float value) { return expf(value); }
__device__ inline double exponential(double value) { return exp(value); }
__device__ inline float power(float base, float exponent) { return powf(base, exponent); }
__device__ inline double power(double base, double exponent) { return pow(base, exponent); }
__device__ inline float logarithm(float value) { return logf(value); }
__device__ inline double logarithm(double value) { return log(value); }

#define DISTANCE_SHIFT accumulator(1e-4)

// K from the squared distance, before division by the divisor.
__device__ inline accumulator raw_kernel(const adaptive_source& a, int channel, accumulator squared)
{
#if defined(KERNEL_INV)
    const int option = a.layout.inv_channels == 1 ? 0 : channel;
    const accumulator half = widen_guide(a.inv_lambda[option]) / 2;
    return widen_guide(a.inv_alpha[option]) + power(squared + DISTANCE_SHIFT, half);
#else
    return exponential(squared * accumulator(-0.5));
#endif
}

// Squared distance between the guide at a tap and at the centre: of one channel, or summed over all channels.
__device__ inline accumulator squared_distance(
    const adaptive_source& a, const window& w, int image, int channel,
    int row, int column, int tap_row, int tap_column)
{
#if defined(CHANNEL_WISE)
    const accumulator difference = difference_at(a, w, image, channel, row, column, tap_row, tap_column);
    return difference * difference;
#else
    // The positions of the tap and the centre are the same for all channels.
    const guide_scalar* const base = a.guide + guide_base(a, image, 0);
    const int tap_at_row = guide_index(w.rows, row, tap_row);
    const int tap_at_column = guide_index(w.columns, column, tap_column);
    const bool tap_inside = guide_inside(w, tap_at_row, tap_at_column);
    const guide_scalar* tap = base + at_pixel(a.layout.guide, tap_at_row, tap_at_column);
#if defined(SMOOTHED)
    const long long step = static_cast<long long>(w.rows.output) * w.columns.output;
    const accumulator* centre = a.centre + output_offset(w, image, w.guides, 0, row, column);
#else
    const int centre_row = guide_index(w.rows, row, FILTER_HEIGHT / 2);
    const int centre_column = guide_index(w.columns, column, FILTER_WIDTH / 2);
    const bool centre_inside = guide_inside(w, centre_row, centre_column);
    const long long step = a.layout.guide.channel;
    const guide_scalar* centre = base + at_pixel(a.layout.guide, centre_row, centre_column);
#endif
    accumulator sum = 0;
    for (int g = 0; g < w.guides; ++g, tap += a.layout.guide.channel, centre += step) {
        accumulator difference = tap_inside ? widen_guide(*tap) : accumulator(0);
#if defined(SMOOTHED)
        difference -= *centre;
#else
        difference -= centre_inside ? widen_guide(*centre) : accumulator(0);
#endif
#if defined(ASYMMETRIC)
        difference = difference < 0 ? accumulator(0) : difference;
#endif
        sum += difference * difference;
    }
    return sum;
#endif
}

// K of one output and tap: computed and divided, or read from memory. `p` is the sample that the tap reads.
__device__ inline accumulator kernel_at(
    const adaptive_source& a, const window& w, int image, int channel,
    int row, int column, int tap_row, int tap_column, const pixel_position& p)
{
#if defined(KERNEL_PRECOMPUTED)
    const kernel_strides& s = a.layout.kernel;
    return widen_guide(a.guide[
        image * s.batch + (a.layout.kernel_channels == 1 ? 0 : channel) * s.channel + tap_row * s.tap_row
        + tap_column * s.tap_column + row * s.row + column * s.column]);
#else
#if defined(HAS_DIVISOR)
    if (!tap_is_valid(a, image, p)) return 0;
#endif
    const accumulator raw =
        raw_kernel(a, channel, squared_distance(a, w, image, channel, row, column, tap_row, tap_column));
#if defined(HAS_DIVISOR)
    const accumulator divisor = a.divisor[output_offset(
        w, image, a.layout.kernel_channels, a.layout.kernel_channels == 1 ? 0 : channel, row, column)];
    return divisor == 0 ? accumulator(0) : raw / divisor;
#else
    return raw;
#endif
#endif
}

#endif
