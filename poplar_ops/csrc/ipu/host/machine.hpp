// The simulated device behind our Graph: memory, vertices and what running them must obey.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <poplar/Graph.hpp>
#include <random>
#include <string>
#include <vector>

#include "vertices.hpp"

namespace poplar {
namespace host {

constexpr std::uint32_t kUnmapped = 0xffffffff;

struct Edge {
  const Field* field;
  Tensor tensor;
};

struct GraphVertex {
  const VertexClass* type;
  unsigned compute_set;
  std::uint32_t tile = kUnmapped;
  std::vector<Edge> edges;
  std::map<std::string, std::vector<std::uint8_t>> values;
};

struct Report {
  std::int64_t rounds = 0;          // bodies of RepeatWhileTrue that ran
  std::int64_t compute_sets = 0;    // executions
  std::int64_t vertices = 0;        // in the graph
  std::int64_t max_tile_bytes = 0;  // variables and what vertices need from other tiles
  std::int64_t tiles_used = 0;
};

class Machine {
 public:
  Machine(unsigned tiles, unsigned seed) : target(tiles), random(seed), graph(*this) {}

  // Throws what Poplar would refuse, or what only hardware would show: unmapped elements or
  // vertices, unconnected fields, two vertices of a compute set at one element, a full tile.
  void check();
  void run(const program::Program& program);
  void execute(unsigned compute_set);
  void write(const Tensor& tensor, const void* data);
  void read(const Tensor& tensor, void* data) const;

  Target target;
  std::mt19937 random;  // order of vertices and workers
  Graph graph;
  Report report;
  std::vector<std::string> codelets;
  std::vector<std::string> compute_sets;
  std::vector<GraphVertex> vertices;

  struct Variable {
    std::string name;
    std::uint32_t first;
    std::uint32_t count;
    std::size_t size;  // bytes of an element
  };
  std::vector<Variable> variables;
  std::vector<std::uint64_t> memory;   // one cell an element, the low bytes hold it
  std::vector<std::uint32_t> tile_of;  // element -> tile
  std::string name_of(std::uint32_t element) const;

 private:
  void check_compute_sets() const;
  std::vector<std::uint8_t> gather(const Tensor& tensor) const;
};

}  // namespace host
}  // namespace poplar
