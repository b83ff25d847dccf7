// Sums by shuffles, by shared memory and by atomics; votes; a softmax of a row by one warp.
//
//   #define SCALAR float | double

#ifndef SCALAR
#define SCALAR float
#endif

const unsigned full_warp = 0xffffffffu;

template <typename T> __device__ __forceinline__ T warp_sum(T value)
{
#pragma unroll
    for (int distance = 16; distance > 0; distance >>= 1) {
        value += __shfl_down_sync(full_warp, value, distance);
    }
    return value;
}

template <typename T> __device__ T block_sum_of(T value)
{
    __shared__ T partial[32];
    const int lane = threadIdx.x & 31;
    const int warp = threadIdx.x >> 5;
    value = warp_sum(value);
    if (lane == 0) {
        partial[warp] = value;
    }
    __syncthreads();
    value = lane < (blockDim.x + 31) / 32 ? partial[lane] : T(0);
    return warp_sum(value);
}

extern "C" __global__ void block_sum(const SCALAR* __restrict__ x, SCALAR* total, int n)
{
    SCALAR sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
        sum += x[i];
    }
    sum = block_sum_of(sum);
    if (threadIdx.x == 0) {
        atomicAdd(total, sum);
    }
}

extern "C" __global__ void tree_sum(const float* x, float* sums, int n)
{
    extern __shared__ float values[];
    const int t = threadIdx.x;
    const int i = blockIdx.x * blockDim.x + t;
    values[t] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half >>= 1) {
        if (t < half) {
            values[t] += values[t + half];
        }
        __syncthreads();
    }
    if (t == 0) {
        sums[blockIdx.x] = values[0];
    }
}

extern "C" __global__ void count_positive(const float* x, int* counts, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const bool positive = i < n && x[i] > 0.0f;
    const unsigned lanes = __ballot_sync(full_warp, positive);
    if ((threadIdx.x & 31) == 0) {
        atomicAdd(&counts[0], __popc(lanes));
    }
    const int of_block = __syncthreads_count(positive);
    const int any = __syncthreads_or(positive);
    const int all = __syncthreads_and(positive);
    if (threadIdx.x == 0) {
        atomicAdd(&counts[1], of_block);
        atomicAdd(&counts[2], any);
        atomicAdd(&counts[3], all);
    }
}

extern "C" __global__ void softmax_rows(const float* __restrict__ x, float* __restrict__ y, int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    const float* from = x + static_cast<long long>(row) * columns;
    float largest = -1e30f;
    for (int column = threadIdx.x; column < columns; column += 32) {
        largest = fmaxf(largest, from[column]);
    }
    for (int bit = 16; bit > 0; bit >>= 1) {
        largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, bit));
    }
    float sum = 0.0f;
    for (int column = threadIdx.x; column < columns; column += 32) {
        sum += __expf(from[column] - largest);
    }
    for (int bit = 1; bit < 32; bit <<= 1) {
        sum += __shfl_xor_sync(full_warp, sum, bit);
    }
    const float scale = __fdividef(1.0f, __shfl_sync(full_warp, sum, 0));
    for (int column = threadIdx.x; column < columns; column += 32) {
        y[static_cast<long long>(row) * columns + column] = __expf(from[column] - largest) * scale;
    }
}

// Of each lane: the lanes with an equal key and, of all lanes, sums and extremes; shuffles within groups of 8.
extern "C" __global__ void lanes_together(const int* keys, int* out)
{
    const int t = threadIdx.x;
    const int key = keys[t];
    const unsigned equal = __match_any_sync(full_warp, key);
    out[t] = __popc(equal);
    out[32 + t] = __shfl_up_sync(full_warp, key, 1, 8);
    out[64 + t] = __shfl_down_sync(full_warp, key, 1, 8);
    out[96 + t] = __shfl_sync(full_warp, key, 3, 8);
#if __CUDA_ARCH__ >= 800
    out[128 + t] = __reduce_add_sync(full_warp, key);
    out[160 + t] = __reduce_min_sync(full_warp, key);
    out[192 + t] = __reduce_max_sync(full_warp, key);
#endif
}
