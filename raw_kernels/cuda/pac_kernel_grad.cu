// Gradient of the adaptive kernel.
//
//   pac_kernel_grad              kernel_grad[t, p] = sum over channels o, c of
//                                    grad[o, p] * weight[o, c, t] * input[c, p + t]
//   pac_kernel_grad_channelwise  kernel_grad[t, p] = filter[t] * sum over c of grad[c, p] * input[c, p + t],
//                                    or without the sum, for each c separately
//
// `kernel_grad` is (images, channels of K, taps, rows, output columns) for a band of the output: as many rows and
// images as fit a fixed workspace. pac_guide_grad.cu then computes the gradient of the guide from it; for a precomputed
// kernel it is the result.

#include "pac_kernel_grad.cuh"

struct kernel_gradient {
    image_strides input, grad;
    weight_strides weight;
    band output_band;
    int groups, inputs, outputs;        // channels of one group; all channels for channelwise sums
};

__device__ inline accumulator input_at(
    const scalar* input, const adaptive_source& a, const image_strides& strides, int image, int channel,
    const pixel_position& p)
{
    if (!tap_is_valid(a, image, p)) return 0;
    return widen(input[image * strides.batch + channel * strides.channel + at_pixel(strides, p.row, p.column)]);
}

#if defined(GROUPED)

// A block handles one tap of PIXELS outputs, in raster order of a band, and sums over all channels. For CHANNELS input
// channels at a time it computes weight^T x grad in registers, a 4 x 4 tile for each thread, from tiles of DEPTH output
// channels in shared memory. It multiplies the products with the input and adds them up:
//
//                 output channels of the weight (DEPTH at a time)
//      CHANNELS  |            |     x   DEPTH | PIXELS |     ->  4 x 4 a thread, times input, summed over channels
//
// The sum of a pixel is spread over CHANNELS / 4 threads, whose partial sums are added in a fixed order at the end.
// Consecutive threads stage contiguous elements: output channels with CHANNELS_LAST, else pixels.
#define THREADS_ACROSS (PIXELS / 4)
#define THREADS_DOWN (CHANNELS / 4)

extern "C" __global__ void __launch_bounds__(THREADS_ACROSS * THREADS_DOWN, 4) pac_kernel_grad(
    CALL_PARAMETERS, kernel_gradient g,
    const scalar* __restrict__ input, const scalar* __restrict__ weight, const scalar* __restrict__ grad,
    accumulator* __restrict__ kernel_grad)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    // Four elements of padding keep rows aligned, and avoid bank conflicts between threads that write along a column.
    __shared__ __align__(16) accumulator grads[DEPTH][PIXELS + 4];
    __shared__ __align__(16) accumulator weights[DEPTH][CHANNELS];
    __shared__ accumulator parts[THREADS_DOWN][PIXELS];
    const int thread = threadIdx.x, across = thread % THREADS_ACROSS, down = thread / THREADS_ACROSS;
    const int pixels = g.output_band.rows * w.columns.output;
    const int blocks = (pixels + PIXELS - 1) / PIXELS;
    const int image = g.output_band.first_image + blockIdx.x / blocks;
    const int first_pixel = blockIdx.x % blocks * PIXELS;
    const int tap = blockIdx.y, tap_row = tap / FILTER_WIDTH, tap_column = tap % FILTER_WIDTH;

    pixel_position samples[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int pixel = first_pixel + across * 4 + i;
        samples[i].valid = false;
        if (pixel < pixels)
            samples[i] = sample_position(
                w, g.output_band.first_row + pixel / w.columns.output, pixel % w.columns.output, tap_row, tap_column);
    }
    accumulator sums[4] = {0, 0, 0, 0};
    for (int group = 0; group < g.groups; ++group)
        for (int first_channel = 0; first_channel < g.inputs; first_channel += CHANNELS) {
            accumulator products[4][4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) products[i][j] = 0;
            for (int first_output = 0; first_output < g.outputs; first_output += DEPTH) {
                __syncthreads();
                for (int at = thread; at < DEPTH * PIXELS; at += THREADS_ACROSS * THREADS_DOWN) {
#if defined(CHANNELS_LAST)
                    const int d = at % DEPTH, i = at / DEPTH;
#else
                    const int d = at / PIXELS, i = at % PIXELS;
#endif
                    const int output = first_output + d, pixel = first_pixel + i;
                    accumulator value = 0;
                    if (output < g.outputs && pixel < pixels)
                        value = widen(grad[
                            image * g.grad.batch
                            + (static_cast<long long>(group) * g.outputs + output) * g.grad.channel
                            + at_pixel(
                                g.grad, g.output_band.first_row + pixel / w.columns.output, pixel % w.columns.output)]);
                    grads[d][i] = value;
                }
                for (int at = thread; at < DEPTH * CHANNELS; at += THREADS_ACROSS * THREADS_DOWN) {
                    const int output = first_output + at / CHANNELS, channel = first_channel + at % CHANNELS;
                    accumulator value = 0;
                    if (output < g.outputs && channel < g.inputs)
                        value = weight_at(weight, g.weight, group, output, channel, tap_row, tap_column);
                    weights[at / CHANNELS][at % CHANNELS] = value;
                }
                __syncthreads();
#pragma unroll
                for (int d = 0; d < DEPTH; ++d)
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        const accumulator factor = weights[d][down * 4 + j];
#pragma unroll
                        for (int i = 0; i < 4; ++i) products[i][j] += factor * grads[d][across * 4 + i];
                    }
            }
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int channel = first_channel + down * 4 + j;
                if (channel >= g.inputs) continue;
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (samples[i].valid)
                        sums[i] += products[i][j]
                            * input_at(input, a, g.input, image, group * g.inputs + channel, samples[i]);
            }
        }
