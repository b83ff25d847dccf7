// Sorts the pixels of each image by segment id: a stable least-significant-digit radix sort. Pixels of one segment keep
// their order in memory.
//
// A pass for one digit counts the digits of each tile (segment_digits), computes exclusive prefix sums of the counts
// (segment_scan), and moves every pixel to its new position (segment_scatter). All arithmetic is on integers, and no
// position depends on the order in which blocks run.
//
//   #define THREADS                      threads of a block

const int warps = THREADS / 32;
const int pixels_per_thread = 16;
const int tile = THREADS * pixels_per_thread;
const int max_digits = 1024;
const int digits_per_thread = max_digits / THREADS;

struct segment_pass {
    unsigned int pixels;                // of an image
    int tiles;                          // of an image
    int shift, bits;                    // position and width of the digit in a segment id
};

// Inclusive prefix sum over the lanes of a warp.
__device__ inline unsigned int inclusive_sum_in_warp(unsigned int value)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const unsigned int before = __shfl_up_sync(~0u, value, distance);
        if (lane >= distance) value += before;
    }
    return value;
}

// Inclusive prefix sum over the threads of a block.
__device__ inline unsigned int inclusive_sum_in_block(unsigned int value, unsigned int (&sums)[warps])
{
    value = inclusive_sum_in_warp(value);
    if (threadIdx.x % 32 == 31) sums[threadIdx.x / 32] = value;
    __syncthreads();
    for (int other = 0; other < threadIdx.x / 32; ++other) value += sums[other];
    return value;
}

// Loads the segment ids of a tile into `ids`; each warp processes its own part in order. Computes in `counts` how often
// each digit occurs in a warp, and in `ranks` how many equal digits precede each id in the warp.
__device__ inline void rank_tile(
    const segment_pass& g, const int* segment_ids, unsigned int first, unsigned int (&counts)[warps][max_digits],
    unsigned int (&ids)[pixels_per_thread], unsigned int (&ranks)[pixels_per_thread])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned int mask = (1u << g.bits) - 1;
    for (int digit = threadIdx.x; digit < 1 << g.bits; digit += THREADS)
        for (int other = 0; other < warps; ++other) counts[other][digit] = 0;
    __syncthreads();
#pragma unroll
    for (int e = 0; e < pixels_per_thread; ++e) {
        const unsigned int warp_first = first + e * 32;
        if (warp_first >= g.pixels) continue;
        const bool valid = warp_first + lane < g.pixels;
        ids[e] = valid ? static_cast<unsigned int>(segment_ids[warp_first + lane]) : 0;
        const unsigned int digit = valid ? ids[e] >> g.shift & mask : max_digits;
        const unsigned int peers = __match_any_sync(~0u, digit);
        const int leader = __ffs(peers) - 1;
        unsigned int before = 0;
        if (valid && lane == leader) {
            before = counts[warp][digit];
            counts[warp][digit] = before + __popc(peers);
        }
        ranks[e] = __shfl_sync(~0u, before, leader) + __popc(peers & ((1u << lane) - 1));
        // The next update of this count may be by another lane.
        __syncwarp();
    }
}

// Counts of digits: counts[image, digit, tile].
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_digits(
    segment_pass g, const int* __restrict__ segment_ids, unsigned int* __restrict__ counts)
{
    __shared__ unsigned int in_warp[warps][max_digits];
    const int image = blockIdx.x / g.tiles, tile_index = blockIdx.x % g.tiles;
    unsigned int ids[pixels_per_thread], ranks[pixels_per_thread];
    rank_tile(
        g, segment_ids + static_cast<long long>(image) * g.pixels,
        static_cast<unsigned int>(tile_index) * tile + threadIdx.x / 32 * (32 * pixels_per_thread), in_warp, ids,
        ranks);
    __syncthreads();
    for (int digit = threadIdx.x; digit < 1 << g.bits; digit += THREADS) {
        unsigned int sum = 0;
        for (int warp = 0; warp < warps; ++warp) sum += in_warp[warp][digit];
        counts[((static_cast<long long>(image) << g.bits) + digit) * g.tiles + tile_index] = sum;
    }
}

