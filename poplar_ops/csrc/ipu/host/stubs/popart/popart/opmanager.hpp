// Our own declarations of PopART's operator registry.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "op.hpp"

namespace popart {

class OpDefinition {
 public:
  using DataTypes = std::vector<DataType>;

  struct Input {
    Input(std::string name_, DataTypes types_, bool constant_ = false)
        : name(name_), supportedTensors(types_), constant(constant_) {}
    std::string name;
    DataTypes supportedTensors;
    bool constant;
  };
  struct Output {
    Output(std::string name_, DataTypes types_) : name(name_), supportedTensors(types_) {}
    std::string name;
    DataTypes supportedTensors;
  };
  struct Attribute {
    Attribute(std::string values) : supportedValuesRegex(values) {}
    std::string supportedValuesRegex;
  };

  using Inputs = std::vector<Input>;
  using Outputs = std::vector<Output>;
  using Attributes = std::map<std::string, Attribute>;

  OpDefinition() = default;
  OpDefinition(Inputs inputs_, Outputs outputs_, Attributes attributes_)
      : inputs(inputs_), outputs(outputs_), attributes(attributes_) {}

  Inputs inputs;
  Outputs outputs;
  Attributes attributes;
};

using OpDefinitions = std::map<OperatorIdentifier, OpDefinition, OperatorIdentifierLess>;

struct OpCreatorInfo {
  const OperatorIdentifier& opid;
  const Op::Settings& settings;
  const Attributes& attributes;
};

class OpManager {
 public:
  using OpFactoryFunc = std::function<std::unique_ptr<Op>(const OpCreatorInfo&)>;

  struct Entry {  // ours
    OperatorIdentifier id;
    OpDefinition definition;
    OpFactoryFunc factory;
  };
  static std::vector<Entry>& host_entries() {
    static std::vector<Entry> entries;
    return entries;
  }
};

template <class OP>
class OpCreator {
 public:
  OpCreator(const OpDefinitions& definitions, OpManager::OpFactoryFunc factory,
            bool is_public = true) {
    (void)is_public;
    for (const auto& version : definitions) {
      OpManager::host_entries().push_back({version.first, version.second, factory});
    }
  }
};

}  // namespace popart
