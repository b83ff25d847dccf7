// Gradients of weights: sums over all outputs, as partial sums. Each block sums a fixed share of the outputs in a fixed
// order and writes a partial sum; sums.cu then adds the partial sums up in order.
//
//   weight_grad         part[s, t, c, o] = sum over outputs p of share s of K[t, p] * input[c, p + t] * grad[o, p]
//   weight_grad_shared  part[s, t]       = the same, summed over c = o
//
// Shares consist of pairs of an output and the sample that one tap of it reads. Pairs are enumerated by outputs without
// upsampling and by samples with it, so that no thread visits the inserted zeros.

#include "pac.cuh"

struct weight_gradient {
    image_strides input, grad;
    int groups, inputs, outputs;        // channels of one group; all channels for the shared filter
    int merged_groups;                  // number of groups merged into one (see pack_weights.cu)
    int pair_rows, pair_columns;
    int shares;
    long long share;                    // pairs in one share, counted over all images
};

struct pair {
    int image, row, column;             // position of the output
    pixel_position sample;
};

// Pair number `at` of a tap; its sample is not valid if there is none.
__device__ inline pair pair_at(const window& w, const weight_gradient& g, long long at, int tap_row, int tap_column)
{
    pair result;
    const int plane = g.pair_rows * g.pair_columns;
    const int row = at % plane / g.pair_columns, column = at % g.pair_columns;
    result.image = at / plane;
    if (w.rows.upsampling == 1 && w.columns.upsampling == 1) {
        result.row = row;
        result.column = column;
        result.sample = sample_position(w, row, column, tap_row, tap_column);
    } else {
        result.row = output_index(w.rows, row, tap_row);
        result.column = output_index(w.columns, column, tap_column);
        result.sample.row = row;
        result.sample.column = column;
        result.sample.valid = result.row >= 0 && result.column >= 0;
    }
    return result;
}

#if defined(GROUPED)

// A block computes CHANNELS x OUTPUTS weights of one tap and group from one share. It stages STAGED_PAIRS pairs at a
// time:
//
//    scaled  CHANNELS | STAGED_PAIRS |      K times the input   and adds their products to 4 x 4 weights a thread
//    grads    OUTPUTS | STAGED_PAIRS |
//
// The threads of a block form SLICES slices, each of which handles every SLICES-th pair (sliced-K); their sums are
// added up at the end, in the order of slices. Shares grow with the size of the call, but long float32 sums lose
// precision: after every MAX_PAIRS_PER_SUM pairs, a thread adds its sums to its totals and restarts them.
#define SLICE_THREADS ((CHANNELS / 4) * (OUTPUTS / 4))
#define THREADS (SLICE_THREADS * SLICES)
#define MAX_PAIRS_PER_SUM (64 * STAGED_PAIRS)

// Consecutive threads stage contiguous elements: channels with CHANNELS_LAST, else pairs.
#if defined(CHANNELS_LAST)
#define CHANNEL_OF(at, channels) ((at) % (channels))
#define PAIR_OF(at, channels) ((at) / (channels))
#else
#define CHANNEL_OF(at, channels) ((at) / STAGED_PAIRS)
#define PAIR_OF(at, channels) ((at) % STAGED_PAIRS)
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 4) weight_grad(
    CALL_PARAMETERS, weight_gradient g,
    const scalar* __restrict__ input, const scalar* __restrict__ grad, accumulator* __restrict__ part)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    // One column of padding avoids bank conflicts between threads that read along a column.
    __shared__ accumulator scaled[CHANNELS][STAGED_PAIRS + 1];
    __shared__ accumulator grads[OUTPUTS][STAGED_PAIRS + 1];
    __shared__ accumulator kernel_values[STAGED_PAIRS];
    __shared__ pair pairs[STAGED_PAIRS];
    __shared__ accumulator totals[16][THREADS];
    const int thread = threadIdx.x, slice = thread / SLICE_THREADS, member = thread % SLICE_THREADS;
    const int thread_c = member % (CHANNELS / 4) * 4, thread_o = member / (CHANNELS / 4) * 4;
    const int tap = blockIdx.x % FILTER_TAPS, tap_row = tap / FILTER_WIDTH, tap_column = tap % FILTER_WIDTH;
    const int share = blockIdx.x / FILTER_TAPS;
    const int channel_tiles = (g.inputs + CHANNELS - 1) / CHANNELS, output_tiles = (g.outputs + OUTPUTS - 1) / OUTPUTS;
    const int first_channel = blockIdx.y % channel_tiles * CHANNELS;
    const int first_output = blockIdx.y / channel_tiles % output_tiles * OUTPUTS;
    const int group = blockIdx.y / channel_tiles / output_tiles;
    const long long all = static_cast<long long>(w.batch) * g.pair_rows * g.pair_columns;
    const long long begin = share * g.share, end = min(begin + g.share, all);

    accumulator sums[4][4];
