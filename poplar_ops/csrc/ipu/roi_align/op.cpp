#include "roi_align/op.hpp"

#include <algorithm>
#include <string>

#include "roi_align/grad_op.hpp"
#include "shape_text.hpp"

namespace poplar_ops::roi_align {

void append_config(popart::OpSerialiserBase& serialiser, const Config& config) {
  serialiser.appendAttribute("output_height", config.output_height);
  serialiser.appendAttribute("output_width", config.output_width);
  serialiser.appendAttribute("sampling_ratio", config.sampling_ratio);
  serialiser.appendAttribute("aligned", config.aligned);
  serialiser.appendAttribute("spatial_scale", config.spatial_scale);
}

RoiAlignOp::RoiAlignOp(const popart::OperatorIdentifier& id, const Config& config_,
                       const Settings& settings_)
    : popart::Op(id, settings_), config(config_) {}

std::unique_ptr<popart::Op> RoiAlignOp::clone() const {
  return std::make_unique<RoiAlignOp>(*this);
}

void RoiAlignOp::setup() {
  check();
  const auto& features = inInfo(kInFeatures);
  outInfo(0) = {features.dataType(),
                {features.dim(0), inInfo(kInRois).dim(1), features.dim(1), config.output_height,
                 config.output_width}};
}

std::vector<std::unique_ptr<popart::Op>> RoiAlignOp::getGradOps() {
  std::vector<std::unique_ptr<popart::Op>> gradients;
  gradients.push_back(std::make_unique<RoiAlignGradOp>(*this));
  return gradients;
}

void RoiAlignOp::appendAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendAttributes(serialiser);
  append_config(serialiser, config);
}

void RoiAlignOp::appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendOutlineAttributes(serialiser);
  append_config(serialiser, config);
}

void RoiAlignOp::check() const {
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

namespace {

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

const popart::OpCreator<RoiAlignOp> roi_align_creator(definitions(), make_op, true);

}  // namespace

}  // namespace poplar_ops::roi_align
