// Copies pooled features to pixels, bit by bit: result[n, p, c] = table[n, segment id of p, c]. Pixels of no segment
// get `fill`.
//
//   #define ITEM_BYTES 1 | 2 | 4 | 8 | 16    one element, or several contiguous channels
//   #define CHANNELS_PER_THREAD              channels (in items) handled by a thread
//   #define THREADS                          threads of a block

#include "thread_map.cuh"
#include "items.cuh"
#include "segment.cuh"

struct segment_unpooling {
    segment_strides table, result;
    image_thread_map thread_map;        // an image is mapped as one row of pixels
    int segments;
    unsigned long long fill[2];         // one item, repeated to fill 16 bytes
};

extern "C" __global__ void __launch_bounds__(THREADS, 4) segment_gather(
    segment_unpooling g, const int* __restrict__ segment_ids, const void* __restrict__ table, void* __restrict__ result)
{
    const position p = thread_position(g.thread_map);
    if (!p.valid) return;
    const int segment_id = segment_ids[static_cast<long long>(p.image) * g.thread_map.pixels + p.column];
    const bool labelled = segment_id < g.segments;
    const item* const from = labelled
        ? static_cast<const item*>(table) + p.image * g.table.image + segment_id * g.table.entry : nullptr;
    item* const to = static_cast<item*>(result) + p.image * g.result.image + p.column * g.result.entry;
    union {
        unsigned long long words[2];
        item value;
    } fill;
    fill.words[0] = g.fill[0];
    fill.words[1] = g.fill[1];
    item values[CHANNELS_PER_THREAD];
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        values[e] = labelled && channel < g.thread_map.channels ? from[channel * g.table.channel] : fill.value;
    }
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        if (channel < g.thread_map.channels) to[channel * g.result.channel] = values[e];
    }
}
