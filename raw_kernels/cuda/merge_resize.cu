// Resizes up to MAPS maps to one size and writes their sum, their maximum, or its argmax.
//
//   result[n, c, h, w] = factor * sum over maps m, rows i and columns j of A_m[h, i] B_m[w, j] source_m[n, c, i, j]
//
//   #define MAPS 1 | 2 | 4
//   #define CHANNELS_PER_THREAD          channels handled by a thread
//   #define THREADS                      threads of a block
//   #define VECTORIZED                   with CHANNELS_PER_THREAD 4: the four channels are contiguous and aligned to
//                                        their total size in all sources and the result; channels are a multiple of 4
//   #define TAKE_MAX                     maximum of the resized maps instead of their sum; NaN exceeds all numbers
//   #define WRITE_ARGMAX                 with TAKE_MAX: the index of the first map that attains the maximum
//   #define MASK_BY_ARGMAX               a source element counts only where `argmax`, of the shape of the source, is
//                                        the index of the map: the gradient of TAKE_MAX
//   #define ARGMAX_32BIT                 indices of maps have 32 bits, not 8
//
// The gradient of a resizing is the resizing by the transposed matrices: the same kernel. Each thread computes its
// results alone, in the order of taps. More maps than MAPS take several launches, which pass intermediate sums or
// maxima on in `carry`.

#include "scalars.cuh"
#include "thread_map.cuh"
#include "vectors.cuh"

#if defined(ARGMAX_32BIT)
typedef int map_index;
#else
typedef unsigned char map_index;
#endif

#if defined(WRITE_ARGMAX)
typedef map_index result_type;
#else
typedef scalar result_type;
#endif

// Doubles take two registers; WRITE_ARGMAX and MASK_BY_ARGMAX need registers for indices of maps.
#if defined(SCALAR_FLOAT64)
const int blocks_per_multiprocessor = 2;
#elif defined(WRITE_ARGMAX) || defined(MASK_BY_ARGMAX)
const int blocks_per_multiprocessor = 3;
#else
const int blocks_per_multiprocessor = 4;
#endif

// One map, and the number of weights in the longest row of each of its two matrices.
struct merge_source {
    image_strides strides;
    int row_taps, column_taps;
};

struct merge {
    image_strides result, argmax;
    image_thread_map thread_map;
    int rows;                           // rows of the result
    int maps, first, last;              // maps of this launch, index of the first, whether this is the last launch
    double factor;
    merge_source source[MAPS];
};

// One row of a matrix: `count` weights, starting at column `first`.
struct taps {
    int first, count;
    const accumulator* weight;
};

// `table` holds `first` and `count` of every row of a matrix, then `row_size` weights for every row.
__device__ inline taps taps_of(const int* table, int rows, int row_size, int row)
{
    const accumulator* const weights = reinterpret_cast<const accumulator*>(table + 2 * static_cast<long long>(rows));
    return {table[2 * row], table[2 * row + 1], weights + static_cast<long long>(row) * row_size};
}

#if defined(VECTORIZED)
// Vector store of four contiguous elements, see read_four.
__device__ inline void write_four(scalar* to, const scalar (&from)[4])
{
#if defined(SCALAR_FLOAT64)
    reinterpret_cast<double2*>(to)[0] = make_double2(from[0], from[1]);
    reinterpret_cast<double2*>(to)[1] = make_double2(from[2], from[3]);
#elif defined(SCALAR_FLOAT32)
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
#else
    union {
        uint2 words;
        scalar halves[4];
    } all;
#pragma unroll
    for (int i = 0; i < 4; ++i) all.halves[i] = from[i];
    *reinterpret_cast<uint2*>(to) = all.words;
#endif
}
#endif

// Adds one resized map to `sums`. Channels beyond the last read the last one again.
__device__ inline void add_resized(
    accumulator (&sums)[CHANNELS_PER_THREAD], const merge& g, const merge_source& map, const scalar* source,
    const int* row_table, const int* column_table, const map_index* argmax, const position& p)
{
    const taps rows = taps_of(row_table, g.rows, map.row_taps, p.row);
    const taps columns = taps_of(column_table, g.thread_map.columns, map.column_taps, p.column);
    const scalar* planes[CHANNELS_PER_THREAD];
#if defined(MASK_BY_ARGMAX)
    const map_index* argmax_planes[CHANNELS_PER_THREAD];
#endif
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = min(p.channel + e * p.channel_step, g.thread_map.channels - 1);
        planes[e] = source + p.image * map.strides.batch + channel * map.strides.channel;
#if defined(MASK_BY_ARGMAX)
        argmax_planes[e] = argmax + p.image * g.argmax.batch + channel * g.argmax.channel;
#endif
    }
    // Taps of weight 0 within a row are skipped: the source may hold NaN there. The loads of CHANNELS_PER_THREAD
    // channels are in flight at once; unrolling these loops would only cost registers.
