// What rewriting.py makes of __shared__ declarations.
#pragma once

#include "interface.h"

namespace cuda_emulator {

// Alignment 0 stands for that of the type: a float array is aligned to 4 bytes and no more, as a device promises.
template <class Variable>
Variable& shared(SharedVariable& variable, size_t alignment = 0) {
  const size_t natural = alignof(Variable);
  const size_t wanted = alignment > natural ? alignment : natural;
  return *reinterpret_cast<Variable*>(shared_variable(variable, sizeof(Variable), wanted));
}

template <class Element>
Element* dynamic_shared() {
  return reinterpret_cast<Element*>(dynamic_shared_memory());
}

}  // namespace cuda_emulator
