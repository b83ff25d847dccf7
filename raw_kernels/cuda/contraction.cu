// The grouped contraction with scalar multiply-adds, for every dtype (see contraction.cuh).
//
// A thread computes THREAD_PIXELS results of one row for THREAD_OUTPUTS channels, all in registers: for each tap and
// channel it scales its source samples by K and multiplies them with the weights.
//
// With UNSTAGED, for filters whose source tile with halo exceeds shared memory, sources are read from global memory
// through the caches.

#include "contraction.cuh"
#include "vectors.cuh"

#define PIXEL_GROUPS (TILE / THREAD_PIXELS)
#define OUTPUT_GROUPS (OUTPUT_TILE / THREAD_OUTPUTS)
#define THREADS (PIXEL_GROUPS * OUTPUT_GROUPS)

extern "C" __global__ void __launch_bounds__(THREADS, 1) contraction_fma(
    CALL_PARAMETERS, contraction g,
    const scalar* __restrict__ source, const scalar* __restrict__ packed, const scalar* __restrict__ bias,
    scalar* __restrict__ result)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    extern __shared__ __align__(16) unsigned char shared[];
    // Shared memory: kernel_values [KERNEL_TAPS][TILE], weights [WEIGHT_TAPS][CHANNELS][OUTPUT_TILE],
    // staged [CHANNELS][stage_rows][stage_pitch].
    accumulator* const kernel_values = reinterpret_cast<accumulator*>(shared);
    accumulator* const weights = kernel_values + KERNEL_TAPS * TILE;
#if !defined(UNSTAGED)
    accumulator* const staged = weights + WEIGHT_TAPS * CHANNELS * OUTPUT_TILE;
    const int stage_size = g.stage_rows * g.stage_pitch;
#endif

    const int thread = threadIdx.x;
    const int pixel_group = thread % PIXEL_GROUPS, output_group = thread / PIXEL_GROUPS;
    const int thread_row = pixel_group / (TILE_COLUMNS / THREAD_PIXELS);
    const int thread_column = pixel_group % (TILE_COLUMNS / THREAD_PIXELS) * THREAD_PIXELS;
    const contraction_block b = make_block(w, g);

    accumulator sums[THREAD_PIXELS][THREAD_OUTPUTS];
#pragma unroll
    for (int i = 0; i < THREAD_PIXELS; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_OUTPUTS; ++j) sums[i][j] = 0;

    for (int first_tap = 0; first_tap < b.taps; first_tap += TAP_CHUNK) {
        const int chunk_taps = min(TAP_CHUNK, b.taps - first_tap);
        // Wait until all threads have used K and the stage of the previous chunk before overwriting them.
        __syncthreads();
#if !defined(PLAIN)
        for (int at = thread; at < chunk_taps * TILE; at += THREADS)
            kernel_values[at] = tile_kernel(a, w, b, first_tap + at / TILE, at % TILE);
#endif
        for (int first_channel = 0; first_channel < g.sources; first_channel += CHANNELS) {
            if (first_channel > 0) __syncthreads();
#if !defined(UNSTAGED)
            for (int pixel = thread; pixel < stage_size; pixel += THREADS) {
                const staged_pixel from = locate_source(
                    source, a, b, g, first_channel, b.top + pixel / g.stage_pitch, b.left + pixel % g.stage_pitch);
#pragma unroll
                for (int c = 0; c < CHANNELS; ++c)
                    staged[c * stage_size + pixel] = staged_sample(from, g, c, g.sources - first_channel);
            }
#endif
            for (int first = 0; first < chunk_taps; first += WEIGHT_TAPS) {
                const int weight_taps = min(WEIGHT_TAPS, chunk_taps - first);
                if (first > 0) __syncthreads();
                // Vector loads of four elements: the row length of packed weights is a multiple of eight.
                for (int at = thread * 4; at < weight_taps * CHANNELS * OUTPUT_TILE; at += THREADS * 4) {
                    const int output = at % OUTPUT_TILE, channel = at / OUTPUT_TILE % CHANNELS;
                    const int tap = packed_tap(b, first_tap + first + at / (OUTPUT_TILE * CHANNELS));
                    const scalar* const from = packed
                        + ((static_cast<long long>(b.group) * FILTER_TAPS + tap) * g.padded_sources + first_channel
                           + channel) * g.padded_results + b.first_output + output;
                    scalar four[4];
                    read_four(four, from);
#pragma unroll
                    for (int i = 0; i < 4; ++i) weights[at + i] = widen(four[i]);
                }
                __syncthreads();
                for (int v = 0; v < weight_taps; ++v) {
                    const int tap = first_tap + first + v;
                    accumulator scales[THREAD_PIXELS];
#if defined(PLAIN)
#pragma unroll
                    for (int i = 0; i < THREAD_PIXELS; ++i) scales[i] = 1;
#else
                    read_vector(scales, kernel_values + (first + v) * TILE + thread_row * TILE_COLUMNS + thread_column);
#endif
                    const int from_row = thread_row * b.rows.step + tap / b.columns.taps * b.rows.shift_step;
                    const int from_column =
                        thread_column * b.columns.step + tap % b.columns.taps * b.columns.shift_step;
                    const accumulator* factors = weights + v * CHANNELS * OUTPUT_TILE + output_group * THREAD_OUTPUTS;
#if defined(UNSTAGED)
#pragma unroll
                    for (int i = 0; i < THREAD_PIXELS; ++i) {
                        const staged_pixel from = locate_source(
                            source, a, b, g, first_channel, b.top + from_row,
                            b.left + from_column + i * b.columns.step);
                        for (int c = 0; c < CHANNELS; ++c) {
                            accumulator factor[THREAD_OUTPUTS];
                            read_vector(factor, factors + c * OUTPUT_TILE);
                            const accumulator sample =
                                scales[i] * staged_sample(from, g, c, g.sources - first_channel);
#pragma unroll
                            for (int j = 0; j < THREAD_OUTPUTS; ++j) sums[i][j] += sample * factor[j];
                        }
                    }
#else
                    const accumulator* samples = staged + from_row * g.stage_pitch + from_column;
#pragma unroll
                    for (int c = 0; c < CHANNELS; ++c) {
                        accumulator factor[THREAD_OUTPUTS];
                        read_vector(factor, factors + c * OUTPUT_TILE);
#pragma unroll
                        for (int i = 0; i < THREAD_PIXELS; ++i) {
                            const accumulator sample = scales[i] * samples[c * stage_size + i * b.columns.step];
#pragma unroll
                            for (int j = 0; j < THREAD_OUTPUTS; ++j) sums[i][j] += sample * factor[j];
                        }
                    }
#endif
                }
            }
        }
    }

    const int row = b.rows.phase + b.rows.upsampling * (b.first_row + thread_row);
    if (row >= b.rows.result) return;
#pragma unroll
    for (int j = 0; j < THREAD_OUTPUTS; ++j) {
        const int output = b.first_output + output_group * THREAD_OUTPUTS + j;
        if (output >= g.results) continue;
        const int channel = b.group * g.results + output;
        const accumulator offset = bias == nullptr ? accumulator(0) : widen(bias[channel]);
        scalar* const target = result + b.image * g.result.batch + channel * g.result.channel + row * g.result.row;
#pragma unroll
        for (int i = 0; i < THREAD_PIXELS; ++i) {
            const int column = b.columns.phase + b.columns.upsampling * (b.first_column + thread_column + i);
            if (column < b.columns.result) target[column * g.result.column] = narrow(sums[i][j] + offset);
        }
    }
}
