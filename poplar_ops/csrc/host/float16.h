// float16 and bfloat16 as float32 and back, rounded to nearest, ties to even, as torch rounds.
//
// Branches on values only select, so that loops over these functions vectorise.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace poplar_ops {

POPLAR_OPS_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

POPLAR_OPS_INLINE float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

POPLAR_OPS_INLINE float from_bfloat16(uint16_t half) {
  return float_of(uint32_t(half) << 16);
}

POPLAR_OPS_INLINE uint16_t to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

POPLAR_OPS_INLINE float from_float16(uint16_t half) {
  constexpr float kRebias = 0x1p112f;  // 2^(127 - 15); also makes subnormals normal
  const uint32_t sign = uint32_t(half & 0x8000) << 16;
  const uint32_t magnitude = bits_of(float_of(uint32_t(half & 0x7fff) << 13) * kRebias);
  const bool is_special = (half & 0x7c00) == 0x7c00;  // infinity or NaN
  return float_of(sign | magnitude | (is_special ? 0x7f800000u : 0u));
}

POPLAR_OPS_INLINE uint16_t to_float16(float value) {
  constexpr uint32_t kInfinity = 0x7f800000, kTooLarge = 0x47800000;  // 2^16
  constexpr uint32_t kSmallestNormal = 0x38800000;                    // 2^-14
  constexpr uint32_t kAlign = 0x3f000000;  // 0.5f: its last bit is float16's last subnormal bit
  const uint32_t sign = bits_of(value) & 0x80000000;
  const uint32_t magnitude = bits_of(value) ^ sign;
  const uint32_t special = magnitude > kInfinity ? 0x7e00 : 0x7c00;
  const uint32_t subnormal = bits_of(float_of(magnitude) + float_of(kAlign)) - kAlign;
  const uint32_t odd = (magnitude >> 13) & 1;
  const uint32_t normal = (magnitude - (uint32_t(127 - 15) << 23) + 0xfff + odd) >> 13;
  const uint32_t finite = magnitude < kSmallestNormal ? subnormal : normal;
  return static_cast<uint16_t>((sign >> 16) | (magnitude >= kTooLarge ? special : finite));
}

}  // namespace poplar_ops
