// The grouped contraction on tensor cores (see contraction.cuh): float16, bfloat16, and float32 rounded to TF32.
//
// The product of one tap is (pixels x channels) times (channels x results), in tiles of 16 x 8 (see ptx.cuh). K has one
// value for each pixel, that is for each row of the first operand, so it scales that operand in registers, once for all
// results:
//
//                    channels           results
//      16 pixels  |  K * x  |    x   |  weights  |    a warp computes PIXEL_TILES x 16 pixels, OUTPUT_TILE results
//
// Rows of the stage and of the weights hold the channels of one pixel or result contiguously, 32 bytes for each step of
// the product. 16 bytes of padding between rows avoid bank conflicts between the eight rows that one ldmatrix reads:
//
//      row   [ step 0: 32 bytes | step 1: 32 bytes | 16 bytes unused ]
//
// Two blocks on a multiprocessor, 128 registers per thread, overlap the products of one with the staging of the other.
// PLAIN kernels with few outputs are memory-bound; three blocks keep more loads in flight.
//
// TILE_COLUMNS is 16: the pixels of one product tile are one row of the block's tile. Weights are packed with sources
// last, float32 ones rounded to TF32. With ALIGNED, sources are read in vectors of 16 bytes; with PAIRED, two adjacent
// half-precision results are written as one word.

#include "contraction.cuh"
#include "ptx.cuh"

#define STEP_ELEMENTS (32 / static_cast<int>(sizeof(scalar)))
#define CHANNELS (STEPS * STEP_ELEMENTS)
#define ROW_PITCH (CHANNELS + STEP_ELEMENTS / 2)
#define WARPS (TILE_ROWS / PIXEL_TILES)
#define THREADS (32 * WARPS)
#define RESULT_TILES (OUTPUT_TILE / 8)
#define VECTOR_ELEMENTS (STEP_ELEMENTS / 2)
#if defined(PLAIN) && OUTPUT_TILE <= 16
#define BLOCKS_PER_MULTIPROCESSOR 3
#else
#define BLOCKS_PER_MULTIPROCESSOR 2
#endif

union vector_of_scalars {
    uint4 words;
    scalar each[VECTOR_ELEMENTS];
    __device__ vector_of_scalars() {}
};

// K in both halves of a word, to scale two half-precision values at once; or K itself for float32.
__device__ inline unsigned pack_kernel(accumulator value)
{
#if defined(SCALAR_FLOAT32)
    return __float_as_uint(value);
#else
    union {
        scalar halves[2];
        unsigned word;
    } both;
    both.halves[0] = both.halves[1] = narrow(value);
    return both.word;
#endif
}

__device__ inline unsigned scale_word(unsigned word, unsigned kernel)
{
#if !defined(SCALAR_FLOAT32)
    union {
        unsigned word;
        scalar_pair pair;
    } x = {word}, k = {kernel};
    x.pair = __hmul2(x.pair, k.pair);
    return x.word;
#else
    return round_to_tf32(__uint_as_float(word) * __uint_as_float(kernel));
#endif
}

