#pragma once
// Pixel-adaptive operators: their arguments, and the adaptive kernel of a tile.
//
// A block is a range of the outputs of one image. What its windows read is packed with its halo, as planes of channels:
// samples, guide, and how much each sample counts. All have rows of the same pitch. A *tile* is TILE consecutive positions
// of the packed rows, across the ends of rows, so that each tap is one constant offset for all of them:
//
//     packed row   x x x x x x x x . .    8 outputs of 3 taps: 2 of 10 positions are between the rows
//     tile         [----------------------------]
//
// The adaptive kernel of a tile is computed for all taps, [tap][position], and then used at once. Positions between the
// rows are computed as well: of results they are dropped, and gradients are zero there, whatever the samples are.

#include "functions.h"
#include "pack_planes.h"
#include "store_planes.h"
#include "task.h"
#include "window.h"

enum { VECTORS = 3, PARTS = 64 / VECTOR_BYTES, PART = VECTORS * LANES, TILE = PARTS * PART };

#if VECTOR_REGISTERS == 32
enum { TAPS_TOGETHER = 5 };
#else
enum { TAPS_TOGETHER = 3 };
#endif

// Positions of a tile.
EXPORTED int64_t tile_positions() { return TILE; }

// Added to squared distances under the power of the "inv" kernel, so that its gradient is finite at distance 0.
static const double SHIFT = 1e-4;

enum MaskType { NO_MASK, BYTES, STORED, WIDE };

// An adaptive kernel, or its gradient.
struct KernelArray {
    void *data;
    Strides strides;      // of images, channels, rows and columns of outputs
    const int64_t *taps;  // of all phases: elements to each tap
    int64_t wide;         // the elements have the type of sums, not that of the samples
};

struct Pac {
    Images input, guide;
    Images mask;                // how much each sample counts; without one, its size is that of the samples
    int64_t mask_type;          // of its elements
    int64_t counted;            // whether taps that do not count are left out: with a mask, or to normalise
    int64_t guide_wide;         // the guide has the type of sums, not that of the samples
    int64_t given;              // the adaptive kernel is given, and there is no guide
    int64_t guides;             // channels of the guide
    int64_t inverse, asymmetric, normalize;
    int64_t kernel_channels;    // of the adaptive kernel: more than one if each channel of the guide has its own
    const accumulator *alpha, *lambda;  // of the "inv" kernel: one, or one a channel
    int64_t alpha_step, lambda_step;    // 0 or 1
    const double *smooth;       // weights of the smoothing kernel, and by how much their sum exceeds 1
    int64_t smooth_taps;
    KernelArray kernel;         // that is given, or that is the result
    storage *output;
    Strides output_strides;
    uint8_t *output_mask;       // whether any tap counts, (N, rows, columns); may be null
    int64_t output_size[2];
    const accumulator *weight, *bias;     // packed; of shared filters, the weight of each tap
    int64_t images, groups;
    int64_t inputs, outputs;    // channels of a group
    int64_t width;              // outputs, or inputs in gradients, that are computed at a time
    int64_t chunk;              // inputs of a group that are scaled at a time
    int64_t distance;           // packed samples of a channel, at most
    int64_t guide_distance;
    int64_t positions;          // of a block, rounded up to whole tiles, at most
    int64_t taps;               // at most
    int64_t phase_count;
    const Phase *phases;        // of the samples
    const Phase *guide_phases;  // their offsets: of the taps, the centre, and the positions under the smoothing kernel; `weight` counts taps
    const int64_t *tap_columns; // of each phase: taps of a row
    const int64_t *centre_taps; // of each phase: the tap that reads the centre, -1 if none does
};

struct Block {
    const Phase *phase, *guide;
    Range range;
    int64_t image;
    int64_t length;  // positions
};

