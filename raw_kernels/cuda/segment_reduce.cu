// Reductions over segments in one pass over the features.
//
// Pixels are read in the order of their segments (segment_order.cu). A block handles a fixed range of that order and a
// tile of channels, a row of its threads a fixed part of the range, and a thread CHANNELS_PER_THREAD channels of that
// part, one pixel after the other:
//
//   order      a a a a b b b c | c c c c c c c c | c c d d e e e e | e e e ...
//   rows       0               | 1               | 2               | next block
//
// Segments that begin and end within a row (b, d) are complete. The partial result of a segment that began before the
// row (its head) is written to shared memory and merged by the row in which the segment began, which continues with the
// heads of the following rows up to the end of the segment. For segments that extend beyond the block, partial results
// are written to global memory, at most a head and a tail for each block; segment_join merges them in the same way. So
// the order of all additions depends only on labels and shapes.
//
//   #define CHANNELS_PER_THREAD 1 | 2 | 4    contiguous channels of a thread, read by one vector load
//   #define UNALIGNED                        they are not aligned to a vector, and read one by one
//   #define STAGED                           features are staged in shared memory: for layouts in which pixels are
//                                            contiguous, not channels; consecutive threads load consecutive pixels
//   #define THREADS                          maximum number of threads of a block
//   and those of segment_values.cuh

#include "segment.cuh"
#include "segment_values.cuh"

// A block has at most THREADS threads; blockDim.x is along channels and blockDim.y along rows.
const int max_rows = 64;

#if defined(STAGED)
// Pixels of a row of threads that fit in shared memory.
const int staged_pixels = sizeof(scalar) == 8 ? 8 : 32;
#endif

// For compute capability 10.0 the compiler spills at 80 registers a thread, which suffice for 9.0.
#if defined(VAR) || defined(EXTREMES) || (!defined(STAGED) && __CUDA_ARCH__ >= 1000)
const int blocks_per_multiprocessor = 2;
#elif defined(STAGED)
const int blocks_per_multiprocessor = 4;
#else
const int blocks_per_multiprocessor = 3;
#endif

struct segment_reduction {
    segment_strides features, result;   // strides of `result` hold for all results
    double empty;                       // result of segments without pixels
    unsigned long long empty_bits;      // the same for integer features
    int images, pixels, channels, segments;
    int blocks, tiles;                  // blocks along pixels of an image, tiles along channels
    int row_pixels;                     // pixels of a row of threads; staged_pixels with STAGED
    int block_pixels;                   // pixels of a block
    int smallest;
};

// Pointers to results; those not requested are null.
struct segment_results {
    scalar* mean;
    sum_type* sum;
    scalar* var;
    double* centre;                     // the mean, for the gradient of the variance
    scalar* best[2];
    long long* position[2];            // flat pixel index in the image, -1 without pixels
};

__device__ inline void write(
    const segment_reduction& g, const segment_results& to, int image, int segment, int channel, const part& p,
    int count)
{
    const long long at = image * g.result.image + segment * g.result.entry + channel * g.result.channel;
#if defined(SUM)
    if (to.sum != nullptr) to.sum[at] = as_sum(p.sum);
#if !defined(INTEGER)
    if (to.mean != nullptr) to.mean[at] = as_sum(p.sum / count);
#endif
#endif
#if defined(VAR)
    if (to.var != nullptr) to.var[at] = as_sum(p.squares / count);
    if (to.centre != nullptr) to.centre[at] = p.mean;
#endif
#if defined(EXTREMES)
#pragma unroll
    for (int e = 0; e < EXTREMES; ++e) {
        if (to.best[e] != nullptr) to.best[e][at] = as_scalar(p.best[e]);
#if defined(POSITIONS)
        if (to.position[e] != nullptr) to.position[e][at] = p.position[e];
#endif
    }
#endif
}

// Index of the partial result of a block: its head (which = 0) or tail (1).
__device__ inline long long part_at(const segment_reduction& g, int image, int block, int which, int channel)
{
    return ((static_cast<long long>(image) * g.blocks + block) * 2 + which) * g.channels + channel;
}

