// Correlations with vectors of output channels, for wide groups and for both layouts.
//
// A tile is several pixels of a row times one or two vectors of outputs in registers; samples are broadcast. The samples
// are packed with their halo, channels side by side, or read where they are if they have that layout and the dtype of the
// sums and no tap is outside of the image.

#include "correlation.h"
#include "pack_pixels.h"
#include "pack_weights.h"

#if VECTOR_REGISTERS == 32
enum { PAIR_PIXELS = 14, SINGLE_PIXELS = 14 };
#else
enum { PAIR_PIXELS = 6, SINGLE_PIXELS = 10 };
#endif

// Pixels of results that are stored at a time, if rows are short.
enum { STORED = 4 * LANES };

// Columns of a tile of a wide group; pixels of results in the workspace, for so many columns.
EXPORTED int64_t tile_columns() { return PAIR_PIXELS; }
EXPORTED int64_t result_pixels(int64_t columns) { return larger(columns, STORED); }

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

// The same for runs of ADJACENT taps and one vector: each sample is broadcast once for all of them, where loads would
// otherwise take as long as the products.
template <int ADJACENT, int PIXELS>
NOINLINE void tile_of_runs(const accumulator *RESTRICT samples, int64_t pixel, const int64_t *RESTRICT offsets, int64_t taps,
                           const accumulator *RESTRICT weight, int64_t channels, int64_t skipped, const accumulator *RESTRICT initial,
                           accumulator *RESTRICT result, int64_t pitch) {
    vector sums[PIXELS];
    UNROLL for (int p = 0; p < PIXELS; p++) sums[p] = load(initial);
    const int64_t step = channels * LANES + skipped;
    for (int64_t t = 0; t < taps; t += ADJACENT, weight += ADJACENT * step) {
        const accumulator *source = samples + offsets[t];
        for (int64_t c = 0; c < channels; c++) {
            vector factors[ADJACENT];
            UNROLL for (int j = 0; j < ADJACENT; j++) factors[j] = load(weight + j * step + c * LANES);
            UNROLL for (int q = 0; q < PIXELS + ADJACENT - 1; q++) {
                vector sample = broadcast(source[c + q * pixel]);
                KEEP_IN_REGISTER(sample);
                UNROLL for (int j = 0; j < ADJACENT; j++)
                    if (q - j >= 0 && q - j < PIXELS) sums[q - j] += factors[j] * sample;
            }
        }
    }
    UNROLL for (int p = 0; p < PIXELS; p++) store(result + p * pitch, sums[p]);
}

// The tiles of a row, about equally long.
template <int VECTORS, int PIXELS>
INLINE void row(const accumulator *samples, int64_t pixel, const Phase &phase, int64_t adjacent, const accumulator *weight, int64_t channels,
                int64_t skipped, const accumulator *initial, accumulator *result, int64_t pitch, int64_t columns) {
    for_equal_parts<PIXELS>(columns, [&](auto pixels, int64_t first) {
        enum { COUNT = decltype(pixels)::value };
        const auto compute = VECTORS == 2    ? tile<VECTORS, COUNT>
                             : adjacent == 3 ? tile_of_runs<3, COUNT>
                             : adjacent == 5 ? tile_of_runs<5, COUNT>
                                             : tile<VECTORS, COUNT>;
        compute(samples + first * pixel, pixel, phase.offsets, phase.taps, weight, channels, skipped, initial, result + first * pitch, pitch);
    });
}

NOINLINE void store_strided(storage *target, int64_t step, vector values, int64_t count) {
    accumulator lanes[LANES];
    store(lanes, values);
    for (int64_t k = 0; k < count; k++) narrow(target[k * step], lanes[k]);
}

// A run of `count` pixels of results, stored `step` apart.
NOINLINE void store_pixels(storage *target, int64_t step, int64_t channel, const accumulator *results, int64_t width, int64_t count, int64_t outputs) {
    if (channel == 1)
        for (int64_t x = 0; x < count; x++) narrow_row(target + x * step, results + x * width, outputs);
    else
        // Planes of outputs. Results are filled up to whole vectors.
        transpose_squares(
            count, outputs, [&](int64_t x, int64_t o, int64_t) { return load(results + x * width + o); },
            [&](int64_t o, int64_t x, vector values, int64_t some) {
                storage *row = target + o * channel + x * step;
                if (step == 1) store_first(row, values, some);
                else store_strided(row, step, values, some);
            });
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
    // Short rows that follow each other in the output are stored together.
    const int64_t step = phase.step[1] * call.output_strides.column;
    const bool flat = phase.step[0] * call.output_strides.row == columns * step;
    const int64_t at_once = flat ? larger(1, STORED / columns) : 1;
    double *const totals = (double *)(results + larger(columns, STORED) * WIDTH);
    const int64_t blocks = ceil_div(call.outputs, WIDTH), adjacent = adjacent_taps(phase, pixels.pixel);
    const int64_t from = blocks * block.output_block / call.output_blocks, to = blocks * (block.output_block + 1) / call.output_blocks;
    const int64_t groups = smaller(call.grouped, call.groups - block.group);
    for (int64_t c = 0; c < call.inputs; c += call.channels) {
        const int64_t channels = smaller(call.channels, call.inputs - c);
        const bool final = c + channels == call.inputs;
        const accumulator *base = buffer;
        if (pixels.packed)
            pack_pixels(buffer, distance, phase, block.range, call.input, block.image, block.group * call.inputs + c,
                        call.grouped > 1 ? groups * call.inputs : channels);
        else
            base = (const accumulator *)call.input.data + image_at(call.input, block.image, block.group * call.inputs + c) +
                   block.range.row * pixels.row + block.range.column * pixels.pixel;
        for (int64_t g = 0; g < groups; g++)
            for (int64_t b = from; b < to; b++) {
                const int64_t number = (block.group + g) * blocks + b, first = (block.group + g) * call.outputs + b * WIDTH;
                const int64_t outputs = smaller(WIDTH, call.outputs - b * WIDTH);
                const accumulator *weight = call.weight + phase.weight + (number * phase.taps * call.inputs + c) * WIDTH;
                const accumulator zeros[WIDTH] = {};
                const accumulator *initial = c ? zeros : call.bias + number * WIDTH;
                const int64_t skipped = (call.inputs - channels) * WIDTH;
                const accumulator *source = base + g * call.inputs;
                for (int64_t r = 0; r < rows; r += at_once) {
                    storage *target = output_at(call, block, first, r, 0);
                    const int64_t together = smaller(at_once, rows - r), count = together * columns;
                    accumulator *result = pixels.direct ? (accumulator *)target : results;
                    const int64_t pitch = pixels.direct ? step : (int64_t)WIDTH;
                    for (int64_t k = 0; k < together; k++)
                        row<VECTORS, PIXELS>(source + (r + k) * row_step, pixels.pixel, phase, adjacent, weight, channels, skipped, initial,
                                             result + k * columns * pitch, pitch, columns);
                    if (pixels.direct) continue;
                    if (call.channels < call.inputs) {
                        // Sums of many channels: of some at a time, which are added in float64.
                        double *total = totals + ((b - from) * rows + r) * columns * WIDTH;
                        for (int64_t i = 0; i < count * WIDTH; i++) {
                            const double sum = (c ? total[i] : 0) + results[i];
                            total[i] = sum;
                            results[i] = (accumulator)sum;
                        }
                        if (!final) continue;
                    }
                    store_pixels(target, step, call.output_strides.channel, results, WIDTH, count, outputs);
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