INLINE Block block_at(const Pac &call, int64_t phase, int64_t image, int64_t row, int64_t column) {
    Block block;
    block.phase = call.phases + phase;
    block.guide = call.guide_phases + phase;
    block.image = image;
    Range &range = block.range;
    range.row = row * block.phase->size[0];
    range.rows = smaller(block.phase->size[0], block.phase->length[0] - range.row);
    range.column = column * block.phase->size[1];
    range.columns = smaller(block.phase->size[1], block.phase->length[1] - range.column);
    block.length = (range.rows - 1) * block.phase->pitch + range.columns;
    return block;
}

// The order of blocks: phase, image, column, row.
INLINE Block block_of(const Pac &call, int64_t number) {
    int64_t phase = 0;
    while (phase + 1 < call.phase_count && call.phases[phase + 1].first_block <= number) phase++;
    const Phase &found = call.phases[phase];
    const int64_t rest = number - found.first_block, columns = rest / found.blocks[0];
    return block_at(call, phase, columns / found.blocks[1], rest % found.blocks[0], columns % found.blocks[1]);
}

// Hands out parts of the workspace, aligned to vectors. From null on, it counts what is needed.
struct Workspace {
    char *next;

    template <class T> T *take(int64_t count) {
        T *taken = (T *)next;
        next += rounded_up(count * (int64_t)sizeof(T), 64);
        return taken;
    }
};

// Buffers of the adaptive kernel of a block and of a tile.
struct Adaptive {
    accumulator *guide;    // planes
    accumulator *counts;   // how much each sample counts
    accumulator *inside;   // 1 inside of the image
    accumulator *squares;  // of the distances, [tap][position of the tile]
    accumulator *values;   // the kernel
    accumulator *high, *low;  // parts whose sum is the smoothed centre, [channel][position]
    accumulator *scale;    // what the kernel was multiplied by, [position]
    accumulator *left;     // how much the taps count in all

    // With `keep`, the squares are not overwritten by the kernel.
    Adaptive(const Pac &call, Workspace &workspace, bool keep) {
        guide = workspace.take<accumulator>(call.guides * call.guide_distance + TILE);
        counts = workspace.take<accumulator>(call.counted ? call.distance + TILE : 0);
        inside = workspace.take<accumulator>(call.counted ? call.distance + TILE : 0);
        values = workspace.take<accumulator>(call.taps * TILE + LANES);
        squares = keep ? workspace.take<accumulator>(call.taps * TILE) : values;
        high = workspace.take<accumulator>(call.smooth_taps ? call.guides * TILE : 0);
        low = workspace.take<accumulator>(call.smooth_taps ? call.guides * TILE : 0);
        scale = workspace.take<accumulator>(TILE);
        left = workspace.take<accumulator>(TILE);
    }
};

// The samples inside of the image count 1.
NOINLINE void pack_ones(accumulator *packed, const Phase &phase, const Range &range, const Images &images) {
    for_packed_rows(phase, range, images, [&](const PackedRows &rows) {
        for_rows(rows, [&](int64_t r, int64_t first, int64_t last) {
            accumulator *row = packed + rows.position + r * rows.pitch;
            for (int64_t x = 0; x < rows.pitch; x++) row[x] = x >= first && x < last ? 1 : 0;
        });
    });
}

template <class T> NOINLINE void pack_mask(accumulator *packed, const Phase &phase, const Range &range, const Images &mask, int64_t image) {
    const T *const data = (const T *)mask.data + image_at(mask, image, 0);
    for_packed_rows(phase, range, mask, [&](const PackedRows &rows) {
        for_rows(rows, [&](int64_t r, int64_t first, int64_t last) {
            accumulator *row = packed + rows.position + r * rows.pitch;
            clear(row, rows.pitch);
            const T *source = data + rows.source + r * rows.row;
            for (int64_t x = first; x < last; x++) row[x] = widen(source[x * rows.column]);
        });
    });
}