#if defined(UNALIGNED)
struct channel_vector {
#else
struct alignas(sizeof(scalar) * CHANNELS_PER_THREAD) channel_vector {
#endif
    scalar value[CHANNELS_PER_THREAD];
};

// Partial results that the rows of a block exchange in shared memory.
struct segment_rows {
    part heads[THREADS * CHANNELS_PER_THREAD];
    int counts[max_rows];               // pixels of each head
    int continues[max_rows];            // whether the head's segment continues in the next row
};

// Merges into `partial` the heads of row `next` and those after it, as far as its segment continues. Returns blockDim.y
// if the segment continues beyond the block, else a smaller number.
__device__ inline int add_heads(
    const segment_reduction& g, const segment_rows& rows, int next, part (&partial)[CHANNELS_PER_THREAD], int& count)
{
    for (; next < blockDim.y; ++next) {
        const int next_count = rows.counts[next];
#pragma unroll
        for (int v = 0; v < CHANNELS_PER_THREAD; ++v)
            merge(
                partial[v], count, rows.heads[(next * blockDim.x + threadIdx.x) * CHANNELS_PER_THREAD + v], next_count,
                g.smallest);
        count += next_count;
        if (!rows.continues[next]) return next;
    }
    return next;
}

extern "C" __global__ void __launch_bounds__(THREADS, blocks_per_multiprocessor) segment_reduce(
    segment_reduction g, const scalar* __restrict__ features, const int* __restrict__ segment_ids,
    const int* __restrict__ positions, const int* __restrict__ starts, part* __restrict__ parts,
    scalar* __restrict__ mean, sum_type* __restrict__ sum, scalar* __restrict__ var, double* __restrict__ centre,
    scalar* __restrict__ best_0, scalar* __restrict__ best_1, long long* __restrict__ position_0,
    long long* __restrict__ position_1)
{
    __shared__ segment_rows rows;
    const segment_results to = {mean, sum, var, centre, {best_0, best_1}, {position_0, position_1}};
    const int block = blockIdx.x % g.blocks, tile = blockIdx.x / g.blocks % g.tiles;
    const int image = blockIdx.x / g.blocks / g.tiles;
    // Pixels of no segment are last. Indices are unsigned: those of the last block may exceed 31 bits beyond the last
    // pixel.
    const unsigned int count = starts[image * (g.segments + 1LL) + g.segments];
    const unsigned int block_begin = static_cast<unsigned int>(block) * g.block_pixels;
    if (block_begin >= count) return;
    segment_ids += static_cast<long long>(image) * g.pixels;
    positions += static_cast<long long>(image) * g.pixels;
    features += image * g.features.image;

    const int channel = (tile * blockDim.x + threadIdx.x) * CHANNELS_PER_THREAD;
    const bool valid = channel < g.channels;
    const int row = threadIdx.y;
#if defined(STAGED)
    const int row_pixels = staged_pixels;
#else
    const int row_pixels = g.row_pixels;
#endif
    const unsigned int first = block_begin + row * row_pixels, last = min(first + row_pixels, count);

#if defined(STAGED)
    // Padding avoids bank conflicts: the same pixel of different rows, and different channels, are in different banks.
    __shared__ scalar stage[THREADS * (staged_pixels + 1) + 32];
    const int pitch = blockDim.y * (row_pixels + 1) + 32 / blockDim.x;
    const int thread = row * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    const unsigned int block_pixels = g.block_pixels;
    for (unsigned int at = thread; at < block_pixels && block_begin + at < count; at += threads) {
        const scalar* const from = features + positions[block_begin + at] * g.features.entry;
        scalar* const staged = stage + at + at / row_pixels;
#pragma unroll
        for (int x = 0; x < 8; ++x) {
            const int staged_channel = tile * blockDim.x + x;
            if (x < blockDim.x && staged_channel < g.channels)
                staged[x * pitch] = from[staged_channel * g.features.channel];
        }
    }
    __syncthreads();
    const scalar* const values = stage + (valid ? threadIdx.x : 0) * pitch + row * (row_pixels + 1);
#else
    const scalar* const values = features + (valid ? channel : 0) * g.features.channel;
#endif

    part partial[CHANNELS_PER_THREAD];
    wide_scalar first_value[CHANNELS_PER_THREAD];
    int segment = 0;
    unsigned int segment_begin = first;
    const bool continues_previous = first < last && first > 0 && segment_ids[first - 1] == segment_ids[first];
    const bool continues_next = first < last && last < count && segment_ids[last] == segment_ids[last - 1];
    bool head = continues_previous;

    // Finishes the current segment, which ends before pixel `next` of the order, or is cut off there by the end of the
    // row.
    auto close_segment = [&](unsigned int next, bool continues) {
        const int pixels = next - segment_begin;
#pragma unroll
        for (int v = 0; v < CHANNELS_PER_THREAD; ++v) {
            end(partial[v], first_value[v], pixels);
            if (head) rows.heads[(row * blockDim.x + threadIdx.x) * CHANNELS_PER_THREAD + v] = partial[v];
            else if (!continues && valid) write(g, to, image, segment, channel + v, partial[v], pixels);
        }
        if (head && threadIdx.x == 0) {
            rows.counts[row] = pixels;
            rows.continues[row] = continues;
        }
    };

    const int loads_in_flight = 4;
    int next_segment[loads_in_flight], next_position[loads_in_flight];
    // Beyond the end of the row, the last pixel is loaded again and ignored.
    auto prefetch = [&](unsigned int at) {
#pragma unroll
        for (int a = 0; a < loads_in_flight; ++a) {
            const unsigned int here = min(at + a, last - 1);
            next_segment[a] = segment_ids[here];
            next_position[a] = positions[here];
        }
    };
    if (first < last) prefetch(first);
    for (unsigned int at = first; at < last; at += loads_in_flight) {
        channel_vector loaded[loads_in_flight];
        int segment_of[loads_in_flight], position[loads_in_flight];
#pragma unroll
        for (int a = 0; a < loads_in_flight; ++a) {
            segment_of[a] = next_segment[a];
            position[a] = next_position[a];
#if defined(STAGED)
            loaded[a].value[0] = values[min(at + a, last - 1) - first];
#else
            loaded[a] = *reinterpret_cast<const channel_vector*>(values + position[a] * g.features.entry);
#endif
        }
        // Overlaps these loads with those of the features.
        prefetch(at + loads_in_flight);
#pragma unroll
        for (int a = 0; a < loads_in_flight; ++a) {
            if (at + a >= last) continue;
            const bool starts_segment = at + a == first || segment_of[a] != segment;
            if (starts_segment && at + a != first) {
                close_segment(at + a, false);
                head = false;
            }
            if (starts_segment) {
                segment = segment_of[a];
                segment_begin = at + a;
            }
#pragma unroll
            for (int v = 0; v < CHANNELS_PER_THREAD; ++v) {
                if (starts_segment) begin(partial[v], first_value[v], loaded[a].value[v], position[a]);
                else add(partial[v], first_value[v], loaded[a].value[v], position[a], g.smallest);
            }
        }
    }
    if (first < last) close_segment(last, continues_next);
    __syncthreads();

    const int open_pixels = last - segment_begin;
    if (continues_next && !head) {
        int pixels = open_pixels;
        const bool beyond_block = add_heads(g, rows, row + 1, partial, pixels) == blockDim.y;
#pragma unroll
        for (int v = 0; v < CHANNELS_PER_THREAD; ++v) {
            if (valid && beyond_block) parts[part_at(g, image, block, 1, channel + v)] = partial[v];
            else if (valid) write(g, to, image, segment, channel + v, partial[v], pixels);
        }
    }
    if (row == 0 && continues_previous) {
        int pixels = rows.counts[0];
#pragma unroll
        for (int v = 0; v < CHANNELS_PER_THREAD; ++v) partial[v] = rows.heads[threadIdx.x * CHANNELS_PER_THREAD + v];
        if (rows.continues[0]) add_heads(g, rows, 1, partial, pixels);
#pragma unroll
        for (int v = 0; v < CHANNELS_PER_THREAD; ++v)
            if (valid) parts[part_at(g, image, block, 0, channel + v)] = partial[v];
    }
}

// Writes the results of segments without pixels.
__device__ inline void fill_empty_segments(const segment_reduction& g, const segment_results& to, const int* starts)
{
#if defined(INTEGER)
    const scalar value = static_cast<scalar>(g.empty_bits);
    const sum_type total = static_cast<sum_type>(g.empty_bits);
#else
    const scalar value = narrow(static_cast<accumulator>(g.empty));
    const sum_type total = value;
#endif
    const bool channels_last = g.result.channel == 1;
    const long long all = static_cast<long long>(g.images) * g.segments * g.channels;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < all;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
        const long long row = channels_last ? at / g.channels : at;
        const int segment = static_cast<int>(row % g.segments);
        const long long image = channels_last ? row / g.segments : row / g.segments / g.channels;
        const int* const start = starts + image * (g.segments + 1LL) + segment;
        if (start[0] != start[1]) continue;
        if (to.mean != nullptr) to.mean[at] = value;
        if (to.sum != nullptr) to.sum[at] = total;
        if (to.var != nullptr) to.var[at] = value;
        if (to.best[0] != nullptr) to.best[0][at] = value;
        if (to.best[1] != nullptr) to.best[1][at] = value;
        if (to.position[0] != nullptr) to.position[0][at] = -1;
        if (to.position[1] != nullptr) to.position[1][at] = -1;
    }
}

