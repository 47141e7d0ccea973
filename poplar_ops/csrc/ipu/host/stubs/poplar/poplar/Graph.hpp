// Our own declarations of the Poplar graph calls that our operators use.
#pragma once
#include <cstdint>
#include <memory>

#include "OptionFlags.hpp"
#include "Program.hpp"
#include "Tensor.hpp"

namespace poplar {

class Target {
 public:
  explicit Target(unsigned tiles) : tiles_(tiles) {}
  unsigned getNumTiles() const { return tiles_; }
  unsigned getNumWorkerContexts() const;
  unsigned getBytesPerTile() const;

 private:
  unsigned tiles_;
};

// A field of one vertex of the graph.
class FieldRef {
 public:
  FieldRef(unsigned vertex, std::string name) : vertex_(vertex), name_(std::move(name)) {}
  unsigned host_vertex() const { return vertex_; }
  const std::string& host_name() const { return name_; }

 private:
  unsigned vertex_;
  std::string name_;
};

class VertexRef {
 public:
  explicit VertexRef(unsigned id) : id_(id) {}
  FieldRef operator[](StringRef name) const { return {id_, name}; }
  unsigned getId() const { return id_; }

 private:
  unsigned id_;
};

enum class CodeletFileType { Auto };

class Graph {
 public:
  const Target& getTarget() const;
  bool addCodelets(StringRef source, CodeletFileType type = CodeletFileType::Auto,
                   StringRef compile_flags = "", StringRef target = "");
  Tensor addVariable(const Type& type, ArrayRef<std::size_t> shape,
                     const DebugContext& context = {});
  ComputeSet addComputeSet(const DebugContext& context = {});
  VertexRef addVertex(ComputeSet compute_set, StringRef name);
  void connect(FieldRef field, const Tensor& tensor);
  void setTileMapping(VertexRef vertex, unsigned tile);
  void setTileMapping(const Tensor& tensor, unsigned tile);
  void setPerfEstimate(const VertexRef& vertex, std::uint64_t cycles, std::uint64_t flops = 0);

  template <class T>
  void setInitialValue(FieldRef field, const T& value) {
    set_bytes(field, host_type<T>(), &value, sizeof value);
  }

  // Ours: a graph of the simulation.
  explicit Graph(host::Machine& machine) : machine_(&machine) {}

 private:
  template <class T>
  static const char* host_type();
  void set_bytes(const FieldRef& field, const char* type, const void* value, std::size_t size);

  host::Machine* machine_;
};

template <>
inline const char* Graph::host_type<float>() {
  return "float";
}
template <>
inline const char* Graph::host_type<int>() {
  return "int";
}
template <>
inline const char* Graph::host_type<unsigned>() {
  return "unsigned";
}

}  // namespace poplar
