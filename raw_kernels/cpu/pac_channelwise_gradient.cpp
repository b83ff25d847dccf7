// Gradients of pixel-adaptive pooling, and of a convolution with one filter for all channels.

#include "pac_gradient.h"

EXPORTED int64_t pac_channelwise_gradient_workspace(const PacGradient *gradient) { return gradient_workspace(*gradient); }

// One tap of a part of a tile, of some channels. `products` are sums over them of sample times gradient; `grad_samples` may
// be null.
NOINLINE void tap_gradient(const accumulator *RESTRICT grad, int64_t pitch, int64_t channels, const accumulator *RESTRICT samples, int64_t distance,
                           const lane_number *RESTRICT inside, const accumulator *RESTRICT kernel, accumulator weight, accumulator *RESTRICT grad_samples,
                           accumulator *RESTRICT products) {
    vector factors[VECTORS], sums[VECTORS] = {};
    lane_numbers lanes[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) {
        lanes[v] = *(const lane_numbers *)(inside + v * LANES);
        factors[v] = (vector)(lanes[v] & (lane_numbers)(load(kernel + v * LANES) * weight));
    }
    for (int64_t c = 0; c < channels; c++, grad += pitch, samples += distance) {
        UNROLL for (int v = 0; v < VECTORS; v++) sums[v] += load(grad + v * LANES) * load(samples + v * LANES);
        if (!grad_samples) continue;
        UNROLL for (int v = 0; v < VECTORS; v++) store(grad_samples + v * LANES, load(grad_samples + v * LANES) + factors[v] * load(grad + v * LANES));
        grad_samples += distance;
    }
    UNROLL for (int v = 0; v < VECTORS; v++) store(products + v * LANES, (vector)(lanes[v] & (lane_numbers)sums[v]));
}

EXPORTED void pac_channelwise_gradient(const void *arguments, int64_t first, int64_t last, char *memory) {
    const PacGradient &gradient = *(const PacGradient *)arguments;
    const Pac &call = gradient.call;
    const int64_t channels = call.kernel_channels == 1 ? call.groups : smaller(call.kernel_channels, 1);
    gradient_blocks(gradient, first, last, memory, [&](const Block &block, const Adaptive &adaptive, const GradientBuffers &buffers, int64_t p, int64_t channel) {
        double *const filter = buffers.sums + 2 * call.kernel_channels + call.smooth_taps;
        for_taps(call, block, [&](int64_t t) {
            const int64_t number = block.guide->weight + t, planes = channel * call.distance + block.phase->offsets[t];
            const accumulator weight = call.weight ? call.weight[number] : 1;
            accumulator *const products = buffers.grad_kernel + t * TILE, *const kernel = adaptive.values + t * TILE;
            for (int64_t x = p; x < p + TILE; x += PART)
                tap_gradient(buffers.grad + channel * call.positions + x, call.positions, channels, buffers.samples + planes + x, call.distance,
                             buffers.inside + x, kernel + x - p, weight, gradient.grad_input ? buffers.grad_samples + planes + x : nullptr, products + x - p);
            if (!call.weight) return;
            vector sum = {};
            for (int64_t x = 0; x < TILE; x += LANES) {
                const vector product = load(products + x);
                // Between the rows the kernel may be no number.
                sum += where(inside_at(buffers, p + x), product * load(kernel + x));
                store(products + x, product * weight);
            }
            if (gradient.sum_count) filter[gradient.filter_taps[number]] += sum_of_lanes(sum);
        });
    });
}
