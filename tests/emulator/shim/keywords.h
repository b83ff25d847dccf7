// Words of CUDA C++ that a host compiler does not know.
//
// __global__, __shared__ and __launch_bounds__ are missing on purpose: rewriting.py reads them in the preprocessed
// text.
#pragma once

#define CUDA_CPU_EMU 1

#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) alignas(bytes)
#define __grid_constant__
