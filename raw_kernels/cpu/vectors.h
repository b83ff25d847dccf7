#pragma once
// Vectors of accumulators: as wide as the registers that the compiler may use.

#include "registers.h"
#include "storage.h"

// Loops over arrays of vectors must be unrolled whole: otherwise GCC keeps the arrays in memory.
#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define UNROLL PRAGMA(clang loop unroll(full))
#else
#define UNROLL PRAGMA(GCC unroll 64)
#endif
#define NOINLINE static __attribute__((noinline, unused))
#define RESTRICT __restrict

enum { LANES = VECTOR_BYTES / (int)sizeof(accumulator) };

// aligned: arrays begin at any element. may_alias: loads and stores are those of the elements.
template <int N> struct VectorOf {
    typedef accumulator type __attribute__((vector_size(N * sizeof(accumulator)), aligned(sizeof(accumulator)), may_alias));
};
template <int N> using vector_of = typename VectorOf<N>::type;
typedef vector_of<LANES> vector;

// Integers of the same size: of shuffles and masks.
template <int SIZE> struct IntegerOf;
template <> struct IntegerOf<4> { typedef int32_t type; };
template <> struct IntegerOf<8> { typedef int64_t type; };
typedef IntegerOf<sizeof(accumulator)>::type lane_number;
typedef lane_number lane_numbers __attribute__((vector_size(VECTOR_BYTES)));

// A number that the compiler knows, as an argument.
template <int N> struct Number {
    static constexpr int value = N;
};

// Calls `body(Number<length>(), first)` for each of the fewest, about equally long parts of `total` of at most MOST.
template <int MOST, class Body> INLINE void for_equal_parts(int64_t total, Body body) {
    static_assert(MOST <= 16, "a case for each length");
    const int64_t count = ceil_div(total, MOST);
    for (int64_t i = 0; i < count; i++) {
        const int64_t first = total * i / count, last = total * (i + 1) / count;
        switch (last - first) {
#define CASE(n)                                                 \
    case n:                                                     \
        if constexpr (n <= MOST) body(Number<n>(), first);      \
        break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
#undef CASE
        }
    }
}

INLINE vector load(const accumulator *source) { return *(const vector *)source; }
INLINE void store(accumulator *target, vector value) { *(vector *)target = value; }

// Keeps a loaded value in its register: GCC would rather load it again for each product.
#if defined(__x86_64__)
#define KEEP_IN_REGISTER(value) __asm__("" : "+v"(value))
#elif defined(__aarch64__)
#define KEEP_IN_REGISTER(value) __asm__("" : "+w"(value))
#else
#define KEEP_IN_REGISTER(value)
#endif

// Minus zero, which changes no number: compilers fold it, but not plus zero, which changes the sign of -0.
INLINE vector broadcast(accumulator value) { return value - vector{}; }

// `count` elements, the last ones as a vector that ends with them: rows are short, and a call of memcpy takes longer.
template <int WIDTH> INLINE void copy_short(accumulator *RESTRICT target, const accumulator *RESTRICT source, int64_t count) {
    typedef vector_of<WIDTH> part;
    if (count >= WIDTH) {
        const part first = *(const part *)source, last = *(const part *)(source + count - WIDTH);
        *(part *)target = first;
        *(part *)(target + count - WIDTH) = last;
    } else if constexpr (WIDTH > 1)
        copy_short<WIDTH / 2>(target, source, count);
}

INLINE void copy(accumulator *RESTRICT target, const accumulator *RESTRICT source, int64_t count) {
    for (int64_t i = 0; i + LANES < count; i += LANES) {
        vector values = load(source + i);
        // Else compilers call memcpy.
        KEEP_IN_REGISTER(values);
        store(target + i, values);
    }
    copy_short<LANES>(target, source, count);
}

template <int WIDTH> INLINE void clear_short(accumulator *target, int64_t count) {
    typedef vector_of<WIDTH> part;
    if (count >= WIDTH) *(part *)target = *(part *)(target + count - WIDTH) = part{};
    else if constexpr (WIDTH > 1)
        clear_short<WIDTH / 2>(target, count);
}

INLINE void clear(accumulator *target, int64_t count) {
    for (int64_t i = 0; i + LANES < count; i += LANES) store(target + i, vector{});
    clear_short<LANES>(target, count);
}

// Adjacent values of an array, as accumulators; and back.
INLINE void widen_row(accumulator *RESTRICT target, const accumulator *RESTRICT source, int64_t count) { copy(target, source, count); }
template <class T> INLINE void widen_row(accumulator *RESTRICT target, const T *RESTRICT source, int64_t count) {
    for (int64_t i = 0; i < count; i++) target[i] = widen(source[i]);
}

// A vector of adjacent values of an array. Conversions are not inlined, as they would be dozens of times.
INLINE vector load_widened(const accumulator *source) { return load(source); }
template <class T> NOINLINE vector load_widened(const T *source) {
    accumulator values[LANES];
    widen_row(values, source, LANES);
    return load(values);
}

INLINE void narrow_row(accumulator *RESTRICT target, const accumulator *RESTRICT source, int64_t count) { copy(target, source, count); }
template <class T> INLINE void narrow_row(T *RESTRICT target, const accumulator *RESTRICT source, int64_t count) {
    for (int64_t i = 0; i < count; i++) narrow(target[i], source[i]);
}

INLINE void store_narrowed(accumulator *target, vector value) { store(target, value); }
template <class T> NOINLINE void store_narrowed(T *target, vector value) {
    accumulator values[LANES];
    store(values, value);
    narrow_row(target, values, LANES);
}

// The first `count` lanes; of a vector that is loaded, the others are zeros.
template <class T> NOINLINE vector load_some(const T *source, int64_t count) {
    accumulator values[LANES] = {};
    widen_row(values, source, count);
    return load(values);
}

