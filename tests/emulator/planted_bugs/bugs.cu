// Kernels with one bug each, if PLANTED is defined; otherwise the bug is put right. table.py says what each should give
// and who has to notice.
#include <cuda_fp16.h>

#ifdef PLANTED
#define PLANT(wrong, right) wrong
#else
#define PLANT(wrong, right) right
#endif

const int threads = 128;
const unsigned full_warp = 0xffffffffu;

// ---- memory

extern "C" __global__ void write_past_end(const float* x, float* y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i PLANT(<=, <) n) {
        y[i] = 2.0f * x[min(i, n - 1)];
    }
}

// Sum of a value and its neighbours; the window of the last thread ends outside.
extern "C" __global__ void read_past_halo(const float* x, float* y, int n)
{
    const int i = threadIdx.x;
    float sum = 0.0f;
    for (int tap = -1; tap <= 1; ++tap) {
        const int at = i + tap;
        if (at >= 0 && at < PLANT(n + 1, n)) {
            sum += x[at];
        }
    }
    y[i] = sum;
}

extern "C" __global__ void static_shared_overrun(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    line[t] = x[t];
    __syncthreads();
    y[t] = line[PLANT(t + 1, (t + 1) % threads)];
}

extern "C" __global__ void dynamic_shared_overrun(const float* x, float* y, int n)
{
    extern __shared__ float line[];
    const int t = threadIdx.x;
    line[t] = x[t];
    __syncthreads();
    y[t] = line[PLANT(t + 1, (t + 1) % threads)];
}

extern "C" __global__ void copy_past_end(const float* x, float* y, int n)
{
    __shared__ __align__(16) float line[threads + 4];
    const int t = threadIdx.x;
    if (t % 4 == 0) {
        cuda_emulator::cp_async(line + t, x + PLANT(t + 4, (t + 4) % threads), 16);
        cuda_emulator::cp_async_commit();
        cuda_emulator::cp_async_wait_all();
    }
    __syncthreads();
    y[t] = line[t];
}

extern "C" __global__ void misaligned_global(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    const float* from = x + 4 * (t % 32) + PLANT(1, 0);
    const float4 values = *reinterpret_cast<const float4*>(from);
    y[t] = values.x + values.w;
}

// A float array in shared memory is aligned to 4 bytes unless it says otherwise.
extern "C" __global__ void misaligned_shared(const float* x, float* y, int n)
{
    __shared__ PLANT(, __align__(16)) float line[threads];
    const int t = threadIdx.x;
    line[t] = x[t];
    __syncthreads();
    const float4 values = *reinterpret_cast<const float4*>(line + t / 4 * 4);
    y[t] = values.x + values.w;
}

extern "C" __global__ void unwritten_shared(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    if (t < PLANT(100, threads)) {
        line[t] = x[t];
    }
    __syncthreads();
    y[t] = line[threads - 1 - t];
}

extern "C" __global__ void unwritten_output(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    if (t < PLANT(n - 1, n)) {
        y[t] = 2.0f * x[t];
    }
}

// ---- barriers and races in a block

// Fine if the next thread has run before.
extern "C" __global__ void missing_barrier_forward(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    line[t] = x[t];
    PLANT(, __syncthreads());
    y[t] = line[(t + 1) % threads];
}

// Fine if threads run in the order of their numbers.
extern "C" __global__ void missing_barrier_backward(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    line[t] = x[t];
    PLANT(, __syncthreads());
    y[t] = t > 0 ? line[t - 1] : 0.0f;
}

extern "C" __global__ void missing_barrier_of_next_tile(const float* x, float* y, int n)
{
    __shared__ float tile[threads];
    const int t = threadIdx.x;
    float sum = 0.0f;
    for (int part = 0; part < 4; ++part) {
        tile[t] = x[part * threads + t];
        __syncthreads();
        sum += tile[threads - 1 - t];
        PLANT(, __syncthreads());
    }
    y[t] = sum;
}

