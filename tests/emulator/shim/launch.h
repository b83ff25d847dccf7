// How Python reads a kernel's parameters and runs it. rewriting.py writes a table of the kernels behind their text.
#pragma once

#include <stdio.h>

#include <type_traits>
#include <utility>

#include "interface.h"

namespace cuda_emulator {

// One letter a type: b bool, i and u integers, f floats, h float16, B bfloat16, S structs and vector types.
template <class Type>
constexpr char type_letter = std::is_same<Type, bool>::value      ? 'b'
                             : std::is_floating_point<Type>::value ? 'f'
                             : !std::is_integral<Type>::value      ? 'S'
                             : std::is_signed<Type>::value         ? 'i'
                                                                   : 'u';

// Appends "f4" for a float, "*f4" for a pointer to floats, "*V" for a pointer to void.
template <class Parameter>
int describe_parameter(char* text, size_t size) {
  typedef std::remove_cv_t<Parameter> Type;
  static_assert(std::is_trivially_copyable<Type>::value, "parameters are copied as bytes");
  if constexpr (std::is_pointer<Type>::value) {
    typedef std::remove_cv_t<std::remove_pointer_t<Type>> Target;
    if constexpr (std::is_void<Target>::value) {
      return snprintf(text, size, " *V");
    } else {
      return snprintf(text, size, " *%c%zu", type_letter<Target>, sizeof(Target));
    }
  } else {
    return snprintf(text, size, " %c%zu", type_letter<Type>, sizeof(Type));
  }
}

template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  void** values;

  static void run(void* self) {
    static_cast<Call*>(self)->unpack(std::index_sequence_for<Parameters...>());
  }

  template <size_t... Positions>
  void unpack(std::index_sequence<Positions...>) {
    kernel(*static_cast<std::remove_cv_t<Parameters>*>(values[Positions])...);
  }
};

template <class... Parameters>
int launch_kernel(void (*kernel)(Parameters...), const Launch& launch, void** values, char* message, size_t size) {
  Call<Parameters...> call{kernel, values};
  return run_grid(launch, Call<Parameters...>::run, &call, message, size);
}

// "name threads parameter parameter ..."
template <class... Parameters>
void describe_kernel(void (*)(Parameters...), const char* name, int threads, char* text, size_t size) {
  int used = snprintf(text, size, "%s %d", name, threads);
  ((used += describe_parameter<Parameters>(text + used, size - static_cast<size_t>(used))), ...);
}

// The first argument of __launch_bounds__ is the limit on threads a block.
constexpr int thread_limit(int threads = 1024, ...) {
  return threads;
}

}  // namespace cuda_emulator
