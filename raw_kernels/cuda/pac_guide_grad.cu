// From the gradient of the adaptive kernel to the gradients of the guide and of the parameters of the kernel.
//
// D is the squared distance, `kernel_grad` the gradient of K; all kernels process one band of the output at a time:
//
//   pac_distance_grad  kernel_grad <- 2 dD[t, p], and partial sums of the gradients of alpha and lambda
//   pac_centre_grad    d centre[g, p] = - sum over taps t of 2 dD[t, p] * difference[g, t, p]
//   pac_guide_grad     d guide[g, u] += sum over (t, p) such that tap t of p reads u of
//                              2 dD[t, p] * difference[g, t, p]
//                          + sum over p with u in the smoothing window around p's centre of smooth * d centre[g, p]
//   pac_smooth_grad    partial sums of the gradient of the smoothing kernel
//
// pac_guide_grad gathers: each entry of the gradient is written by one thread, without atomics. Bands are processed one
// after the other on the same stream.

#include "pac_kernel_grad.cuh"

// Sums `value` over the threads of a block by a tree reduction, and writes the sum to *part.
__device__ inline void block_sum(accumulator value, accumulator* sums, accumulator* part)
{
    sums[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *part = sums[0];
    __syncthreads();
}

// One thread for each output of the band and channel of K; all threads of a block have the same channel, blockIdx.y.
// `option_parts` is (blocks of all bands, 2, channels of K), starting at `first_part` for this band; null if not
// needed.
extern "C" __global__ void __launch_bounds__(THREADS, 2) pac_distance_grad(
    CALL_PARAMETERS, band b, accumulator* __restrict__ kernel_grad, accumulator* __restrict__ option_parts,
    int first_part)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const int channel = blockIdx.y;
    const long long pixels = static_cast<long long>(b.rows) * w.columns.output;
    const long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    accumulator alpha = 0, lambda = 0;
    if (at < pixels * b.images) {
        const int image = b.first_image + at / pixels;
        const int row = b.first_row + at % pixels / w.columns.output, column = at % w.columns.output;
        accumulator* const tap_grads =
            kernel_grad + kernel_grad_index(w, b, a.layout.kernel_channels, image, channel, 0, row, column);
        accumulator projection = 0;
#if defined(NORMALIZED)
        // d(E_t / S) = dE_t / S - E_t dS / S^2; the second term is the same sum for every tap.
        for (int t = 0; t < FILTER_TAPS; ++t) {
            const pixel_position p = sample_position(w, row, column, t / FILTER_WIDTH, t % FILTER_WIDTH);
            if (tap_is_valid(a, image, p))
                projection += tap_grads[t * pixels]
                    * kernel_at(a, w, image, channel, row, column, t / FILTER_WIDTH, t % FILTER_WIDTH, p);
        }
#endif
        for (int t = 0; t < FILTER_TAPS; ++t) {
            const int i = t / FILTER_WIDTH, j = t % FILTER_WIDTH;
            const pixel_position p = sample_position(w, row, column, i, j);
            accumulator value = 0;
#if defined(HAS_DIVISOR)
            const bool valid = tap_is_valid(a, image, p);
#else
            const bool valid = true;
#endif
            if (valid) {
                value = tap_grads[t * pixels] - projection;
#if defined(KERNEL_INV)
#if defined(HAS_DIVISOR)
                const accumulator divisor = a.divisor[output_offset(
                    w, image, a.layout.kernel_channels, a.layout.kernel_channels == 1 ? 0 : channel, row, column)];
                value = divisor == 0 ? accumulator(0) : value / divisor;
#endif
                const int option = a.layout.inv_channels == 1 ? 0 : channel;
                const accumulator half = widen_guide(a.inv_lambda[option]) / 2;
                const accumulator squared =
                    squared_distance(a, w, image, channel, row, column, i, j) + DISTANCE_SHIFT;
                // d(q^h) = q^h log(q) dh + h q^(h - 1) dq
                const accumulator raised = power(squared, half);
                alpha += value;
                lambda += value * raised * logarithm(squared) / 2;
                value *= 2 * half * (raised / squared);
#else
                // The derivative of exp(-D / 2) by D is -1/2 times itself.
                value *= -kernel_at(a, w, image, channel, row, column, i, j, p);
#endif
            }
            tap_grads[t * pixels] = value;
        }
    }
    if (option_parts != nullptr) {
        __shared__ accumulator sums[THREADS];
        accumulator* const part =
            option_parts + (static_cast<long long>(first_part) + blockIdx.x) * 2 * a.layout.kernel_channels + channel;
        block_sum(alpha, sums, part);
        block_sum(lambda, sums, part + a.layout.kernel_channels);
    }
}

// Gradient of the centre of every output of the band and guide channel, (images, guides, rows, output columns).
extern "C" __global__ void __launch_bounds__(THREADS, 4) pac_centre_grad(
    CALL_PARAMETERS, band b, const accumulator* __restrict__ kernel_grad, accumulator* __restrict__ grad_centre)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long pixels = static_cast<long long>(b.rows) * w.columns.output;
    const long long count = pixels * w.guides * b.images;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const int channel = at / pixels % w.guides, image = b.first_image + at / pixels / w.guides;
        const int row = b.first_row + at % pixels / w.columns.output, column = at % w.columns.output;
        const accumulator* const tap_grads = kernel_grad
            + kernel_grad_index(
                w, b, a.layout.kernel_channels, image, a.layout.kernel_channels == 1 ? 0 : channel, 0, row, column);
        accumulator sum = 0;
        for (int t = 0; t < FILTER_TAPS; ++t)
            sum -= tap_grads[t * pixels]
                * difference_at(a, w, image, channel, row, column, t / FILTER_WIDTH, t % FILTER_WIDTH);
        grad_centre[at] = sum;
    }
}

