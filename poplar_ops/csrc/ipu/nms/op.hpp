// Greedy NMS as PopART knows it: poplar_ops.Nms version 1, its attributes, shapes and checks.
//
// Semantics and order of inputs and outputs are those of poplar_ops/nms.py and reference.py.
#pragma once
#include <cstdint>
#include <memory>

#include "sdk.hpp"

namespace poplar_ops::nms {

inline const popart::OperatorIdentifier kNmsId{"poplar_ops", "Nms", 1, {3, 3}, 5};

enum In { kInScores, kInBoxes, kInLabels };
enum Out { kOutBoxes, kOutScores, kOutLabels, kOutIndices, kOutCount };

struct Config {
  float iou_threshold;
  float score_threshold;
  float sigma;
  int64_t max_detections;
  int64_t class_aware;
};

class NmsOp : public popart::Op {
 public:
  NmsOp(const popart::OperatorIdentifier& id, const Config& config_, const Settings& settings_);

  std::unique_ptr<popart::Op> clone() const final;
  void setup() final;
  void appendAttributes(popart::OpSerialiserBase& serialiser) const override;
  void appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const override;
  float getSubgraphValue() const final { return getLowSubgraphValue(); }

  Config config;

 private:
  void append_config(popart::OpSerialiserBase& serialiser) const;
  void check() const;
};

}  // namespace poplar_ops::nms
