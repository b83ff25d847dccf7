// Atomics, built on those of the compiler so that ThreadSanitizer sees them as such.
#pragma once

#include "interface.h"

namespace cuda_emulator {

// Keeps the second argument of an atomic out of template deduction: atomicAdd(float*, int) converts the int.
template <class Value>
struct Given {
  typedef Value type;
};

template <class Value, class Update>
Value update_atomically(Value* address, Update update) {
  before_atomic();
  Value before;
  Value after;
  __atomic_load(address, &before, __ATOMIC_ACQUIRE);
  do {
    after = update(before);
  } while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  return before;
}

}  // namespace cuda_emulator

#define CUDA_EMULATOR_ATOMIC(name, expression)                                                        \
  template <class Value>                                                                              \
  Value name(Value* address, typename cuda_emulator::Given<Value>::type value) {                      \
    return cuda_emulator::update_atomically(address, [=](Value old) -> Value { return expression; }); \
  }                                                                                                   \
  template <class Value>                                                                              \
  Value name##_block(Value* address, typename cuda_emulator::Given<Value>::type value) {              \
    return name(address, value);                                                                      \
  }

CUDA_EMULATOR_ATOMIC(atomicAdd, old + value)
CUDA_EMULATOR_ATOMIC(atomicSub, old - value)
CUDA_EMULATOR_ATOMIC(atomicMax, old > value ? old : value)
CUDA_EMULATOR_ATOMIC(atomicMin, old < value ? old : value)
CUDA_EMULATOR_ATOMIC(atomicAnd, old & value)
CUDA_EMULATOR_ATOMIC(atomicOr, old | value)
CUDA_EMULATOR_ATOMIC(atomicXor, old ^ value)
CUDA_EMULATOR_ATOMIC(atomicExch, (static_cast<void>(old), value))
CUDA_EMULATOR_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
CUDA_EMULATOR_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)

#undef CUDA_EMULATOR_ATOMIC

template <class Value>
Value atomicCAS(Value* address, typename cuda_emulator::Given<Value>::type expected,
                typename cuda_emulator::Given<Value>::type value) {
  cuda_emulator::before_atomic();
  __atomic_compare_exchange(address, &expected, &value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return expected;
}
