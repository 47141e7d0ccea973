// Our own declarations of the part of PopART's operator class that our operators use.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace popart {

class error : public std::runtime_error {
 public:
  explicit error(const std::string& what) : std::runtime_error(what) {}
};

using Shape = std::vector<int64_t>;
using InIndex = int;
using OutIndex = int;

enum class DataType { FLOAT, FLOAT16, INT32, UINT32, BOOL };

class TensorInfo {
 public:
  TensorInfo() = default;
  TensorInfo(DataType type, const Shape& shape) : type_(type), shape_(shape) {}
  DataType dataType() const { return type_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  int64_t dim(int index) const { return shape_.at(static_cast<std::size_t>(index)); }

 private:
  DataType type_ = DataType::FLOAT;
  Shape shape_;
};

struct NumInputs {
  int min;
  int max;
  NumInputs(int low, int high) : min(low), max(high) {}
};

struct OperatorIdentifier {
  OperatorIdentifier(std::string domain_, std::string type_, int version_,
                     NumInputs inputs = {0, 0}, int outputs = 0)
      : domain(domain_), type(type_), version(version_), numInputs(inputs), numOutputs(outputs) {}
  std::string domain;
  std::string type;
  int version;
  NumInputs numInputs;
  int numOutputs;
};

struct OperatorIdentifierLess {
  bool operator()(const OperatorIdentifier& a, const OperatorIdentifier& b) const {
    return std::tie(a.domain, a.type, a.version) < std::tie(b.domain, b.type, b.version);
  }
};

// Attributes as a node carries them: getAttribute<Float> of an Int gives 0.0, as in PopART.
class Attributes {
 public:
  using Int = int64_t;
  using Float = float;

  template <class T>
  T getAttribute(const std::string& name, const T& otherwise) const;

  std::map<std::string, Int> host_ints;      // ours
  std::map<std::string, Float> host_floats;  // ours
};

template <>
inline Attributes::Float Attributes::getAttribute(const std::string& name,
                                                  const Float& otherwise) const {
  if (host_ints.count(name) != 0) return 0.0f;
  const auto found = host_floats.find(name);
  return found == host_floats.end() ? otherwise : found->second;
}

template <>
inline Attributes::Int Attributes::getAttribute(const std::string& name,
                                                const Int& otherwise) const {
  if (host_floats.count(name) != 0) return 0;
  const auto found = host_ints.find(name);
  return found == host_ints.end() ? otherwise : found->second;
}

class OpSerialiserBase;

// Where an input of a gradient operator comes from.
enum class GradOpInType { In, Out, GradOut };

struct GradInOutMapper {
  GradInOutMapper(InIndex grad, int non_grad, GradOpInType type_)
      : iGrad(grad), iNonGrad(non_grad), type(type_) {}
  InIndex iGrad;
  int iNonGrad;
  GradOpInType type;
};

class Op {
 public:
  struct Settings {};

  Op(const OperatorIdentifier& id, const Settings& settings_) : opid(id), settings(settings_) {}
  Op(const Op&) = default;
  virtual ~Op() = default;

  virtual std::unique_ptr<Op> clone() const = 0;
  virtual void setup() = 0;
  virtual float getSubgraphValue() const = 0;
  virtual void appendAttributes(OpSerialiserBase& serialiser) const;
  virtual void appendOutlineAttributes(OpSerialiserBase& serialiser) const;
  virtual std::vector<std::unique_ptr<Op>> getGradOps() { return {}; }
  virtual const std::vector<GradInOutMapper>& gradInputInfo() const {
    throw error("Op: no gradient operator");
  }
  virtual const std::map<int, int>& gradOutToNonGradIn() const {
    throw error("Op: no gradient operator");
  }
  const Settings& getSettings() const { return settings; }

  static float getLowSubgraphValue() { return 0.1f; }
  static float getHighSubgraphValue() { return 1000.0f; }
  const TensorInfo& inInfo(InIndex index) const { return host_inputs.at(index); }
  TensorInfo& outInfo(OutIndex index) { return host_outputs[index]; }

  OperatorIdentifier opid;
  Settings settings;
  std::map<InIndex, TensorInfo> host_inputs;    // ours
  std::map<OutIndex, TensorInfo> host_outputs;  // ours
};

}  // namespace popart