// Lanes of a warp do not move in step.
extern "C" __global__ void missing_warp_barrier(const float* x, float* y, int n)
{
    __shared__ volatile float line[64];
    const int t = threadIdx.x;
    line[t] = x[t];
    line[t + 32] = 0.0f;
    PLANT(, __syncwarp());
    for (int distance = 16; distance > 0; distance /= 2) {
        const float sum = line[t] + line[t + distance];
        PLANT(, __syncwarp());
        line[t] = sum;
        PLANT(, __syncwarp());
    }
    y[t] = line[0];
}

// A shuffle exchanges values and orders no memory.
extern "C" __global__ void shuffle_as_barrier(const float* x, float* y, int n)
{
    __shared__ float line[32];
    const int t = threadIdx.x;
    line[t] = x[t];
    PLANT(, __syncwarp());
    const float other = __shfl_xor_sync(full_warp, x[t], 1);
    y[t] = other + line[t ^ 1];
}

extern "C" __global__ void barrier_in_branch(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    y[t] = x[t];
    if (t < PLANT(64, threads)) {
        __syncthreads();
    }
}

extern "C" __global__ void two_barriers(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    if (t % 2 == PLANT(1, 2)) {
        __syncthreads();
        y[t] = x[t];
    } else {
        y[t] = x[t];
        __syncthreads();
    }
}

extern "C" __global__ void early_return(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    y[t] = x[t];
    if (t >= PLANT(n - 28, n)) {
        return;
    }
    __syncthreads();
}

// ---- warps

extern "C" __global__ void shuffle_in_branch(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    float value = x[t];
    if (t % 32 < PLANT(16, 32)) {
        value += __shfl_xor_sync(full_warp, value, 8);
    }
    y[t] = value;
}

// The mask leaves out lanes that take part.
extern "C" __global__ void mask_without_own_lane(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    y[t] = x[t] + __shfl_xor_sync(PLANT(0x0000ffffu, full_warp), x[t], 8);
}

// The mask names lanes that never come.
extern "C" __global__ void mask_of_absent_lanes(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    float value = x[t];
    if (t % 32 >= 16) {
        value += __shfl_xor_sync(PLANT(0xffffff00u, 0xffff0000u), value, 8);
    } else {
        value += __shfl_xor_sync(0x0000ffffu, value, 8);
    }
    y[t] = value;
}

// A lane that the mask leaves out has nothing to give.
extern "C" __global__ void shuffle_from_outside_the_mask(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    float value = x[t];
    if (t % 32 < 16) {
        value += __shfl_xor_sync(0x0000ffffu, value, PLANT(16, 8));
    } else {
        value += __shfl_xor_sync(0xffff0000u, value, 8);
    }
    y[t] = value;
}

extern "C" __global__ void mma_in_branch(const float* x, float* y, int n)
{
    const int t = threadIdx.x;
    float d[4] = {x[t], 0.0f, 0.0f, 0.0f};
    const unsigned a[4] = {0, 0, 0, 0};
    const unsigned b[2] = {0, 0};
    if (t % 32 < PLANT(16, 32)) {
        cuda_emulator::mma_m16n8k16_f16(d, a, b);
    }
    y[t] = d[0];
}

extern "C" __global__ void misaligned_matrix_row(const float* x, float* y, int n)
{
    __shared__ __align__(16) float line[threads + 4];
    const int t = threadIdx.x;
    line[t] = x[t];
    __syncthreads();
    unsigned d[1];
    cuda_emulator::ldmatrix_x1(d, line + t % 8 * 4 + PLANT(1, 0));
    y[t] = x[t] + (d[0] != d[0]);
}

// ---- asynchronous copies

extern "C" __global__ void missing_copy_wait(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    cuda_emulator::cp_async(line + t, x + t, 4);
    cuda_emulator::cp_async_commit();
    PLANT(, cuda_emulator::cp_async_wait_group(0));
    __syncthreads();
    y[t] = line[threads - 1 - t];
}

// Two groups are under way, and the wait leaves one too many.
extern "C" __global__ void wait_for_too_few_groups(const float* x, float* y, int n)
{
    __shared__ float line[2][threads];
    const int t = threadIdx.x;
    cuda_emulator::cp_async(line[0] + t, x + t, 4);
    cuda_emulator::cp_async_commit();
    cuda_emulator::cp_async(line[1] + t, x + threads + t, 4);
    cuda_emulator::cp_async_commit();
    cuda_emulator::cp_async_wait_group(PLANT(1, 0));
    __syncthreads();
    y[t] = line[0][t] + line[1][t];
}

