// Depthwise correlations with vectors of channels, for pixels whose channels are adjacent (NHWC).
//
// A tile is several pixels of a row times one vector of channels in registers. Samples are packed, with channels filled up
// to whole vectors.

#include "correlation.h"
#include "pack_pixels.h"
#include "pack_weights.h"

enum { PIXELS = 8 };

// Columns of a tile.
EXPORTED int64_t tile_columns() { return PIXELS; }

// Of one group, whose outputs are the channels; `width` is their number filled up.
struct DepthwiseCorrelation {
    Correlation call;
    int64_t depth;   // channels that are packed side by side
    int64_t direct;  // whether tiles are stored in the output
};

// What tiles share.
struct Filter {
    const int64_t *offsets;
    int64_t taps;
    int64_t adjacent;  // of `adjacent_taps`
    int64_t pixel;     // elements to the next pixel
    int64_t weights;   // elements to the weights of the next tap
};

template <int COUNT>
NOINLINE void tile(const Filter &filter, const accumulator *RESTRICT samples, const accumulator *RESTRICT weight,
                   const accumulator *RESTRICT initial, accumulator *RESTRICT result, int64_t pitch) {
    vector sums[COUNT];
    UNROLL for (int p = 0; p < COUNT; p++) sums[p] = load(initial);
    for (int64_t t = 0; t < filter.taps; t++, weight += filter.weights) {
        const accumulator *source = samples + filter.offsets[t];
        const vector factor = load(weight);
        UNROLL for (int p = 0; p < COUNT; p++) sums[p] += factor * load(source + p * filter.pixel);
    }
    UNROLL for (int p = 0; p < COUNT; p++) store(result + p * pitch, sums[p]);
}

// The same for runs of ADJACENT taps: each sample is loaded once for all of them.
template <int COUNT, int ADJACENT>
NOINLINE void tile_of_runs(const Filter &filter, const accumulator *RESTRICT samples, const accumulator *RESTRICT weight,
                           const accumulator *RESTRICT initial, accumulator *RESTRICT result, int64_t pitch) {
    vector sums[COUNT];
    UNROLL for (int p = 0; p < COUNT; p++) sums[p] = load(initial);
    for (int64_t t = 0; t < filter.taps; t += ADJACENT, weight += ADJACENT * filter.weights) {
        const accumulator *source = samples + filter.offsets[t];
        vector factors[ADJACENT];
        UNROLL for (int j = 0; j < ADJACENT; j++) factors[j] = load(weight + j * filter.weights);
        UNROLL for (int q = 0; q < COUNT + ADJACENT - 1; q++) {
            vector sample = load(source + q * filter.pixel);
            KEEP_IN_REGISTER(sample);
            UNROLL for (int j = 0; j < ADJACENT; j++)
                if (q - j >= 0 && q - j < COUNT) sums[q - j] += factors[j] * sample;
        }
    }
    UNROLL for (int p = 0; p < COUNT; p++) store(result + p * pitch, sums[p]);
}

template <int COUNT, class... Rest> INLINE void any_tile(const Filter &filter, Rest... rest) {
    switch (filter.adjacent) {
    case 3: return tile_of_runs<COUNT, 3>(filter, rest...);
    case 5: return tile_of_runs<COUNT, 5>(filter, rest...);
    case 7: return tile_of_runs<COUNT, 7>(filter, rest...);
    default: return tile<COUNT>(filter, rest...);
    }
}

INLINE void correlate(const DepthwiseCorrelation &depthwise, const Block &block, char *workspace) {
    const Correlation &call = depthwise.call;
    const Phase &phase = *block.phase;
    const int64_t rows = block.range.rows, columns = block.range.columns, width = depthwise.depth;
    // Ranges of channels begin at whole vectors.
    const int64_t vectors = call.width / LANES;
    const int64_t from = vectors * block.output_block / call.output_blocks * LANES;
    const int64_t to = vectors * (block.output_block + 1) / call.output_blocks * LANES;
    const int64_t channels = smaller(to, call.outputs) - from;
    accumulator *const packed = (accumulator *)workspace;
    accumulator *const results = packed + phase.plane * phase.segments[1] * width;
    pack_pixels(packed, width, phase, block.range, call.input, block.image, from, channels);
    const Filter filter = {phase.offsets, phase.taps, adjacent_taps(phase, width), width, call.width};
    const int64_t step = phase.step[1] * call.output_strides.column;
    for (int64_t r = 0; r < rows; r++) {
        storage *const target = output_at(call, block, from, r, 0);
        for_equal_parts<PIXELS>(columns, [&](auto count, int64_t x) {
            for (int64_t c = 0; c < to - from; c += LANES) {
                const accumulator *source = packed + (r * phase.pitch + x) * width + c;
                accumulator *result = depthwise.direct ? (accumulator *)target + x * step + c : results + x * width + c;
                any_tile<decltype(count)::value>(filter, source, call.weight + phase.weight + from + c, call.bias + from + c, result,
                                                 depthwise.direct ? step : width);
            }
        });
        if (depthwise.direct) continue;
        for (int64_t x = 0; x < columns; x++) {
            storage *pixel = target + x * step;
            const accumulator *values = results + x * width;
            if (call.output_strides.channel == 1)
                narrow_row(pixel, values, channels);
            else
                for (int64_t c = 0; c < channels; c++) narrow(pixel[c * call.output_strides.channel], values[c]);
        }
    }
}

EXPORTED void correlate_depthwise_pixels(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const DepthwiseCorrelation &call = *(const DepthwiseCorrelation *)arguments;
    while (first < last) {
        const Block block = block_of(call.call, first, last);
        correlate(call, block, workspace);
        first += block.count;
    }
}
