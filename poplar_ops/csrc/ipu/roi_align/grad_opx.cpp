// The lowering of the gradient of ROI-Align: taps, a float32 map a job, their sums.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "roi_align/grad_op.hpp"
#include "roi_align/lowering.hpp"

namespace poplar_ops::roi_align {

namespace {

constexpr std::size_t kGradBytes = 64 * 1024;  // most of a tile for gradients at a time

class RoiAlignGradOpx : public Lowering {
 public:
  RoiAlignGradOpx(popart::Op* op, popart::popx::Devicex* device) : Lowering(op, device) {
    verifyOp<RoiAlignGradOp>(op, kRoiAlignGradId);
  }

  void grow(program::Sequence& prog) const final {
    const auto& op = getOp<RoiAlignGradOp>();
    const auto& grad = getInTensor(kInFeatures);
    const auto& rois = getInTensor(kInRois);
    const std::vector<std::size_t> shape(op.features.shape().begin(), op.features.shape().end());
    const Layout layout(shape, rois.dim(1), op.config, tiles());
    const Taps taps = find_taps(prog, layout, op.config, rois);
    const auto sums = spread(prog, layout, taps, grad);
    setOutTensor(0, sum(prog, layout, sums, grad.elementType()));
  }

 private:
  using Maps = std::vector<std::vector<Tensor>>;  // (cells * channels,) by unit and group

  // The float32 maps of all jobs. Gradients come to their tiles a few regions at a time: a tile
  // may not have room for all of them twice.
  Maps spread(program::Sequence& prog, const Layout& layout, const Taps& taps,
              const Tensor& grad) const {
    const bool is_half = grad.elementType() == poplar::HALF;
    const std::size_t bytes = layout.bins() * layout.block * (is_half ? 2 : 4);
    const std::size_t step = std::min(layout.span, std::max<std::size_t>(1, kGradBytes / bytes));
    Maps sums;
    std::vector<Tensor> buffers;  // of a tile: jobs of different rounds use it in turn
    for (const auto& jobs : layout.units) {
      sums.emplace_back();
      for (const auto& job : jobs) {
        sums.back().push_back(graph().addVariable(
            poplar::FLOAT, {layout.cells() * job.channels.size()}, debugContext("sums")));
        graph().setTileMapping(sums.back().back(), job.tile);
        if (job.tile < buffers.size()) continue;
        buffers.push_back(graph().addVariable(
            grad.elementType(), {step * layout.bins() * layout.block}, debugContext("grad")));
        graph().setTileMapping(buffers.back(), job.tile);
      }
    }
    for (std::size_t round = 0; round < layout.rounds; ++round) {
      for (std::size_t begin = 0; begin < layout.span; begin += step) {
        spread_some(prog, layout, taps, grad, sums, buffers, round, {begin, begin + step});
      }
    }
    return sums;
  }

  // One round of jobs, `some` regions of each job's own.
  void spread_some(program::Sequence& prog, const Layout& layout, const Taps& taps,
                   const Tensor& grad, const Maps& sums, const std::vector<Tensor>& buffers,
                   std::size_t round, const Range& some) const {
    const auto compute_set = graph().addComputeSet(debugContext("spread"));
    std::vector<Tensor> from, to;
    for (std::size_t unit = 0; unit < layout.units.size(); ++unit) {
      for (const auto& job : layout.units[unit]) {
        const Range regions{std::min(job.regions.end, job.regions.begin + some.begin),
                            std::min(job.regions.end, job.regions.begin + some.end)};
        if (job.round != round || regions.size() == 0) continue;
        const auto given = grad[job.image]
                               .slice(regions.begin, regions.end)
                               .slice(job.channels.begin, job.channels.end, 1)
                               .reshape({regions.size(), job.channels.size(), layout.bins()})
                               .dimShuffle({0, 2, 1})
                               .flatten();
        from.push_back(given);
        to.push_back(buffers[job.tile].slice(0, given.numElements()));
        const auto vertex = add_vertex(compute_set, vertex_name("RoiAlignGrad", grad.elementType()),
                                       job.tile, cycles(layout, job, regions));
        graph().connect(vertex["grad"], to.back());
        graph().connect(vertex["sums"], sums[unit][job.group]);
        set(vertex, "first", some.begin == 0 ? 1 : 0);
        connect_regions(vertex, layout, job, taps, regions);
      }
    }
    prog.add(program::Copy(poplar::concat(from), poplar::concat(to)));
    prog.add(program::Execute(compute_set));
  }

  // (B, C, H, W): the sum over the groups of every unit.
  Tensor sum(program::Sequence& prog, const Layout& layout, const Maps& sums,
             const poplar::Type& type) const {
    std::vector<poplar::ComputeSet> rounds;
    for (std::size_t i = 0; i < layout.rounds; ++i) {
      rounds.push_back(graph().addComputeSet(debugContext("sum")));
    }
    const auto maps = add_maps(layout, type, "grad_features");
    std::vector<Tensor> all;  // (channels, cells) of each unit, image by image
    for (std::size_t unit = 0; unit < layout.units.size(); ++unit) {
      const auto& jobs = layout.units[unit];
      for (const auto& job : jobs) {
        const Range own = stripe(layout, job, maps[unit].numElements());
        if (own.size() == 0) continue;
        std::vector<Tensor> partials;
        for (const auto& partial : sums[unit])
          partials.push_back(partial.slice(own.begin, own.end));
        const auto vertex = add_vertex(rounds[job.round], vertex_name("RoiAlignSum", type),
                                       job.tile, 200 + 12 * own.size() * partials.size());
        graph().connect(vertex["partials"], poplar::concat(partials));
        graph().connect(vertex["out"], maps[unit].slice(own.begin, own.end));
        set(vertex, "groups", partials.size());
      }
      all.push_back(
          maps[unit].reshape({layout.cells(), jobs[0].channels.size()}).dimShuffle({1, 0}));
    }
    for (const auto& round : rounds) prog.add(program::Execute(round));
    return poplar::concat(all).reshape(
        {layout.images, layout.channels, layout.height, layout.width});
  }
};

const popart::popx::OpxCreator<RoiAlignGradOpx> roi_align_grad_opx_creator(kRoiAlignGradId);

}  // namespace

}  // namespace poplar_ops::roi_align
