// The part of CUDA's header of this name that kernels use.
#pragma once

#include "half_types.h"
#include "launch.h"

typedef cuda_emulator::Half<cuda_emulator::Float16Format> __half;
typedef cuda_emulator::HalfPair<cuda_emulator::Float16Format> __half2;
typedef __half half;
typedef __half2 half2;

template <>
constexpr char cuda_emulator::type_letter<__half> = 'h';

inline __half __float2half(float value) {
  return __half(value);
}

inline __half __float2half_rn(float value) {
  return __half(value);
}

inline __half __double2half(double value) {
  return __half(value);
}

inline float __half2float(__half value) {
  return value;
}

inline __half2 __float2half2_rn(float value) {
  return {__half(value), __half(value)};
}

inline __half2 __floats2half2_rn(float first, float second) {
  return {__half(first), __half(second)};
}

inline __half2 __float22half2_rn(float2 values) {
  return {__half(values.x), __half(values.y)};
}

inline float2 __half22float2(__half2 pair) {
  return {pair.x, pair.y};
}

inline __half2 __half2half2(__half value) {
  return {value, value};
}

inline __half2 __halves2half2(__half first, __half second) {
  return {first, second};
}

inline __half __low2half(__half2 pair) {
  return pair.x;
}

inline __half __high2half(__half2 pair) {
  return pair.y;
}

inline unsigned short __half_as_ushort(__half value) {
  return value.bits;
}

inline __half __ushort_as_half(unsigned short bits) {
  return cuda_emulator::half_from_bits<cuda_emulator::Float16Format>(bits);
}

inline __half hexp(__half value) {
  return __half(expf(value));
}

inline __half hlog(__half value) {
  return __half(logf(value));
}

inline __half hsqrt(__half value) {
  return __half(sqrtf(value));
}

inline __half hrsqrt(__half value) {
  return __half(rsqrtf(value));
}
