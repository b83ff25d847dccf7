// Barriers, fences, votes, shuffles and reductions of a warp.
#pragma once

#include <type_traits>

#include "interface.h"

#define CUDA_EMULATOR_SITE ::cuda_emulator::Site site = ::cuda_emulator::Site::here()

inline void __syncthreads(CUDA_EMULATOR_SITE) {
  cuda_emulator::block_barrier(false, site);
}

inline int __syncthreads_count(int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::block_barrier(predicate != 0, site);
}

inline int __syncthreads_or(int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::block_barrier(predicate != 0, site) != 0;
}

inline int __syncthreads_and(int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::block_barrier(predicate == 0, site) == 0;
}

inline void __syncwarp(unsigned mask = ~0u, CUDA_EMULATOR_SITE) {
  cuda_emulator::warp_barrier(mask, site);
}

// One thread runs at a time, so that only the compiler has to be kept from moving accesses.
inline void __threadfence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

inline void __threadfence_block() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

inline void __nanosleep(unsigned) {
  cuda_emulator::yield_thread();
}

[[noreturn]] inline void __trap() {
  cuda_emulator::fail("__trap() in thread (%u,%u,%u)", threadIdx.x, threadIdx.y, threadIdx.z);
}

inline unsigned __activemask() {
  return cuda_emulator::lanes_not_finished();
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::ballot(mask, predicate != 0, site);
}

inline int __any_sync(unsigned mask, int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::ballot(mask, predicate != 0, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate, CUDA_EMULATOR_SITE) {
  return cuda_emulator::ballot(mask, predicate == 0, site) == 0;
}

namespace cuda_emulator {

template <class Value>
Value shuffle(unsigned mask, Value value, int source, Site site) {
  static_assert(std::is_trivially_copyable<Value>::value, "lanes exchange bytes");
  Value result;
  exchange(mask, &value, &result, sizeof(Value), source, site);
  return result;
}

}  // namespace cuda_emulator

template <class Value>
Value __shfl_sync(unsigned mask, Value value, int source, int width = warpSize, CUDA_EMULATOR_SITE) {
  const int first = cuda_emulator::lane() & ~(width - 1);
  return cuda_emulator::shuffle(mask, value, first | (source & (width - 1)), site);
}

template <class Value>
Value __shfl_down_sync(unsigned mask, Value value, unsigned delta, int width = warpSize, CUDA_EMULATOR_SITE) {
  const int lane = cuda_emulator::lane();
  const bool inside = (lane & (width - 1)) + static_cast<int>(delta) < width;
  return cuda_emulator::shuffle(mask, value, inside ? lane + static_cast<int>(delta) : lane, site);
}

template <class Value>
Value __shfl_up_sync(unsigned mask, Value value, unsigned delta, int width = warpSize, CUDA_EMULATOR_SITE) {
  const int lane = cuda_emulator::lane();
  const bool inside = (lane & (width - 1)) >= static_cast<int>(delta);
  return cuda_emulator::shuffle(mask, value, inside ? lane - static_cast<int>(delta) : lane, site);
}

template <class Value>
Value __shfl_xor_sync(unsigned mask, Value value, int bits, int width = warpSize, CUDA_EMULATOR_SITE) {
  const int lane = cuda_emulator::lane();
  const int source = lane ^ bits;
  const bool inside = (source & ~(width - 1)) <= (lane & ~(width - 1));
  return cuda_emulator::shuffle(mask, value, inside ? source : lane, site);
}

template <class Value>
unsigned __match_any_sync(unsigned mask, Value value, CUDA_EMULATOR_SITE) {
  Value values[warpSize];
  const unsigned lanes = cuda_emulator::gather(mask, &value, values, sizeof(Value), site);
  unsigned equal = 0;
  for (int other = 0; other < warpSize; ++other) {
    if ((lanes >> other & 1u) != 0 && values[other] == value) {
      equal |= 1u << other;
    }
  }
  return equal;
}

#define CUDA_EMULATOR_REDUCTION(name, expression)                                           \
  template <class Value>                                                                    \
  Value name(unsigned mask, Value value, CUDA_EMULATOR_SITE) {                              \
    static_assert(std::is_integral<Value>::value && sizeof(Value) == 4, "32-bit integers"); \
    Value values[warpSize];                                                                 \
    unsigned lanes = cuda_emulator::gather(mask, &value, values, sizeof(Value), site);      \
    lanes &= ~(1u << cuda_emulator::lane());                                                \
    for (int lane = 0; lane < warpSize; ++lane) {                                           \
      if ((lanes >> lane & 1u) != 0) {                                                      \
        const Value other = values[lane];                                                   \
        value = expression;                                                                 \
      }                                                                                     \
    }                                                                                       \
    return value;                                                                           \
  }

CUDA_EMULATOR_REDUCTION(__reduce_add_sync, static_cast<Value>(0u + value + other))
CUDA_EMULATOR_REDUCTION(__reduce_min_sync, other < value ? other : value)
CUDA_EMULATOR_REDUCTION(__reduce_max_sync, other > value ? other : value)
CUDA_EMULATOR_REDUCTION(__reduce_and_sync, value & other)
CUDA_EMULATOR_REDUCTION(__reduce_or_sync, value | other)
CUDA_EMULATOR_REDUCTION(__reduce_xor_sync, value ^ other)

#undef CUDA_EMULATOR_REDUCTION