INLINE void pack_adaptive(const Pac &call, const Block &block, const Adaptive &adaptive) {
    if (call.guides) {
        const auto pack = call.guide_wide ? pack_planes<accumulator> : pack_planes<storage>;
        pack(adaptive.guide, call.guide_distance, *block.guide, block.range, call.guide, block.image, 0, call.guides);
    }
    if (!call.counted) return;
    if (call.mask_type == NO_MASK || !call.normalize) pack_ones(adaptive.inside, *block.phase, block.range, call.mask);
    if (call.mask_type == NO_MASK) return copy(adaptive.counts, adaptive.inside, call.distance);
    const auto pack = call.mask_type == BYTES ? pack_mask<uint8_t> : call.mask_type == WIDE ? pack_mask<accumulator> : pack_mask<storage>;
    pack(adaptive.counts, *block.phase, block.range, call.mask, block.image);
}

// Clears the planes where samples do not count.
NOINLINE void clear_uncounted(accumulator *planes, int64_t channels, int64_t distance, const accumulator *RESTRICT counts) {
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < distance; i++) planes[c * distance + i] = counts[i] > 0 ? planes[c * distance + i] : 0;
}

// Some channels. Samples that are masked out are never looked at again.
INLINE void pack_samples(const Pac &call, const Block &block, const Adaptive &adaptive, accumulator *samples, int64_t channel, int64_t channels) {
    pack_planes<storage>(samples, call.distance, *block.phase, block.range, call.input, block.image, channel, channels);
    if (call.mask_type != NO_MASK) clear_uncounted(samples, channels, call.distance, adaptive.counts);
}

// The centre of a tile: its guide features, or smoothed ones, in two parts.
struct Centre {
    const accumulator *high, *low;  // of the first channel
    int64_t distance;               // to the next
};

// By how much features of the guide at a tap exceed the centre.
template <bool ASYMMETRIC, bool SMOOTH> INLINE vector difference(vector features, vector high, vector low) {
    vector found = features - high;
    if (SMOOTH) found -= low;
    // NaN is neither.
    if (ASYMMETRIC) found = found <= vector{} ? vector{} : found;
    return found;
}

// Calls `body` with the numbers of the two options of `difference`.
template <class Body> INLINE void with_difference(const Pac &call, Body body) {
    if (call.asymmetric && call.smooth_taps) body(Number<1>(), Number<1>());
    else if (call.asymmetric) body(Number<1>(), Number<0>());
    else if (call.smooth_taps) body(Number<0>(), Number<1>());
    else body(Number<0>(), Number<0>());
}

// Of several taps at a time, for each of which the centre would have to be loaded again.
template <bool ASYMMETRIC, bool SMOOTH>
NOINLINE void squared_distances(const accumulator *guide, int64_t distance, int64_t channels, const int64_t *RESTRICT offsets, int64_t taps,
                                const Centre &centre, accumulator *RESTRICT squares) {
    for_equal_parts<TAPS_TOGETHER>(taps, [&](auto together, int64_t first) {
        enum { TAPS = decltype(together)::value };
        for (int64_t at = 0; at < TILE; at += PART) {
            vector sums[TAPS][VECTORS] = {};
            for (int64_t q = 0; q < channels; q++) UNROLL for (int v = 0; v < VECTORS; v++) {
                const int64_t x = at + v * LANES;
                const vector high = load(centre.high + q * centre.distance + x), low = SMOOTH ? load(centre.low + q * centre.distance + x) : vector{};
                UNROLL for (int t = 0; t < TAPS; t++) {
                    const vector found = difference<ASYMMETRIC, SMOOTH>(load(guide + q * distance + offsets[first + t] + x), high, low);
                    sums[t][v] += found * found;
                }
            }
            UNROLL for (int t = 0; t < TAPS; t++) UNROLL for (int v = 0; v < VECTORS; v++) store(squares + (first + t) * TILE + at + v * LANES, sums[t][v]);
        }
    });
}

