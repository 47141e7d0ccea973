// The lowering of ROI-Align: every unit's map to its tiles, taps, pooling.
#include <cstddef>
#include <vector>

#include "roi_align/lowering.hpp"
#include "roi_align/op.hpp"

namespace poplar_ops::roi_align {

namespace {

class RoiAlignOpx : public Lowering {
 public:
  RoiAlignOpx(popart::Op* op, popart::popx::Devicex* device) : Lowering(op, device) {
    verifyOp<RoiAlignOp>(op, kRoiAlignId);
  }

  void grow(program::Sequence& prog) const final {
    const Config& config = getOp<RoiAlignOp>().config;
    const auto& features = getInTensor(kInFeatures);
    const auto& rois = getInTensor(kInRois);
    const Layout layout(features.shape(), rois.dim(1), config, tiles());
    const auto maps = place_maps(prog, layout, features);
    const Taps taps = find_taps(prog, layout, config, rois);
    setOutTensor(0, pool(prog, layout, taps, maps, features.elementType()));
  }

 private:
  // Every unit's map, channels innermost, spread over the unit's tiles.
  std::vector<Tensor> place_maps(program::Sequence& prog, const Layout& layout,
                                 const Tensor& features) const {
    const auto maps = add_maps(layout, features.elementType(), "map");
    std::vector<Tensor> given;
    for (const auto& jobs : layout.units) {
      const Range& channels = jobs[0].channels;
      given.push_back(features[jobs[0].image]
                          .slice(channels.begin, channels.end)
                          .reshape({channels.size(), layout.cells()})
                          .dimShuffle({1, 0})
                          .flatten());
    }
    prog.add(program::Copy(poplar::concat(given), poplar::concat(maps)));
    return maps;
  }

  Tensor pool(program::Sequence& prog, const Layout& layout, const Taps& taps,
              const std::vector<Tensor>& maps, const poplar::Type& type) const {
    std::vector<poplar::ComputeSet> rounds;
    for (std::size_t i = 0; i < layout.rounds; ++i) {
      rounds.push_back(graph().addComputeSet(debugContext("pool")));
    }
    std::vector<std::vector<Tensor>> of_image(layout.images);  // (R, channels, h * w) of each unit
    for (std::size_t unit = 0; unit < layout.units.size(); ++unit) {
      std::vector<Tensor> parts;
      for (const auto& job : layout.units[unit]) {
        const std::size_t block = job.channels.size();
        const auto out = graph().addVariable(type, {job.regions.size(), layout.bins(), block},
                                             debugContext("out"));
        graph().setTileMapping(out, job.tile);
        const auto vertex = add_vertex(rounds[job.round], vertex_name("RoiAlign", type), job.tile,
                                       cycles(layout, job, job.regions));
        graph().connect(vertex["map"], maps[unit]);
        graph().connect(vertex["out"], out.flatten());
        connect_regions(vertex, layout, job, taps, job.regions);
        parts.push_back(out);
      }
      of_image[layout.units[unit][0].image].push_back(poplar::concat(parts).dimShuffle({0, 2, 1}));
    }
    for (const auto& round : rounds) prog.add(program::Execute(round));
    std::vector<Tensor> images;
    for (const auto& units : of_image) images.push_back(poplar::concat(units, 1));
    return poplar::concat(images).reshape(
        {layout.images, layout.regions, layout.channels, layout.rows, layout.columns});
  }
};

const popart::popx::OpxCreator<RoiAlignOpx> roi_align_opx_creator(kRoiAlignId);

}  // namespace

}  // namespace poplar_ops::roi_align
