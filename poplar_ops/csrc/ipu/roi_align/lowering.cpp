#include "roi_align/lowering.hpp"

namespace poplar_ops::roi_align {

namespace {

constexpr std::size_t kTapsRegions = 6;  // of a RoiAlignTaps vertex: one a worker

Tensor of_regions(const Tensor& all, const Range& regions, std::size_t words) {
  return all.slice(regions.begin * words, regions.end * words);
}

}  // namespace

void Lowering::set(const poplar::VertexRef& vertex, const char* field, std::size_t value) const {
  graph().setInitialValue(vertex[field], static_cast<unsigned>(value));
}

std::vector<Tensor> Lowering::add_maps(const Layout& layout, const poplar::Type& type,
                                       const std::string& name) const {
  std::vector<Tensor> maps;
  for (const auto& jobs : layout.units) {
    const std::size_t words = layout.cells() * jobs[0].channels.size();
    maps.push_back(graph().addVariable(type, {words}, debugContext(name)));
    for (const auto& job : jobs) {
      const Range own = stripe(layout, job, words);
      graph().setTileMapping(maps.back().slice(own.begin, own.end), job.tile);
    }
  }
  return maps;
}

Taps Lowering::find_taps(program::Sequence& prog, const Layout& layout, const Config& config,
                         const Tensor& rois) const {
  const Taps taps{
      graph().addVariable(poplar::INT, {layout.images, layout.regions * layout.ints()},
                          debugContext("tap_cells")),
      graph().addVariable(poplar::FLOAT, {layout.images, layout.regions * layout.floats()},
                          debugContext("tap_weights"))};
  const auto compute_set = graph().addComputeSet(debugContext("taps"));
  std::size_t number = 0;
  for (std::size_t image = 0; image < layout.images; ++image) {
    for (std::size_t i = 0; i < divide_up(layout.regions, kTapsRegions); ++i, ++number) {
      const Range some = part(layout.regions, kTapsRegions, i);
      const auto tile = static_cast<unsigned>(number % tiles());
      const auto ints = of_regions(taps.ints[image], some, layout.ints());
      const auto floats = of_regions(taps.floats[image], some, layout.floats());
      graph().setTileMapping(ints, tile);
      graph().setTileMapping(floats, tile);
      const auto vertex =
          add_vertex(compute_set, "RoiAlignTaps", tile, 2000 * (layout.rows + layout.columns));
      graph().connect(vertex["rois"], rois[image].slice(some.begin, some.end).flatten());
      graph().connect(vertex["ints"], ints);
      graph().connect(vertex["floats"], floats);
      set(vertex, "floats_per_region", layout.floats());
      set(vertex, "height", layout.height);
      set(vertex, "width", layout.width);
      set(vertex, "rows", layout.rows);
      set(vertex, "columns", layout.columns);
      graph().setInitialValue(vertex["sampling_ratio"], static_cast<int>(config.sampling_ratio));
      graph().setInitialValue(vertex["aligned"], config.aligned != 0 ? 1 : 0);
      graph().setInitialValue(vertex["spatial_scale"], config.spatial_scale);
    }
  }
  prog.add(program::Execute(compute_set));
  return taps;
}

void Lowering::connect_regions(const poplar::VertexRef& vertex, const Layout& layout,
                               const Job& job, const Taps& taps, const Range& regions) const {
  graph().connect(vertex["ints"], of_regions(taps.ints[job.image], regions, layout.ints()));
  graph().connect(vertex["floats"], of_regions(taps.floats[job.image], regions, layout.floats()));
  set(vertex, "regions", regions.size());
  set(vertex, "floats_per_region", layout.floats());
  set(vertex, "channels", job.channels.size());
  set(vertex, "width", layout.width);
  set(vertex, "rows", layout.rows);
  set(vertex, "columns", layout.columns);
}

}  // namespace poplar_ops::roi_align