// One warp for each image and digit: replaces each count by the sum of those before it, and writes the total to
// totals[image, digit].
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_scan(
    long long rows, int tiles, unsigned int* __restrict__ counts, unsigned int* __restrict__ totals)
{
    const int loads_in_flight = 4;
    const long long number = static_cast<long long>(blockIdx.x) * warps + threadIdx.x / 32;
    if (number >= rows) return;
    unsigned int* const row = counts + number * tiles + threadIdx.x % 32;
    const int remaining = tiles - threadIdx.x % 32;
    unsigned int preceding = 0;
    for (int first = 0; first < tiles; first += 32 * loads_in_flight) {
        unsigned int value[loads_in_flight];
#pragma unroll
        for (int a = 0; a < loads_in_flight; ++a) value[a] = first + a * 32 < remaining ? row[first + a * 32] : 0;
#pragma unroll
        for (int a = 0; a < loads_in_flight; ++a) {
            const unsigned int sum = inclusive_sum_in_warp(value[a]);
            if (first + a * 32 < remaining) row[first + a * 32] = preceding + sum - value[a];
            preceding += __shfl_sync(~0u, sum, 31);
        }
    }
    if (threadIdx.x % 32 == 0) totals[number] = preceding;
}

// Moves the segment ids and positions of a tile to their sorted positions. If `positions` is null (first pass), they
// are 0, 1, 2, ... in each image.
extern "C" __global__ void __launch_bounds__(THREADS, 3) segment_scatter(
    segment_pass g, const int* __restrict__ segment_ids, const int* __restrict__ positions,
    const unsigned int* __restrict__ counts, const unsigned int* __restrict__ totals, int* __restrict__ sorted_ids,
    int* __restrict__ sorted_positions)
{
    __shared__ unsigned int offsets[warps][max_digits];
    __shared__ unsigned int sums[warps];
    const int image = blockIdx.x / g.tiles, tile_index = blockIdx.x % g.tiles, warp = threadIdx.x / 32;
    const long long base = static_cast<long long>(image) * g.pixels;
    const unsigned int first = static_cast<unsigned int>(tile_index) * tile + warp * (32 * pixels_per_thread);
    unsigned int ids[pixels_per_thread], ranks[pixels_per_thread];
    rank_tile(g, segment_ids + base, first, offsets, ids, ranks);

    // The offset of a digit follows all smaller digits, then equal digits of earlier tiles, then of earlier warps. Each
    // thread handles consecutive digits.
    const long long row = static_cast<long long>(image) << g.bits;
    const int digits = 1 << g.bits, first_digit = threadIdx.x * digits_per_thread;
    unsigned int total[digits_per_thread], sum = 0;
#pragma unroll
    for (int d = 0; d < digits_per_thread; ++d) {
        total[d] = first_digit + d < digits ? totals[row + first_digit + d] : 0;
        sum += total[d];
    }
    unsigned int preceding = inclusive_sum_in_block(sum, sums) - sum;
#pragma unroll
    for (int d = 0; d < digits_per_thread; ++d) {
        const int digit = first_digit + d;
        if (digit >= digits) continue;
        unsigned int offset = preceding + counts[(row + digit) * g.tiles + tile_index];
        for (int other = 0; other < warps; ++other) {
            const unsigned int count = offsets[other][digit];
            offsets[other][digit] = offset;
            offset += count;
        }
        preceding += total[d];
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < pixels_per_thread; ++e) {
        const unsigned int at = first + e * 32 + threadIdx.x % 32;
        if (at >= g.pixels) continue;
        const long long to = base + offsets[warp][ids[e] >> g.shift & ((1u << g.bits) - 1)] + ranks[e];
        sorted_ids[to] = static_cast<int>(ids[e]);
        sorted_positions[to] = positions != nullptr ? positions[base + at] : static_cast<int>(at);
    }
}

// starts[image, s], for s from 0 to `segments`: the number of pixels with a smaller segment id, by binary search. If
// `counts` is not null, also counts[image, s], the number of pixels of each segment.
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_starts(
    const int* __restrict__ sorted, int pixels, int segments, int images, int* __restrict__ starts,
    long long* __restrict__ counts)
{
    const long long entries = static_cast<long long>(segments) + 1, count = images * entries;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const long long image = at / entries;
        const int segment_id = static_cast<int>(at % entries);
        const int* const row = sorted + image * pixels;
        int bounds[2];
#pragma unroll
        for (int next = 0; next < 2; ++next) {
            int low = next ? bounds[0] : 0, high = pixels;
            while (low < high && (next == 0 || counts != nullptr)) {
                const int middle = low + (high - low) / 2;
                if (row[middle] < segment_id + next) low = middle + 1;
                else high = middle;
            }
            bounds[next] = low;
        }
        starts[at] = bounds[0];
        if (counts != nullptr && segment_id < segments) counts[image * segments + segment_id] = bounds[1] - bounds[0];
    }
}
