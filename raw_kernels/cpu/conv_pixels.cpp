// Correlations with vectors of output channels, for pixels whose channels are adjacent (NHWC).
//
// A tile is several pixels of a row times one or two vectors of outputs in registers; samples are broadcast. The samples are packed with their halo, or read where they are if no tap is outside of
// the image and the dtype is that of the sums.

#include "correlation.h"
#include "pack_pixels.h"
#include "pack_weights.h"

#if VECTOR_REGISTERS == 32
enum { PAIR_PIXELS = 14, SINGLE_PIXELS = 14 };
#else
enum { PAIR_PIXELS = 6, SINGLE_PIXELS = 12 };
#endif

// Columns of a tile of a wide group.
EXPORTED int64_t tile_columns() { return PAIR_PIXELS; }

// Outputs that are computed at a time.
EXPORTED int64_t output_width(int64_t outputs) { return outputs > LANES ? 2 * LANES : LANES; }

struct PixelCorrelation {
    Correlation call;
    int64_t packed;           // whether samples are packed
    int64_t pixel, row;       // elements to the samples of the next pixel of outputs, and in the input of the next row
    int64_t direct;           // whether tiles are stored in the output
};

template <int VECTORS, int PIXELS>
NOINLINE void tile(const accumulator *RESTRICT samples, int64_t pixel, const int64_t *RESTRICT offsets, int64_t taps,
                   const accumulator *RESTRICT weight, int64_t channels, int64_t skipped, const accumulator *RESTRICT initial,
                   accumulator *RESTRICT result, int64_t pitch) {
    vector sums[PIXELS][VECTORS];
    UNROLL for (int p = 0; p < PIXELS; p++) UNROLL for (int v = 0; v < VECTORS; v++) sums[p][v] = load(initial + v * LANES);
    for (int64_t t = 0; t < taps; t++, weight += skipped) {
        const accumulator *source = samples + offsets[t];
        for (int64_t c = 0; c < channels; c++, source++, weight += VECTORS * LANES) {
            vector factors[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) factors[v] = load(weight + v * LANES);
            UNROLL for (int p = 0; p < PIXELS; p++)
                if constexpr (VECTORS == 1)
                    sums[p][0] += factors[0] * source[p * pixel];
                else {
                    vector sample = broadcast(source[p * pixel]);
                    KEEP_IN_REGISTER(sample);
                    UNROLL for (int v = 0; v < VECTORS; v++) sums[p][v] += factors[v] * sample;
                }
        }
    }
    UNROLL for (int p = 0; p < PIXELS; p++) UNROLL for (int v = 0; v < VECTORS; v++) store(result + p * pitch + v * LANES, sums[p][v]);
}

// Tiles of one length for a row: the last one overlaps the one before and computes the same values again.
template <int VECTORS, int PIXELS>
INLINE void row_of_tiles(const accumulator *samples, int64_t pixel, const Phase &phase, const accumulator *weight, int64_t channels,
                         int64_t skipped, const accumulator *initial, accumulator *result, int64_t pitch, int64_t columns) {
    for (int64_t x = 0; x < columns; x += PIXELS) {
        const int64_t from = smaller(x, columns - PIXELS);
        tile<VECTORS, PIXELS>(samples + from * pixel, pixel, phase.offsets, phase.taps, weight, channels, skipped, initial,
                                      result + from * pitch, pitch);
    }
}

template <int VECTORS, int PIXELS, class... Rest> INLINE void row(int64_t columns, Rest... rest) {
    // The cost of a length: pixels computed, short tiles being slower.
    const int lengths[4] = {PIXELS, PIXELS / 2, PIXELS > 7 ? PIXELS / 4 : 1, 1};
    int best = 3;
    int64_t least = INT64_MAX;
    for (int i = 0; i < 4; i++) {
        const int64_t cost = rounded_up(columns, lengths[i]) * (12 + 2 * i * i);
        if (lengths[i] <= columns && cost < least) least = cost, best = i;
    }
    switch (best) {
    case 0: return row_of_tiles<VECTORS, PIXELS>(rest..., columns);
    case 1: return row_of_tiles<VECTORS, PIXELS / 2>(rest..., columns);
    case 2: return row_of_tiles<VECTORS, (PIXELS > 7 ? PIXELS / 4 : 1)>(rest..., columns);
    default: return row_of_tiles<VECTORS, 1>(rest..., columns);
    }
}

