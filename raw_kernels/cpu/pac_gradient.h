#pragma once
// Gradients of pixel-adaptive operators but those of filters of groups of channels: of samples, guide, adaptive kernel, and
// the arrays that shape it.
//
// Windows of neighbouring blocks read the same samples, to whose gradients both add. Blocks that are computed at the same
// time lie so far apart that they have none in common:
//
//     task 1   [block 0]         [block 2]         [block 4]
//     task 2            [block 1]         [block 3]
//
// so each adds to the result itself, always in the order of the tasks. Sums over all outputs are stored for each block,
// and added in order before the next task.

#include "pac.h"

#if VECTOR_REGISTERS == 32
enum { CHANNELS_TOGETHER = 4 };
#else
enum { CHANNELS_TOGETHER = 2 };
#endif

struct PacGradient {
    Pac call;                 // without an output
    const storage *grad;      // of the output
    Strides grad_strides;
    KernelArray grad_kernel;  // given if the kernel was the result, else to be stored; may be null
    accumulator *grad_input;  // may be null; so may be that of the guide
    Strides grad_input_strides;
    accumulator *grad_guide;
    Strides grad_guide_strides;
    const int64_t *filter_taps;  // of all phases: number of each tap in the filter
    double *sums;             // of each block of a task: of alphas and lambdas for each channel of the kernel, smoothing weights, taps of a shared filter
    int64_t sum_count;        // 0 if none is asked for
    int64_t phase;            // of the blocks of the task
    int64_t first[2], step[2], count[2];  // rows and columns of blocks: first, first + step, ...
    int64_t start;            // of these blocks, the first of the task
};

// The order of blocks: image, column, row.
INLINE Block gradient_block(const PacGradient &gradient, int64_t number) {
    const int64_t row = number % gradient.count[0], columns = number / gradient.count[0];
    return block_at(gradient.call, gradient.phase, columns / gradient.count[1], gradient.first[0] + row * gradient.step[0],
                    gradient.first[1] + columns % gradient.count[1] * gradient.step[1]);
}

// Buffers of a block, and of a tile.
struct GradientBuffers {
    accumulator *samples, *grad;            // planes
    accumulator *grad_samples, *grad_guide; // planes
    accumulator *grad_kernel;               // [tap][position of the tile]
    accumulator *grad_centre;               // [channel][position]
    lane_number *inside;                    // -1 at outputs, 0 between rows
    double *sums;

    GradientBuffers(const PacGradient &gradient, Workspace &workspace) {
        const Pac &call = gradient.call;
        const int64_t inputs = call.groups * call.inputs, outputs = call.groups * call.outputs;
        samples = workspace.take<accumulator>(inputs * call.distance + TILE);
        grad_samples = workspace.take<accumulator>(inputs * call.distance + TILE);
        grad = workspace.take<accumulator>(outputs * call.positions);
        grad_guide = workspace.take<accumulator>(call.guides * call.guide_distance + TILE);
        grad_kernel = workspace.take<accumulator>(call.taps * TILE + LANES);
        grad_centre = workspace.take<accumulator>(call.guides * TILE);
        inside = workspace.take<lane_number>(call.positions);
        sums = workspace.take<double>(gradient.sum_count);
    }
};

INLINE lane_numbers inside_at(const GradientBuffers &buffers, int64_t position) { return *(const lane_numbers *)(buffers.inside + position); }
INLINE vector where(lane_numbers lanes, vector values) { return (vector)(lanes & (lane_numbers)values); }

// The gradients of the outputs of a block, zeros between its rows.
NOINLINE void pack_grad(const PacGradient &gradient, const Block &block, const GradientBuffers &buffers) {
    const Pac &call = gradient.call;
    const int64_t pitch = block.phase->pitch, columns = block.range.columns, outputs = call.groups * call.outputs;
    memset((void *)buffers.inside, 0, call.positions * sizeof(lane_number));
    for (int64_t r = 0; r < block.range.rows; r++) {
        const int64_t from = r * pitch, to = from + columns, next = r + 1 < block.range.rows ? from + pitch : call.positions;
        for (int64_t x = from; x < to; x++) buffers.inside[x] = -1;
        if (!outputs) continue;
        widen_rows(buffers.grad + from, call.positions, gradient.grad + output_offset(block, gradient.grad_strides, r, 0),
                   block.phase->step[1] * gradient.grad_strides.column, gradient.grad_strides.channel, columns, outputs);
        for (int64_t c = 0; c < outputs; c++) clear(buffers.grad + c * call.positions + to, next - to);
    }
}

