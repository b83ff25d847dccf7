// Scalar types of a kernel, selected by a macro that the host prepends to the source:
//
//   #define SCALAR_FLOAT16 | SCALAR_BFLOAT16 | SCALAR_FLOAT32 | SCALAR_FLOAT64
//
// scalar       element type of arrays; scalar_pair is two of them in one 32-bit word, for the half-precision types
// accumulator  type of sums: float for the half-precision types, else the scalar type itself
// widen        scalar to accumulator, exact
// narrow       accumulator to scalar, rounded to nearest even

#pragma once

#if defined(SCALAR_FLOAT16)
#include <cuda_fp16.h>
typedef __half scalar;
typedef __half2 scalar_pair;
typedef float accumulator;
__device__ inline accumulator widen(scalar value) { return __half2float(value); }
__device__ inline scalar narrow(accumulator value) { return __float2half_rn(value); }

#elif defined(SCALAR_BFLOAT16)
#include <cuda_bf16.h>
typedef __nv_bfloat16 scalar;
typedef __nv_bfloat162 scalar_pair;
typedef float accumulator;
__device__ inline accumulator widen(scalar value) { return __bfloat162float(value); }
__device__ inline scalar narrow(accumulator value) { return __float2bfloat16_rn(value); }

#elif defined(SCALAR_FLOAT32)
typedef float scalar;
typedef float accumulator;
__device__ inline accumulator widen(scalar value) { return value; }
__device__ inline scalar narrow(accumulator value) { return value; }

#elif defined(SCALAR_FLOAT64)
typedef double scalar;
typedef double accumulator;
__device__ inline accumulator widen(scalar value) { return value; }
__device__ inline scalar narrow(accumulator value) { return value; }

#else
#error "define the scalar type before including scalars.cuh"
#endif