// Vectors of accumulators, in float64.
enum { DOUBLES = VECTOR_BYTES / 8 };
typedef whole_vector<double> doubles;
typedef vector_of<DOUBLES> narrow_vector;
INLINE doubles widen_vector(const accumulator *source) { return __builtin_convertvector(*(const narrow_vector *)source, doubles); }
INLINE void narrow_vector_to(accumulator *target, doubles values) { *(narrow_vector *)target = __builtin_convertvector(values, narrow_vector); }

// The smoothed centre sum s f = f_c + (sum s (f - f_c) + f_c (sum s - 1)), in two parts, of which the second is what rounding
// the first left: differences from it keep their digits at guides of any offset.
NOINLINE void smoothed_centre(const Pac &call, const accumulator *guide, const int64_t *offsets, int64_t taps, const Adaptive &tile) {
    for (int64_t q = 0; q < call.guides; q++)
        for (int64_t x = 0; x < TILE; x += DOUBLES) {
            const accumulator *features = guide + q * call.guide_distance + x;
            const doubles centre = widen_vector(features + offsets[taps]);
            doubles sum = centre * call.smooth[call.smooth_taps];
            for (int64_t s = 0; s < call.smooth_taps; s++) sum += (widen_vector(features + offsets[taps + 1 + s]) - centre) * call.smooth[s];
            accumulator *const high = tile.high + q * TILE + x;
            narrow_vector_to(high, centre + sum);
            narrow_vector_to(tile.low + q * TILE + x, (centre - widen_vector(high)) + sum);
        }
}

// The centre of a tile whose guide begins at `guide`.
INLINE Centre centre_of(const Pac &call, const Block &block, const Adaptive &tile, const accumulator *guide, int64_t channel) {
    if (call.smooth_taps) return {tile.high + channel * TILE, tile.low + channel * TILE, TILE};
    return {guide + block.guide->offsets[block.guide->taps], nullptr, call.guide_distance};
}

INLINE vector gaussian(vector square) { return exponential<accumulator, false>(square * accumulator(-0.5)); }

// (square + SHIFT)^half, and if asked for the logarithm of its base: in float64, as the digits that float32 has would not do
// for large powers.
struct Power {
    vector value, logarithm;
};

INLINE Power power(vector square, accumulator half) {
    Power found;
    accumulator values[LANES], logarithms[LANES];
    store(values, square);
    UNROLL for (int k = 0; k < LANES; k += DOUBLES) {
        const doubles log = logarithm(widen_vector(values + k) + SHIFT);
        narrow_vector_to(values + k, exponential<double, true>(log * (double)half));
        narrow_vector_to(logarithms + k, log);
    }
    found.value = load(values), found.logarithm = load(logarithms);
    return found;
}

// The raw kernel of a squared distance, of which `lowest` is taken off first for a Gaussian.
struct RawKernel {
    bool inverse;
    accumulator alpha, half;

    RawKernel(const Pac &call, int64_t channel)
        : inverse(call.inverse), alpha(inverse ? call.alpha[channel * call.alpha_step] : 0),
          half(inverse ? call.lambda[channel * call.lambda_step] / 2 : 0) {}
};

// The kernel where every tap is kept.
NOINLINE void plain_kernel(const RawKernel &raw, const accumulator *squares, int64_t count, accumulator *values) {
    if (raw.inverse)
        for (int64_t i = 0; i < count; i += LANES) store(values + i, power(load(squares + i), raw.half).value + raw.alpha);
    else
        for (int64_t i = 0; i < count; i += LANES) store(values + i, gaussian(load(squares + i)));
}

INLINE bool any_lane(lane_numbers lanes) {
    lane_number any = 0;
    UNROLL for (int lane = 0; lane < LANES; lane++) any |= lanes[lane];
    return any != 0;
}

