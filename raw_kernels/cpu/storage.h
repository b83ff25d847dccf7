#pragma once
// Storage types and the type of sums.
//
// STORAGE is the dtype of the arrays: float, double, float16 or bfloat16; ACCUMULATOR that of sums: double for double,
// else float. Arrays are widened when they are packed and rounded to nearest even when results are stored, so that the
// kernels between know the accumulator only. Conversions are written with integers and selects, without branches: every
// compiler vectorises them.

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

struct float16 {
    uint16_t bits;
};

struct bfloat16 {
    uint16_t bits;
};

typedef ACCUMULATOR accumulator;
typedef STORAGE storage;

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float widen(float value) { return value; }
INLINE double widen(double value) { return value; }
// Masks: bytes that are not 0 stand for 1.
INLINE float widen(uint8_t value) { return value ? 1.f : 0.f; }
INLINE float widen(bfloat16 value) { return float_of((uint32_t)value.bits << 16); }

INLINE float widen(float16 value) {
    uint32_t magnitude = (uint32_t)(value.bits & 0x7fff) << 13;
    // The exponent is 112 too small; the product normalises subnormal numbers as well.
    uint32_t bits = bits_of(float_of(magnitude) * 0x1p112f);
    bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return float_of(bits | (uint32_t)(value.bits & 0x8000) << 16);
}

INLINE void narrow(float &target, double value) { target = (float)value; }
INLINE void narrow(double &target, double value) { target = value; }

INLINE void narrow(bfloat16 &target, float value) {
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    target.bits = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

INLINE void narrow(float16 &target, float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 1/2, whose last bit is the smallest subnormal number, rounds to a multiple of that.
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x47800000u ? special : half;
    target.bits = (uint16_t)(half | (bits >> 16 & 0x8000u));
}

// Rounding twice would err: a double is rounded to a half type through the nearest float only where sums are float.
INLINE void narrow(bfloat16 &target, double value) { narrow(target, (float)value); }
INLINE void narrow(float16 &target, double value) { narrow(target, (float)value); }

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// Quotients rounded down and up, for a positive divisor.
INLINE int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }
INLINE int64_t rounded_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