// Writes two adjacent channels of one pixel, or one if `remaining`, the number of channels left, is 1.
__device__ inline void store_two(
    const float* sums, int remaining, int channel, const scalar* bias, scalar* pixel, long long channel_step)
{
    if (remaining <= 0) return;
#if defined(PAIRED)
    // The number of results is even, they are contiguous, and their word is aligned.
    union {
        scalar halves[2];
        unsigned word;
    } both;
#pragma unroll
    for (int k = 0; k < 2; ++k)
        both.halves[k] = narrow(sums[k] + (bias == nullptr ? 0 : widen(bias[channel + k])));
    *reinterpret_cast<unsigned*>(pixel + channel) = both.word;
#else
#pragma unroll
    for (int k = 0; k < 2; ++k)
        if (k < remaining)
            pixel[(channel + k) * channel_step] = narrow(sums[k] + (bias == nullptr ? 0 : widen(bias[channel + k])));
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) contraction_mma(
    CALL_PARAMETERS, contraction g,
    const scalar* __restrict__ source, const scalar* __restrict__ packed, const scalar* __restrict__ bias,
    scalar* __restrict__ result)
{
    const adaptive_source a = ADAPTIVE_SOURCE;
    extern __shared__ __align__(16) unsigned char shared[];
    // Shared memory: kernel_values [KERNEL_TAPS][TILE], weights [WEIGHT_TAPS][OUTPUT_TILE][ROW_PITCH],
    // staged [stage pixels][ROW_PITCH].
    unsigned* const kernel_values = reinterpret_cast<unsigned*>(shared);
    scalar* const weights = reinterpret_cast<scalar*>(kernel_values + KERNEL_TAPS * TILE);
    scalar* const staged = weights + WEIGHT_TAPS * OUTPUT_TILE * ROW_PITCH;
    const int stage_size = g.stage_rows * g.stage_pitch;

    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const contraction_block b = make_block(w, g);

    // The row of the four matrices whose address this lane passes to ldmatrix: pixels 0-7 and 8-15, then the second
    // halves of the same rows; for weights, both halves of results 0-7, then of 8-15.
    const int pixel_row = lane % 16, pixel_half = lane / 16;
    const int weight_row = lane % 8 + lane / 16 * 8, weight_half = lane / 8 % 2;

    float sums[PIXEL_TILES][RESULT_TILES][4];
#pragma unroll
    for (int i = 0; i < PIXEL_TILES; ++i)
#pragma unroll
        for (int j = 0; j < RESULT_TILES; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[i][j][k] = 0;

    for (int first_tap = 0; first_tap < b.taps; first_tap += TAP_CHUNK) {
        const int chunk_taps = min(TAP_CHUNK, b.taps - first_tap);
        // Wait until all threads have used K and the stage of the previous chunk before overwriting them.
        __syncthreads();
#if !defined(PLAIN)
        for (int at = thread; at < chunk_taps * TILE; at += THREADS)
            kernel_values[at] = pack_kernel(tile_kernel(a, w, b, first_tap + at / TILE, at % TILE));
#endif
        for (int first_channel = 0; first_channel < g.padded_sources; first_channel += CHANNELS) {
            if (first_channel > 0) __syncthreads();
            for (int pixel = thread; pixel < stage_size; pixel += THREADS) {
                const staged_pixel from = locate_source(
                    source, a, b, g, first_channel, b.top + pixel / g.stage_pitch, b.left + pixel % g.stage_pitch);
                uint4* const to = reinterpret_cast<uint4*>(staged + pixel * ROW_PITCH);
#pragma unroll
                for (int part = 0; part < CHANNELS / VECTOR_ELEMENTS; ++part) {
                    vector_of_scalars values;
#if defined(ALIGNED)
                    // Channels of a pixel are contiguous, and a whole number of vectors.
                    values.words = make_uint4(0, 0, 0, 0);
                    if (from.valid && first_channel + part * VECTOR_ELEMENTS < g.sources)
                        values.words = *reinterpret_cast<const uint4*>(from.first + part * VECTOR_ELEMENTS);
#else
#pragma unroll
                    for (int i = 0; i < VECTOR_ELEMENTS; ++i)
                        // Widening to the accumulator is exact, so narrowing again rounds nothing.
                        values.each[i] =
                            narrow(staged_sample(from, g, part * VECTOR_ELEMENTS + i, g.sources - first_channel));
#endif
                    to[part] = values.words;
                }
            }
            for (int first = 0; first < chunk_taps; first += WEIGHT_TAPS) {
                const int weight_taps = min(WEIGHT_TAPS, chunk_taps - first);
                if (first > 0) __syncthreads();
                for (int at = thread; at < weight_taps * OUTPUT_TILE * (CHANNELS / VECTOR_ELEMENTS); at += THREADS) {
                    const int part = at % (CHANNELS / VECTOR_ELEMENTS), row = at / (CHANNELS / VECTOR_ELEMENTS);
                    const int tap = packed_tap(b, first_tap + first + row / OUTPUT_TILE);
                    const scalar* const from = packed
                        + ((static_cast<long long>(b.group) * FILTER_TAPS + tap) * g.padded_results + b.first_output
                           + row % OUTPUT_TILE) * g.padded_sources + first_channel;
                    reinterpret_cast<uint4*>(weights + row * ROW_PITCH)[part] =
                        reinterpret_cast<const uint4*>(from)[part];
                }
                __syncthreads();
                for (int v = 0; v < weight_taps; ++v) {
                    const int tap = first_tap + first + v;
                    const int tap_row = tap / b.columns.taps * b.rows.shift_step;
                    const int tap_column = tap % b.columns.taps * b.columns.shift_step;
#pragma unroll
                    for (int step = 0; step < STEPS; ++step) {
                        unsigned scaled[PIXEL_TILES][4];
#pragma unroll
                        for (int i = 0; i < PIXEL_TILES; ++i) {
                            const int tile_row = warp * PIXEL_TILES + i;
                            const int pixel = (tile_row * b.rows.step + tap_row) * g.stage_pitch
                                + pixel_row * b.columns.step + tap_column;
                            load_matrices(
                                scaled[i],
                                staged + pixel * ROW_PITCH + step * STEP_ELEMENTS + pixel_half * (STEP_ELEMENTS / 2));
#if defined(PLAIN)
#if defined(SCALAR_FLOAT32)
#pragma unroll
                            for (int k = 0; k < 4; ++k)
                                scaled[i][k] = round_to_tf32(__uint_as_float(scaled[i][k]));
#endif
#else
                            const unsigned* const row_kernel =
                                kernel_values + (first + v) * TILE + tile_row * TILE_COLUMNS;
                            const unsigned low = row_kernel[lane / 4], high = row_kernel[lane / 4 + 8];
                            scaled[i][0] = scale_word(scaled[i][0], low);
                            scaled[i][1] = scale_word(scaled[i][1], high);
                            scaled[i][2] = scale_word(scaled[i][2], low);
                            scaled[i][3] = scale_word(scaled[i][3], high);
#endif
                        }
#pragma unroll
                        for (int j = 0; j < RESULT_TILES; j += 2) {
                            unsigned factor[4];
                            load_matrices(
                                factor,
                                weights + (v * OUTPUT_TILE + j * 8 + weight_row) * ROW_PITCH + step * STEP_ELEMENTS
                                    + weight_half * (STEP_ELEMENTS / 2));
#pragma unroll
                            for (int i = 0; i < PIXEL_TILES; ++i) {
                                multiply_add(sums[i][j], scaled[i], factor[0], factor[1]);
                                multiply_add(sums[i][j + 1], scaled[i], factor[2], factor[3]);
                            }
                        }
                    }
                }
            }
        }
    }

#pragma unroll
    for (int i = 0; i < PIXEL_TILES; ++i) {
        const int row = b.rows.phase + b.rows.upsampling * (b.first_row + warp * PIXEL_TILES + i);
#pragma unroll
        for (int j = 0; j < RESULT_TILES; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int output = b.first_output + j * 8 + lane % 4 * 2;
                const int column = b.columns.phase + b.columns.upsampling * (b.first_column + lane / 4 + half * 8);
                if (row >= b.rows.result || column >= b.columns.result) continue;
                store_two(
                    sums[i][j] + half * 2, g.results - output, b.group * g.results + output, bias,
                    result + b.image * g.result.batch + at_pixel(g.result, row, column), g.result.channel);
            }
    }
}