// The smallest squared distances of the taps that count, of a part of a tile. It is 0 where the centre counts, if it is not
// smoothed.
INLINE void smallest_squares(const Pac &call, const Block &block, const accumulator *counts, const accumulator *squares, vector (&lowest)[VECTORS]) {
    const int64_t *const offsets = block.phase->offsets, taps = block.guide->taps, centre = call.centre_taps[block.guide - call.guide_phases];
    bool known = centre >= 0 && !call.smooth_taps;
    UNROLL for (int v = 0; v < VECTORS; v++) {
        lowest[v] = vector{};
        known = known && !any_lane((lane_numbers)(load(counts + offsets[centre] + v * LANES) <= vector{}));
    }
    if (known) return;
    const vector infinity = vector{} + (accumulator)__builtin_inf();
    UNROLL for (int v = 0; v < VECTORS; v++) lowest[v] = infinity;
    for (int64_t t = 0; t < taps; t++) {
        if (offsets[t] < 0) continue;
        UNROLL for (int v = 0; v < VECTORS; v++) {
            const vector square = load(counts + offsets[t] + v * LANES) > vector{} ? load(squares + t * TILE + v * LANES) : infinity;
            lowest[v] = square < lowest[v] ? square : lowest[v];
        }
    }
}

// The kernel where taps count as much as their samples: it is zero at those that do not, and divided by the sum of what is
// left, or by (what counts) / (valid taps). Distances are relative to the smallest that counts: with that tap, the sum of a
// normalised Gaussian does not vanish.
template <bool INVERSE>
NOINLINE void counted_kernel(const Pac &call, const Block &block, const RawKernel &raw, const accumulator *counts, const accumulator *inside,
                             const Adaptive &tile) {
    const int64_t *const offsets = block.phase->offsets, taps = block.guide->taps;
    const bool normalize = call.normalize;
    const vector nothing = {}, one = nothing + accumulator(1), small = nothing + accumulator(0x1p-100);
    for (int64_t at = 0; at < TILE; at += PART) {
        vector lowest[VECTORS] = {}, sum[VECTORS] = {}, left[VECTORS] = {}, valid[VECTORS] = {};
        if (!INVERSE && normalize) smallest_squares(call, block, counts + at, tile.squares + at, lowest);
        for (int64_t t = 0; t < taps; t++)
            UNROLL for (int v = 0; v < VECTORS; v++) {
                const int64_t x = at + v * LANES;
                accumulator *const value = tile.values + t * TILE + x;
                if (offsets[t] < 0) {
                    store(value, nothing);
                    continue;
                }
                const vector square = load(tile.squares + t * TILE + x), count = load(counts + offsets[t] + x);
                // Also if the smallest is infinite.
                const vector further = square == lowest[v] ? nothing : square - lowest[v];
                const vector kernel = INVERSE ? power(square, raw.half).value + raw.alpha : gaussian(further);
                const vector kept = count > nothing ? count * kernel : nothing;
                store(value, kept);
                sum[v] += kept;
                left[v] += count;
                if (!normalize) valid[v] += load(inside + offsets[t] + x);
            }
        vector scale[VECTORS], divisor[VECTORS];
        bool tiny = false;
        UNROLL for (int v = 0; v < VECTORS; v++) {
            divisor[v] = normalize ? sum[v] : left[v];
            const vector factor = normalize ? one : valid[v];
            scale[v] = divisor[v] == nothing ? nothing : factor / divisor[v];
            tiny = tiny || any_lane((divisor[v] < small) & (divisor[v] > -small) & (divisor[v] != nothing));
            store(tile.scale + at + v * LANES, scale[v]);
            store(tile.left + at + v * LANES, left[v]);
        }
        for (int64_t t = 0; t < taps; t++)
            UNROLL for (int v = 0; v < VECTORS; v++) {
                accumulator *const value = tile.values + t * TILE + at + v * LANES;
                if (!tiny) store(value, load(value) * scale[v]);
                // Sums that are too small to have an inverse. Whether there is one must not change the others.
                else store(value, (divisor[v] < small) & (divisor[v] > -small) & (divisor[v] != nothing) ? load(value) / divisor[v] * (normalize ? one : valid[v]) : load(value) * scale[v]);
            }
    }
}