// Adds a row of `count` elements.
INLINE void add_row(accumulator *RESTRICT target, const accumulator *RESTRICT source, int64_t count) {
    for (int64_t i = 0; i < count; i++) target[i] += source[i];
}

// Adds planes to the part of an array of images that a block reads. `scratch` has room for as many elements.
NOINLINE void add_planes(accumulator *result, const Strides &strides, const Block &block, const Phase &phase, const Images &read, const accumulator *planes,
                         int64_t distance, int64_t channels, accumulator *scratch) {
    Images images = read;
    images.strides = strides;
    for_packed_rows(phase, block.range, images, [&](const PackedRows &rows) {
        for_rows(rows, [&](int64_t r, int64_t first, int64_t last) {
            const int64_t count = last - first;
            if (!count) return;
            const accumulator *source = planes + rows.position + r * rows.pitch + first;
            accumulator *const target = result + block.image * strides.image + rows.source + r * rows.row + first * rows.column;
            if (strides.channel == 1 && channels > 1) {
                // Pixels whose channels are adjacent.
                store_row(scratch, 1, channels, channels, count, source, distance);
                if (rows.column == channels) return add_row(target, scratch, count * channels);
                for (int64_t x = 0; x < count; x++) add_row(target + x * rows.column, scratch + x * channels, channels);
                return;
            }
            for (int64_t c = 0; c < channels; c++)
                if (rows.column == 1) add_row(target + c * strides.channel, source + c * distance, count);
                else for (int64_t x = 0; x < count; x++) target[c * strides.channel + x * rows.column] += source[c * distance + x];
        });
    });
}

// Calls `body(tap)` for all taps of a phase, row after row of a column: what neighbouring taps of a row add overlaps, and
// would have to wait.
template <class Body> INLINE void for_taps(const Pac &call, const Block &block, Body body) {
    const int64_t columns = call.tap_columns[block.guide - call.guide_phases];
    for (int64_t column = 0; column < columns; column++)
        for (int64_t tap = column; tap < block.guide->taps; tap += columns) body(tap);
}

// From the gradient of a tile's kernel to that of the squared distances at each tap, in its place; zero where the tap does
// not count, and between the rows. It adds to the sums of the arrays that shape the kernel.
NOINLINE void squares_gradient(const PacGradient &gradient, const Block &block, const Adaptive &adaptive, int64_t p, int64_t channel,
                               const GradientBuffers &buffers) {
    const Pac &call = gradient.call;
    const RawKernel raw(call, channel);
    const int64_t taps = block.guide->taps, *const offsets = block.phase->offsets;
    const vector nothing = {};
    vector alphas = {}, lambdas = {};
    for (int64_t x = 0; x < TILE; x += LANES) {
        const lane_numbers inside = inside_at(buffers, p + x);
        const auto counts = [&](int64_t t) { return load(adaptive.counts + p + x + offsets[t]); };
        vector mean = {};
        if (call.normalize)
            // d(E_t / S) = dE_t / S - E_t dS / S^2, whose second term is the same sum for every tap.
            for (int64_t t = 0; t < taps; t++) {
                if (offsets[t] < 0) continue;
                const vector product = load(buffers.grad_kernel + t * TILE + x) * load(adaptive.values + t * TILE + x);
                mean += counts(t) > nothing ? product : nothing;
            }
        for (int64_t t = 0; t < taps; t++) {
            accumulator *const target = buffers.grad_kernel + t * TILE + x;
            if (call.counted && offsets[t] < 0) {
                store(target, nothing);
                continue;
            }
            const lane_numbers used = call.counted ? inside & (lane_numbers)(counts(t) > nothing) : inside;
            const vector grad = load(target) - mean;
            if (!raw.inverse) {
                store(target, where(used, grad * load(adaptive.values + t * TILE + x) * accumulator(-0.5)));
                continue;
            }
            const vector of_raw = where(used, call.counted ? grad * counts(t) * load(adaptive.scale + x) : grad);
            const vector square = load(adaptive.squares + t * TILE + x);
            const Power found = power(square, raw.half);
            // d(q^h) = q^h log(q) dh + h q^(h - 1) dq
            alphas += of_raw;
            lambdas += where(used, of_raw * found.value * found.logarithm * accumulator(0.5));
            store(target, where(used, of_raw * raw.half * found.value / (square + accumulator(SHIFT))));
        }
    }
    if (!gradient.sum_count) return;
    buffers.sums[channel] += sum_of_lanes(alphas);
    buffers.sums[call.kernel_channels + channel] += sum_of_lanes(lambdas);
}

