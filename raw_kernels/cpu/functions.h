#pragma once
// Exponential and logarithm of vectors.
//
// The exponential is within 2 units in the last place, also where its result is subnormal; 0 below all of these, infinity
// above all numbers, NaN for NaN.

#include "vectors.h"

// As many float or double as fill a register.
template <class T> struct WholeVector {
    typedef T type __attribute__((vector_size(VECTOR_BYTES)));
    typedef typename IntegerOf<sizeof(T)>::type integers __attribute__((vector_size(VECTOR_BYTES)));
};
template <class T> using whole_vector = typename WholeVector<T>::type;

template <class T> struct FloatFormat;
template <> struct FloatFormat<float> {
    static constexpr int MANTISSA = 23, BIAS = 127, TERMS = 7;
    static constexpr float ROUND = 0x1.8p23f, LEAST = -104.f, MOST = 89.f;
    static constexpr float LN2 = 0x1.62e4p-1f, LN2_REST = 0x1.7f7d1cp-20f;
};
template <> struct FloatFormat<double> {
    static constexpr int MANTISSA = 52, BIAS = 1023, TERMS = 13;
    static constexpr double ROUND = 0x1.8p52, LEAST = -746., MOST = 710.;
    static constexpr double LN2 = 0x1.62e42fefa38p-1, LN2_REST = 0x1.ef35793c7673p-45;
};

// exp(x) = 2^n exp(r), |r| <= log(2) / 2. The series of exp(r) - 1 - r ends at r^TERMS / TERMS!. 2^n is two factors: of one,
// results at the end of the range would be no numbers.
template <class T, bool POSITIVE> INLINE whole_vector<T> exponential(whole_vector<T> x) {
    typedef FloatFormat<T> Format;
    typedef typename WholeVector<T>::integers integers;
    typedef whole_vector<T> values;
    static const T COEFFICIENTS[14] = {
        1, 1, 1 / T(2), 1 / T(6), 1 / T(24), 1 / T(120), 1 / T(720), 1 / T(5040), 1 / T(40320), 1 / T(362880), 1 / T(3628800), 1 / T(39916800), 1 / T(479001600), 1 / T(6227020800.)};
    const values least = values{} + Format::LEAST, most = values{} + Format::MOST;
    x = x < least ? least : x;
    if (POSITIVE) x = x > most ? most : x;
    // The last bits of `shifted` are n.
    const values shifted = x * T(1.4426950408889634) + Format::ROUND, n = shifted - Format::ROUND;
    const values r = (x - n * Format::LN2) - n * Format::LN2_REST;
    values sum = values{} + COEFFICIENTS[Format::TERMS];
    UNROLL for (int k = Format::TERMS - 1; k >= 2; k--) sum = sum * r + COEFFICIENTS[k];
    sum = sum * (r * r) + r + T(1);
    const integers exponent = (integers)shifted - (integers)(values{} + Format::ROUND), half = exponent >> 1;
    const values factor = (values)((half + Format::BIAS) << Format::MANTISSA);
    return sum * factor * (values)((exponent - half + Format::BIAS) << Format::MANTISSA);
}

// Of a number not below 2^-1022. x = 2^n m with m from sqrt(1/2) to sqrt(2); log(m) = 2 artanh(s), s = (m - 1) / (m + 1).
INLINE whole_vector<double> logarithm(whole_vector<double> x) {
    typedef whole_vector<double> values;
    typedef WholeVector<double>::integers integers;
    const double infinity = __builtin_inf();
    const int64_t ROOT = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
    const integers exponent = ((integers)x - ROOT) >> 52;
    const values m = (values)((integers)x - (exponent << 52));
    const values n = __builtin_convertvector(exponent, values);
    const values s = (m - 1.) / (m + 1.), square = s * s;
    values sum = {};
    UNROLL for (int k = 23; k >= 3; k -= 2) sum = sum * square + 1. / k;
    const values found = n * 0x1.62e42fefa38p-1 + (2. * s + (2. * s * square * sum + n * 0x1.ef35793c7673p-45));
    return x <= values{} + 0x1.fffffffffffffp1023 ? found : x + infinity;
}
