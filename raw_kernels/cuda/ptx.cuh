// Inline PTX for instructions without a CUDA C++ intrinsic: tensor-core products (mma) and loads of their operands from
// shared memory (ldmatrix).
//
// The C++ headers for these come with the CUDA toolkit but not with NVIDIA's pip packages. This is the only file with
// PTX. The emulator used by the tests has equivalent functions.
//
// An m16n8k(K) product multiplies 16 rows of A by 8 columns of B over an inner dimension K of 32 bytes: 16 half-
// precision values or 8 TF32 values. With g = lane / 4 and t = lane % 4, a lane holds these 32-bit words:
//
//   A  a[0] row g, word t       a[1] row g + 8, word t      a[2] row g, word t + 4     a[3] row g + 8, word t + 4
//   B  b[0] column g, word t    b[1] column g, word t + 4
//   D  d[0], d[1] row g, columns 2 t and 2 t + 1            d[2], d[3] row g + 8, the same columns

#pragma once

#include "scalars.cuh"

// Loads four matrices of eight rows of 16 bytes each. Lane l passes the address of row l % 8 of matrix l / 8, and
// receives word l % 4 of row l / 4 of each matrix. Addresses are in shared memory, aligned to 16 bytes.
__device__ inline void load_matrices(unsigned (&to)[4], const void* row)
{
#ifdef CUDA_CPU_EMU
    cuda_emulator::ldmatrix_x4(to, row);
#else
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
#endif
}

// The product for the scalar type: its PTX name, and the emulator's function.
#if defined(SCALAR_FLOAT16)
#define PRODUCT "m16n8k16.row.col.f32.f16.f16.f32"
#define EMULATED_PRODUCT mma_m16n8k16_f16
#elif defined(SCALAR_BFLOAT16)
#define PRODUCT "m16n8k16.row.col.f32.bf16.bf16.f32"
#define EMULATED_PRODUCT mma_m16n8k16_bf16
#elif defined(SCALAR_FLOAT32)
// Operands are float32 values rounded to TF32.
#define PRODUCT "m16n8k8.row.col.f32.tf32.tf32.f32"
#define EMULATED_PRODUCT mma_m16n8k8_tf32
#endif

#if defined(PRODUCT)

// d += a b
__device__ inline void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
#ifdef CUDA_CPU_EMU
    const unsigned b[2] = {b0, b1};
    cuda_emulator::EMULATED_PRODUCT(d, a, b);
#else
    asm volatile("mma.sync.aligned." PRODUCT " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#endif

#if defined(SCALAR_FLOAT32)

__device__ inline unsigned round_to_tf32(float value)
{
#ifdef CUDA_CPU_EMU
    return cuda_emulator::cvt_rna_tf32(value);
#else
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(value));
    return bits;
#endif
}

#endif
