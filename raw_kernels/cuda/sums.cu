// Sums in a fixed order: of partial sums written by blocks, and over pixels for the gradient of a bias. Also rounds
// accumulators to the scalar type.

#include "scalars.cuh"

const int max_axes = 6;

// A strided array; the innermost axis is last, strides are in elements.
struct strided_result {
    long long first;
    int size[max_axes];
    long long stride[max_axes];
};

// result[i] = sum over parts s of part[s, i], where i enumerates the entries of up to six axes of a strided result.
//
// `parts` may be 1: the kernel then only rounds accumulators to the scalar type. One thread for each entry of the
// result. The sum is in the order of the parts and in double precision: memory-bound, so double precision costs no
// time.
extern "C" __global__ void sum_parts(
    const accumulator* __restrict__ part, int parts, long long part_stride, strided_result to,
    scalar* __restrict__ result)
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

// part[block, c] = sum of array[n, c, y, x] over the block's share of the pixels of all images.
//
// A block handles CHANNELS_PER_BLOCK channels, a power of two. Values above 1 are for contiguous channels: consecutive
// threads then read consecutive channels, and loads are coalesced.
#if !defined(CHANNELS_PER_BLOCK)
#define CHANNELS_PER_BLOCK 1
#endif
#define PIXELS_PER_STEP (THREADS / CHANNELS_PER_BLOCK)

extern "C" __global__ void __launch_bounds__(THREADS) sum_pixels(
    const scalar* __restrict__ array, image_batch layout, accumulator* __restrict__ part)
{
    __shared__ accumulator sums[THREADS];
    const int channel = blockIdx.y * CHANNELS_PER_BLOCK + threadIdx.x % CHANNELS_PER_BLOCK;
    const long long plane = static_cast<long long>(layout.rows) * layout.columns, count = plane * layout.images;
    accumulator sum = 0;
    // Threads beyond the last channel add nothing, but must reach the barriers below.
    if (channel < layout.channels)
        for (long long at = static_cast<long long>(blockIdx.x) * PIXELS_PER_STEP + threadIdx.x / CHANNELS_PER_BLOCK;
             at < count; at += static_cast<long long>(gridDim.x) * PIXELS_PER_STEP)
            sum += widen(array[
                at / plane * layout.batch + channel * layout.channel + at % plane / layout.columns * layout.row
                + at % layout.columns * layout.column]);
    sums[threadIdx.x] = sum;
    for (int half = THREADS / 2; half >= CHANNELS_PER_BLOCK; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x < CHANNELS_PER_BLOCK && channel < layout.channels)
        part[static_cast<long long>(blockIdx.x) * layout.channels + channel] = sums[threadIdx.x];
}
