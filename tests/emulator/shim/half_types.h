// The two 16-bit floating types: stored as bits, computed in float or double and rounded once, to nearest even.
#pragma once

#include "intrinsics.h"

namespace cuda_emulator {

struct Float16Format {
  static float widen(uint16_t bits) {
    return static_cast<float>(bits_as<_Float16>(bits));
  }

  // A NaN becomes the one NaN that a device writes.
  static uint16_t narrow(float value) {
    return value != value ? 0x7FFF : bits_as<uint16_t>(static_cast<_Float16>(value));
  }

  static uint16_t narrow(double value) {
    return value != value ? 0x7FFF : bits_as<uint16_t>(static_cast<_Float16>(value));
  }
};

struct BFloat16Format {
  static float widen(uint16_t bits) {
    return bits_as<float>(static_cast<uint32_t>(bits) << 16);
  }

  static uint16_t narrow(float value) {
    if (value != value) {
      return 0x7FFF;
    }
    const uint32_t bits = bits_as<uint32_t>(value);
    const uint32_t half_of_last = 0x7FFF + (bits >> 16 & 1);
    return static_cast<uint16_t>((bits + half_of_last) >> 16);
  }

  // Rounding to float first would round twice, so that step rounds to odd: an inexact float gets its last bit set, and
  // no longer looks like a tie.
  static uint16_t narrow(double value) {
    const float nearest = static_cast<float>(value);
    uint32_t bits = bits_as<uint32_t>(nearest);
    if (static_cast<double>(nearest) == value || value != value || isinf(nearest)) {
      return narrow(nearest);
    }
    if (fabs(static_cast<double>(nearest)) > fabs(value)) {
      bits -= 1;
    }
    return narrow(bits_as<float>(bits | 1));
  }
};

template <class Format>
struct alignas(2) Half {
  uint16_t bits;

  Half() = default;
  Half(float value) : bits(Format::narrow(value)) {}
  Half(double value) : bits(Format::narrow(value)) {}
  Half(int value) : bits(Format::narrow(static_cast<double>(value))) {}
  Half(unsigned value) : bits(Format::narrow(static_cast<double>(value))) {}

  operator float() const {
    return Format::widen(bits);
  }

  Half& operator+=(Half other) {
    return *this = *this + other;
  }

  Half& operator-=(Half other) {
    return *this = *this - other;
  }

  Half& operator*=(Half other) {
    return *this = *this * other;
  }

  Half& operator/=(Half other) {
    return *this = *this / other;
  }

  // Of two half values, a float holds these results closely enough that the second rounding changes nothing.
  friend Half operator+(Half first, Half second) {
    return Half(static_cast<float>(first) + static_cast<float>(second));
  }

  friend Half operator-(Half first, Half second) {
    return Half(static_cast<float>(first) - static_cast<float>(second));
  }

  friend Half operator*(Half first, Half second) {
    return Half(static_cast<float>(first) * static_cast<float>(second));
  }

  friend Half operator/(Half first, Half second) {
    return Half(static_cast<float>(first) / static_cast<float>(second));
  }

  friend Half operator-(Half value) {
    value.bits ^= 0x8000;
    return value;
  }

  friend bool operator<(Half first, Half second) {
    return static_cast<float>(first) < static_cast<float>(second);
  }

  friend bool operator>(Half first, Half second) {
    return static_cast<float>(first) > static_cast<float>(second);
  }

  friend bool operator<=(Half first, Half second) {
    return static_cast<float>(first) <= static_cast<float>(second);
  }

  friend bool operator>=(Half first, Half second) {
    return static_cast<float>(first) >= static_cast<float>(second);
  }

  friend bool operator==(Half first, Half second) {
    return static_cast<float>(first) == static_cast<float>(second);
  }

  friend bool operator!=(Half first, Half second) {
    return static_cast<float>(first) != static_cast<float>(second);
  }
};

template <class Format>
struct alignas(4) HalfPair {
  Half<Format> x, y;

  HalfPair() = default;
  HalfPair(Half<Format> first, Half<Format> second) : x(first), y(second) {}
};

template <class Format>
Half<Format> half_from_bits(uint16_t bits) {
  Half<Format> value;
  value.bits = bits;
  return value;
}

}  // namespace cuda_emulator

template <class Format>
cuda_emulator::Half<Format> __hadd(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first + second;
}

template <class Format>
cuda_emulator::Half<Format> __hsub(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first - second;
}

template <class Format>
cuda_emulator::Half<Format> __hmul(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first * second;
}

template <class Format>
cuda_emulator::Half<Format> __hdiv(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first / second;
}

template <class Format>
cuda_emulator::Half<Format> __hneg(cuda_emulator::Half<Format> value) {
  return -value;
}

template <class Format>
cuda_emulator::Half<Format> __habs(cuda_emulator::Half<Format> value) {
  value.bits &= 0x7FFF;
  return value;
}

// The product of two halves is exact in double, and so is its sum with a third unless that is tiny beside it.
template <class Format>
cuda_emulator::Half<Format> __hfma(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second,
                                   cuda_emulator::Half<Format> third) {
  const float factors[2] = {first, second};
  const float addend = third;
  return cuda_emulator::Half<Format>(static_cast<double>(factors[0]) * factors[1] + addend);
}

template <class Format>
cuda_emulator::Half<Format> __hmax(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return cuda_emulator::Half<Format>(fmaxf(first, second));
}

template <class Format>
cuda_emulator::Half<Format> __hmin(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return cuda_emulator::Half<Format>(fminf(first, second));
}

template <class Format>
bool __hlt(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first < second;
}

template <class Format>
bool __hgt(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first > second;
}

template <class Format>
bool __hle(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first <= second;
}

template <class Format>
bool __hge(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first >= second;
}

template <class Format>
bool __heq(cuda_emulator::Half<Format> first, cuda_emulator::Half<Format> second) {
  return first == second;
}

template <class Format>
bool __hisnan(cuda_emulator::Half<Format> value) {
  return value != value;
}

template <class Format>
cuda_emulator::HalfPair<Format> __hadd2(cuda_emulator::HalfPair<Format> first, cuda_emulator::HalfPair<Format> second) {
  return {first.x + second.x, first.y + second.y};
}

template <class Format>
cuda_emulator::HalfPair<Format> __hsub2(cuda_emulator::HalfPair<Format> first, cuda_emulator::HalfPair<Format> second) {
  return {first.x - second.x, first.y - second.y};
}

template <class Format>
cuda_emulator::HalfPair<Format> __hmul2(cuda_emulator::HalfPair<Format> first, cuda_emulator::HalfPair<Format> second) {
  return {first.x * second.x, first.y * second.y};
}

template <class Format>
cuda_emulator::HalfPair<Format> __hfma2(cuda_emulator::HalfPair<Format> first, cuda_emulator::HalfPair<Format> second,
                                        cuda_emulator::HalfPair<Format> third) {
  return {__hfma(first.x, second.x, third.x), __hfma(first.y, second.y, third.y)};
}

template <class Format>
float __low2float(cuda_emulator::HalfPair<Format> pair) {
  return pair.x;
}

template <class Format>
float __high2float(cuda_emulator::HalfPair<Format> pair) {
  return pair.y;
}
