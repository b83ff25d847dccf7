// Wrappers as kernels have them, in the branch of the emulator, and products of matrices through them.
//
//   #define DEPTH 16 | 8                     of one mma
//   #define OPERAND_F16 | OPERAND_BF16 | OPERAND_TF32

const int lanes = 32;

#if defined(OPERAND_TF32)
const int parts = 1;
#else
const int parts = 2;
#endif
const int a_registers = 16 * DEPTH / parts / lanes;
const int b_registers = 8 * DEPTH / parts / lanes;

__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[a_registers],
                                         const unsigned (&b)[b_registers])
{
#if defined(OPERAND_TF32)
    cuda_emulator::mma_m16n8k8_tf32(d, a, b);
#elif defined(OPERAND_BF16) && DEPTH == 16
    cuda_emulator::mma_m16n8k16_bf16(d, a, b);
#elif defined(OPERAND_BF16)
    cuda_emulator::mma_m16n8k8_bf16(d, a, b);
#elif DEPTH == 16
    cuda_emulator::mma_m16n8k16_f16(d, a, b);
#else
    cuda_emulator::mma_m16n8k8_f16(d, a, b);
#endif
}

// C (16 x 8) += A (16 x DEPTH) B (DEPTH x 8), with B stored by columns; words of 32 bits, as the PTX manual deals them
// out: row `group` and 8 further down, words `lane % 4` and 4 further right.
extern "C" __global__ void product(const unsigned* a, const unsigned* b_columns, float* c)
{
    const int group = threadIdx.x / 4;
    const int member = threadIdx.x % 4;
    const int words = DEPTH / parts;
    unsigned a_words[a_registers];
    unsigned b_words[b_registers];
    for (int i = 0; i < a_registers; ++i) {
        a_words[i] = a[(group + i % 2 * 8) * words + member + i / 2 * 4];
    }
    for (int i = 0; i < b_registers; ++i) {
        b_words[i] = b_columns[group * words + member + i * 4];
    }
    float d[4];
    for (int i = 0; i < 4; ++i) {
        d[i] = c[(group + i / 2 * 8) * 8 + member * 2 + i % 2];
    }
    multiply(d, a_words, b_words);
    for (int i = 0; i < 4; ++i) {
        c[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = d[i];
    }
}

extern "C" __global__ void round_to_tf32(const float* x, unsigned* y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = cuda_emulator::cvt_rna_tf32(x[i]);
    }
}

// Loads up to four matrices of 8 x 8 halves and writes registers: out[kind][lane][register].
extern "C" __global__ void load_matrices(const unsigned short* x, unsigned* out)
{
    __shared__ __align__(16) unsigned short matrices[4 * 64];
    const int t = threadIdx.x;
    for (int i = t; i < 4 * 64; i += lanes) {
        matrices[i] = x[i];
    }
    __syncwarp();
    const unsigned short* row = matrices + 8 * t;
    unsigned one[1], two[2], four[4];
    cuda_emulator::ldmatrix_x1(one, row);
    cuda_emulator::ldmatrix_x2(two, row);
    cuda_emulator::ldmatrix_x4(four, row);
    out[t * 4] = one[0];
    for (int i = 0; i < 2; ++i) {
        out[128 + t * 4 + i] = two[i];
    }
    for (int i = 0; i < 4; ++i) {
        out[256 + t * 4 + i] = four[i];
    }
    cuda_emulator::ldmatrix_x1_trans(one, row);
    cuda_emulator::ldmatrix_x2_trans(two, row);
    cuda_emulator::ldmatrix_x4_trans(four, row);
    out[384 + t * 4] = one[0];
    for (int i = 0; i < 2; ++i) {
        out[512 + t * 4 + i] = two[i];
    }
    for (int i = 0; i < 4; ++i) {
        out[640 + t * 4 + i] = four[i];
    }
}

// Copies words through shared memory, a stage ahead of their use; behind `valid` words there are zeros.
template <int size> __device__ void copy_ahead(const unsigned* x, unsigned* y, int stages, int valid)
{
    const int words = size / 4;
    __shared__ __align__(16) unsigned buffer[2][lanes * words];
    const int t = threadIdx.x;
    for (int stage = 0; stage <= stages; ++stage) {
        if (stage < stages) {
            const int first = (stage * lanes + t) * words;
            const int present = min(max(valid - first, 0), words);
            cuda_emulator::cp_async(buffer[stage % 2] + t * words, present > 0 ? x + first : x, size, present * 4);
        }
        cuda_emulator::cp_async_commit();
        cuda_emulator::cp_async_wait_group(1);
        __syncthreads();
        if (stage > 0) {
            for (int i = 0; i < words; ++i) {
                const int place = (lanes - 1 - t) * words + i;
                y[(stage - 1) * lanes * words + place] = buffer[(stage - 1) % 2][place];
            }
        }
        __syncthreads();
    }
}

extern "C" __global__ void copy_4(const unsigned* x, unsigned* y, int stages, int valid)
{
    copy_ahead<4>(x, y, stages, valid);
}

extern "C" __global__ void copy_8(const unsigned* x, unsigned* y, int stages, int valid)
{
    copy_ahead<8>(x, y, stages, valid);
}

extern "C" __global__ void copy_16(const unsigned* x, unsigned* y, int stages, int valid)
{
    copy_ahead<16>(x, y, stages, valid);
}

// What is in the target before the wait, and behind it.
extern "C" __global__ void copy_and_look(const unsigned* x, unsigned* early, unsigned* late)
{
    __shared__ unsigned buffer[2][lanes];
    const int t = threadIdx.x;
    buffer[0][t] = 1;
    buffer[1][t] = 1;
    cuda_emulator::cp_async(&buffer[0][t], x + t, 4);
    cuda_emulator::cp_async_commit();
    cuda_emulator::cp_async(&buffer[1][t], x + t, 4);
    early[t] = buffer[0][t];
    cuda_emulator::cp_async_wait_group(0);
    late[t] = buffer[0][t];
    early[lanes + t] = buffer[1][t];
    cuda_emulator::cp_async_wait_all();
    late[lanes + t] = buffer[1][t];
}
