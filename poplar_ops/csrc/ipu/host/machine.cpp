// Running a graph of the simulation, and the checks that a compile for the device would make.
//
// A compute set runs as on the device: first every vertex gets its inputs, then all vertices run,
// each worker in turn and in any order, then the outputs go back.
#include "machine.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>

namespace poplar {
namespace host {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw std::logic_error(message);
}

bool reads(const Edge& edge) {
  return edge.field->direction != Direction::kOutput;
}
bool writes(const Edge& edge) {
  return edge.field->direction != Direction::kInput;
}

}  // namespace

std::string Machine::name_of(std::uint32_t element) const {
  for (const auto& variable : variables) {
    if (element >= variable.first && element < variable.first + variable.count) {
      return variable.name + " element " + std::to_string(element - variable.first);
    }
  }
  return "element " + std::to_string(element);
}

void Machine::check() {
  for (std::uint32_t element = 0; element < tile_of.size(); ++element) {
    if (tile_of[element] == kUnmapped) refuse(name_of(element) + " is on no tile");
  }
  for (const auto& vertex : vertices) {
    if (vertex.tile == kUnmapped) refuse("vertex " + vertex.type->name + " is on no tile");
    for (const auto& field : vertex.type->fields) {
      const bool connected = std::any_of(vertex.edges.begin(), vertex.edges.end(),
                                         [&](const Edge& edge) { return edge.field == &field; });
      if (!connected && vertex.values.count(field.name) == 0) {
        refuse("vertex " + vertex.type->name + ": field " + field.name + " was never set");
      }
    }
  }
  check_compute_sets();
  std::vector<std::int64_t> bytes(target.getNumTiles(), 0);
  for (const auto& variable : variables) {
    for (std::uint32_t i = 0; i < variable.count; ++i) {
      bytes[tile_of[variable.first + i]] += static_cast<std::int64_t>(variable.size);
    }
  }
  // What a compute set fetches or sends lives on the tile while it runs, and no longer.
  std::map<std::pair<std::uint32_t, unsigned>, std::int64_t> fetched;  // by tile and compute set
  for (const auto& vertex : vertices) {
    for (const auto& edge : vertex.edges) {
      const auto& elements = edge.tensor.host_elements();
      const auto remote =
          std::count_if(elements.begin(), elements.end(),
                        [&](std::uint32_t element) { return tile_of[element] != vertex.tile; });
      fetched[{vertex.tile, vertex.compute_set}] +=
          remote * static_cast<std::int64_t>(edge.field->size);
    }
  }
  std::vector<std::int64_t> most(bytes.size(), 0);
  for (const auto& entry : fetched) {
    most[entry.first.first] = std::max(most[entry.first.first], entry.second);
  }
  std::transform(bytes.begin(), bytes.end(), most.begin(), bytes.begin(), std::plus<>());
  report.vertices = static_cast<std::int64_t>(vertices.size());
  report.max_tile_bytes = *std::max_element(bytes.begin(), bytes.end());
  report.tiles_used = std::count_if(bytes.begin(), bytes.end(), [](auto size) { return size > 0; });
  if (report.max_tile_bytes > target.getBytesPerTile()) {
    refuse("a tile needs " + std::to_string(report.max_tile_bytes) + " bytes, it has " +
           std::to_string(target.getBytesPerTile()));
  }
}

void Machine::check_compute_sets() const {
  for (std::size_t id = 0; id < compute_sets.size(); ++id) {
    std::map<std::uint32_t, std::size_t> writer;  // element -> vertex
    for (std::size_t v = 0; v < vertices.size(); ++v) {
      if (vertices[v].compute_set != id) continue;
      for (const auto& edge : vertices[v].edges) {
        if (!writes(edge)) continue;
        for (const auto element : edge.tensor.host_elements()) {
          if (!writer.emplace(element, v).second) {
            refuse(name_of(element) + " is written twice in compute set " + compute_sets[id]);
          }
        }
      }
    }
    for (std::size_t v = 0; v < vertices.size(); ++v) {
      if (vertices[v].compute_set != id) continue;
      for (const auto& edge : vertices[v].edges) {
        if (writes(edge)) continue;
        for (const auto element : edge.tensor.host_elements()) {
          if (writer.count(element) != 0) {
            refuse(name_of(element) + " is read and written in compute set " + compute_sets[id]);
          }
        }
      }
    }
  }
}

std::vector<std::uint8_t> Machine::gather(const Tensor& tensor) const {
  std::vector<std::uint8_t> bytes(tensor.numElements() * tensor.elementType().host_size());
  read(tensor, bytes.data());
  return bytes;
}

void Machine::read(const Tensor& tensor, void* data) const {
  const std::size_t size = tensor.elementType().host_size();
  auto* to = static_cast<std::uint8_t*>(data);
  for (const auto element : tensor.host_elements()) {
    std::memcpy(to, &memory[element], size);
    to += size;
  }
}