// Index of the output whose tap reads the guide at `position`, along one axis; -1 if there is none in the band.
__device__ inline int output_at_guide(const window_axis& axis, int position, int offset, int first, int count)
{
    const int stepped = position + axis.guide_before - offset;
    if (stepped < 0 || stepped % axis.guide_step != 0) return -1;
    const int output = stepped / axis.guide_step;
    return output >= first && output < first + count ? output : -1;
}

// Gradient of the guide from one band, added to that of previous bands, or stored if `clear` is set (first band). The
// result is (batch, guides, guide rows, guide columns) accumulators.
extern "C" __global__ void __launch_bounds__(THREADS, 4) pac_guide_grad(
    CALL_PARAMETERS, band b, const accumulator* __restrict__ kernel_grad,
    const accumulator* __restrict__ grad_centre, const guide_scalar* __restrict__ smooth, int smooth_height,
    int smooth_width, accumulator* __restrict__ grad_guide, int clear)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    const long long plane = static_cast<long long>(w.rows.guide) * w.columns.guide;
    const long long count = plane * w.guides * b.images;
    const long long pixels = static_cast<long long>(b.rows) * w.columns.output;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const int channel = at / plane % w.guides, image = b.first_image + at / plane / w.guides;
        const int row = at % plane / w.columns.guide, column = at % w.columns.guide;
        accumulator sum = 0;
        for (int i = 0; i < FILTER_HEIGHT; ++i) {
            const int output_row = output_at_guide(w.rows, row, i * w.rows.dilation, b.first_row, b.rows);
            if (output_row < 0) continue;
            for (int j = 0; j < FILTER_WIDTH; ++j) {
                const int output_column =
                    output_at_guide(w.columns, column, j * w.columns.dilation, 0, w.columns.output);
                if (output_column < 0) continue;
                const accumulator slope = kernel_grad[kernel_grad_index(
                    w, b, a.layout.kernel_channels, image, a.layout.kernel_channels == 1 ? 0 : channel,
                    i * FILTER_WIDTH + j, output_row, output_column)];
                sum += slope * difference_at(a, w, image, channel, output_row, output_column, i, j);
            }
        }
        // The window of the smoothing kernel; without smoothing, the centre alone.
        for (int i = 0; i < smooth_height; ++i) {
            const int offset = FILTER_HEIGHT / 2 * w.rows.dilation + i - smooth_height / 2;
            const int output_row = output_at_guide(w.rows, row, offset, b.first_row, b.rows);
            if (output_row < 0) continue;
            for (int j = 0; j < smooth_width; ++j) {
                const int across = FILTER_WIDTH / 2 * w.columns.dilation + j - smooth_width / 2;
                const int output_column = output_at_guide(w.columns, column, across, 0, w.columns.output);
                if (output_column < 0) continue;
                const accumulator factor =
                    smooth == nullptr ? accumulator(1) : widen_guide(smooth[i * smooth_width + j]);
                sum += factor * grad_centre[
                    (static_cast<long long>(image - b.first_image) * w.guides + channel) * pixels
                    + static_cast<long long>(output_row - b.first_row) * w.columns.output + output_column];
            }
        }
        accumulator* const target = grad_guide + at + b.first_image * w.guides * plane;
        *target = clear ? sum : *target + sum;
    }
}

// Partial sums of the gradient of the smoothing kernel: part[first_part + block, a, b]; blockIdx.y is the tap (a, b).
extern "C" __global__ void __launch_bounds__(THREADS, 4) pac_smooth_grad(
    CALL_PARAMETERS, band b, const accumulator* __restrict__ grad_centre, int smooth_height,
    int smooth_width, accumulator* __restrict__ parts, int first_part)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    __shared__ accumulator sums[THREADS];
    const int i = blockIdx.y / smooth_width, j = blockIdx.y % smooth_width;
    const long long pixels = static_cast<long long>(b.rows) * w.columns.output;
    const long long count = pixels * w.guides * b.images;
    accumulator sum = 0;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const int channel = at / pixels % w.guides, image = b.first_image + at / pixels / w.guides;
        const int row = b.first_row + at % pixels / w.columns.output, column = at % w.columns.output;
        sum += grad_centre[at]
            * guide_at(
                a, w, guide_base(a, image, channel),
                guide_index(w.rows, row, FILTER_HEIGHT / 2) + i - smooth_height / 2,
                guide_index(w.columns, column, FILTER_WIDTH / 2) + j - smooth_width / 2);
    }
    block_sum(
        sum, sums,
        parts + (static_cast<long long>(first_part) + blockIdx.x) * smooth_height * smooth_width + blockIdx.y);
}

// Copies the gradient of a kernel that is an output of the operator from any layout to that of a band.
extern "C" __global__ void __launch_bounds__(THREADS, 4) pac_load_kernel_grad(
    CALL_PARAMETERS, band b, kernel_strides from, const guide_scalar* __restrict__ grad,
    accumulator* __restrict__ kernel_grad)
{
    const int channels = layout.kernel_channels;
    const long long pixels = static_cast<long long>(b.rows) * w.columns.output;
    const long long count = pixels * FILTER_TAPS * channels * b.images;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const int row = b.first_row + at % pixels / w.columns.output, column = at % w.columns.output;
        const int tap = at / pixels % FILTER_TAPS, channel = at / pixels / FILTER_TAPS % channels;
        const int image = b.first_image + at / pixels / FILTER_TAPS / channels;
        kernel_grad[at] = widen_guide(grad[
            image * from.batch + channel * from.channel + tap / FILTER_WIDTH * from.tap_row
            + tap % FILTER_WIDTH * from.tap_column + row * from.row + column * from.column]);
    }
}
