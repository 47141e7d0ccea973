// The lowering of greedy NMS.
//
// B images, N candidates and K detections an image, W workers a tile. Every image has its own
// tiles, so no tile holds candidates of two images; the loop ends when every image is done. One
// round:
//   NmsRound    all tiles: suppress by the last winner, best candidate left of each worker
//   NmsReduce   groups of about sqrt(tiles) tiles, twice: best record of each worker
//   NmsRecord   one tile an image: next winner, next detection
//   NmsAnyActive  one tile: go on?
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "codelet_opx.hpp"
#include "nms/layout.hpp"
#include "nms/op.hpp"
#include "sdk.hpp"

namespace poplar_ops::nms {

namespace {

namespace program = poplar::program;

constexpr std::size_t kFloats = 5;  // words of a record, as in nms_codelet.cpp
constexpr std::size_t kInts = 2;    // words of a record, as in nms_codelet.cpp

// (images, parts, W * words) per kind: what each part's workers found.
struct Records {
  poplar::Tensor floats;
  poplar::Tensor ints;
};

// What one image carries from round to round, all on its first tile.
struct State {
  poplar::Tensor winner_floats;  // (images, kFloats)
  poplar::Tensor winner_ints;    // (images, kInts)
  poplar::Tensor active;         // (images, 1)
};

class NmsOpx : public CodeletOpx {
 public:
  NmsOpx(popart::Op* op, popart::popx::Devicex* device) : CodeletOpx(op, device, "nms") {
    verifyOp<NmsOp>(op, kNmsId);
  }

  void grow(program::Sequence& prog) const final {
    const Config& config = getOp<NmsOp>().config;
    const auto shape = getInTensor(kInScores).shape();
    const Layout layout(shape[0], shape[1], graph().getTarget().getNumTiles());

    // 1. Candidates to their tiles; the scores are ours to change.
    const auto scores = place(prog, layout, getInTensor(kInScores), "scores");
    const auto boxes = place(prog, layout, getInTensor(kInBoxes), "boxes");
    const auto labels = place(prog, layout, getInTensor(kInLabels), "labels");

    // 2. The empty answer.
    const auto k = static_cast<std::size_t>(config.max_detections);
    const std::vector<poplar::Tensor> answer{
        on_first_tile(layout, poplar::FLOAT, {layout.images, k, 4}, "out_boxes"),
        on_first_tile(layout, poplar::FLOAT, {layout.images, k}, "out_scores"),
        on_first_tile(layout, poplar::INT, {layout.images, k}, "out_labels"),
        on_first_tile(layout, poplar::INT, {layout.images, k}, "out_indices"),
        on_first_tile(layout, poplar::INT, {layout.images, 1}, "out_count"),
    };
    const State state{
        on_first_tile(layout, poplar::FLOAT, {layout.images, kFloats}, "winner_floats"),
        on_first_tile(layout, poplar::INT, {layout.images, kInts}, "winner_ints"),
        on_first_tile(layout, poplar::INT, {layout.images, 1}, "active"),
    };
    initialise(prog, layout, answer, state);

    // 3. Rounds while any image is active.
    program::Sequence condition;
    const auto any = any_active(condition, layout, state);
    program::Sequence body;
    auto records = find_best(body, layout, config, {scores, boxes, labels}, state);
    const std::size_t group = reduction_group(layout.parts);
    for (std::size_t parts = layout.parts; parts > 1; parts = (parts + group - 1) / group) {
      records = reduce(body, layout, records, parts, group);
    }
    record(body, layout, records, answer, state);
    prog.add(program::RepeatWhileTrue(condition, any, body, debugContext("rounds")));

    for (int i = kOutBoxes; i < kOutCount; ++i) setOutTensor(i, answer[i]);
    setOutTensor(kOutCount, answer[kOutCount].flatten());
  }

