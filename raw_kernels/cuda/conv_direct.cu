// Memory-bound convolution with few channels in each group, above all depthwise, and the gradient of its weight.
//
//   conv_direct              result[n, o, r] = bias[o] + sum over the sources c of o's group and taps t
//                                                            of weight[o, c, t] * source[n, c, r + t]
//   conv_direct_weight_grad  part[s, group, t, c, o] = sum over the outputs p of share s
//                                                            of input[c, p + t] * grad[o, p]
//
// With BACKWARD, conv_direct computes the gradient of the input (see window_gather.cuh). Sources are read through the
// caches. A block has PIXELS x CHANNELS threads; consecutive threads access contiguous memory: channels with
// CHANNELS_LAST, else pixels.

#include "window_gather.cuh"

#define THREADS (PIXELS * CHANNELS)

__device__ inline int thread_pixel()
{
#if defined(CHANNELS_LAST)
    return threadIdx.x / CHANNELS;
#else
    return threadIdx.x % PIXELS;
#endif
}

__device__ inline int thread_channel()
{
#if defined(CHANNELS_LAST)
    return threadIdx.x % CHANNELS;
#else
    return threadIdx.x / PIXELS;
#endif
}

#if defined(WEIGHT_GRAD)

struct direct_weight {
    image_strides input, grad;
    int groups, inputs, outputs;        // channels of one group
    int share;                          // outputs in one share, counted over all images
};

// A block handles one share of the outputs for CHANNELS output channels. A thread keeps the sums of TAP_CHUNK taps in
// registers while it reads every PIXELS-th output of the share. Threads of one channel then reduce their sums in a
// tree.
extern "C" __global__ void __launch_bounds__(THREADS, 2) conv_direct_weight_grad(
    window w, direct_weight g, const scalar* __restrict__ input, const scalar* __restrict__ grad,
    accumulator* __restrict__ part)
{
    __shared__ accumulator sums[THREADS];
    const int channels = g.groups * g.outputs, channel = blockIdx.y * CHANNELS + thread_channel();
    const int group = channel / g.outputs;
    const int plane = w.rows.output * w.columns.output;
    const long long all = static_cast<long long>(w.batch) * plane;
    const long long begin = static_cast<long long>(blockIdx.x) * g.share, end = min(begin + g.share, all);
    // Threads beyond the last channel add nothing, but must reach the barriers below.
    const bool active = channel < channels;

    for (int source = 0; source < g.inputs; ++source)
        for (int first = 0; first < FILTER_TAPS; first += TAP_CHUNK) {
            accumulator partial[TAP_CHUNK];
#pragma unroll
            for (int v = 0; v < TAP_CHUNK; ++v) partial[v] = 0;
            if (active)
                for (long long at = begin + thread_pixel(); at < end; at += PIXELS) {
                    const int image = at / plane, pixel = at % plane;
                    const int row = pixel / w.columns.output, column = pixel % w.columns.output;
                    const accumulator factor = widen(grad[
                        image * g.grad.batch + channel * g.grad.channel + at_pixel(g.grad, row, column)]);
                    const scalar* const source_plane = input + image * g.input.batch
                        + (static_cast<long long>(group) * g.inputs + source) * g.input.channel;
#pragma unroll
                    for (int v = 0; v < TAP_CHUNK; ++v) {
                        const int tap = first + v;
                        if (tap >= FILTER_TAPS) continue;
                        const pixel_position p =
                            sample_position(w, row, column, tap / FILTER_WIDTH, tap % FILTER_WIDTH);
                        if (p.valid) partial[v] += factor * widen(source_plane[at_pixel(g.input, p.row, p.column)]);
                    }
                }
#pragma unroll
            for (int v = 0; v < TAP_CHUNK; ++v) {
                const int tap = first + v;
                if (tap >= FILTER_TAPS) continue;
                // Wait until the sums of the previous tap have been read before overwriting them.
                __syncthreads();
                sums[thread_channel() * PIXELS + thread_pixel()] = partial[v];
                for (int half = PIXELS / 2; half > 0; half /= 2) {
                    __syncthreads();
                    if (thread_pixel() < half)
                        sums[thread_channel() * PIXELS + thread_pixel()] +=
                            sums[thread_channel() * PIXELS + thread_pixel() + half];
                }
                if (active && thread_pixel() == 0) {
                    const long long row = (static_cast<long long>(blockIdx.x) * g.groups + group) * FILTER_TAPS + tap;
                    part[(row * g.inputs + source) * g.outputs + channel % g.outputs] = sums[thread_channel() * PIXELS];
                }
            }
        }
}