void Machine::write(const Tensor& tensor, const void* data) {
  const std::size_t size = tensor.elementType().host_size();
  const auto* from = static_cast<const std::uint8_t*>(data);
  for (const auto element : tensor.host_elements()) {
    std::memcpy(&memory[element], from, size);
    from += size;
  }
}

void Machine::run(const program::Program& program) {
  if (program.host_step() == nullptr) refuse("an empty program");
  program.host_step()->run(*this);
}

void Machine::execute(unsigned compute_set) {
  struct Running {
    const GraphVertex* vertex;
    std::shared_ptr<void> object;
    std::vector<std::vector<std::uint8_t>> buffers;
  };
  std::vector<Running> all;
  for (const auto& vertex : vertices) {
    if (vertex.compute_set != compute_set) continue;
    Running running{&vertex, vertex.type->make(), {}};
    for (const auto& value : vertex.values) {
      auto bytes = value.second;
      vertex.type->field(value.first).bind(running.object.get(), bytes.data(), 1);
    }
    for (const auto& edge : vertex.edges) {
      auto bytes = gather(edge.tensor);
      if (!reads(edge)) std::fill(bytes.begin(), bytes.end(), std::uint8_t{0xa5});
      running.buffers.push_back(std::move(bytes));
    }
    all.push_back(std::move(running));
  }
  std::shuffle(all.begin(), all.end(), random);
  for (auto& running : all) {
    for (std::size_t i = 0; i < running.buffers.size(); ++i) {
      const auto& edge = running.vertex->edges[i];
      edge.field->bind(running.object.get(), running.buffers[i].data(), edge.tensor.numElements());
    }
    std::vector<unsigned> workers(running.vertex->type->is_multi ? kWorkers : 1);
    for (unsigned worker = 0; worker < workers.size(); ++worker) workers[worker] = worker;
    std::shuffle(workers.begin(), workers.end(), random);
    for (const auto worker : workers) running.vertex->type->run(running.object.get(), worker);
  }
  for (const auto& running : all) {
    for (std::size_t i = 0; i < running.buffers.size(); ++i) {
      const auto& edge = running.vertex->edges[i];
      if (writes(edge)) write(edge.tensor, running.buffers[i].data());
    }
  }
  ++report.compute_sets;
}

}  // namespace host

namespace program {

namespace {

struct SequenceStep : host::Step {
  std::vector<Program> programs;
  void run(host::Machine& machine) const override {
    for (const auto& program : programs) machine.run(program);
  }
};

struct ExecuteStep : host::Step {
  unsigned compute_set = 0;
  void run(host::Machine& machine) const override { machine.execute(compute_set); }
};

struct CopyStep : host::Step {
  Tensor source, destination;
  void run(host::Machine& machine) const override {
    std::vector<std::uint8_t> bytes(source.numElements() * source.elementType().host_size());
    machine.read(source, bytes.data());
    machine.write(destination, bytes.data());
  }
};

struct RepeatWhileTrueStep : host::Step {
  Program condition, body;
  Tensor predicate;
  void run(host::Machine& machine) const override {
    for (;;) {
      machine.run(condition);
      std::uint8_t go_on = 0;
      machine.read(predicate, &go_on);
      if (go_on == 0) return;
      machine.run(body);
      ++machine.report.rounds;
    }
  }
};

}  // namespace

Sequence::Sequence(const DebugContext&) : Program(std::make_shared<SequenceStep>()) {}

void Sequence::add(const Program& program) {
  static_cast<SequenceStep&>(*step_).programs.push_back(program);
}

Execute::Execute(ComputeSet compute_set, const DebugContext&) {
  auto step = std::make_shared<ExecuteStep>();
  step->compute_set = compute_set.getId();
  step_ = step;
}

Copy::Copy(Tensor source, Tensor destination, bool, const DebugContext&) {
  if (source.shape() != destination.shape() || source.elementType() != destination.elementType()) {
    throw std::invalid_argument("a copy between tensors of different shape or type");
  }
  auto step = std::make_shared<CopyStep>();
  step->source = source;
  step->destination = destination;
  step_ = step;
}

RepeatWhileTrue::RepeatWhileTrue(const Program& condition, const Tensor& predicate,
                                 const Program& body, const DebugContext&) {
  if (predicate.numElements() != 1 || predicate.elementType() != BOOL) {
    throw std::invalid_argument("the predicate of RepeatWhileTrue must be one bool");
  }
  auto step = std::make_shared<RepeatWhileTrueStep>();
  step->condition = condition;
  step->body = body;
  step->predicate = predicate;
  step_ = step;
}

}  // namespace program
}  // namespace poplar
