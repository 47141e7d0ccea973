// A shape as errors show it.
#pragma once
#include <string>

#include "sdk.hpp"

namespace poplar_ops {

// "(2, 3)"
inline std::string text(const popart::Shape& shape) {
  std::string out = "(";
  for (const auto size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + ")";
}

}  // namespace poplar_ops
