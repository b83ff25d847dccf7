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

// SERIES: coefficients of (exp(r) - 1 - r) / r^2, so that the largest relative error of exp(r) is least for |r| <= log(2) / 2:
// 3e-9 and 4e-18.
template <class T> struct FloatFormat;
template <> struct FloatFormat<float> {
    static constexpr int MANTISSA = 23, BIAS = 127, TERMS = 5;
    static constexpr float ROUND = 0x1.8p23f, LEAST = -104.f, MOST = 89.f;
    static constexpr float LN2 = 0x1.62e4p-1f, LN2_REST = 0x1.7f7d1cp-20f;
    static constexpr float SERIES[TERMS] = {0x1.fffffcp-2f, 0x1.55549p-3f, 0x1.5558f4p-5f, 0x1.123a68p-7f, 0x1.6a2358p-10f};
};
template <> struct FloatFormat<double> {
    static constexpr int MANTISSA = 52, BIAS = 1023, TERMS = 10;
    static constexpr double ROUND = 0x1.8p52, LEAST = -746., MOST = 710.;
    static constexpr double LN2 = 0x1.62e42fefa38p-1, LN2_REST = 0x1.ef35793c7673p-45;
    static constexpr double SERIES[TERMS] = {
        0x1.000000000000ap-1,  0x1.55555555554f9p-3,  0x1.55555555507f4p-5,  0x1.1111111127e72p-7,  0x1.6c16c1844a254p-10,
        0x1.a01a0129b8a3cp-13, 0x1.a01999b043a9ap-16, 0x1.71df262697c1dp-19, 0x1.28adcc0f2ca2ep-22, 0x1.ad7f05798eba3p-26};
};

// exp(x) = 2^n exp(r), |r| <= log(2) / 2. 2^n is two factors: of one, results at the end of the range would be no numbers.
// Without POSITIVE numbers, one of them is always 2^-64.
template <class T, bool POSITIVE> INLINE whole_vector<T> exponential(whole_vector<T> x) {
    typedef FloatFormat<T> Format;
    typedef typename WholeVector<T>::integers integers;
    typedef whole_vector<T> values;
    const values least = values{} + Format::LEAST, most = values{} + Format::MOST;
    x = x < least ? least : x;
    if (POSITIVE) x = x > most ? most : x;
    // The last bits of `shifted` are n; of ROUND they are zeros.
    const values shifted = x * T(1.4426950408889634) + Format::ROUND, n = shifted - Format::ROUND;
    const values r = (x - n * Format::LN2) - n * Format::LN2_REST;
    values sum = values{} + Format::SERIES[Format::TERMS - 1];
    UNROLL for (int k = Format::TERMS - 2; k >= 0; k--) sum = sum * r + Format::SERIES[k];
    sum = sum * (r * r) + r + T(1);
    const integers bits = (integers)shifted;
    if (!POSITIVE) return sum * (values)((bits + (Format::BIAS + 64)) << Format::MANTISSA) * T(0x1p-64);
    const integers exponent = bits - (integers)(values{} + Format::ROUND), half = exponent >> 1;
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
