#include "codelet_opx.hpp"

#include <dlfcn.h>

#include <fstream>

namespace poplar_ops {

namespace {

// The codelet beside this library: compiled (.gp) if it is there, else its source.
std::string codelet_path(const std::string& name) {
  static const char anchor = 0;  // an address inside this library
  Dl_info info;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) {
    throw popart::error("poplar_ops: the path of this library is unknown to the loader");
  }
  std::string folder = info.dli_fname;
  folder.erase(folder.find_last_of('/') + 1);
  const std::string compiled = name + "_codelet.gp";
  const std::string source = name + "_codelet.cpp";
  for (const auto& file : {compiled, source}) {
    if (std::ifstream(folder + file).good()) return folder + file;
  }
  throw popart::error("poplar_ops: neither " + compiled + " nor " + source + " is in '" + folder +
                      "'; run make in poplar_ops/csrc/ipu");
}

}  // namespace

CodeletOpx::CodeletOpx(popart::Op* op, popart::popx::Devicex* device, const std::string& name)
    : Opx(op, device) {
  graph().addCodelets(codelet_path(name));
}

poplar::VertexRef CodeletOpx::add_vertex(const poplar::ComputeSet& compute_set,
                                         const std::string& name, unsigned tile,
                                         std::size_t cycles) const {
  const auto vertex = graph().addVertex(compute_set, name);
  graph().setTileMapping(vertex, tile);
  graph().setPerfEstimate(vertex, cycles);
  return vertex;
}

}  // namespace poplar_ops
