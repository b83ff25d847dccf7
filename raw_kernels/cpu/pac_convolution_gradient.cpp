// Gradients of a pixel-adaptive convolution with filters of groups of channels, but for that of the filters.
//
// The gradients of the outputs of a part of a tile times the weights of a tap are gradients of scaled samples: times the
// samples they are added to the gradient of the kernel, times the kernel to those of the samples.

#include "pac_gradient.h"
#include "pack_weights.h"

#if VECTOR_REGISTERS == 32
enum { WIDE_INPUTS = 8 };
#else
enum { WIDE_INPUTS = 4 };
#endif

// Inputs that are computed at a time.
EXPORTED int64_t input_width(int64_t inputs) { return inputs > 4 ? (int64_t)WIDE_INPUTS : inputs > 1 ? 4 : 1; }

EXPORTED int64_t pac_convolution_gradient_workspace(const PacGradient *gradient) { return gradient_workspace(*gradient); }

// `count` of INPUTS inputs at one tap of a part of a tile. What is null is not asked for.
template <int INPUTS, int VECTORS>
NOINLINE void gradient_product(const accumulator *RESTRICT grad, int64_t pitch, int64_t outputs, const accumulator *RESTRICT weight,
                               const lane_number *RESTRICT inside, int64_t count, int64_t distance, const accumulator *RESTRICT samples,
                               accumulator *RESTRICT grad_kernel, const accumulator *RESTRICT kernel, accumulator *RESTRICT grad_samples) {
    vector sums[INPUTS][VECTORS] = {};
    for (int64_t o = 0; o < outputs; o++, weight += INPUTS, grad += pitch) {
        vector values[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) values[v] = load(grad + v * LANES);
        UNROLL for (int c = 0; c < INPUTS; c++) {
            vector factor = broadcast(weight[c]);
            KEEP_IN_REGISTER(factor);
            UNROLL for (int v = 0; v < VECTORS; v++) sums[c][v] += factor * values[v];
        }
    }
    lane_numbers lanes[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) lanes[v] = *(const lane_numbers *)(inside + v * LANES);
    if (grad_kernel) UNROLL for (int v = 0; v < VECTORS; v++) {
        vector total = load(grad_kernel + v * LANES);
        UNROLL for (int c = 0; c < INPUTS; c++)
            if (c < count) total += sums[c][v] * load(samples + c * distance + v * LANES);
        store(grad_kernel + v * LANES, total);
    }
    if (grad_samples) {
        // Between the rows there is nothing to be added, whatever the weights and the kernel are there.
        UNROLL for (int c = 0; c < INPUTS; c++) {
            if (c < count) UNROLL for (int v = 0; v < VECTORS; v++) {
                accumulator *const target = grad_samples + c * distance + v * LANES;
                store(target, load(target) + (vector)(lanes[v] & (lane_numbers)(sums[c][v] * load(kernel + v * LANES))));
            }
        }
    }
}

template <int INPUTS>
INLINE void contract(const PacGradient &gradient, const Block &block, const Adaptive &adaptive, const GradientBuffers &buffers, int64_t p) {
    const Pac &call = gradient.call;
    const Phase &phase = *block.phase;
    const bool wants_kernel = gradient.grad_guide || gradient.grad_kernel.data;
    const int64_t blocks = ceil_div(call.inputs, INPUTS);
    if (wants_kernel) memset((void *)buffers.grad_kernel, 0, phase.taps * TILE * sizeof(accumulator));
    // All taps of some inputs: the first cache holds what these read and add to.
    for (int64_t group = 0; group < call.groups; group++)
        for (int64_t b = 0; b < blocks; b++)
            for_taps(call, block, [&](int64_t t) {
                const accumulator *weight = call.weight + phase.weight + ((group * blocks + b) * phase.taps + t) * call.outputs * INPUTS;
                const int64_t planes = (group * call.inputs + b * INPUTS) * call.distance + phase.offsets[t];
                for_parts(block, p, [&](auto vectors, int64_t at) {
                    const int64_t x = p + at;
                    gradient_product<INPUTS, decltype(vectors)::value>(
                        buffers.grad + group * call.outputs * call.positions + x, call.positions, call.outputs, weight, buffers.inside + x,
                        smaller(INPUTS, call.inputs - b * INPUTS), call.distance, buffers.samples + planes + x,
                        wants_kernel ? buffers.grad_kernel + t * TILE + at : nullptr, adaptive.values + t * TILE + at,
                        gradient.grad_input ? buffers.grad_samples + planes + x : nullptr);
                });
            });
}

EXPORTED void pac_convolution_gradient(const void *arguments, int64_t first, int64_t last, char *memory) {
    const PacGradient &gradient = *(const PacGradient *)arguments;
    gradient_blocks(gradient, first, last, memory, [&](const Block &block, const Adaptive &adaptive, const GradientBuffers &buffers, int64_t p, int64_t) {
        switch (gradient.call.width) {
        case 8: if constexpr (WIDE_INPUTS == 8) contract<8>(gradient, block, adaptive, buffers, p); break;
        case 4: contract<4>(gradient, block, adaptive, buffers, p); break;
        case 1: contract<1>(gradient, block, adaptive, buffers, p); break;
        }
    });
}
