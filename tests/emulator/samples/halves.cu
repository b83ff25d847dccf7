// Conversions and arithmetic of the 16-bit types.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void widen(const __half* halves, const __nv_bfloat16* brains, float* wide, float* wide_brains,
                                 int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        wide[i] = __half2float(halves[i]);
        wide_brains[i] = __bfloat162float(brains[i]);
    }
}

extern "C" __global__ void narrow(const float* x, __half* halves, __nv_bfloat16* brains, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        halves[i] = __float2half_rn(x[i]);
        brains[i] = __float2bfloat16_rn(x[i]);
    }
}

extern "C" __global__ void narrow_double(const double* x, __half* halves, __nv_bfloat16* brains, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        halves[i] = __double2half(x[i]);
        brains[i] = __double2bfloat16(x[i]);
    }
}

extern "C" __global__ void scaled_sum(const __half2* __restrict__ x, __half2* __restrict__ y, float scale, int pairs)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pairs) {
        y[i] = __hfma2(__float2half2_rn(scale), x[i], y[i]);
    }
}

extern "C" __global__ void arithmetic(const __half* x, const __half* y, __half* results, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        results[i] = __hadd(x[i], y[i]);
        results[n + i] = __hsub(x[i], y[i]);
        results[2 * n + i] = __hmul(x[i], y[i]);
        results[3 * n + i] = __hdiv(x[i], y[i]);
    }
}