 private:
  struct Candidates {
    poplar::Tensor scores;  // (images, N)
    poplar::Tensor boxes;   // (images, N, 4)
    poplar::Tensor labels;  // (images, N)
  };

  // The square root, rounded up: two levels reduce any number of parts, and one is enough up to 8.
  static std::size_t reduction_group(std::size_t parts) {
    if (parts <= 8) return parts;
    return static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(parts))));
  }

  std::size_t workers() const { return graph().getTarget().getNumWorkerContexts(); }

  // A copy of an input, spread as `layout` says.
  poplar::Tensor place(program::Sequence& prog, const Layout& layout, const poplar::Tensor& input,
                       const std::string& name) const {
    const auto placed = graph().addVariable(input.elementType(), input.shape(), debugContext(name));
    for (std::size_t image = 0; image < layout.images; ++image) {
      for (std::size_t part = 0; part < layout.parts; ++part) {
        graph().setTileMapping(placed[image].slice(layout.begin(part), layout.end(part)),
                               layout.tile(image, part));
      }
    }
    prog.add(program::Copy(input, placed));
    return placed;
  }

  poplar::Tensor on_first_tile(const Layout& layout, const poplar::Type& type,
                               const std::vector<std::size_t>& shape,
                               const std::string& name) const {
    const auto tensor = graph().addVariable(type, shape, debugContext(name));
    for (std::size_t image = 0; image < layout.images; ++image) {
      graph().setTileMapping(tensor[image], layout.tile(image, 0));
    }
    return tensor;
  }

  void connect_answer(const poplar::VertexRef& vertex, const std::vector<poplar::Tensor>& answer,
                      const State& state, std::size_t image) const {
    graph().connect(vertex["boxes"], answer[kOutBoxes][image].flatten());
    graph().connect(vertex["scores"], answer[kOutScores][image]);
    graph().connect(vertex["labels"], answer[kOutLabels][image]);
    graph().connect(vertex["indices"], answer[kOutIndices][image]);
    graph().connect(vertex["count"], answer[kOutCount][image]);
    graph().connect(vertex["winner_floats"], state.winner_floats[image]);
    graph().connect(vertex["winner_ints"], state.winner_ints[image]);
    graph().connect(vertex["active"], state.active[image]);
  }

  void initialise(program::Sequence& prog, const Layout& layout,
                  const std::vector<poplar::Tensor>& answer, const State& state) const {
    const auto compute_set = graph().addComputeSet(debugContext("init"));
    const std::size_t k = answer[kOutScores].dim(1);
    for (std::size_t image = 0; image < layout.images; ++image) {
      const auto vertex = add_vertex(compute_set, "NmsInit", layout.tile(image, 0), 100 + 24 * k);
      connect_answer(vertex, answer, state, image);
    }
    prog.add(program::Execute(compute_set));
  }

  poplar::Tensor any_active(program::Sequence& prog, const Layout& layout,
                            const State& state) const {
    const auto any = graph().addVariable(poplar::BOOL, {}, debugContext("any_active"));
    graph().setTileMapping(any, layout.tile(0, 0));
    const auto compute_set = graph().addComputeSet(debugContext("any_active"));
    const auto vertex =
        add_vertex(compute_set, "NmsAnyActive", layout.tile(0, 0), 50 + 20 * layout.images);
    graph().connect(vertex["active"], state.active.flatten());
    graph().connect(vertex["any"], any);
    prog.add(program::Execute(compute_set));
    return any;
  }

  // Records of `parts` parts an image; part p is on the tile of the layout's part p * spread.
  Records add_records(const Layout& layout, std::size_t parts, std::size_t spread) const {
    const Records records{
        graph().addVariable(poplar::FLOAT, {layout.images, parts, workers() * kFloats},
                            debugContext("best_floats")),
        graph().addVariable(poplar::INT, {layout.images, parts, workers() * kInts},
                            debugContext("best_ints"))};
    for (std::size_t image = 0; image < layout.images; ++image) {
      for (std::size_t part = 0; part < parts; ++part) {
        const unsigned tile = layout.tile(image, part * spread);
        graph().setTileMapping(records.floats[image][part], tile);
        graph().setTileMapping(records.ints[image][part], tile);
      }
    }
    return records;
  }

  Records find_best(program::Sequence& prog, const Layout& layout, const Config& config,
                    const Candidates& candidates, const State& state) const {
    const auto best = add_records(layout, layout.parts, 1);
    const auto compute_set = graph().addComputeSet(debugContext("round"));
    for (std::size_t image = 0; image < layout.images; ++image) {
      for (std::size_t part = 0; part < layout.parts; ++part) {
        const std::size_t begin = layout.begin(part);
        const std::size_t end = layout.end(part);
        const auto vertex =
            add_vertex(compute_set, "NmsRound", layout.tile(image, part), 200 + 40 * (end - begin));
        graph().connect(vertex["boxes"], candidates.boxes[image].slice(begin, end).flatten());
        graph().connect(vertex["labels"], candidates.labels[image].slice(begin, end));
        graph().connect(vertex["scores"], candidates.scores[image].slice(begin, end));
        graph().connect(vertex["winner_floats"], state.winner_floats[image]);
        graph().connect(vertex["winner_ints"], state.winner_ints[image]);
        graph().connect(vertex["best_floats"], best.floats[image][part]);
        graph().connect(vertex["best_ints"], best.ints[image][part]);
        graph().setInitialValue(vertex["first"], static_cast<int>(begin));
        graph().setInitialValue(vertex["class_aware"], config.class_aware != 0 ? 1 : 0);
        graph().setInitialValue(vertex["iou_threshold"], config.iou_threshold);
        graph().setInitialValue(vertex["score_threshold"], config.score_threshold);
        graph().setInitialValue(vertex["sigma"], config.sigma);
      }
    }
    prog.add(program::Execute(compute_set));
    return best;
  }

  Records reduce(program::Sequence& prog, const Layout& layout, const Records& records,
                 std::size_t parts, std::size_t group) const {
    const std::size_t groups = (parts + group - 1) / group;
    const auto best = add_records(layout, groups, groups == 1 ? 1 : group);
    const auto compute_set = graph().addComputeSet(debugContext("reduce"));
    for (std::size_t image = 0; image < layout.images; ++image) {
      for (std::size_t part = 0; part < groups; ++part) {
        const std::size_t begin = part * group;
        const std::size_t end = std::min(parts, begin + group);
        const auto vertex = add_vertex(compute_set, "NmsReduce", layout.tile(image, begin),
                                       200 + 12 * (end - begin) * workers());
        graph().connect(vertex["floats"], records.floats[image].slice(begin, end).flatten());
        graph().connect(vertex["ints"], records.ints[image].slice(begin, end).flatten());
        graph().connect(vertex["best_floats"], best.floats[image][part]);
        graph().connect(vertex["best_ints"], best.ints[image][part]);
      }
    }
    prog.add(program::Execute(compute_set));
    return best;
  }

  void record(program::Sequence& prog, const Layout& layout, const Records& records,
              const std::vector<poplar::Tensor>& answer, const State& state) const {
    const auto compute_set = graph().addComputeSet(debugContext("record"));
    for (std::size_t image = 0; image < layout.images; ++image) {
      const auto vertex = add_vertex(compute_set, "NmsRecord", layout.tile(image, 0), 500);
      graph().connect(vertex["floats"], records.floats[image].flatten());
      graph().connect(vertex["ints"], records.ints[image].flatten());
      connect_answer(vertex, answer, state, image);
    }
    prog.add(program::Execute(compute_set));
  }
};

const popart::popx::OpxCreator<NmsOpx> nmsopx_creator(kNmsId);

}  // namespace

}  // namespace poplar_ops::nms
