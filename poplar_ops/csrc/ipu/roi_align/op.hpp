// ROI-Align as PopART knows it: poplar_ops.RoiAlign version 1, its attributes, shapes and checks.
//
// Semantics are those of poplar_ops/roi_align.py and reference.py.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "sdk.hpp"

namespace poplar_ops::roi_align {

inline const popart::OperatorIdentifier kRoiAlignId{"poplar_ops", "RoiAlign", 1, {2, 2}, 1};

enum In { kInFeatures, kInRois };  // of the gradient operator: kInFeatures is the gradient

struct Config {
  int64_t output_height;
  int64_t output_width;
  int64_t sampling_ratio;
  int64_t aligned;
  float spatial_scale;
};

void append_config(popart::OpSerialiserBase& serialiser, const Config& config);

class RoiAlignOp : public popart::Op {
 public:
  RoiAlignOp(const popart::OperatorIdentifier& id, const Config& config_,
             const Settings& settings_);

  std::unique_ptr<popart::Op> clone() const final;
  void setup() final;
  std::vector<std::unique_ptr<popart::Op>> getGradOps() final;
  void appendAttributes(popart::OpSerialiserBase& serialiser) const override;
  void appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const override;
  float getSubgraphValue() const final { return getHighSubgraphValue(); }

  Config config;

 private:
  void check() const;
};

}  // namespace poplar_ops::roi_align
