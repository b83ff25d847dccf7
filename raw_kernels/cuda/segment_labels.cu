// Label lookup: the segment id of each pixel, the number of pixels of each segment, the largest label, and the first
// invalid label.
//
// A segment id is the label of a pixel, or the number of segments for pixels that are left out. Only the kernels of
// this file read labels, and segment ids never index a table out of bounds.
//
//   #define THREADS                      threads of a block

// Labels of any integer dtype are read as 64 bits, sign-extended if signed. One unsigned comparison then tells whether
// a label is a segment: negative labels are larger than any number of segments.
struct segment_labels {
    long long count;
    unsigned long long ignored;
    int segments;
    int bytes, is_signed;               // of the dtype of labels
    int ignores;                        // whether there is an ignored label
};

__device__ inline unsigned long long label_at(const segment_labels& g, const void* labels, long long at)
{
    if (g.is_signed) {
        long long label;
        if (g.bytes == 1) label = static_cast<const signed char*>(labels)[at];
        else if (g.bytes == 2) label = static_cast<const short*>(labels)[at];
        else if (g.bytes == 4) label = static_cast<const int*>(labels)[at];
        else label = static_cast<const long long*>(labels)[at];
        return static_cast<unsigned long long>(label);
    }
    if (g.bytes == 1) return static_cast<const unsigned char*>(labels)[at];
    if (g.bytes == 2) return static_cast<const unsigned short*>(labels)[at];
    if (g.bytes == 4) return static_cast<const unsigned int*>(labels)[at];
    return static_cast<const unsigned long long*>(labels)[at];
}

// Maximum or minimum over the threads of a block, by a tree reduction; the result is valid in thread 0.
__device__ inline unsigned long long block_extreme(unsigned long long value, bool largest)
{
    __shared__ unsigned long long values[THREADS];
    values[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            const unsigned long long other = values[threadIdx.x + half];
            if ((other > values[threadIdx.x]) == largest) values[threadIdx.x] = other;
        }
    }
    return values[0];
}

// Writes the segment ids of all pixels. If `part` is not null, also writes the first position in each block's share
// whose label is neither a segment nor ignored. If `counts` is not null, clears it for segment_histogram.
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_assign(
    segment_labels g, const void* labels, int* __restrict__ segment_ids, unsigned long long* __restrict__ part,
    long long* __restrict__ counts, long long counted)
{
    unsigned long long first_invalid = ~0ull;
    const long long step = static_cast<long long>(gridDim.x) * THREADS;
    const long long first = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    for (long long at = first; at < g.count; at += step) {
        const unsigned long long label = label_at(g, labels, at);
        const bool is_segment = label < static_cast<unsigned long long>(g.segments);
        const bool ignored = g.ignores && label == g.ignored;
        segment_ids[at] = is_segment && !ignored ? static_cast<int>(label) : g.segments;
        // A thread visits positions in rising order: the first one is the smallest.
        if (!is_segment && !ignored && first_invalid == ~0ull) first_invalid = static_cast<unsigned long long>(at);
    }
    if (counts != nullptr)
        for (long long at = first; at < counted; at += step) counts[at] = 0;
    if (part == nullptr) return;
    first_invalid = block_extreme(first_invalid, false);
    if (threadIdx.x == 0) part[blockIdx.x] = first_invalid;
}

// Largest label in each block's share that is not ignored, plus 1; 0 if there is none, and at most 2^63 - 1.
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_largest(
    segment_labels g, const void* labels, unsigned long long* __restrict__ part)
{
    const unsigned long long max_count = ~0ull >> 1;
    unsigned long long largest = 0;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < g.count;
         at += static_cast<long long>(gridDim.x) * THREADS) {
        const unsigned long long label = label_at(g, labels, at);
        if ((g.is_signed && label > max_count) || (g.ignores && label == g.ignored)) continue;
        const unsigned long long needed = label < max_count ? label + 1 : max_count;
        if (needed > largest) largest = needed;
    }
    largest = block_extreme(largest, true);
    if (threadIdx.x == 0) part[blockIdx.x] = largest;
}

// Maximum or minimum of the results of all blocks; launched with one block.
extern "C" __global__ void __launch_bounds__(THREADS, 1) segment_reduce_blocks(
    const unsigned long long* __restrict__ part, int parts, int largest, void* __restrict__ result)
{
    unsigned long long best = largest ? 0 : ~0ull;
    for (int at = threadIdx.x; at < parts; at += THREADS)
        if ((part[at] > best) == (largest != 0)) best = part[at];
    best = block_extreme(best, largest != 0);
    if (threadIdx.x == 0) *static_cast<unsigned long long*>(result) = best;
}

// counts[image, segment id] += 1 for every pixel of a segment. Integer atomics: sums do not depend on the order. Lanes
// of a warp with the same segment add once, so that a single large segment causes no contention.
extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_histogram(
    const int* __restrict__ segment_ids, long long count, int pixels, int segments, long long* __restrict__ counts)
{
    const unsigned long long none = ~0ull;
    const int lane = threadIdx.x % 32;
    for (long long first = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x - lane; first < count;
         first += static_cast<long long>(gridDim.x) * THREADS) {
        const long long at = first + lane;
        const int segment_id = at < count ? segment_ids[at] : segments;
        const unsigned long long index = static_cast<unsigned long long>(at / pixels) * segments + segment_id;
        const unsigned long long key = segment_id < segments ? index : none;
        const unsigned peers = __match_any_sync(~0u, key);
        if (key != none && lane == __ffs(peers) - 1)
            atomicAdd(
                reinterpret_cast<unsigned long long*>(counts) + key, static_cast<unsigned long long>(__popc(peers)));
    }
}
