// Gradients of the weights of depthwise correlations, with vectors of channels (NHWC): as in weight_gradient.cpp, with
// one input and one output for every group.

#include "pack_grad.h"
#include "pack_pixels.h"
#include "weight_gradient.h"

enum { MOST_TAPS = VECTOR_REGISTERS == 32 ? 9 : 7 };

template <int TAPS>
NOINLINE void pixels_product(const accumulator *RESTRICT samples, const int64_t *RESTRICT offsets, int64_t pixel, int64_t row,
                             const accumulator *RESTRICT grad, int64_t grad_pixel, int64_t grad_row, int64_t rows, int64_t columns,
                             accumulator *RESTRICT result, int64_t pitch) {
    vector sums[TAPS] = {};
    int64_t distances[TAPS];
    UNROLL for (int t = 0; t < TAPS; t++) distances[t] = offsets[t] * pixel;
    for (int64_t r = 0; r < rows; r++) {
        const accumulator *s = samples + r * row, *g = grad + r * grad_row;
        for (int64_t x = 0; x < columns; x++, s += pixel, g += grad_pixel) {
            const vector value = load(g);
            UNROLL for (int t = 0; t < TAPS; t++) sums[t] += value * load(s + distances[t]);
        }
    }
    UNROLL for (int t = 0; t < TAPS; t++) store(result + t * pitch, load(result + t * pitch) + sums[t]);
}

// A block: range of channels, split. Groups are the channels.
EXPORTED void weight_gradient_depthwise_pixels(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const WeightGradient &call = *(const WeightGradient *)arguments;
    const Phase &phase = *call.phase;
    const int64_t vectors = ceil_div(call.groups, LANES);
    for (int64_t number = first; number < last; number++) {
        const int64_t split = number % call.splits, range_number = number / call.splits;
        const int64_t from = vectors * range_number / call.output_blocks * LANES;
        const int64_t to = smaller(vectors * (range_number + 1) / call.output_blocks * LANES, call.groups);
        const int64_t channels = to - from, width = rounded_up(channels, LANES);
        accumulator *const samples = (accumulator *)workspace;
        accumulator *const grad = samples + phase.plane * phase.segments[1] * width;
        accumulator *const sums = grad + phase.size[0] * phase.size[1] * width;
        memset(sums, 0, call.taps * width * sizeof(accumulator));
        for_parts(call, split, [&](const Part &part) {
            const Range &range = part.range;
            pack_pixels(samples, width, phase, range, call.input, part.image, from, channels);
            const storage *source = grad_at(call, part, from);
            // Gradients are read where they are if they are whole vectors of accumulators.
            const bool direct = sizeof(storage) == sizeof(accumulator) && call.grad_strides.channel == 1 && channels == width;
            const accumulator *const gradients = direct ? (const accumulator *)source : grad;
            const int64_t grad_pixel = direct ? call.grad_strides.column : width;
            const int64_t grad_row = direct ? call.grad_strides.row : range.columns * width;
            if (!direct) pack_grad_pixels(grad, width, call, part, from, channels);
            for (int64_t c = 0; c < width; c += LANES)
                for_equal_parts<MOST_TAPS>(call.taps, [&](auto taps, int64_t tap) {
                    pixels_product<decltype(taps)::value>(samples + c, phase.offsets + tap, width, phase.pitch * width, gradients + c,
                                                          grad_pixel, grad_row, range.rows, range.columns, sums + tap * width + c, width);
                });
        });
        // Of every group: the taps.
        accumulator *target = call.partial + split * call.groups * call.taps;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t t = 0; t < call.taps; t++) target[(from + c) * call.taps + t] = sums[t * width + c];
    }
}
