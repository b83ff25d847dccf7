// What inline PTX does, for the branch of a wrapper that the emulator compiles:
//
//   __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
//   #ifdef CUDA_CPU_EMU
//     cuda_emulator::mma_m16n8k16_f16(d, a, b);
//   #else
//     asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 ...");
//   #endif
//   }
//
// Fragments are laid out as the PTX manual has it, with d += a b: the accumulator is read and written. Addresses are
// ordinary pointers. All lanes of a warp have to take part in mma and ldmatrix.
#pragma once

#include "interface.h"
#include "intrinsics.h"
#include "synchronisation.h"

namespace cuda_emulator {

// ---- mma.sync.aligned, row.col, float accumulator

// m16n8k16.f32.f16.f16.f32 (sm_80)
inline void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CUDA_EMULATOR_SITE) {
  matrix_multiply(Operand::float16, 16, d, a, b, site);
}

// m16n8k16.f32.bf16.bf16.f32 (sm_80)
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CUDA_EMULATOR_SITE) {
  matrix_multiply(Operand::bfloat16, 16, d, a, b, site);
}

// m16n8k8.f32.f16.f16.f32 (sm_75)
inline void mma_m16n8k8_f16(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1], CUDA_EMULATOR_SITE) {
  matrix_multiply(Operand::float16, 8, d, a, b, site);
}

// m16n8k8.f32.bf16.bf16.f32 (sm_80)
inline void mma_m16n8k8_bf16(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1], CUDA_EMULATOR_SITE) {
  matrix_multiply(Operand::bfloat16, 8, d, a, b, site);
}

// m16n8k8.f32.tf32.tf32.f32 (sm_80). Operands are bits of floats of which the last 13 are ignored: one that has not
// been through cvt_rna_tf32 is cut, not rounded.
inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CUDA_EMULATOR_SITE) {
  matrix_multiply(Operand::tensor_float32, 8, d, a, b, site);
}

// cvt.rna.tf32.f32: to nearest, ties away from zero (sm_80)
inline unsigned cvt_rna_tf32(float value) {
  const unsigned bits = bits_as<unsigned>(value);
  if ((bits & 0x7F800000u) == 0x7F800000u) {
    return value != value ? 0x7FFFE000u : bits;
  }
  return (bits + 0x1000u) & ~0x1FFFu;
}

// ---- ldmatrix.sync.aligned.m8n8.x1|x2|x4[.trans].shared.b16 (sm_75)

// A row of a matrix of 8 x 8 halves, as one lane reads it.
struct MatrixRow {
  unsigned short halves[8];
};

template <bool transposed, int matrices>
void load_matrices(unsigned (&d)[matrices], const void* row, Site site) {
  MatrixRow own = {};
  if (lane() < 8 * matrices) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
      fail("ldmatrix at %s:%d: the row address of lane %d is not a multiple of 16", site.file, site.line, lane());
    }
    if (!in_shared_memory(row, sizeof(MatrixRow))) {
      fail("ldmatrix at %s:%d: the row of lane %d is not in shared memory", site.file, site.line, lane());
    }
    // Each lane reads the row whose address it gives, so that sanitizers know the reader.
    own = *static_cast<const MatrixRow*>(row);
  }
  MatrixRow rows[warpSize];
  gather(~0u, &own, rows, sizeof(MatrixRow), site);
  const int group = lane() / 4;
  const int pair = lane() % 4 * 2;
  for (int matrix = 0; matrix < matrices; ++matrix) {
    const MatrixRow* first_row = rows + 8 * matrix;
    const unsigned low = transposed ? first_row[pair].halves[group] : first_row[group].halves[pair];
    const unsigned high = transposed ? first_row[pair + 1].halves[group] : first_row[group].halves[pair + 1];
    d[matrix] = low | high << 16;
  }
}

inline void ldmatrix_x1(unsigned (&d)[1], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<false>(d, row, site);
}

inline void ldmatrix_x2(unsigned (&d)[2], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<false>(d, row, site);
}

inline void ldmatrix_x4(unsigned (&d)[4], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<false>(d, row, site);
}

inline void ldmatrix_x1_trans(unsigned (&d)[1], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<true>(d, row, site);
}

inline void ldmatrix_x2_trans(unsigned (&d)[2], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<true>(d, row, site);
}

inline void ldmatrix_x4_trans(unsigned (&d)[4], const void* row, CUDA_EMULATOR_SITE) {
  load_matrices<true>(d, row, site);
}

// ---- cp.async (sm_80)

// cp.async.ca|cg.shared.global [target], [source], size, source_size: size 4, 8 or 16 bytes, zeros behind source_size.
//
// Until its group has been waited for, the target holds 0xFF. The copy itself is done in the wait, by the thread that
// began it, so that ThreadSanitizer sees other threads read without a barrier behind the wait. The source is read here
// as well: it has to be readable, and must not change, from here to the wait.
inline void cp_async(void* target, const void* source, int size, int source_size, CUDA_EMULATOR_SITE) {
  if (size != 4 && size != 8 && size != 16) {
    fail("cp.async at %s:%d: %d bytes, not 4, 8 or 16", site.file, site.line, size);
  }
  if (source_size < 0 || source_size > size) {
    fail("cp.async at %s:%d: %d bytes of a source of %d", site.file, site.line, source_size, size);
  }
  if (reinterpret_cast<uintptr_t>(target) % size != 0 || reinterpret_cast<uintptr_t>(source) % size != 0) {
    fail("cp.async at %s:%d: an address is not a multiple of %d", site.file, site.line, size);
  }
  if (!in_shared_memory(target, static_cast<size_t>(size))) {
    fail("cp.async at %s:%d: the target is not in shared memory", site.file, site.line);
  }
  for (int byte = 0; byte < source_size; ++byte) {
    static_cast<void>(static_cast<const volatile unsigned char*>(source)[byte]);
  }
  for (int byte = 0; byte < size; ++byte) {
    static_cast<volatile unsigned char*>(target)[byte] = 0xFF;
  }
  begin_copy({target, source, size, source_size});
}

inline void cp_async(void* target, const void* source, int size, CUDA_EMULATOR_SITE) {
  cp_async(target, source, size, size, site);
}

inline void carry_out(const AsynchronousCopy& copy) {
  for (int byte = 0; byte < copy.size; ++byte) {
    const bool inside = byte < copy.source_size;
    static_cast<volatile unsigned char*>(copy.target)[byte] =
        inside ? static_cast<const volatile unsigned char*>(copy.source)[byte] : 0;
  }
}

// cp.async.commit_group
inline void cp_async_commit() {
  commit_copies();
}

// cp.async.wait_group groups_left: all groups of this thread but the last few are complete.
inline void cp_async_wait_group(int groups_left) {
  AsynchronousCopy copy;
  while (complete_copy(groups_left, copy)) {
    carry_out(copy);
  }
}

// cp.async.wait_all
inline void cp_async_wait_all() {
  AsynchronousCopy copy;
  while (complete_any_copy(copy)) {
    carry_out(copy);
  }
}

}  // namespace cuda_emulator
