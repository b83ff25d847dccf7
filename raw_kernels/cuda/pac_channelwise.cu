// Pixel-adaptive sums that do not mix channels: pooling, and convolution with one filter shared by all channels.
//
//   result[n, c, r] = bias[c] + sum over taps t of filter[t] * K[n, t, r] * source[n, c, r + t]
//
// The forward pass computes the output; BACKWARD computes the gradient of the input (see window_gather.cuh). `filter`
// is null for pooling, else it holds the taps in the order of the correlation. If K has as many channels as the input,
// each channel uses its own K.
//
// The kernel does few operations for each element, so it reads sources through the caches rather than staging them. K,
// which all channels of a result share, is computed once for each block and kept in shared memory:
//
//   block  PIXELS results of one phase, in raster order, times CHANNELS_PER_THREAD channels for each row of threads
//   K      of TAP_CHUNK taps at a time

#include "window_gather.cuh"

struct channelwise {
    image_strides source, result;
    weight_strides filter;
    int channels;
    int phase_height, phase_width;      // size of the largest phase, in results
    int pixel_blocks;                   // number of blocks along the pixels of a phase
};

// One thread computes one result pixel of CHANNELS_PER_THREAD channels, which are CHANNEL_THREADS (blockDim.y) apart.
extern "C" __global__ void __launch_bounds__(PIXELS * CHANNEL_THREADS, 2) pac_channelwise(
    CALL_PARAMETERS, channelwise g,
    const scalar* __restrict__ source, const scalar* __restrict__ filter, const scalar* __restrict__ bias,
    scalar* __restrict__ result)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    __shared__ accumulator kernel_values[TAP_CHUNK][PIXELS];
    int block = blockIdx.x;
    const int pixel = block % g.pixel_blocks * PIXELS + threadIdx.x;
    block /= g.pixel_blocks;
    const gather from = make_gather(w, block);
    const gather_axis &rows = from.rows, &columns = from.columns;
    const int image = from.image;
    const int m = pixel / g.phase_width, k = pixel % g.phase_width;
    const int row = rows.phase + rows.upsampling * m, column = columns.phase + columns.upsampling * k;
    const bool active = m < g.phase_height && row < rows.result && column < columns.result;
    const bool shared_kernel = a.layout.kernel_channels == 1;
    const int taps = rows.taps * columns.taps;

    for (int first_channel = blockIdx.y * CHANNEL_THREADS * CHANNELS_PER_THREAD; first_channel < g.channels;
         first_channel += gridDim.y * CHANNEL_THREADS * CHANNELS_PER_THREAD) {
        accumulator sums[CHANNELS_PER_THREAD];
#pragma unroll
        for (int i = 0; i < CHANNELS_PER_THREAD; ++i) sums[i] = 0;
        for (int first_tap = 0; first_tap < taps; first_tap += TAP_CHUNK) {
            const int chunk_taps = min(TAP_CHUNK, taps - first_tap);
            // Wait until all threads have used K of the previous chunk before overwriting it.
            __syncthreads();
            if (shared_kernel)
                for (int v = threadIdx.y; v < chunk_taps; v += CHANNEL_THREADS) {
                    const int tap_row = (first_tap + v) / columns.taps, tap_column = (first_tap + v) % columns.taps;
                    const int from_row = m * rows.step + rows.first_shift + tap_row * rows.shift_step;
                    const int from_column = k * columns.step + columns.first_shift + tap_column * columns.shift_step;
                    const int i = filter_tap(rows, FILTER_HEIGHT, tap_row);
                    const int j = filter_tap(columns, FILTER_WIDTH, tap_column);
                    accumulator value = 0;
                    if (active)
                        value = kernel_between(
                            a, w, image, 0, row, column, from_row, from_column,
                            inside(from_row, rows.source) && inside(from_column, columns.source), i, j);
                    value *= shared_filter_weight(filter, g.filter, i, j);
                    kernel_values[v][threadIdx.x] = value;
                }
            __syncthreads();
            if (active)
                for (int v = 0; v < chunk_taps; ++v) {
                    const int tap_row = (first_tap + v) / columns.taps, tap_column = (first_tap + v) % columns.taps;
                    const int from_row = m * rows.step + rows.first_shift + tap_row * rows.shift_step;
                    const int from_column = k * columns.step + columns.first_shift + tap_column * columns.shift_step;
                    const bool valid = inside(from_row, rows.source) && inside(from_column, columns.source);
#pragma unroll
                    for (int c = 0; c < CHANNELS_PER_THREAD; ++c) {
                        const int channel = first_channel + c * CHANNEL_THREADS + threadIdx.y;
                        if (channel >= g.channels) continue;
                        accumulator factor;
                        if (shared_kernel) {
                            factor = kernel_values[v][threadIdx.x];
                        } else {
                            const int i = filter_tap(rows, FILTER_HEIGHT, tap_row);
                            const int j = filter_tap(columns, FILTER_WIDTH, tap_column);
                            factor = kernel_between(
                                a, w, image, channel, row, column, from_row, from_column, valid, i, j);
                        }
                        const long long base = image * g.source.batch + channel * g.source.channel;
                        sums[c] +=
                            factor * source_at(source, a, image, base, g.source, from_row, from_column, valid);
                    }
                }
        }
        if (active)
#pragma unroll
            for (int c = 0; c < CHANNELS_PER_THREAD; ++c) {
                const int channel = first_channel + c * CHANNEL_THREADS + threadIdx.y;
                if (channel < g.channels)
                    result[image * g.result.batch + channel * g.result.channel + at_pixel(g.result, row, column)] =
                        narrow(sums[c] + (bias == nullptr ? accumulator(0) : widen(bias[channel])));
            }
    }
}
