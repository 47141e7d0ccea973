// Our own declarations of the part of PopART's lowering class that our operators use.
#pragma once
#include <map>
#include <popart/op.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <string>

namespace popart {
namespace popx {

// Where an operator's tensors live; in the simulation, all there is to a device.
struct Devicex {
  poplar::Graph* graph;
  std::map<InIndex, poplar::Tensor> inputs;
  std::map<OutIndex, poplar::Tensor> outputs;
};

class Opx {
 public:
  Opx(Op* op, Devicex* device) : op_p(op), dv_p(device) {}
  virtual ~Opx() = default;
  virtual void grow(poplar::program::Sequence&) const = 0;

  virtual poplar::Graph& graph() const { return *dv_p->graph; }
  const poplar::Tensor& getInTensor(InIndex index) const { return dv_p->inputs.at(index); }
  void setOutTensor(OutIndex index, const poplar::Tensor& tensor) const {
    dv_p->outputs[index] = tensor;
  }
  poplar::DebugContext debugContext(
      const std::string name = "",
      poplar::SourceLocation location = poplar::SourceLocation::Current()) const {
    return {op_p->opid.type + "/" + name, location};
  }

  template <class OP>
  OP& getOp() const {
    auto* op = dynamic_cast<OP*>(op_p);
    if (op == nullptr) throw error("Opx: its operator is of another class");
    return *op;
  }

  template <class OP>
  void verifyOp(Op* op, const OperatorIdentifier& id) {
    if (op->opid.domain != id.domain || op->opid.type != id.type) {
      throw error("Opx: got operator " + op->opid.type + " instead of " + id.type);
    }
  }

  Op* op_p;

 protected:
  Devicex* dv_p;
};

}  // namespace popx
}  // namespace popart