// The adaptive kernel of a tile from position `p` on, from `channels` channels of the guide.
INLINE void tile_kernel(const Pac &call, const Block &block, const Adaptive &adaptive, int64_t p, int64_t channel, int64_t channels) {
    const int64_t *offsets = block.guide->offsets, taps = block.guide->taps;
    const accumulator *guide = adaptive.guide + channel * call.guide_distance + p;
    if (call.smooth_taps && channel == 0) smoothed_centre(call, guide, offsets, taps, adaptive);
    const Centre centre = centre_of(call, block, adaptive, guide, channel);
    with_difference(call, [&](auto asymmetric, auto smooth) {
        squared_distances<decltype(asymmetric)::value, decltype(smooth)::value>(guide, call.guide_distance, channels, offsets, taps, centre, adaptive.squares);
    });
    const RawKernel raw(call, channel);
    if (call.counted) (raw.inverse ? counted_kernel<true> : counted_kernel<false>)(call, block, raw, adaptive.counts + p, adaptive.inside + p, adaptive);
    else plain_kernel(raw, adaptive.squares, taps * TILE, adaptive.values);
}

// Calls `body(row, column, count, at)` for the outputs of each row of a tile that begins at position `p`: `count` of them,
// from element `at` of the tile on.
template <class Body> INLINE void for_outputs(const Block &block, int64_t p, Body body) {
    const int64_t pitch = block.phase->pitch, end = smaller(p + TILE, block.length);
    int64_t row = p / pitch, column = p % pitch;
    for (int64_t at = p; at < end; row++, at += pitch - column, column = 0)
        if (column < block.range.columns) body(row, column, smaller(block.range.columns - column, end - at), at - p);
}

// Calls `body(Number<vectors>(), at)` for the parts of a tile that begins at position `p`, as far as there are outputs.
template <class Body> INLINE void for_parts(const Block &block, int64_t p, Body body) {
    for_equal_parts<VECTORS>(ceil_div(smaller(TILE, block.length - p), LANES), [&](auto vectors, int64_t first) { body(vectors, first * LANES); });
}

// Elements from the first output of an array to one of a block.
INLINE int64_t output_offset(const Block &block, const Strides &strides, int64_t row, int64_t column) {
    const Phase &phase = *block.phase;
    return block.image * strides.image + (phase.first[0] + (block.range.row + row) * phase.step[0]) * strides.row +
           (phase.first[1] + (block.range.column + column) * phase.step[1]) * strides.column;
}

// Stores `count` channels of a tile, [channel][position].
NOINLINE void store_tile(const Pac &call, const Block &block, int64_t p, const accumulator *values, int64_t count) {
    const Strides &strides = call.output_strides;
    for_outputs(block, p, [&](int64_t row, int64_t column, int64_t columns, int64_t at) {
        store_row(call.output + output_offset(block, strides, row, column), strides.channel, block.phase->step[1] * strides.column, count, columns,
                  values + at, TILE);
    });
}

NOINLINE void store_output_mask(const Pac &call, const Block &block, int64_t p, const accumulator *left) {
    const Strides strides = {call.output_size[0] * call.output_size[1], 0, call.output_size[1], 1};
    for_outputs(block, p, [&](int64_t row, int64_t column, int64_t columns, int64_t at) {
        uint8_t *target = call.output_mask + output_offset(block, strides, row, column);
        for (int64_t x = 0; x < columns; x++) target[x * block.phase->step[1]] = left[at + x] > 0;
    });
}

