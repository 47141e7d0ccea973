// Our own declaration of PopART's registry of lowerings.
#pragma once
#include <functional>
#include <map>
#include <memory>

#include "opx.hpp"

namespace popart {
namespace popx {

class OpxManager {
 public:
  using Factory = std::function<std::unique_ptr<Opx>(Op*, Devicex*)>;
  static std::map<OperatorIdentifier, Factory, OperatorIdentifierLess>& host_entries() {
    static std::map<OperatorIdentifier, Factory, OperatorIdentifierLess> entries;
    return entries;
  }
};

template <class OPX>
class OpxCreator {
 public:
  explicit OpxCreator(const OperatorIdentifier& id) {
    OpxManager::host_entries()[id] = [](Op* op, Devicex* device) {
      return std::make_unique<OPX>(op, device);
    };
  }
};

}  // namespace popx
}  // namespace popart