#pragma unroll 1
    for (int i = 0; i < rows.count; ++i) {
        const accumulator down = rows.weight[i];
        if (down == 0) continue;
        accumulator row_sums[CHANNELS_PER_THREAD];
#pragma unroll
        for (int e = 0; e < CHANNELS_PER_THREAD; ++e) row_sums[e] = 0;
#pragma unroll 1
        for (int j = 0; j < columns.count; ++j) {
            const accumulator across = columns.weight[j];
            if (across == 0) continue;
            const long long at = at_pixel(map.strides, rows.first + i, columns.first + j);
#if defined(MASK_BY_ARGMAX)
            const long long argmax_at = at_pixel(g.argmax, rows.first + i, columns.first + j);
#endif
#if defined(VECTORIZED)
            scalar four[CHANNELS_PER_THREAD];
            read_four(four, planes[0] + at);
#endif
#pragma unroll
            for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
#if defined(MASK_BY_ARGMAX)
                if (argmax_planes[e][argmax_at] != g.first) continue;
#endif
#if defined(VECTORIZED)
                row_sums[e] += across * widen(four[e]);
#else
                row_sums[e] += across * widen(planes[e][at]);
#endif
            }
        }
#pragma unroll
        for (int e = 0; e < CHANNELS_PER_THREAD; ++e) sums[e] += down * row_sums[e];
    }
}

// Sources and the tables of their rows and columns; pointers beyond MAPS are null.
extern "C" __global__ void __launch_bounds__(THREADS, blocks_per_multiprocessor) merge_resize(
    merge g, const scalar* __restrict__ source_0, const scalar* __restrict__ source_1,
    const scalar* __restrict__ source_2, const scalar* __restrict__ source_3, const int* __restrict__ rows_0,
    const int* __restrict__ rows_1, const int* __restrict__ rows_2, const int* __restrict__ rows_3,
    const int* __restrict__ columns_0, const int* __restrict__ columns_1, const int* __restrict__ columns_2,
    const int* __restrict__ columns_3, const map_index* __restrict__ argmax, accumulator* __restrict__ carry,
    result_type* __restrict__ result)
{
    const scalar* const sources[4] = {source_0, source_1, source_2, source_3};
    const int* const row_tables[4] = {rows_0, rows_1, rows_2, rows_3};
    const int* const column_tables[4] = {columns_0, columns_1, columns_2, columns_3};
    const position p = thread_position(g.thread_map);
    if (!p.valid) return;
    const bool carried = carry != nullptr && g.first > 0;
    const long long pixel = p.image * g.result.batch + at_pixel(g.result, p.row, p.column);
    accumulator values[CHANNELS_PER_THREAD];
#if defined(WRITE_ARGMAX)
    int best_map[CHANNELS_PER_THREAD];
#endif
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        // A channel beyond the last must not read `carry` here: its element belongs to another thread.
        const int channel = p.channel + e * p.channel_step;
        const bool carried_in = carried && channel < g.thread_map.channels;
        values[e] = carried_in ? carry[pixel + channel * g.result.channel] : accumulator(0);
#if defined(WRITE_ARGMAX)
        best_map[e] = carried_in ? result[pixel + channel * g.result.channel] : map_index(0);
#endif
    }
#pragma unroll
    for (int m = 0; m < MAPS; ++m) {
        if (m >= g.maps) continue;
#if defined(TAKE_MAX)
        accumulator resized[CHANNELS_PER_THREAD];
#pragma unroll
        for (int e = 0; e < CHANNELS_PER_THREAD; ++e) resized[e] = 0;
        add_resized(resized, g, g.source[m], sources[m], row_tables[m], column_tables[m], argmax, p);
#pragma unroll
        for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
            const bool larger = resized[e] > values[e] || (resized[e] != resized[e] && values[e] == values[e]);
            if (g.first + m > 0 && !larger) continue;
            values[e] = resized[e];
#if defined(WRITE_ARGMAX)
            best_map[e] = g.first + m;
#endif
        }
#else
        add_resized(values, g, g.source[m], sources[m], row_tables[m], column_tables[m], argmax, p);
#endif
    }
#if defined(VECTORIZED)
    if (g.last) {
        scalar four[CHANNELS_PER_THREAD];
#pragma unroll
        for (int e = 0; e < CHANNELS_PER_THREAD; ++e)
            four[e] = narrow(values[e] * static_cast<accumulator>(g.factor));
        write_four(result + pixel + p.channel, four);
        return;
    }
#endif
#pragma unroll
    for (int e = 0; e < CHANNELS_PER_THREAD; ++e) {
        const int channel = p.channel + e * p.channel_step;
        if (channel >= g.thread_map.channels) continue;
        const long long at = pixel + channel * g.result.channel;
        if (!g.last) carry[at] = values[e];
#if defined(WRITE_ARGMAX)
        result[at] = static_cast<map_index>(best_map[e]);
#else
        if (g.last) result[at] = narrow(values[e] * static_cast<accumulator>(g.factor));
#endif
    }
}
