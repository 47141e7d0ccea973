// What lowering ROI-Align and lowering its gradient have in common.
//
// Compute sets, in this order; a unit and its groups are those of layout.hpp:
//   RoiAlignTaps  each region once, for all channels: cells and weights of its bins
//   RoiAlign...   a tile pools its regions from its unit's map
// or, for the gradient, after RoiAlignTaps:
//   RoiAlignGrad...  a tile adds its regions' gradients to a float32 map of its own, some regions
//                    at a time
//   RoiAlignSum...   each tile sums its part of the unit's maps, in the order of the groups
// Nothing is added by two vertices, so a gradient has the same bits in every run. Regions get none.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "codelet_opx.hpp"
#include "roi_align/layout.hpp"
#include "sdk.hpp"

namespace poplar_ops::roi_align {

namespace program = poplar::program;
using poplar::Tensor;

// What RoiAlignTaps found: (images, R * words of a region).
struct Taps {
  Tensor ints;
  Tensor floats;
};

class Lowering : public CodeletOpx {
 public:
  Lowering(popart::Op* op, popart::popx::Devicex* device) : CodeletOpx(op, device, "roi_align") {}

 protected:
  std::size_t tiles() const { return graph().getTarget().getNumTiles(); }

  static std::string vertex_name(const std::string& name, const poplar::Type& type) {
    return name + (type == poplar::HALF ? "Half" : "Float");
  }

  void set(const poplar::VertexRef& vertex, const char* field, std::size_t value) const;

  // One tensor of `words` elements for each unit: a tile of the unit has each part of it.
  std::vector<Tensor> add_maps(const Layout& layout, const poplar::Type& type,
                               const std::string& name) const;

  // The part of a unit's map that a job's tile holds, an even number of words.
  static Range stripe(const Layout& layout, const Job& job, std::size_t words) {
    return part(words, 2 * divide_up(words, 2 * layout.groups), job.group);
  }

  Taps find_taps(program::Sequence& prog, const Layout& layout, const Config& config,
                 const Tensor& rois) const;

  // Fields that pooling and its gradient share; `regions` of the job's image.
  void connect_regions(const poplar::VertexRef& vertex, const Layout& layout, const Job& job,
                       const Taps& taps, const Range& regions) const;

  static std::size_t cycles(const Layout& layout, const Job& job, const Range& regions) {
    return 500 + regions.size() * layout.bins() * (40 + 30 * job.channels.size());
  }
};

}  // namespace poplar_ops::roi_align
