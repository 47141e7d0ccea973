// ROI-Align as a PopART operator: poplar_ops.RoiAlign version 1, and its gradient.
//
// B images, C channels, (H, W) cells of the map, R regions an image, (h, w) bins a region. A unit
// is one image and up to kMaxChannels channels. A unit's regions are split over `groups` tiles, so
// every tile has about as much to do and a unit's map goes to its tiles in one broadcast:
//   RoiAlignTaps  each region once, for all channels: cells and weights of its bins
//   RoiAlign...   a tile pools its regions from its unit's map
//   RoiAlignGrad...  a tile adds its regions' gradients to a float32 map of its own, some regions
//                    at a time
//   RoiAlignSum...   each tile sums its part of the unit's maps, in the order of the groups
// Nothing is added by two vertices, so a gradient has the same bits in every run. Regions get none.
// Semantics are those of poplar_ops/roi_align.py and reference.py.
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"      // PopART's headers
#pragma GCC diagnostic ignored "-Wunused-parameter"  // PopART's headers
#include <popart/op.hpp>
#include <popart/opmanager.hpp>
#include <popart/opserialiser.hpp>
#include <popart/popx/opx.hpp>
#include <popart/popx/opxmanager.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#pragma GCC diagnostic pop

namespace {

namespace program = poplar::program;
using poplar::Tensor;

const popart::OperatorIdentifier kRoiAlignId{"poplar_ops", "RoiAlign", 1, {2, 2}, 1};
const popart::OperatorIdentifier kRoiAlignGradId{"poplar_ops", "RoiAlignGrad", 1, {2, 2}, 1};

enum In { kInFeatures, kInRois };  // of the gradient operator: kInFeatures is the gradient

constexpr std::size_t kMaxChannels = 8;        // of a unit, as in roi_align_codelet.cpp
constexpr std::size_t kBinInts = 3;            // words of a bin's taps, as in the codelet
constexpr std::size_t kMapBytes = 160 * 1024;  // most of a tile for a float32 map of its unit
constexpr std::size_t kGradBytes = 64 * 1024;  // most of a tile for gradients at a time
constexpr std::size_t kTapsRegions = 6;        // of a RoiAlignTaps vertex: one a worker

struct Config {
  int64_t output_height;
  int64_t output_width;
  int64_t sampling_ratio;
  int64_t aligned;
  float spatial_scale;
};

std::string text(const popart::Shape& shape) {
  std::string out = "(";
  for (const auto size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + ")";
}

void append_config(popart::OpSerialiserBase& serialiser, const Config& config) {
  serialiser.appendAttribute("output_height", config.output_height);
  serialiser.appendAttribute("output_width", config.output_width);
  serialiser.appendAttribute("sampling_ratio", config.sampling_ratio);
  serialiser.appendAttribute("aligned", config.aligned);
  serialiser.appendAttribute("spatial_scale", config.spatial_scale);
}

class RoiAlignOp : public popart::Op {
 public:
  RoiAlignOp(const popart::OperatorIdentifier& id, const Config& config_, const Settings& settings_)
      : popart::Op(id, settings_), config(config_) {}

  std::unique_ptr<popart::Op> clone() const final { return std::make_unique<RoiAlignOp>(*this); }

  void setup() final {
    check();
    const auto& features = inInfo(kInFeatures);
    outInfo(0) = {features.dataType(),
                  {features.dim(0), inInfo(kInRois).dim(1), features.dim(1), config.output_height,
                   config.output_width}};
  }

  std::vector<std::unique_ptr<popart::Op>> getGradOps() final;

  void appendAttributes(popart::OpSerialiserBase& serialiser) const override {
    popart::Op::appendAttributes(serialiser);
    append_config(serialiser, config);
  }

  void appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const override {
    popart::Op::appendOutlineAttributes(serialiser);
    append_config(serialiser, config);
  }

  float getSubgraphValue() const final { return getHighSubgraphValue(); }

  Config config;

 private:
  void check() const {
    const auto& features = inInfo(kInFeatures);
    const auto& rois = inInfo(kInRois);
    const auto& sizes = features.shape();
    if (features.rank() != 4 || *std::min_element(sizes.begin(), sizes.end()) < 1) {
      throw popart::error("poplar_ops.RoiAlign: features must be (B, C, H, W), none 0, got " +
                          text(sizes));
    }
    if (rois.rank() != 3 || rois.dim(0) != features.dim(0) || rois.dim(1) < 1 || rois.dim(2) != 4) {
      throw popart::error("poplar_ops.RoiAlign: rois must be (" + std::to_string(sizes[0]) +
                          ", R, 4), R at least 1, got " + text(rois.shape()));
    }
    if (features.dataType() != popart::DataType::FLOAT &&
        features.dataType() != popart::DataType::FLOAT16) {
      throw popart::error("poplar_ops.RoiAlign: features must be float32 or float16");
    }
    if (rois.dataType() != popart::DataType::FLOAT) {
      throw popart::error("poplar_ops.RoiAlign: rois must be float32; cast them first");
    }
    if (config.output_height < 1 || config.output_width < 1) {
      throw popart::error("poplar_ops.RoiAlign: output_height and output_width must be at least 1");
    }
    if (config.sampling_ratio < 0 || config.sampling_ratio > 65536 || !(config.spatial_scale > 0)) {
      throw popart::error(
          "poplar_ops.RoiAlign: sampling_ratio must be from 0 to 65536 and "
          "spatial_scale above 0");
    }
  }
};

// Inputs: the gradient of the result, and the regions. Output: the gradient of the features.
class RoiAlignGradOp : public popart::Op {
 public:
  explicit RoiAlignGradOp(const RoiAlignOp& forward)
      : popart::Op(kRoiAlignGradId, forward.getSettings()),
        config(forward.config),
        features(forward.inInfo(kInFeatures)) {}

  std::unique_ptr<popart::Op> clone() const final {
    return std::make_unique<RoiAlignGradOp>(*this);
  }

  void setup() final { outInfo(0) = features; }

  const std::vector<popart::GradInOutMapper>& gradInputInfo() const final {
    static const std::vector<popart::GradInOutMapper> info{
        {kInFeatures, 0, popart::GradOpInType::GradOut},
        {kInRois, kInRois, popart::GradOpInType::In}};
    return info;
  }

  const std::map<int, int>& gradOutToNonGradIn() const final {
    static const std::map<int, int> info{{0, kInFeatures}};
    return info;
  }

  void appendAttributes(popart::OpSerialiserBase& serialiser) const override {
    popart::Op::appendAttributes(serialiser);
    append(serialiser);
  }

  void appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const override {
    popart::Op::appendOutlineAttributes(serialiser);
    append(serialiser);
  }

  float getSubgraphValue() const final { return getHighSubgraphValue(); }

  Config config;
  popart::TensorInfo features;

 private:
  void append(popart::OpSerialiserBase& serialiser) const {
    append_config(serialiser, config);
    serialiser.appendAttribute("height", features.dim(2));  // the inputs do not tell them
    serialiser.appendAttribute("width", features.dim(3));
  }
};

std::vector<std::unique_ptr<popart::Op>> RoiAlignOp::getGradOps() {
  std::vector<std::unique_ptr<popart::Op>> gradients;
  gradients.push_back(std::make_unique<RoiAlignGradOp>(*this));
  return gradients;
}

std::unique_ptr<popart::Op> make_op(const popart::OpCreatorInfo& info) {
  using Attributes = popart::Attributes;
  const auto& given = info.attributes;
  const Config config{
      given.getAttribute<Attributes::Int>("output_height", 7),
      given.getAttribute<Attributes::Int>("output_width", 7),
      given.getAttribute<Attributes::Int>("sampling_ratio", 0),
      given.getAttribute<Attributes::Int>("aligned", 0),
      given.getAttribute<Attributes::Float>("spatial_scale", 1.0f),
  };
  return std::make_unique<RoiAlignOp>(info.opid, config, info.settings);
}

popart::OpDefinitions definitions() {
  using Definition = popart::OpDefinition;
  const Definition::DataTypes features{popart::DataType::FLOAT, popart::DataType::FLOAT16};
  const Definition::DataTypes floats{popart::DataType::FLOAT};
  const Definition::Inputs inputs{{"features", features}, {"rois", floats}};
  const Definition::Outputs outputs{{"pooled", features}};
  const Definition::Attributes attributes{{"output_height", {"*"}},
                                          {"output_width", {"*"}},
                                          {"sampling_ratio", {"*"}},
                                          {"aligned", {"*"}},
                                          {"spatial_scale", {"*"}}};
  return {{kRoiAlignId, Definition(inputs, outputs, attributes)}};
}

// The codelet beside this library: compiled (.gp) if it is there, else its source.
std::string codelet_path() {
  static const char anchor = 0;  // an address inside this library
  Dl_info info;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) {
    throw popart::error("poplar_ops.RoiAlign: the path of this library is unknown to the loader");
  }
  std::string folder = info.dli_fname;
  folder.erase(folder.find_last_of('/') + 1);
  for (const char* name : {"roi_align_codelet.gp", "roi_align_codelet.cpp"}) {
    if (std::ifstream(folder + name).good()) return folder + name;
  }
  throw popart::error(
      "poplar_ops.RoiAlign: neither roi_align_codelet.gp nor roi_align_codelet.cpp "
      "is in '" +
      folder + "'; run make in poplar_ops/csrc/ipu");
}

std::size_t divide_up(std::size_t a, std::size_t b) {
  return (a + b - 1) / b;
}

struct Range {
  std::size_t begin;
  std::size_t end;
  std::size_t size() const { return end - begin; }
};

// Part `index` of n things in steps of `size`.
Range part(std::size_t n, std::size_t size, std::size_t index) {
  return {std::min(n, index * size), std::min(n, (index + 1) * size)};
}

// A job is one unit and one group of regions; jobs of one round have a tile each.
struct Job {
  std::size_t image;
  std::size_t group;
  Range channels;
  Range regions;
  unsigned tile;
  std::size_t round;
};

// Which tiles do what.
struct Layout {
  std::size_t images;
  std::size_t channels;
  std::size_t regions;
  std::size_t height;
  std::size_t width;
  std::size_t rows;
  std::size_t columns;
  std::size_t block;   // channels of a unit, at most
  std::size_t groups;  // of regions
  std::size_t span;    // regions of a group, at most
  std::size_t rounds = 1;
  std::vector<std::vector<Job>> units;

