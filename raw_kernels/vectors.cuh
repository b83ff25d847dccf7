// Reads of several neighbours at once. `from` is aligned to 16 bytes, or to the whole where that is less.

#pragma once

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