// Adds the gradients of the guide at the taps, and stores those at the centre. Features that have no weight are not read:
// they may be those of other windows, or of taps that do not count. Of several channels at a time: what a tap adds overlaps
// what its neighbours have added, and would have to wait.
template <bool ASYMMETRIC, bool SMOOTH>
NOINLINE void taps_gradient(const Pac &call, const Block &block, const accumulator *guide, const Centre &centre, int64_t channels,
                            const accumulator *squares, accumulator *grad_guide, accumulator *grad_centre) {
    const int64_t *const offsets = block.guide->offsets, distance = call.guide_distance;
    for_equal_parts<CHANNELS_TOGETHER>(channels, [&](auto together, int64_t first) {
        enum { CHANNELS = decltype(together)::value };
        for (int64_t at = 0; at < TILE; at += PART) {
            vector sums[CHANNELS][VECTORS] = {}, high[CHANNELS][VECTORS], low[CHANNELS][VECTORS] = {};
            UNROLL for (int q = 0; q < CHANNELS; q++) UNROLL for (int v = 0; v < VECTORS; v++) {
                high[q][v] = load(centre.high + (first + q) * centre.distance + at + v * LANES);
                if (SMOOTH) low[q][v] = load(centre.low + (first + q) * centre.distance + at + v * LANES);
            }
            for_taps(call, block, [&](int64_t t) {
                vector weights[VECTORS];
                UNROLL for (int v = 0; v < VECTORS; v++) weights[v] = load(squares + t * TILE + at + v * LANES);
                UNROLL for (int q = 0; q < CHANNELS; q++) UNROLL for (int v = 0; v < VECTORS; v++) {
                    const int64_t x = (first + q) * distance + offsets[t] + at + v * LANES;
                    const vector found = difference<ASYMMETRIC, SMOOTH>(load(guide + x), high[q][v], low[q][v]);
                    const vector grad = weights[v] == vector{} ? vector{} : (weights[v] + weights[v]) * found;
                    store(grad_guide + x, load(grad_guide + x) + grad);
                    sums[q][v] -= grad;
                }
            });
            UNROLL for (int q = 0; q < CHANNELS; q++) UNROLL for (int v = 0; v < VECTORS; v++)
                store(grad_centre + (first + q) * TILE + at + v * LANES, sums[q][v]);
        }
    });
}

// From the gradient at the centre to those of the guide and of the smoothing kernel.
NOINLINE void centre_gradient(const PacGradient &gradient, const Block &block, const accumulator *guide, int64_t channels, const accumulator *grad_centre,
                              accumulator *grad_guide, double *smooth_sums) {
    const Pac &call = gradient.call;
    const int64_t *const offsets = block.guide->offsets + block.guide->taps;
    for (int64_t q = 0; q < channels; q++, guide += call.guide_distance, grad_guide += call.guide_distance, grad_centre += TILE) {
        if (!call.smooth_taps) {
            add_row(grad_guide + offsets[0], grad_centre, TILE);
            continue;
        }
        for (int64_t s = 0; s < call.smooth_taps; s++) {
            vector sum = {};
            for (int64_t x = 0; x < TILE; x += LANES) {
                const vector grad = load(grad_centre + x);
                accumulator *const target = grad_guide + offsets[1 + s] + x;
                store(target, load(target) + grad * (accumulator)call.smooth[s]);
                sum += grad == vector{} ? vector{} : grad * load(guide + offsets[1 + s] + x);
            }
            if (smooth_sums) smooth_sums[s] += sum_of_lanes(sum);
        }
    }
}

