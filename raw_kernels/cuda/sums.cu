// Sums whose order is fixed: parts that blocks left, sums over pixels for a bias, and accumulators as results.

#include "scalars.cuh"

const int max_axes = 6;

// An array by its axes, innermost last; strides in elements.
struct strided_result {
    long long first;
    int size[max_axes];
    long long stride[max_axes];
};

// result[i] = sum over parts s of part[s, i], where i runs through six axes and the result lies by its own strides.
//
// `parts` may be 1: then accumulators are rounded into a result. One thread an entry of the result; the sum runs in
// the order of the parts, in double precision, which costs nothing beside reading them.
extern "C" __global__ void sum_parts(
    const accumulator* __restrict__ part, int parts, long long part_stride, strided_result to, scalar* __restrict__ result)
{
    long long count = 1;
    for (int axis = 0; axis < max_axes; ++axis) count *= to.size[axis];
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        double sum = 0;
        for (int s = 0; s < parts; ++s) sum += part[s * part_stride + at];
        long long rest = at, target = to.first;
        for (int axis = max_axes - 1; axis >= 0; --axis) {
            target += rest % to.size[axis] * to.stride[axis];
            rest /= to.size[axis];
        }
        result[target] = narrow(static_cast<accumulator>(sum));
    }
}

struct image_batch {
    long long batch, channel, row, column;
    int images, channels, rows, columns;
};

// part[block, c] = sum over a block's share of the pixels of all images of array[n, c, y, x].
//
// A block takes CHANNELS_PER_BLOCK channels, a power of two: above 1 where these are neighbours in memory, and so are the threads.
#if !defined(CHANNELS_PER_BLOCK)
#define CHANNELS_PER_BLOCK 1
#endif
#define PIXELS_PER_STEP (THREADS / CHANNELS_PER_BLOCK)

extern "C" __global__ void __launch_bounds__(THREADS) sum_pixels(
    const scalar* __restrict__ array, image_batch of, accumulator* __restrict__ part)
{
    __shared__ accumulator sums[THREADS];
    const int channel = blockIdx.y * CHANNELS_PER_BLOCK + threadIdx.x % CHANNELS_PER_BLOCK;
    const long long plane = static_cast<long long>(of.rows) * of.columns, count = plane * of.images;
    accumulator sum = 0;
    // Threads beyond the channels only keep the others company at barriers.
    if (channel < of.channels)
        for (long long at = static_cast<long long>(blockIdx.x) * PIXELS_PER_STEP + threadIdx.x / CHANNELS_PER_BLOCK; at < count;
             at += static_cast<long long>(gridDim.x) * PIXELS_PER_STEP)
            sum += widen(array[
                at / plane * of.batch + channel * of.channel + at % plane / of.columns * of.row
                + at % of.columns * of.column]);
    sums[threadIdx.x] = sum;
    for (int half = THREADS / 2; half >= CHANNELS_PER_BLOCK; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x < CHANNELS_PER_BLOCK && channel < of.channels)
        part[static_cast<long long>(blockIdx.x) * of.channels + channel] = sums[threadIdx.x];
}