// Calls `body(first, count, step, offset)` for ranges of the taps of a phase that are `step` elements apart in the adaptive
// kernel, from `offset` on.
template <class Body> INLINE void for_tap_ranges(const KernelArray &kernel, const Block &block, Body body) {
    const int64_t *offsets = kernel.taps + block.guide->weight, taps = block.guide->taps;
    for (int64_t t = 0; t < taps;) {
        const int64_t step = t + 1 < taps ? offsets[t + 1] - offsets[t] : 0;
        int64_t count = 1;
        while (t + count < taps && offsets[t + count] == offsets[t] + count * step) count++;
        body(t, count, step, offsets[t]);
        t += count;
    }
}

// A channel of an adaptive kernel at a tile, from an array and to one.
template <class T> NOINLINE void load_kernel(const KernelArray &kernel, const Block &block, int64_t p, int64_t channel, accumulator *values) {
    const T *source = (const T *)kernel.data + channel * kernel.strides.channel;
    const int64_t step = block.phase->step[1] * kernel.strides.column;
    for_tap_ranges(kernel, block, [&](int64_t first, int64_t count, int64_t tap, int64_t offset) {
        for_outputs(block, p, [&](int64_t row, int64_t column, int64_t columns, int64_t at) {
            widen_rows(values + first * TILE + at, TILE, source + offset + output_offset(block, kernel.strides, row, column), step, tap, columns, count);
        });
    });
}

template <class T> NOINLINE void store_kernel(const KernelArray &kernel, const Block &block, int64_t p, int64_t channel, const accumulator *values) {
    T *target = (T *)kernel.data + channel * kernel.strides.channel;
    const int64_t step = block.phase->step[1] * kernel.strides.column;
    for_tap_ranges(kernel, block, [&](int64_t first, int64_t count, int64_t tap, int64_t offset) {
        for_outputs(block, p, [&](int64_t row, int64_t column, int64_t columns, int64_t at) {
            store_row(target + offset + output_offset(block, kernel.strides, row, column), tap, step, count, columns, values + first * TILE + at, TILE);
        });
    });
}

INLINE void load_kernel_tile(const KernelArray &kernel, const Block &block, int64_t p, int64_t channel, accumulator *values) {
    (kernel.wide ? load_kernel<accumulator> : load_kernel<storage>)(kernel, block, p, channel, values);
}

INLINE void store_kernel_tile(const KernelArray &kernel, const Block &block, int64_t p, int64_t channel, const accumulator *values) {
    (kernel.wide ? store_kernel<accumulator> : store_kernel<storage>)(kernel, block, p, channel, values);
}

// The kernel of a tile, computed or loaded: `channel` of it.
INLINE void any_kernel(const Pac &call, const Block &block, const Adaptive &adaptive, int64_t p, int64_t channel) {
    if (call.given) load_kernel_tile(call.kernel, block, p, channel, adaptive.values);
    else tile_kernel(call, block, adaptive, p, channel, call.kernel_channels == 1 ? call.guides : smaller(call.kernel_channels, 1));
}

// Computes blocks of a forward. `compute_tile(block, adaptive, buffers, p)` stores all channels of the tile at position `p` in
// `buffers.results`.
template <class Buffers, class Tile> INLINE void forward_blocks(const Pac &call, int64_t first, int64_t last, char *memory, Tile compute_tile) {
    Workspace workspace = {memory};
    const Adaptive adaptive(call, workspace, false);
    const Buffers buffers(call, workspace);
    for (int64_t number = first; number < last; number++) {
        const Block block = block_of(call, number);
        pack_adaptive(call, block, adaptive);
        pack_samples(call, block, adaptive, buffers.samples, 0, call.groups * call.inputs);
        for (int64_t p = 0; p < block.length; p += TILE) {
            compute_tile(block, adaptive, buffers, p);
            store_tile(call, block, p, buffers.results, call.groups * call.outputs);
            if (call.output_mask) store_output_mask(call, block, p, adaptive.left);
        }
    }
}

template <class Buffers> INLINE int64_t forward_workspace(const Pac &call) {
    Workspace workspace = {};
    Adaptive(call, workspace, false);
    Buffers(call, workspace);
    return (int64_t)workspace.next;
}