#pragma unroll
    for (int i = 0; i < 16; ++i) sums[i / 4][i % 4] = totals[i][thread] = 0;
    for (long long first = begin; first < end; first += STAGED_PAIRS) {
        if ((first - begin) % MAX_PAIRS_PER_SUM == 0)
#pragma unroll
            for (int i = 0; i < 16; ++i) {
                totals[i][thread] += sums[i / 4][i % 4];
                sums[i / 4][i % 4] = 0;
            }
        // Wait until all threads have used the previous pairs before overwriting them.
        __syncthreads();
        for (int i = thread; i < STAGED_PAIRS; i += THREADS) {
            accumulator value = 0;
            pair current;
            current.sample.valid = false;
            if (first + i < end) current = pair_at(w, g, first + i, tap_row, tap_column);
            if (current.sample.valid && !tap_is_valid(a, current.image, current.sample)) current.sample.valid = false;
            if (current.sample.valid)
                value = kernel_at(
                    a, w, current.image, 0, current.row, current.column, tap_row, tap_column, current.sample);
            pairs[i] = current;
            kernel_values[i] = value;
        }
        __syncthreads();
        for (int at = thread; at < CHANNELS * STAGED_PAIRS; at += THREADS) {
            const int c = CHANNEL_OF(at, CHANNELS), i = PAIR_OF(at, CHANNELS);
            const pair& current = pairs[i];
            accumulator value = 0;
            if (current.sample.valid && first_channel + c < g.inputs)
                value = kernel_values[i] * widen(input[
                    current.image * g.input.batch
                    + (static_cast<long long>(group) * g.inputs + first_channel + c) * g.input.channel
                    + at_pixel(g.input, current.sample.row, current.sample.column)]);
            scaled[c][i] = value;
        }
        for (int at = thread; at < OUTPUTS * STAGED_PAIRS; at += THREADS) {
            const int o = CHANNEL_OF(at, OUTPUTS), i = PAIR_OF(at, OUTPUTS);
            const pair& current = pairs[i];
            accumulator value = 0;
            if (current.sample.valid && first_output + o < g.outputs)
                value = widen(grad[
                    current.image * g.grad.batch
                    + (static_cast<long long>(group) * g.outputs + first_output + o) * g.grad.channel
                    + at_pixel(g.grad, current.row, current.column)]);
            grads[o][i] = value;
        }
        __syncthreads();
#pragma unroll 4
        for (int k = slice; k < STAGED_PAIRS; k += SLICES)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const accumulator sample = scaled[thread_c + i][k];
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] += sample * grads[thread_o + j][k];
            }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) totals[i][thread] = sums[i / 4][i % 4] += totals[i][thread];
    __syncthreads();
    if (slice > 0) return;
#pragma unroll 1
    for (int other = 1; other < SLICES; ++other)
#pragma unroll
        for (int i = 0; i < 16; ++i) sums[i / 4][i % 4] += totals[i][other * SLICE_THREADS + member];
    // Layout of part, with merged groups split up again: (shares, groups, taps, inputs, outputs).
    const int inputs = g.inputs / g.merged_groups, outputs = g.outputs / g.merged_groups;
    const long long base = (static_cast<long long>(share) * g.groups + group) * g.merged_groups;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int c = first_channel + thread_c + i, o = first_output + thread_o + j;
            if (c >= g.inputs || o >= g.outputs || c / inputs != o / outputs) continue;
            part[(((base + c / inputs) * FILTER_TAPS + tap) * inputs + c % inputs) * outputs + o % outputs] =
                sums[i][j];
        }
}

#else

// A block handles one tap and one share. Its threads handle every THREADS-th pair each, and reduce their sums in a
// tree.
extern "C" __global__ void __launch_bounds__(THREADS, 4) weight_grad_shared(
    CALL_PARAMETERS, weight_gradient g,
    const scalar* __restrict__ input, const scalar* __restrict__ grad, accumulator* __restrict__ part)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    __shared__ accumulator sums[THREADS];
    const int tap = blockIdx.x % FILTER_TAPS, tap_row = tap / FILTER_WIDTH, tap_column = tap % FILTER_WIDTH;
    const int share = blockIdx.x / FILTER_TAPS;
    const long long all = static_cast<long long>(w.batch) * g.pair_rows * g.pair_columns;
    const long long begin = share * g.share, end = min(begin + g.share, all);
    accumulator sum = 0;
    for (long long at = begin + threadIdx.x; at < end; at += THREADS) {
        const pair current = pair_at(w, g, at, tap_row, tap_column);
        if (!current.sample.valid || !tap_is_valid(a, current.image, current.sample)) continue;
        accumulator product = 0;
        for (int c = 0; c < g.inputs; ++c)
            product += widen(input[
                           current.image * g.input.batch + c * g.input.channel
                           + at_pixel(g.input, current.sample.row, current.sample.column)])
                * widen(grad[
                    current.image * g.grad.batch + c * g.grad.channel + at_pixel(g.grad, current.row, current.column)]);
        sum += product
            * kernel_at(a, w, current.image, 0, current.row, current.column, tap_row, tap_column, current.sample);
    }
    sums[threadIdx.x] = sum;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) part[static_cast<long long>(share) * FILTER_TAPS + tap] = sums[0];
}

#endif
