// Copies a batch of images bit by bit between two arrays of different strides, or fills one with zeros. An item is one
// element, or several contiguous elements of the innermost axis.
//
//   #define ITEM_BYTES 2 | 4 | 8 | 16
//   #define CHANNELS_PER_THREAD          channels (in items) handled by a thread
//   #define THREADS                      threads of a block

#include "thread_map.cuh"
#include "items.cuh"

#if ITEM_BYTES < 2
#error "define ITEM_BYTES as 2, 4, 8 or 16"
#endif

struct copy_geometry {
    image_strides source, target;
    image_thread_map thread_map;
};

// Fills with zeros if `source` is null.
extern "C" __global__ void __launch_bounds__(THREADS, 4) merge_copy(copy_geometry g, const void* source, void* target)
{
    const position p = thread_position(g.thread_map);
    if (!p.valid) return;
    const item* const from = static_cast<const item*>(source) + p.image * g.source.batch
        + at_pixel(g.source, p.row, p.column);
    item* const to = static_cast<item*>(target) + p.image * g.target.batch + at_pixel(g.target, p.row, p.column);
    item values[CHANNELS_PER_THREAD];
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        values[e] = source != nullptr && channel < g.thread_map.channels ? from[channel * g.source.channel] : item{};
    }
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        if (channel < g.thread_map.channels) to[channel * g.target.channel] = values[e];
    }
}
