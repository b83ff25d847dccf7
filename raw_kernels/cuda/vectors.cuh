// Vector loads of several contiguous elements. `from` is aligned to the size of the whole vector, or to 16 bytes if the
// vector is larger.

#pragma once

#include "scalars.cuh"

// Four contiguous elements, aligned to the size of all four.
__device__ inline void read_four(scalar (&to)[4], const scalar* from)
{
#if defined(SCALAR_FLOAT64)
    const double2 low = reinterpret_cast<const double2*>(from)[0], high = reinterpret_cast<const double2*>(from)[1];
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
#elif defined(SCALAR_FLOAT32)
    const float4 all = *reinterpret_cast<const float4*>(from);
    to[0] = all.x;
    to[1] = all.y;
    to[2] = all.z;
    to[3] = all.w;
#else
    union {
        uint2 words;
        scalar halves[4];
    } all;
    all.words = *reinterpret_cast<const uint2*>(from);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = all.halves[i];
#endif
}

__device__ inline void read_vector(float (&to)[8], const float* from)
{
    const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
    to[0] = low.x;
    to[1] = low.y;
    to[2] = low.z;
    to[3] = low.w;
    to[4] = high.x;
    to[5] = high.y;
    to[6] = high.z;
    to[7] = high.w;
}

__device__ inline void read_vector(double (&to)[4], const double* from)
{
    const double2 low = reinterpret_cast<const double2*>(from)[0], high = reinterpret_cast<const double2*>(from)[1];
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
}
