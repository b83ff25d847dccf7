// Vector loads in a grid-stride loop, and a 3 x 3 convolution of a shared-memory tile.
//
//   #define TILE 16

#ifndef TILE
#define TILE 16
#endif

const int outputs_each = 8;

extern "C" __global__ void __launch_bounds__(256)
scaled_sum(const float* __restrict__ x, float* __restrict__ y, float scale, int quads)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < quads; i += gridDim.x * blockDim.x) {
        const float4 from = __ldg(reinterpret_cast<const float4*>(x) + i);
        float4 to = reinterpret_cast<float4*>(y)[i];
        to.x += scale * from.x;
        to.y += scale * from.y;
        to.z += scale * from.z;
        to.w += scale * from.w;
        reinterpret_cast<float4*>(y)[i] = to;
    }
}

extern "C" __global__ void __launch_bounds__(TILE * TILE)
convolve(const float* __restrict__ x, const float* __restrict__ weights, float* __restrict__ y, int inputs, int outputs,
         int height, int width)
{
    __shared__ float tile[TILE + 2][TILE + 2];
    __shared__ float filters[outputs_each * 9];
    const int number = threadIdx.y * TILE + threadIdx.x;
    const int first_output = blockIdx.z * outputs_each;
    float sums[outputs_each];
#pragma unroll
    for (int k = 0; k < outputs_each; ++k) {
        sums[k] = 0.0f;
    }
    for (int channel = 0; channel < inputs; ++channel) {
        for (int i = number; i < (TILE + 2) * (TILE + 2); i += TILE * TILE) {
            const int row = blockIdx.y * TILE + i / (TILE + 2) - 1;
            const int column = blockIdx.x * TILE + i % (TILE + 2) - 1;
            const bool inside = row >= 0 && row < height && column >= 0 && column < width;
            tile[i / (TILE + 2)][i % (TILE + 2)] = inside ? x[(channel * height + row) * width + column] : 0.0f;
        }
        for (int i = number; i < outputs_each * 9; i += TILE * TILE) {
            const int output = first_output + i / 9;
            filters[i] = output < outputs ? weights[(output * inputs + channel) * 9 + i % 9] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
            const float value = tile[threadIdx.y + tap / 3][threadIdx.x + tap % 3];
#pragma unroll
            for (int k = 0; k < outputs_each; ++k) {
                sums[k] = fmaf(value, filters[k * 9 + tap], sums[k]);
            }
        }
        __syncthreads();
    }
    const int row = blockIdx.y * TILE + threadIdx.y;
    const int column = blockIdx.x * TILE + threadIdx.x;
    if (row < height && column < width) {
        for (int k = 0; k < outputs_each; ++k) {
            if (first_output + k < outputs) {
                y[((first_output + k) * height + row) * width + column] = sums[k];
            }
        }
    }
}