// A block of segment_join has join_rows rows of join_channels threads; rows are along blocks of segment_reduce.
const int join_channels = 8;
const int join_rows = THREADS / join_channels;

// The segment that begins in a block of segment_reduce and extends beyond it; there is at most one.
struct segment_span {
    int segment;
    unsigned int first, last;           // its pixels in the sorted order
    int parts;                          // number of blocks that hold pixels of it; 0 if there is no such segment
};

__device__ inline segment_span span_of(const segment_reduction& g, const int* segment_ids, const int* starts, int block)
{
    segment_span span = {0, 0, 0, 0};
    const unsigned int block_begin = static_cast<unsigned int>(block) * g.block_pixels;
    const unsigned int block_end = block_begin + g.block_pixels;
    if (block >= g.blocks || block_end >= static_cast<unsigned int>(starts[g.segments])) return span;
    span.segment = segment_ids[block_end];
    span.first = starts[span.segment];
    span.last = starts[span.segment + 1];
    if (span.first >= block_begin && span.first < block_end) span.parts = (span.last - 1) / g.block_pixels - block + 1;
    return span;
}

// Merges partial results `from` to `until` of a segment that begins in `block`; returns their number of pixels.
__device__ inline int join_parts(
    const segment_reduction& g, const segment_span& span, const part* parts, int image, int block, int channel,
    int from, int until, part& sum)
{
    int count = 0;
#pragma unroll 4
    for (int at = from; at < until; ++at) {
        const unsigned int low = (block + at) * static_cast<unsigned int>(g.block_pixels);
        const int next_count = min(low + g.block_pixels, span.last) - max(low, span.first);
        const part next = parts[part_at(g, image, block + at, at == 0, channel)];
        if (count == 0) sum = next;
        else merge(sum, count, next, next_count, g.smallest);
        count += next_count;
    }
    return count;
}

