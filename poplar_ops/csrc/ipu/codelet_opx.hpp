// The lowering of an operator whose vertices are in a codelet file of ours.
#pragma once
#include <cstddef>
#include <string>

#include "sdk.hpp"

namespace poplar_ops {

class CodeletOpx : public popart::popx::Opx {
 public:
  // `name` is the codelet's: NAME_codelet.gp or NAME_codelet.cpp beside this library. Throws
  // popart::error where there is neither.
  CodeletOpx(popart::Op* op, popart::popx::Devicex* device, const std::string& name);

 protected:
  // A vertex on a tile; `cycles` is a rough guess, which only the IPU Model asks for.
  poplar::VertexRef add_vertex(const poplar::ComputeSet& compute_set, const std::string& name,
                               unsigned tile, std::size_t cycles) const;
};

}  // namespace poplar_ops
