// Gradients of reductions over segments. A pixel x, one of the n of its segment, gets
//
//   constant + slope * (x - centre) + the gradient of each extreme that it is the first to attain
//
// with constant = (gradient of the sum) + (gradient of the mean) / n, slope = 2 (gradient of the variance) / n and
// centre = the mean. Every pixel gathers from the tables of its segment, so no two threads write to the same element.
//
//   #define CHANNELS_PER_THREAD          channels handled by a thread of segment_grad
//   #define THREADS                      threads of a block

#include "scalars.cuh"
#include "thread_map.cuh"
#include "segment.cuh"

struct segment_gradients {
    segment_strides features, result, table;
    image_thread_map thread_map;        // an image is mapped as one row of pixels
    int segments;
};

// Computes the tables of segments, laid out as the pooled features; any of them may be null. `rounded` is `constant`
// rounded to the scalar type. `outer_channels` is the number of channels if segments are the innermost axis, else 1.
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_grad_tables(
    long long count, int inner, int segments, int outer_channels, const long long* __restrict__ counts,
    const scalar* __restrict__ grad_mean, const scalar* __restrict__ grad_sum, const scalar* __restrict__ grad_var,
    scalar* __restrict__ rounded, accumulator* __restrict__ constant, double* __restrict__ slope)
{
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        const long long row = at / inner, segment = row % segments, image = row / segments / outer_channels;
        // No pixel reads the entries of empty segments; 1 avoids a division by zero.
        const long long pixel_count = counts == nullptr ? 1 : counts[image * segments + segment];
        const double pixels = pixel_count > 0 ? static_cast<double>(pixel_count) : 1.0;
        accumulator sum = grad_sum == nullptr ? accumulator(0) : widen(grad_sum[at]);
        if (grad_mean != nullptr) sum += static_cast<accumulator>(widen(grad_mean[at]) / pixels);
        if (rounded != nullptr) rounded[at] = narrow(sum);
        if (constant != nullptr) constant[at] = sum;
        if (slope != nullptr) slope[at] = 2 * (widen(grad_var[at]) / pixels);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_grad(
    segment_gradients g, const int* __restrict__ segment_ids, const scalar* __restrict__ features,
    const accumulator* __restrict__ constant, const double* __restrict__ slope, const double* __restrict__ centre,
    const scalar* __restrict__ grad_0, const scalar* __restrict__ grad_1, const long long* __restrict__ position_0,
    const long long* __restrict__ position_1, scalar* __restrict__ result)
{
    const position p = thread_position(g.thread_map);
    if (!p.valid) return;
    const int pixel = p.column, segment_id = segment_ids[static_cast<long long>(p.image) * g.thread_map.pixels + pixel];
    const long long row = p.image * g.table.image + segment_id * g.table.entry;
    const long long from = p.image * g.features.image + pixel * g.features.entry;
    const long long to = p.image * g.result.image + pixel * g.result.entry;
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        if (channel >= g.thread_map.channels) continue;
        const long long at = row + channel * g.table.channel;
        accumulator grad = 0;
        if (segment_id < g.segments) {
            if (constant != nullptr) grad = constant[at];
            if (slope != nullptr)
                grad += static_cast<accumulator>(
                    slope[at] * (widen(features[from + channel * g.features.channel]) - centre[at]));
            if (position_0 != nullptr && position_0[at] == pixel) grad += widen(grad_0[at]);
            if (position_1 != nullptr && position_1[at] == pixel) grad += widen(grad_1[at]);
        }
        result[to + channel * g.result.channel] = narrow(grad);
    }
}
