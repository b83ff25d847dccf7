// float4, int2, dim3 and their relatives, with the alignment that vector loads of a device need.
#pragma once

#define CUDA_EMULATOR_VECTORS(Scalar, prefix, alignment2, alignment4)         \
  struct prefix##1 {                                                          \
    Scalar x;                                                                 \
  };                                                                          \
  struct alignas(alignment2) prefix##2 {                                      \
    Scalar x, y;                                                              \
  };                                                                          \
  struct prefix##3 {                                                          \
    Scalar x, y, z;                                                           \
  };                                                                          \
  struct alignas(alignment4) prefix##4 {                                      \
    Scalar x, y, z, w;                                                        \
  };                                                                          \
  inline prefix##1 make_##prefix##1(Scalar x) {                               \
    return {x};                                                               \
  }                                                                           \
  inline prefix##2 make_##prefix##2(Scalar x, Scalar y) {                     \
    return {x, y};                                                            \
  }                                                                           \
  inline prefix##3 make_##prefix##3(Scalar x, Scalar y, Scalar z) {           \
    return {x, y, z};                                                         \
  }                                                                           \
  inline prefix##4 make_##prefix##4(Scalar x, Scalar y, Scalar z, Scalar w) { \
    return {x, y, z, w};                                                      \
  }

CUDA_EMULATOR_VECTORS(signed char, char, 2, 4)
CUDA_EMULATOR_VECTORS(unsigned char, uchar, 2, 4)
CUDA_EMULATOR_VECTORS(short, short, 4, 8)
CUDA_EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
CUDA_EMULATOR_VECTORS(int, int, 8, 16)
CUDA_EMULATOR_VECTORS(unsigned, uint, 8, 16)
CUDA_EMULATOR_VECTORS(long long, longlong, 16, 16)
CUDA_EMULATOR_VECTORS(unsigned long long, ulonglong, 16, 16)
CUDA_EMULATOR_VECTORS(float, float, 8, 16)
CUDA_EMULATOR_VECTORS(double, double, 16, 16)

#undef CUDA_EMULATOR_VECTORS

struct dim3 {
  unsigned x, y, z;

  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1) : x(x_size), y(y_size), z(z_size) {}
};
