// Copies a strided array into a contiguous one.
//
//   #define ITEM_BYTES 1 | 2 | 4 | 8
//   #define INDEX_64BIT                  64-bit element indices, for arrays of 2^31 elements or more

#include "items.cuh"

#if ITEM_BYTES > 8
#error "define ITEM_BYTES as 1, 2, 4 or 8"
#endif

#if defined(INDEX_64BIT)
typedef unsigned long long number;
#else
typedef unsigned int number;
#endif

const int max_axes = 6;

// Axes are ordered from the innermost to the outermost; strides are in elements and may be negative or zero.
struct strided_array {
    long long size;
    long long shape[max_axes];
    long long stride[max_axes];
    int axes;
};

extern "C" __global__ void copy_strided(const void* source, void* target, strided_array array)
{
    const item* from = static_cast<const item*>(source);
    item* to = static_cast<item*>(target);
    // The index after the last element may exceed 32 bits, so the loop counter has 64.
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < array.size; at += step) {
        number rest = static_cast<number>(at);
        long long offset = 0;
#pragma unroll
        for (int axis = 0; axis < max_axes; ++axis) {
            if (axis < array.axes) {
                const number extent = static_cast<number>(array.shape[axis]);
                const number quotient = rest / extent;
                offset += static_cast<long long>(rest - quotient * extent) * array.stride[axis];
                rest = quotient;
            }
        }
        to[at] = from[offset];
    }
}
