// Pixel-adaptive pooling, and convolution with one filter for all channels: each channel is a sum of its own samples.

#include "pac.h"

enum { TOGETHER = 4 };

struct Buffers {
    accumulator *samples, *results;

    Buffers(const Pac &call, Workspace &workspace) {
        samples = workspace.take<accumulator>(call.groups * call.distance + TILE);
        results = workspace.take<accumulator>(call.groups * TILE + LANES);
    }
};

EXPORTED int64_t pac_channelwise_workspace(const Pac *call) { return forward_workspace<Buffers>(*call); }

// CHANNELS channels of a part of a tile.
template <int CHANNELS>
NOINLINE void weighted_sums(const accumulator *RESTRICT samples, int64_t distance, const int64_t *RESTRICT offsets, int64_t taps,
                            const accumulator *RESTRICT kernel, const accumulator *bias, accumulator *RESTRICT result) {
    vector sums[CHANNELS][VECTORS];
    UNROLL for (int c = 0; c < CHANNELS; c++) UNROLL for (int v = 0; v < VECTORS; v++) sums[c][v] = broadcast(bias ? bias[c] : 0);
    for (int64_t t = 0; t < taps; t++, kernel += TILE) {
        vector factors[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) factors[v] = load(kernel + v * LANES);
        const accumulator *source = samples + offsets[t];
        UNROLL for (int c = 0; c < CHANNELS; c++) UNROLL for (int v = 0; v < VECTORS; v++) sums[c][v] += factors[v] * load(source + c * distance + v * LANES);
    }
    UNROLL for (int c = 0; c < CHANNELS; c++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + c * TILE + v * LANES, sums[c][v]);
}

// `count` channels from `channel` on, by one channel of the adaptive kernel.
INLINE void sum_channels(const Pac &call, const Block &block, const accumulator *kernel, int64_t p, int64_t channel, int64_t count, const Buffers &buffers) {
    const Phase &phase = *block.phase;
    for (int64_t at = 0; at < TILE; at += PART)
        for_equal_parts<TOGETHER>(count, [&](auto together, int64_t first) {
            const int64_t c = channel + first;
            weighted_sums<decltype(together)::value>(buffers.samples + c * call.distance + p + at, call.distance, phase.offsets, phase.taps, kernel + at,
                                                     call.bias ? call.bias + c : nullptr, buffers.results + c * TILE + at);
        });
}

EXPORTED void pac_channelwise(const void *arguments, int64_t first, int64_t last, char *memory) {
    const Pac &call = *(const Pac *)arguments;
    const int64_t channels = call.kernel_channels == 1 ? call.groups : smaller(call.kernel_channels, 1);
    forward_blocks<Buffers>(call, first, last, memory, [&](const Block &block, const Adaptive &adaptive, const Buffers &buffers, int64_t p) {
        // Without channels there is still a mask.
        for (int64_t channel = 0; channel < larger(call.kernel_channels, 1); channel++) {
            any_kernel(call, block, adaptive, p, channel);
            // One filter for all channels.
            if (call.weight)
                for (int64_t t = 0; t < block.phase->taps; t++)
                    for (int64_t x = 0; x < TILE; x += LANES)
                        store(adaptive.values + t * TILE + x, load(adaptive.values + t * TILE + x) * call.weight[block.guide->weight + t]);
            sum_channels(call, block, adaptive.values, p, channel, channels, buffers);
        }
    });
}