// A wait tells a thread of its own copies alone.
extern "C" __global__ void missing_barrier_behind_copy(const float* x, float* y, int n)
{
    __shared__ float line[threads];
    const int t = threadIdx.x;
    cuda_emulator::cp_async(line + t, x + t, 4);
    cuda_emulator::cp_async_commit();
    cuda_emulator::cp_async_wait_group(0);
    PLANT(, __syncthreads());
    y[t] = line[threads - 1 - t];
}

// ---- global memory

extern "C" __global__ void sum_without_atomic(const float* x, float* y, int n)
{
    if (threadIdx.x == 0) {
        y[0] = 0.0f;
    }
    __syncthreads();
    PLANT(y[0] += x[threadIdx.x], atomicAdd(y, x[threadIdx.x]));
}

// y[0] starts as 0.
extern "C" __global__ void sum_of_blocks_without_atomic(const float* x, float* y, int n)
{
    if (threadIdx.x == 0) {
        PLANT(y[0] += x[blockIdx.x], atomicAdd(y, x[blockIdx.x]));
    }
}

// Blocks do not run in the order of their numbers.
extern "C" __global__ void read_of_another_block(const float* x, float* y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const float before = blockIdx.x == 0 ? 0.0f : PLANT(y[i - blockDim.x], 2.0f * x[i - blockDim.x]);
    y[i] = 2.0f * x[i] + before;
}

// ---- arithmetic

extern "C" __global__ void shift_too_far(const int* x, int* y, int n)
{
    const int t = threadIdx.x;
    y[t] = static_cast<int>(static_cast<unsigned>(x[t]) << PLANT(t % 64, t % 32));
}

extern "C" __global__ void index_overflow(const int* x, int* y, int n)
{
    const int t = threadIdx.x;
    const PLANT(int, long long) row = t + 40000;
    const int columns = n * 600 + 1;
    y[t] = x[row * columns & (threads - 1)];
}

extern "C" __global__ void index_outside_array(const int* x, int* y, int n)
{
    int local[4] = {0, 1, 2, 3};
    const int t = threadIdx.x;
    local[t % 4] += n;
    y[t] = x[t] + local[PLANT(t % 5, t % 4)];
}

// ---- arguments

struct Factors {
    float scale;
    int first;
    long long stride;
};

extern "C" __global__ void struct_of_another_size(const float* x, float* y, Factors factors)
{
    const int t = threadIdx.x;
    y[t] = factors.scale * x[factors.first + t * factors.stride];
}

extern "C" __global__ void scalar_of_another_type(const float* x, float* y, float scale)
{
    y[threadIdx.x] = scale * x[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(PLANT(64, 128)) too_many_threads(const float* x, float* y, int n)
{
    y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void too_much_shared(const float* x, float* y, int n)
{
    __shared__ float large[PLANT(12289, 12288)];
    large[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = large[threadIdx.x];
}

// ---- patterns without a bug that a detector could mistake for one

__device__ unsigned blocks_done = 0;

// The last block to finish adds the sums of all.
extern "C" __global__ void sum_in_last_block(const float* x, float* y, float* partial)
{
    __shared__ bool last;
    const int t = threadIdx.x;
    float sum = x[blockIdx.x * 32 + t];
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_down_sync(full_warp, sum, distance);
    }
    if (t == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(&blocks_done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && t == 0) {
        float total = 0.0f;
        for (int number = 0; number < gridDim.x; ++number) {
            total += partial[number];
        }
        y[0] = total;
    }
}

extern "C" __global__ void histogram(const int* x, int* y, int n)
{
    __shared__ int counts[16];
    const int t = threadIdx.x;
    if (t < 16) {
        counts[t] = 0;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&counts[x[i] & 15], 1);
    }
    __syncthreads();
    if (t < 16) {
        atomicAdd(&y[t], counts[t]);
    }
}
