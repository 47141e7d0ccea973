// The gradient of ROI-Align as PopART knows it: poplar_ops.RoiAlignGrad version 1.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "roi_align/op.hpp"
#include "sdk.hpp"

namespace poplar_ops::roi_align {

inline const popart::OperatorIdentifier kRoiAlignGradId{"poplar_ops", "RoiAlignGrad", 1, {2, 2}, 1};

// Inputs: the gradient of the result, and the regions. Output: the gradient of the features.
class RoiAlignGradOp : public popart::Op {
 public:
  explicit RoiAlignGradOp(const RoiAlignOp& forward);

  std::unique_ptr<popart::Op> clone() const final;
  void setup() final { outInfo(0) = features; }
  const std::vector<popart::GradInOutMapper>& gradInputInfo() const final;
  const std::map<int, int>& gradOutToNonGradIn() const final;
  void appendAttributes(popart::OpSerialiserBase& serialiser) const override;
  void appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const override;
  float getSubgraphValue() const final { return getHighSubgraphValue(); }

  Config config;
  popart::TensorInfo features;

 private:
  void append(popart::OpSerialiserBase& serialiser) const;
};

}  // namespace poplar_ops::roi_align
