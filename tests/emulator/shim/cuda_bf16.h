// The part of CUDA's header of this name that kernels use.
#pragma once

#include "half_types.h"
#include "launch.h"

typedef cuda_emulator::Half<cuda_emulator::BFloat16Format> __nv_bfloat16;
typedef cuda_emulator::HalfPair<cuda_emulator::BFloat16Format> __nv_bfloat162;
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

template <>
constexpr char cuda_emulator::type_letter<__nv_bfloat16> = 'B';

inline __nv_bfloat16 __float2bfloat16(float value) {
  return __nv_bfloat16(value);
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return __nv_bfloat16(value);
}

inline __nv_bfloat16 __double2bfloat16(double value) {
  return __nv_bfloat16(value);
}

inline float __bfloat162float(__nv_bfloat16 value) {
  return value;
}

inline __nv_bfloat162 __float2bfloat162_rn(float value) {
  return {__nv_bfloat16(value), __nv_bfloat16(value)};
}

inline __nv_bfloat162 __floats2bfloat162_rn(float first, float second) {
  return {__nv_bfloat16(first), __nv_bfloat16(second)};
}

inline __nv_bfloat162 __float22bfloat162_rn(float2 values) {
  return {__nv_bfloat16(values.x), __nv_bfloat16(values.y)};
}

inline float2 __bfloat1622float2(__nv_bfloat162 pair) {
  return {pair.x, pair.y};
}

inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 value) {
  return {value, value};
}

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 first, __nv_bfloat16 second) {
  return {first, second};
}

inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 pair) {
  return pair.x;
}

inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 pair) {
  return pair.y;
}

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) {
  return value.bits;
}

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  return cuda_emulator::half_from_bits<cuda_emulator::BFloat16Format>(bits);
}