// From the gradient of a channel of a tile's kernel to those of the guide and of the arrays that shape the kernel.
INLINE void adaptive_gradient(const PacGradient &gradient, const Block &block, const Adaptive &adaptive, int64_t p, int64_t channel,
                              const GradientBuffers &buffers) {
    const Pac &call = gradient.call;
    const int64_t channels = call.kernel_channels == 1 ? call.guides : smaller(call.kernel_channels, 1), plane = channel * call.guide_distance + p;
    squares_gradient(gradient, block, adaptive, p, channel, buffers);
    const Centre centre = centre_of(call, block, adaptive, adaptive.guide + plane, channel);
    with_difference(call, [&](auto asymmetric, auto smooth) {
        taps_gradient<decltype(asymmetric)::value, decltype(smooth)::value>(call, block, adaptive.guide + plane, centre, channels,
                                                                            buffers.grad_kernel, buffers.grad_guide + plane, buffers.grad_centre);
    });
    centre_gradient(gradient, block, adaptive.guide + plane, channels, buffers.grad_centre, buffers.grad_guide + plane,
                    gradient.sum_count ? buffers.sums + 2 * call.kernel_channels : nullptr);
}

// Computes blocks of a task. `contract(block, adaptive, buffers, p, channel)` adds what a tile contributes to the gradients of
// its samples, and stores the gradient of a channel of its kernel in `buffers.grad_kernel`.
template <class Contract>
INLINE void gradient_blocks(const PacGradient &gradient, int64_t first, int64_t last, char *memory, Contract contract) {
    const Pac &call = gradient.call;
    Workspace workspace = {memory};
    const Adaptive adaptive(call, workspace, true);
    const GradientBuffers buffers(gradient, workspace);
    const int64_t inputs = call.groups * call.inputs;
    for (int64_t number = first; number < last; number++) {
        const Block block = gradient_block(gradient, gradient.start + number);
        pack_adaptive(call, block, adaptive);
        if (inputs) pack_samples(call, block, adaptive, buffers.samples, 0, inputs);
        pack_grad(gradient, block, buffers);
        memset((void *)buffers.sums, 0, gradient.sum_count * sizeof(double));
        if (gradient.grad_input) memset((void *)buffers.grad_samples, 0, inputs * call.distance * sizeof(accumulator));
        if (gradient.grad_guide) memset((void *)buffers.grad_guide, 0, call.guides * call.guide_distance * sizeof(accumulator));
        for (int64_t p = 0; p < block.length; p += TILE)
            for (int64_t channel = 0; channel < call.kernel_channels; channel++) {
                any_kernel(call, block, adaptive, p, channel);
                contract(block, adaptive, buffers, p, channel);
                if (gradient.grad_guide) adaptive_gradient(gradient, block, adaptive, p, channel, buffers);
                else if (inputs && gradient.grad_kernel.data) store_kernel_tile(gradient.grad_kernel, block, p, channel, buffers.grad_kernel);
            }
        if (gradient.grad_input) {
            // The gradient of a sample that is masked out depends on nothing.
            if (call.mask_type != NO_MASK) clear_uncounted(buffers.grad_samples, inputs, call.distance, adaptive.counts);
            add_planes(gradient.grad_input, gradient.grad_input_strides, block, *block.phase, call.input, buffers.grad_samples, call.distance, inputs, buffers.samples);
        }
        if (gradient.grad_guide)
            add_planes(gradient.grad_guide, gradient.grad_guide_strides, block, *block.guide, call.guide, buffers.grad_guide, call.guide_distance, call.guides,
                       adaptive.guide);
        for (int64_t i = 0; i < gradient.sum_count; i++) gradient.sums[number * gradient.sum_count + i] = buffers.sums[i];
    }
}

INLINE int64_t gradient_workspace(const PacGradient &gradient) {
    Workspace workspace = {};
    Adaptive(gradient.call, workspace, true);
    GradientBuffers(gradient, workspace);
    return (int64_t)workspace.next;
}

// Adds the sums of blocks, in order.
struct AddSums {
    const double *sums;
    double *totals;
    int64_t blocks, count;
};

// A block is one sum.
EXPORTED void add_sums(const void *arguments, int64_t first, int64_t last, char *) {
    const AddSums &call = *(const AddSums *)arguments;
    for (int64_t block = 0; block < call.blocks; block++)
        for (int64_t i = first; i < last; i++) call.totals[i] += call.sums[block * call.count + i];
}