  Layout(const std::vector<std::size_t>& map, std::size_t regions_, const Config& config,
         std::size_t tiles)
      : images(map[0]),
        channels(map[1]),
        regions(regions_),
        height(map[2]),
        width(map[3]),
        rows(static_cast<std::size_t>(config.output_height)),
        columns(static_cast<std::size_t>(config.output_width)) {
    const std::size_t fit = std::max<std::size_t>(1, kMapBytes / (4 * cells()));
    block = std::min({kMaxChannels, fit, channels});
    const std::size_t blocks = divide_up(channels, block);
    const std::size_t wanted = std::max<std::size_t>(1, tiles / (images * blocks));
    span = divide_up(regions, std::min(wanted, regions));
    groups = divide_up(regions, span);
    std::size_t number = 0;
    for (std::size_t image = 0; image < images; ++image) {
      for (std::size_t i = 0; i < blocks; ++i) {
        units.emplace_back();
        for (std::size_t group = 0; group < groups; ++group, ++number) {
          rounds = number / tiles + 1;
          units.back().push_back({image, group, part(channels, block, i),
                                  part(regions, span, group), static_cast<unsigned>(number % tiles),
                                  number / tiles});
        }
      }
    }
  }

  std::size_t cells() const { return height * width; }
  std::size_t bins() const { return rows * columns; }
  std::size_t ints() const { return kBinInts * (rows + columns); }  // of a region
  // Weights of a region: an axis' bins overlap by two cells, by one more if positions are rounded.
  std::size_t floats() const { return height + width + 4 * (rows + columns); }
};

// What RoiAlignTaps found: (images, R * words of a region).
struct Taps {
  Tensor ints;
  Tensor floats;
};

// What lowering an operator and its gradient have in common.
class Lowering : public popart::popx::Opx {
 public:
  Lowering(popart::Op* op, popart::popx::Devicex* device) : Opx(op, device) {
    graph().addCodelets(codelet_path());
  }