// Merges the partial results of segments that extend over several blocks of segment_reduce. All threads of the grid
// also fill in the results of segments without pixels.
//
// A row of threads handles the segment that begins in its block. A segment of more than join_rows partial results is
// handled by all rows: each merges an equal number of consecutive partial results, then adjacent rows are merged in a
// tree. So partial results keep their order.
extern "C" __global__ void __launch_bounds__(THREADS, 2) segment_join(
    segment_reduction g, const int* __restrict__ segment_ids, const int* __restrict__ starts,
    const part* __restrict__ parts, scalar* __restrict__ mean, sum_type* __restrict__ sum, scalar* __restrict__ var,
    double* __restrict__ centre, scalar* __restrict__ best_0, scalar* __restrict__ best_1,
    long long* __restrict__ position_0, long long* __restrict__ position_1)
{
    __shared__ part merged[join_rows][join_channels];
    __shared__ int counts[join_rows];
    __shared__ bool spans_many[join_rows];
    const segment_results to = {mean, sum, var, centre, {best_0, best_1}, {position_0, position_1}};
    fill_empty_segments(g, to, starts);
    const int groups = (g.blocks + join_rows - 1) / join_rows;
    const int tiles = (g.channels + join_channels - 1) / join_channels;
    const int group = blockIdx.x % groups, tile = blockIdx.x / groups % tiles;
    const int image = blockIdx.x / groups / tiles;
    // Surplus blocks only fill in segments without pixels; without any pixels, there are no partial results.
    if (image >= g.images || g.pixels == 0) return;
    segment_ids += static_cast<long long>(image) * g.pixels;
    starts += image * (g.segments + 1LL);

    const int row = threadIdx.x / join_channels, x = threadIdx.x % join_channels, channel = tile * join_channels + x;
    const bool valid = channel < g.channels;
    part partial;
    {
        const int block = group * join_rows + row;
        const segment_span span = span_of(g, segment_ids, starts, block);
        if (x == 0) spans_many[row] = span.parts > join_rows;
        if (valid && span.parts > 0 && span.parts <= join_rows) {
            const int count = join_parts(g, span, parts, image, block, channel, 0, span.parts, partial);
            write(g, to, image, span.segment, channel, partial, count);
        }
    }
    __syncthreads();
    for (int other = 0; other < join_rows; ++other) {
        if (!spans_many[other]) continue;
        const int block = group * join_rows + other;
        const segment_span span = span_of(g, segment_ids, starts, block);
        const int from = static_cast<int>(static_cast<long long>(span.parts) * row / join_rows);
        const int until = static_cast<int>(static_cast<long long>(span.parts) * (row + 1) / join_rows);
        const int count = join_parts(g, span, parts, image, block, valid ? channel : 0, from, until, partial);
        // Wait until the shared results of the previous long segment have been read.
        __syncthreads();
        merged[row][x] = partial;
        if (x == 0) counts[row] = count;
        for (int step = 1; step < join_rows; step *= 2) {
            __syncthreads();
            const bool active = row % (2 * step) == 0;
            const int count_before = counts[row], next_count = active ? counts[row + step] : 0;
            if (active) merge(merged[row][x], count_before, merged[row + step][x], next_count, g.smallest);
            __syncthreads();
            if (active && x == 0) counts[row] = count_before + next_count;
        }
        if (row == 0 && valid) write(g, to, image, span.segment, channel, merged[0][x], span.last - span.first);
    }
}
