// Feature values, floating-point (scalars.cuh) or integer, and partial results of reductions over pixels of one
// channel.
//
//   #define INTEGER <type>               in place of a SCALAR_ macro: features are integers
//   #define SUM                          the sum
//   #define VAR                          the mean and the sum of squared deviations from it
//   #define EXTREMES 1 | 2               1: the maximum, or with `smallest` the minimum; 2: both, maximum first
//   #define POSITIONS                    with EXTREMES: the first pixel that attains each

#pragma once

#if defined(INTEGER)
typedef INTEGER scalar;
// Sums wrap around modulo 2^64; signed and unsigned sums have the same bits.
typedef unsigned long long wide_scalar;
template <bool is_signed> struct sums_of {
    typedef unsigned long long type;
};
template <> struct sums_of<true> {
    typedef long long type;
};
typedef sums_of<(static_cast<scalar>(-1) < static_cast<scalar>(1))>::type sum_type;
typedef scalar compared;
__device__ inline wide_scalar to_wide(scalar value) { return static_cast<wide_scalar>(value); }
__device__ inline compared comparable(scalar value) { return value; }
__device__ inline scalar as_scalar(compared value) { return value; }
__device__ inline sum_type as_sum(wide_scalar value) { return static_cast<sum_type>(value); }
__device__ inline bool is_nan(compared) { return false; }
#else
#include "scalars.cuh"
typedef double wide_scalar;
typedef scalar sum_type;
typedef accumulator compared;
__device__ inline wide_scalar to_wide(scalar value) { return widen(value); }
__device__ inline compared comparable(scalar value) { return widen(value); }
__device__ inline scalar as_scalar(compared value) { return narrow(value); }
__device__ inline sum_type as_sum(wide_scalar value) { return narrow(static_cast<accumulator>(value)); }
__device__ inline bool is_nan(compared value) { return value != value; }
#endif

// Partial result over some pixels of one segment, in one channel.
struct part {
#if defined(SUM)
    wide_scalar sum;
#endif
#if defined(VAR)
    double mean, squares;
#endif
#if defined(EXTREMES)
    compared best[EXTREMES];
#endif
#if defined(POSITIONS)
    int position[EXTREMES];
#endif
};

// While pixels are added, `mean` and `squares` hold the sums of differences from the first value and of their squares.
// The squared deviation of the first value is at most the sum of all squared deviations, so the term subtracted in
// `end` is at most `count` times the result, which bounds cancellation.
__device__ inline void begin(part& p, wide_scalar& first, scalar value, int position)
{
#if defined(SUM)
    p.sum = to_wide(value);
#endif
#if defined(VAR)
    first = to_wide(value);
    // NaN if the first value is infinite, as the variance is.
    p.mean = p.squares = first - first;
#endif
#if defined(EXTREMES)
#pragma unroll
    for (int e = 0; e < EXTREMES; ++e) {
        p.best[e] = comparable(value);
#if defined(POSITIONS)
        p.position[e] = position;
#endif
    }
#endif
}

#if defined(EXTREMES)
// Updates an extreme with a later pixel: on ties the earlier pixel is kept. The first NaN wins.
__device__ inline void update_extreme(part& p, int e, compared value, int position, bool smallest)
{
    const bool lower = EXTREMES == 2 ? e == 1 : smallest;
    const bool better = lower ? value < p.best[e] : value > p.best[e];
    if (!better && !(is_nan(value) && !is_nan(p.best[e]))) return;
    p.best[e] = value;
#if defined(POSITIONS)
    p.position[e] = position;
#endif
}
#endif

__device__ inline void add(part& p, wide_scalar first, scalar value, int position, bool smallest)
{
#if defined(SUM)
    p.sum += to_wide(value);
#endif
#if defined(VAR)
    const double difference = to_wide(value) - first;
    p.mean += difference;
    p.squares += difference * difference;
#endif
#if defined(EXTREMES)
#pragma unroll
    for (int e = 0; e < EXTREMES; ++e) update_extreme(p, e, comparable(value), position, smallest);
#endif
}

__device__ inline void end(part& p, wide_scalar first, int count)
{
#if defined(VAR)
    const double mean = p.mean / count, squares = p.squares - p.mean * mean;
    // Clamped at 0 against rounding errors; NaN propagates.
    p.squares = squares < 0 ? 0 : squares;
    p.mean = first + mean;
#endif
}

// Merges `next`, whose pixels come later in memory. Means and squares by T. F. Chan, G. H. Golub and R. J. LeVeque,
// "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
__device__ inline void merge(part& p, int count, const part& next, int next_count, bool smallest)
{
#if defined(SUM)
    p.sum += next.sum;
#endif
#if defined(VAR)
    const double weight = next_count / (static_cast<double>(count) + next_count), difference = next.mean - p.mean;
    p.squares += next.squares + difference * difference * (count * weight);
    p.mean += difference * weight;
#endif
#if defined(EXTREMES)
#pragma unroll
    for (int e = 0; e < EXTREMES; ++e) {
#if defined(POSITIONS)
        update_extreme(p, e, next.best[e], next.position[e], smallest);
#else
        update_extreme(p, e, next.best[e], 0, smallest);
#endif
    }
#endif
}
