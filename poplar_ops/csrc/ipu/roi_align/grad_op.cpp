#include "roi_align/grad_op.hpp"

namespace poplar_ops::roi_align {

RoiAlignGradOp::RoiAlignGradOp(const RoiAlignOp& forward)
    : popart::Op(kRoiAlignGradId, forward.getSettings()),
      config(forward.config),
      features(forward.inInfo(kInFeatures)) {}

std::unique_ptr<popart::Op> RoiAlignGradOp::clone() const {
  return std::make_unique<RoiAlignGradOp>(*this);
}

const std::vector<popart::GradInOutMapper>& RoiAlignGradOp::gradInputInfo() const {
  static const std::vector<popart::GradInOutMapper> info{
      {kInFeatures, 0, popart::GradOpInType::GradOut},
      {kInRois, kInRois, popart::GradOpInType::In}};
  return info;
}

const std::map<int, int>& RoiAlignGradOp::gradOutToNonGradIn() const {
  static const std::map<int, int> info{{0, kInFeatures}};
  return info;
}

void RoiAlignGradOp::appendAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendAttributes(serialiser);
  append(serialiser);
}

void RoiAlignGradOp::appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendOutlineAttributes(serialiser);
  append(serialiser);
}

void RoiAlignGradOp::append(popart::OpSerialiserBase& serialiser) const {
  append_config(serialiser, config);
  serialiser.appendAttribute("height", features.dim(2));  // the inputs do not tell them
  serialiser.appendAttribute("width", features.dim(3));
}

}  // namespace poplar_ops::roi_align
