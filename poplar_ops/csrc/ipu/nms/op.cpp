#include "nms/op.hpp"

#include <string>

#include "shape_text.hpp"

namespace poplar_ops::nms {

NmsOp::NmsOp(const popart::OperatorIdentifier& id, const Config& config_, const Settings& settings_)
    : popart::Op(id, settings_), config(config_) {}

std::unique_ptr<popart::Op> NmsOp::clone() const {
  return std::make_unique<NmsOp>(*this);
}

void NmsOp::setup() {
  check();
  const int64_t images = inInfo(kInScores).dim(0);
  const int64_t k = config.max_detections;
  outInfo(kOutBoxes) = {popart::DataType::FLOAT, {images, k, 4}};
  outInfo(kOutScores) = {popart::DataType::FLOAT, {images, k}};
  outInfo(kOutLabels) = {popart::DataType::INT32, {images, k}};
  outInfo(kOutIndices) = {popart::DataType::INT32, {images, k}};
  outInfo(kOutCount) = {popart::DataType::INT32, {images}};
}

void NmsOp::appendAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendAttributes(serialiser);
  append_config(serialiser);
}

void NmsOp::appendOutlineAttributes(popart::OpSerialiserBase& serialiser) const {
  popart::Op::appendOutlineAttributes(serialiser);
  append_config(serialiser);
}

void NmsOp::append_config(popart::OpSerialiserBase& serialiser) const {
  serialiser.appendAttribute("iou_threshold", config.iou_threshold);
  serialiser.appendAttribute("score_threshold", config.score_threshold);
  serialiser.appendAttribute("max_detections", config.max_detections);
  serialiser.appendAttribute("class_aware", config.class_aware);
  serialiser.appendAttribute("sigma", config.sigma);
}

void NmsOp::check() const {
  const auto& scores = inInfo(kInScores);
  const auto& boxes = inInfo(kInBoxes);
  const auto& labels = inInfo(kInLabels);
  if (scores.rank() != 2 || scores.dim(0) < 1 || scores.dim(1) < 1) {
    throw popart::error("poplar_ops.Nms: scores must be (B, N), neither 0, got " +
                        text(scores.shape()));
  }
  const popart::Shape expected{scores.dim(0), scores.dim(1), 4};
  if (boxes.shape() != expected) {
    throw popart::error("poplar_ops.Nms: boxes must be " + text(expected) + ", got " +
                        text(boxes.shape()));
  }
  if (labels.shape() != scores.shape()) {
    throw popart::error("poplar_ops.Nms: labels must be " + text(scores.shape()) + ", got " +
                        text(labels.shape()));
  }
  if (scores.dataType() != popart::DataType::FLOAT || boxes.dataType() != popart::DataType::FLOAT) {
    throw popart::error("poplar_ops.Nms: scores and boxes must be float32; cast them first");
  }
  if (labels.dataType() != popart::DataType::INT32) {
    throw popart::error("poplar_ops.Nms: labels must be int32; cast them first");
  }
  if (config.max_detections < 1) {
    throw popart::error("poplar_ops.Nms: max_detections must be at least 1, got " +
                        std::to_string(config.max_detections));
  }
}

namespace {

std::unique_ptr<popart::Op> make_op(const popart::OpCreatorInfo& info) {
  using Attributes = popart::Attributes;
  const auto& given = info.attributes;
  const Config config{
      given.getAttribute<Attributes::Float>("iou_threshold", 0.5f),
      given.getAttribute<Attributes::Float>("score_threshold", 0.0f),
      given.getAttribute<Attributes::Float>("sigma", 0.0f),
      given.getAttribute<Attributes::Int>("max_detections", 100),
      given.getAttribute<Attributes::Int>("class_aware", 1),
  };
  return std::make_unique<NmsOp>(info.opid, config, info.settings);
}

popart::OpDefinitions definitions() {
  using Definition = popart::OpDefinition;
  const Definition::DataTypes floats{popart::DataType::FLOAT};
  const Definition::DataTypes ints{popart::DataType::INT32};
  const Definition::Inputs inputs{{"scores", floats}, {"boxes", floats}, {"labels", ints}};
  const Definition::Outputs outputs{
      {"boxes", floats}, {"scores", floats}, {"labels", ints}, {"indices", ints}, {"count", ints}};
  const Definition::Attributes attributes{{"iou_threshold", {"*"}},
                                          {"score_threshold", {"*"}},
                                          {"max_detections", {"*"}},
                                          {"class_aware", {"*"}},
                                          {"sigma", {"*"}}};
  return {{kNmsId, Definition(inputs, outputs, attributes)}};
}

const popart::OpCreator<NmsOp> nms_creator(definitions(), make_op, true);

}  // namespace

}  // namespace poplar_ops::nms