template <class T> NOINLINE void store_some(T *target, vector value, int64_t count) {
    accumulator values[LANES];
    store(values, value);
    narrow_row(target, values, count);
}

template <class T> INLINE vector load_first(const T *source, int64_t count) {
    return count == LANES ? load_widened(source) : load_some(source, count);
}
template <class T> INLINE void store_first(T *target, vector value, int64_t count) {
    if (count == LANES) store_narrowed(target, value);
    else store_some(target, value, count);
}

// Lanes from `first` to `last`, of which either may be outside of the vector; in the others are zeros.
INLINE vector masked(vector value, int64_t first, int64_t last) {
    lane_numbers lanes = {};
    UNROLL for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane;
    return (vector)((lane_numbers)value & (lanes >= (lane_number)first) & (lanes < (lane_number)last));
}

INLINE accumulator sum_of_lanes(vector value) {
    accumulator sums[LANES];
    store(sums, value);
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    return sums[0];
}

// Lanes of two vectors: those of the second are numbered from LANES on.
INLINE vector shuffled(vector first, vector second, lane_numbers lanes) {
#ifdef __clang__
    vector found;
    UNROLL for (int lane = 0; lane < LANES; lane++) found[lane] = lanes[lane] < LANES ? first[lanes[lane]] : second[lanes[lane] - LANES];
    return found;
#else
    return __builtin_shuffle(first, second, lanes);
#endif
}

// A square of LANES x LANES values in registers, transposed: blocks off the diagonal are exchanged, halving their size.
INLINE void transpose(vector (&rows)[LANES]) {
    UNROLL for (int size = LANES / 2; size; size /= 2) {
        UNROLL for (int row = 0; row < LANES; row++) {
            if (row & size) continue;
            const vector upper = rows[row], lower = rows[row + size];
            lane_numbers first = {}, second = {};
            UNROLL for (int lane = 0; lane < LANES; lane++) {
                first[lane] = lane & size ? LANES + lane - size : lane;
                second[lane] = lane & size ? LANES + lane : lane + size;
            }
            rows[row] = shuffled(upper, lower, first);
            rows[row + size] = shuffled(upper, lower, second);
        }
    }
}

// A matrix in squares that are transposed in registers: `load(row, column, count)` returns `count` values of a row, and
// `store(column, row, values, count)` takes as many of a column. The last squares overlap those before them; shorter rows
// or columns are one square of fewer.
template <class Load, class Store> INLINE void transpose_squares(int64_t rows, int64_t columns, Load load, Store store) {
    const int64_t height = smaller(rows, LANES), width = smaller(columns, LANES);
    for (int64_t c = 0; c < columns; c += LANES)
        for (int64_t r = 0; r < rows; r += LANES) {
            const int64_t row = smaller(r, rows - height), column = smaller(c, columns - width);
            vector square[LANES];
            if (height == LANES && width == LANES) {
                UNROLL for (int k = 0; k < LANES; k++) square[k] = load(row + k, column, LANES);
                transpose(square);
                UNROLL for (int k = 0; k < LANES; k++) store(column + k, row, square[k], LANES);
                continue;
            }
            UNROLL for (int k = 0; k < LANES; k++) square[k] = k < height ? load(row + k, column, width) : vector{};
            transpose(square);
            UNROLL for (int k = 0; k < LANES; k++) {
                if (k < width) store(column + k, row, square[k], height);
            }
        }
}

// A vector of the lanes of some: lane `find(lane) % LANES` of vector `find(lane) / LANES`. Of one, it is that.
template <int COUNT, class Find> INLINE vector lanes_of(const vector (&from)[COUNT], Find find) {
    vector found = from[0];
    UNROLL for (int v = 1; v < COUNT; v++) {
        lane_numbers lanes = {};
        UNROLL for (int lane = 0; lane < LANES; lane++) {
            const int wanted = find(lane), number = wanted / LANES;
            lanes[lane] = number == v ? LANES + wanted % LANES : v == 1 && number == 0 ? wanted : lane;
        }
        found = shuffled(found, from[v], lanes);
    }
    return found;
}

// Rows of at least LANES pixels of a few channels, all of which are adjacent, are split into planes of channels and joined
// from them in registers. The last vectors overlap those before them.
enum { FEW_CHANNELS = LANES / 2 };

INLINE bool few_adjacent(int64_t channels, int64_t channel, int64_t step, int64_t count) {
    return channel == 1 && step == channels && channels > 1 && channels <= FEW_CHANNELS && count >= LANES;
}

template <int CHANNELS, class T> INLINE void split_pixels(accumulator *planes, int64_t distance, const T *pixels, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t at = smaller(i, count - LANES);
        vector values[CHANNELS];
        UNROLL for (int v = 0; v < CHANNELS; v++) values[v] = load_widened(pixels + at * CHANNELS + v * LANES);
        UNROLL for (int c = 0; c < CHANNELS; c++) store(planes + c * distance + at, lanes_of(values, [c](int lane) { return lane * CHANNELS + c; }));
    }
}

template <int CHANNELS, class T> INLINE void join_planes(T *pixels, const accumulator *planes, int64_t distance, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t at = smaller(i, count - LANES);
        vector values[CHANNELS];
        UNROLL for (int c = 0; c < CHANNELS; c++) values[c] = load(planes + c * distance + at);
        UNROLL for (int v = 0; v < CHANNELS; v++) {
            const auto find = [v](int lane) { return (v * LANES + lane) % CHANNELS * LANES + (v * LANES + lane) / CHANNELS; };
            store_narrowed(pixels + at * CHANNELS + v * LANES, lanes_of(values, find));
        }
    }
}
