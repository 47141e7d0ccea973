// Our own stand-in for a tile's 16-bit float: rounded when it is stored, float32 when it is used.
#pragma once
#include <cstdint>

#include "../../../../../host/float16.h"

class half {
 public:
  half() = default;
  half(float value) : bits_(poplar_ops::to_float16(value)) {}
  operator float() const { return poplar_ops::from_float16(bits_); }

 private:
  std::uint16_t bits_;
};