template <int VECTORS, int PIXELS> INLINE void correlate(const PixelCorrelation &pixels, const Block &block, char *workspace) {
    enum { WIDTH = LANES * VECTORS };
    const Correlation &call = pixels.call;
    const Phase &phase = *block.phase;
    const int64_t samples = phase.plane * phase.segments[1];
    const int64_t distance = call.channels * call.grouped;
    accumulator *const buffer = (accumulator *)workspace;
    accumulator *const results = buffer + (pixels.packed ? rounded_up(samples * distance, LANES) : 0);
    const int64_t row_step = pixels.packed ? phase.pitch * distance : pixels.row;
    const int64_t rows = block.range.rows, columns = block.range.columns;
    double *const totals = (double *)(results + rounded_up(columns * WIDTH, LANES));
    const int64_t blocks = ceil_div(call.outputs, WIDTH);
    const int64_t from = blocks * block.output_block / call.output_blocks, to = blocks * (block.output_block + 1) / call.output_blocks;
    const int64_t groups = smaller(call.grouped, call.groups - block.group);
    const storage *image = call.input + block.image * call.input_strides.image + block.group * call.inputs * call.input_strides.channel;
    for (int64_t c = 0; c < call.inputs; c += call.channels) {
        const int64_t channels = smaller(call.channels, call.inputs - c);
        const bool final = c + channels == call.inputs;
        const accumulator *base = buffer;
        if (pixels.packed)
            pack_pixels(buffer, distance, phase, block.range, call.size, call.stride, image + c * call.input_strides.channel, call.input_strides,
                        call.grouped > 1 ? groups * call.inputs : channels);
        else
            base = (const accumulator *)image + c + block.range.row * pixels.row + block.range.column * pixels.pixel;
        for (int64_t g = 0; g < groups; g++)
            for (int64_t b = from; b < to; b++) {
                const int64_t number = (block.group + g) * blocks + b, first = (block.group + g) * call.outputs + b * WIDTH;
                const int64_t outputs = smaller(WIDTH, call.outputs - b * WIDTH);
                const accumulator *weight = call.weight + phase.weight + (number * phase.taps * call.inputs + c) * WIDTH;
                const accumulator zeros[WIDTH] = {};
                const accumulator *initial = c ? zeros : call.bias + number * WIDTH;
                const int64_t skipped = (call.inputs - channels) * WIDTH;
                for (int64_t r = 0; r < rows; r++) {
                    const accumulator *source = base + g * call.inputs + r * row_step;
                    storage *target = output_at(call, block, first, r, 0);
                    const int64_t step = phase.step[1] * call.output_strides.column;
                    if (pixels.direct) {
                        row<VECTORS, PIXELS>(columns, source, pixels.pixel, phase, weight, channels, skipped, initial, (accumulator *)target, step);
                        continue;
                    }
                    row<VECTORS, PIXELS>(columns, source, pixels.pixel, phase, weight, channels, skipped, initial, results, WIDTH);
                    if (call.channels < call.inputs) {
                        // Sums of many channels: of some at a time, which are added in float64.
                        double *total = totals + ((b - from) * rows + r) * columns * WIDTH;
                        for (int64_t i = 0; i < columns * WIDTH; i++) {
                            const double sum = (c ? total[i] : 0) + results[i];
                            total[i] = sum;
                            results[i] = (accumulator)sum;
                        }
                        if (!final) continue;
                    }
                    for (int64_t x = 0; x < columns; x++)
                        if (call.output_strides.channel == 1)
                            narrow_row(target + x * step, results + x * WIDTH, outputs);
                        else
                            for (int64_t o = 0; o < outputs; o++) narrow(target[x * step + o * call.output_strides.channel], results[x * WIDTH + o]);
                }
            }
    }
}

EXPORTED void correlate_pixels(const void *arguments, int64_t first, int64_t last, char *workspace) {
    const PixelCorrelation &call = *(const PixelCorrelation *)arguments;
    while (first < last) {
        const Block block = block_of(call.call, first, last);
        if (call.call.width == 2 * LANES) correlate<2, PAIR_PIXELS>(call, block, workspace);
        else correlate<1, SINGLE_PIXELS>(call, block, workspace);
        first += block.count;
    }
}