#pragma unroll
    for (int i = 0; i < 4; ++i) parts[down][across * 4 + i] = sums[i];
    __syncthreads();
    for (int i = thread; i < PIXELS; i += THREADS_ACROSS * THREADS_DOWN) {
        const int pixel = first_pixel + i;
        if (pixel >= pixels) continue;
        accumulator sum = 0;
        for (int part = 0; part < THREADS_DOWN; ++part) sum += parts[part][i];
        kernel_grad[kernel_grad_index(
            w, g.output_band, 1, image, 0, tap, g.output_band.first_row + pixel / w.columns.output,
            pixel % w.columns.output)] = sum;
    }
}

#else

// One thread for each entry of `kernel_grad`. If K has one channel, it sums over the channels of the input.
extern "C" __global__ void pac_kernel_grad_channelwise(
    CALL_PARAMETERS, kernel_gradient g,
    const scalar* __restrict__ input, const scalar* __restrict__ filter, const scalar* __restrict__ grad,
    accumulator* __restrict__ kernel_grad)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long pixels = static_cast<long long>(g.output_band.rows) * w.columns.output;
    const long long count = pixels * FILTER_TAPS * a.layout.kernel_channels * g.output_band.images;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        const int pixel = at % pixels, tap = at / pixels % FILTER_TAPS;
        const int kernel_channel = at / pixels / FILTER_TAPS % a.layout.kernel_channels;
        const int image = g.output_band.first_image + at / pixels / FILTER_TAPS / a.layout.kernel_channels;
        const int row = g.output_band.first_row + pixel / w.columns.output, column = pixel % w.columns.output;
        const pixel_position p = sample_position(w, row, column, tap / FILTER_WIDTH, tap % FILTER_WIDTH);
        accumulator sum = 0;
        if (p.valid) {
            const int first = a.layout.kernel_channels == 1 ? 0 : kernel_channel;
            const int last = a.layout.kernel_channels == 1 ? g.inputs : kernel_channel + 1;
            for (int channel = first; channel < last; ++channel)
                sum += input_at(input, a, g.input, image, channel, p)
                    * widen(grad[image * g.grad.batch + channel * g.grad.channel + at_pixel(g.grad, row, column)]);
            sum *= shared_filter_weight(filter, g.weight, tap / FILTER_WIDTH, tap % FILTER_WIDTH);
        }
        kernel_grad[at] = sum;
    }
}

#endif
