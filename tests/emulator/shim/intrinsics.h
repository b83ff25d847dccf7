// Memory and arithmetic intrinsics. Approximate ones are as exact as the host's.
#pragma once

#include <math.h>
#include <string.h>

#include "interface.h"

namespace cuda_emulator {

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

}  // namespace cuda_emulator

// ---- loads and stores with a cache hint

#define CUDA_EMULATOR_LOAD(name)     \
  template <class Value>             \
  Value name(const Value* address) { \
    return *address;                 \
  }

CUDA_EMULATOR_LOAD(__ldg)
CUDA_EMULATOR_LOAD(__ldca)
CUDA_EMULATOR_LOAD(__ldcg)
CUDA_EMULATOR_LOAD(__ldcs)
CUDA_EMULATOR_LOAD(__ldlu)

#undef CUDA_EMULATOR_LOAD

#define CUDA_EMULATOR_STORE(name)          \
  template <class Value>                   \
  void name(Value* address, Value value) { \
    *address = value;                      \
  }

CUDA_EMULATOR_STORE(__stwb)
CUDA_EMULATOR_STORE(__stcg)
CUDA_EMULATOR_STORE(__stcs)
CUDA_EMULATOR_STORE(__stwt)

#undef CUDA_EMULATOR_STORE

// ---- min and max in the global namespace, with CUDA's mixtures of integer types

#define CUDA_EMULATOR_MIN_MAX(Result, First, Second)  \
  inline Result max(First first, Second second) {     \
    const Result left = static_cast<Result>(first);   \
    const Result right = static_cast<Result>(second); \
    return left > right ? left : right;               \
  }                                                   \
  inline Result min(First first, Second second) {     \
    const Result left = static_cast<Result>(first);   \
    const Result right = static_cast<Result>(second); \
    return left < right ? left : right;               \
  }

CUDA_EMULATOR_MIN_MAX(int, int, int)
CUDA_EMULATOR_MIN_MAX(unsigned, unsigned, unsigned)
CUDA_EMULATOR_MIN_MAX(unsigned, int, unsigned)
CUDA_EMULATOR_MIN_MAX(unsigned, unsigned, int)
CUDA_EMULATOR_MIN_MAX(long, long, long)
CUDA_EMULATOR_MIN_MAX(unsigned long, unsigned long, unsigned long)
CUDA_EMULATOR_MIN_MAX(long long, long long, long long)
CUDA_EMULATOR_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)

#undef CUDA_EMULATOR_MIN_MAX

// Of a NaN and a number these give the number, as on a device.
inline float max(float first, float second) {
  return fmaxf(first, second);
}

inline float min(float first, float second) {
  return fminf(first, second);
}

inline double max(double first, double second) {
  return fmax(first, second);
}

inline double min(double first, double second) {
  return fmin(first, second);
}

// ---- functions of a real number

inline float rsqrtf(float value) {
  return 1.0f / sqrtf(value);
}

inline double rsqrt(double value) {
  return 1.0 / sqrt(value);
}

#define CUDA_EMULATOR_UNARY(name, function) \
  inline float name(float value) {          \
    return function(value);                 \
  }

CUDA_EMULATOR_UNARY(__expf, expf)
CUDA_EMULATOR_UNARY(__exp10f, exp10f)
CUDA_EMULATOR_UNARY(__logf, logf)
CUDA_EMULATOR_UNARY(__log2f, log2f)
CUDA_EMULATOR_UNARY(__log10f, log10f)
CUDA_EMULATOR_UNARY(__sinf, sinf)
CUDA_EMULATOR_UNARY(__cosf, cosf)
CUDA_EMULATOR_UNARY(__tanf, tanf)
CUDA_EMULATOR_UNARY(__fsqrt_rn, sqrtf)
CUDA_EMULATOR_UNARY(__frsqrt_rn, rsqrtf)

#undef CUDA_EMULATOR_UNARY

inline float __powf(float base, float exponent) {
  return powf(base, exponent);
}

inline float __fdividef(float numerator, float denominator) {
  return numerator / denominator;
}

inline float __fdiv_rn(float numerator, float denominator) {
  return numerator / denominator;
}

inline float __frcp_rn(float value) {
  return 1.0f / value;
}

inline float __saturatef(float value) {
  return value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f;
}

// The compiler may contract a * b + c elsewhere, but never across these; volatile keeps that promise.

inline float __fmul_rn(float first, float second) {
  volatile float product = first * second;
  return product;
}

inline float __fadd_rn(float first, float second) {
  volatile float sum = first + second;
  return sum;
}

inline float __fsub_rn(float first, float second) {
  volatile float difference = first - second;
  return difference;
}

inline double __dmul_rn(double first, double second) {
  volatile double product = first * second;
  return product;
}

inline double __dadd_rn(double first, double second) {
  volatile double sum = first + second;
  return sum;
}

inline float __fmaf_rn(float first, float second, float third) {
  return fmaf(first, second, third);
}

inline double __fma_rn(double first, double second, double third) {
  return fma(first, second, third);
}

// ---- bits and conversions

inline float __int_as_float(int value) {
  return cuda_emulator::bits_as<float>(value);
}

inline int __float_as_int(float value) {
  return cuda_emulator::bits_as<int>(value);
}

inline float __uint_as_float(unsigned value) {
  return cuda_emulator::bits_as<float>(value);
}

inline unsigned __float_as_uint(float value) {
  return cuda_emulator::bits_as<unsigned>(value);
}

inline double __longlong_as_double(long long value) {
  return cuda_emulator::bits_as<double>(value);
}

inline long long __double_as_longlong(double value) {
  return cuda_emulator::bits_as<long long>(value);
}

inline int __float2int_rn(float value) {
  return static_cast<int>(nearbyintf(value));
}

inline int __float2int_rz(float value) {
  return static_cast<int>(value);
}

inline int __float2int_rd(float value) {
  return static_cast<int>(floorf(value));
}

inline int __float2int_ru(float value) {
  return static_cast<int>(ceilf(value));
}

inline float __int2float_rn(int value) {
  return static_cast<float>(value);
}

inline int __popc(unsigned value) {
  return __builtin_popcount(value);
}

inline int __popcll(unsigned long long value) {
  return __builtin_popcountll(value);
}

inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}

inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}

inline int __ffs(int value) {
  return __builtin_ffs(value);
}

inline int __ffsll(long long value) {
  return __builtin_ffsll(value);
}

inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) {
    reversed |= (value >> bit & 1u) << (31 - bit);
  }
  return reversed;
}

inline int __mulhi(int first, int second) {
  return static_cast<int>(static_cast<long long>(first) * second >> 32);
}

inline unsigned __umulhi(unsigned first, unsigned second) {
  return static_cast<unsigned>(static_cast<unsigned long long>(first) * second >> 32);
}

inline unsigned long long __umul64hi(unsigned long long first, unsigned long long second) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(first) * second >> 64);
}

inline long long clock64() {
  return 0;
}
