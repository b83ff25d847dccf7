// The adaptive kernel as a result, and the arrays that are computed before it: the smoothed guide at the centres, and
// the divisor.

#include "pac.cuh"

// Smooths the guide at the centre of every output.
//
//   result[n, g, o] = sum over (a, b) of smooth[a, b] * guide[n, g, centre of o + (a, b) - size / 2]
//
// One thread for each entry of the result.
extern "C" __global__ void pac_centre(
    CALL_PARAMETERS, const guide_scalar* smooth, int height, int width, accumulator* result)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long plane = static_cast<long long>(w.rows.output) * w.columns.output;
    const long long count = plane * w.guides * w.batch;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        const int pixel = at % plane, image = at / plane / w.guides, channel = at / plane % w.guides;
        const int row = pixel / w.columns.output, column = pixel % w.columns.output;
        const int top = guide_index(w.rows, row, FILTER_HEIGHT / 2) - height / 2;
        const int left = guide_index(w.columns, column, FILTER_WIDTH / 2) - width / 2;
        const long long base = guide_base(a, image, channel);
        accumulator sum = 0;
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j)
                sum += widen_guide(smooth[i * width + j]) * guide_at(a, w, base, top + i, left + j);
        result[at] = sum;
    }
}

// Divisors of K, and the output mask. A tap is valid if it has an input sample that is not masked out.
//
//   NORMALIZED:  result[n, g, o] = sum of K over the valid taps
//   otherwise:   result[n, 0, o] = number of valid taps / number of taps with an input sample
//
// One thread for each output and channel of K. `output_mask` is null if there is no mask.
extern "C" __global__ void pac_divisor(CALL_PARAMETERS, accumulator* result, bool* output_mask)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long plane = static_cast<long long>(w.rows.output) * w.columns.output;
    const long long count = plane * a.layout.kernel_channels * w.batch;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        const int pixel = at % plane, image = at / plane / a.layout.kernel_channels;
        const int channel = at / plane % a.layout.kernel_channels;
        const int row = pixel / w.columns.output, column = pixel % w.columns.output;
        int samples = 0, valid = 0;
        accumulator sum = 0;
        for (int i = 0; i < FILTER_HEIGHT; ++i)
            for (int j = 0; j < FILTER_WIDTH; ++j) {
                const pixel_position p = sample_position(w, row, column, i, j);
                samples += p.valid;
                if (!tap_is_valid(a, image, p)) continue;
                ++valid;
#if defined(NORMALIZED)
                sum += raw_kernel(a, channel, squared_distance(a, w, image, channel, row, column, i, j));
#endif
            }
#if !defined(NORMALIZED)
        sum = static_cast<accumulator>(valid) / (samples > 0 ? samples : 1);
#endif
        result[at] = sum;
        if (output_mask != nullptr && channel == 0) output_mask[image * plane + pixel] = valid > 0;
    }
}

// The adaptive kernel as a result. One thread for each entry of the result, in memory order.
extern "C" __global__ void pac_kernel(CALL_PARAMETERS, guide_scalar* result)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long plane = static_cast<long long>(w.rows.output) * w.columns.output;
    const long long count = plane * FILTER_TAPS * a.layout.kernel_channels * w.batch;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
#if defined(CHANNELS_LAST)
        const int channel = at % a.layout.kernel_channels;
        const int tap = at / a.layout.kernel_channels % FILTER_TAPS;
        const long long rest = at / a.layout.kernel_channels / FILTER_TAPS;
        const int pixel = rest % plane, image = rest / plane;
#else
        const int pixel = at % plane;
        const long long rest = at / plane;
        const int tap = rest % FILTER_TAPS, channel = rest / FILTER_TAPS % a.layout.kernel_channels;
        const int image = rest / FILTER_TAPS / a.layout.kernel_channels;
#endif
        const int row = pixel / w.columns.output, column = pixel % w.columns.output;
        const int i = tap / FILTER_WIDTH, j = tap % FILTER_WIDTH;
        const pixel_position p = sample_position(w, row, column, i, j);
        result[at] = narrow_guide(kernel_at(a, w, image, channel, row, column, i, j, p));
    }
}
