// Our own declarations of the Poplar programs that our operators use.
#pragma once
#include <memory>

#include "DebugContext.hpp"
#include "Tensor.hpp"

namespace poplar {

class ComputeSet {
 public:
  ComputeSet() = default;
  explicit ComputeSet(unsigned id) : id_(id) {}
  unsigned getId() const { return id_; }

 private:
  unsigned id_ = 0;
};

namespace host {
class Machine;
struct Step {  // one node of a program in the simulation
  virtual ~Step() = default;
  virtual void run(Machine& machine) const = 0;
};
}  // namespace host

namespace program {

class Program {
 public:
  Program() = default;
  const host::Step* host_step() const { return step_.get(); }

 protected:
  explicit Program(std::shared_ptr<host::Step> step) : step_(std::move(step)) {}
  std::shared_ptr<host::Step> step_;
};

class Sequence : public Program {
 public:
  Sequence(const DebugContext& context = {});
  void add(const Program& program);
};

class Execute : public Program {
 public:
  Execute(ComputeSet compute_set, const DebugContext& context = {});
};

class Copy : public Program {
 public:
  Copy(Tensor source, Tensor destination, bool do_not_outline = false,
       const DebugContext& context = {});
};

class RepeatWhileTrue : public Program {
 public:
  RepeatWhileTrue(const Program& condition, const Tensor& predicate, const Program& body,
                  const DebugContext& context = {});
};

}  // namespace program
}  // namespace poplar