#else

struct direct {
    image_strides source, result;
    weight_strides weight;
    int channels;                       // result channels of all groups
    int sources, results;               // channels of one group
    int phase_height, phase_width;      // size of the largest phase, in results
    int pixel_blocks;                   // number of blocks along the pixels of a phase
};

// Offset of an element within one image; INDEX_64BIT for images of 2^31 elements or more.
#if defined(INDEX_64BIT)
typedef long long offset;
#else
typedef int offset;
#endif

// A thread computes RESULTS_PER_THREAD results of a channel, PIXELS apart, and reads the weight of a tap once for all
// of them.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv_direct(
    window w, direct g, const scalar* __restrict__ source, const scalar* __restrict__ weight,
    const scalar* __restrict__ bias, scalar* __restrict__ result)
{
    const gather from = make_gather(w, blockIdx.x / g.pixel_blocks);
    const gather_axis &rows = from.rows, &columns = from.columns;
    const offset row_step = static_cast<offset>(g.source.row), column_step = static_cast<offset>(g.source.column);
    int top[RESULTS_PER_THREAD], left[RESULTS_PER_THREAD];
    offset corner[RESULTS_PER_THREAD];
#pragma unroll
    for (int e = 0; e < RESULTS_PER_THREAD; ++e) {
        const int pixel = (blockIdx.x % g.pixel_blocks * RESULTS_PER_THREAD + e) * PIXELS + thread_pixel();
        top[e] = pixel / g.phase_width * rows.step + rows.first_shift;
        left[e] = pixel % g.phase_width * columns.step + columns.first_shift;
        corner[e] = top[e] * row_step + left[e] * column_step;
    }
    for (int channel = blockIdx.y * CHANNELS + thread_channel(); channel < g.channels;
         channel += gridDim.y * CHANNELS) {
        const int group = channel / g.results;
        accumulator sums[RESULTS_PER_THREAD];
#pragma unroll
        for (int e = 0; e < RESULTS_PER_THREAD; ++e) sums[e] = 0;
        for (int s = 0; s < g.sources; ++s) {
            const scalar* const plane = source + from.image * g.source.batch
                + (static_cast<long long>(group) * g.sources + s) * g.source.channel;
            for (int i = 0; i < rows.taps; ++i)
                // The loads of RESULTS_PER_THREAD results are in flight at once; unrolling this loop would only cost
                // registers.
#pragma unroll 1
                for (int j = 0; j < columns.taps; ++j) {
                    const accumulator factor = weight_at(
                        weight, g.weight, group, channel % g.results, s, filter_tap(rows, FILTER_HEIGHT, i),
                        filter_tap(columns, FILTER_WIDTH, j));
                    const int down = i * rows.shift_step, across = j * columns.shift_step;
                    const offset shift = down * row_step + across * column_step;
#pragma unroll
                    for (int e = 0; e < RESULTS_PER_THREAD; ++e)
                        if (inside(top[e] + down, rows.source) && inside(left[e] + across, columns.source))
                            sums[e] += factor * widen(plane[corner[e] + shift]);
                }
        }
        const accumulator bias_value = bias == nullptr ? accumulator(0) : widen(bias[channel]);
#pragma unroll
        for (int e = 0; e < RESULTS_PER_THREAD; ++e) {
            const int pixel = (blockIdx.x % g.pixel_blocks * RESULTS_PER_THREAD + e) * PIXELS + thread_pixel();
            const int m = pixel / g.phase_width, k = pixel % g.phase_width;
            const int row = rows.phase + rows.upsampling * m, column = columns.phase + columns.upsampling * k;
            if (m < g.phase_height && row < rows.result && column < columns.result)
                result[from.image * g.result.batch + channel * g.result.channel + at_pixel(g.result, row, column)] =
                    narrow(sums[e] + bias_value);
        }
    }
}

#endif