 protected:
  std::size_t tiles() const { return graph().getTarget().getNumTiles(); }

  // A vertex on a tile; `cycles` is a rough guess, which only the IPU Model asks for.
  poplar::VertexRef add_vertex(const poplar::ComputeSet& compute_set, const std::string& name,
                               unsigned tile, std::size_t cycles) const {
    const auto vertex = graph().addVertex(compute_set, name);
    graph().setTileMapping(vertex, tile);
    graph().setPerfEstimate(vertex, cycles);
    return vertex;
  }

  static std::string vertex_name(const std::string& name, const poplar::Type& type) {
    return name + (type == poplar::HALF ? "Half" : "Float");
  }

  void set(const poplar::VertexRef& vertex, const char* field, std::size_t value) const {
    graph().setInitialValue(vertex[field], static_cast<unsigned>(value));
  }

  // One tensor of `words` elements for each unit: a tile of the unit has each part of it.
  std::vector<Tensor> add_maps(const Layout& layout, const poplar::Type& type,
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

  // The part of a unit's map that a job's tile holds, an even number of words.
  static Range stripe(const Layout& layout, const Job& job, std::size_t words) {
    return part(words, 2 * divide_up(words, 2 * layout.groups), job.group);
  }

  Taps find_taps(program::Sequence& prog, const Layout& layout, const Config& config,
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

  static Tensor of_regions(const Tensor& all, const Range& regions, std::size_t words) {
    return all.slice(regions.begin * words, regions.end * words);
  }

  // Fields that pooling and its gradient share; `regions` of the job's image.
  void connect_regions(const poplar::VertexRef& vertex, const Layout& layout, const Job& job,
                       const Taps& taps, const Range& regions) const {
    graph().connect(vertex["ints"], of_regions(taps.ints[job.image], regions, layout.ints()));
    graph().connect(vertex["floats"], of_regions(taps.floats[job.image], regions, layout.floats()));
    set(vertex, "regions", regions.size());
    set(vertex, "floats_per_region", layout.floats());
    set(vertex, "channels", job.channels.size());
    set(vertex, "width", layout.width);
    set(vertex, "rows", layout.rows);
    set(vertex, "columns", layout.columns);
  }

  static std::size_t cycles(const Layout& layout, const Job& job, const Range& regions) {
    return 500 + regions.size() * layout.bins() * (40 + 30 * job.channels.size());
  }
};

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

const popart::OpCreator<RoiAlignOp> roi_align_creator(definitions(), make_op, true);
const popart::popx::OpxCreator<RoiAlignOpx> roi_align_opx_creator(kRoiAlignId);
const popart::popx::OpxCreator<RoiAlignGradOpx> roi_align_grad_opx_creator(kRoiAlignGradId);

}  // namespace
