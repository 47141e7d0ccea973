// Plain C entry points for Python to bind memory to one vertex and run it, worker by worker.
#include "vertices.hpp"

#include "border.hpp"

namespace poplar {
namespace host {

namespace {
std::vector<VertexClass>& registry() {
  static std::vector<VertexClass> classes;
  return classes;
}
}  // namespace

const std::vector<VertexClass>& vertex_classes() {
  return registry();
}

bool add_vertex_classes(const std::vector<VertexClass>& classes) {
  registry().insert(registry().end(), classes.begin(), classes.end());
  return true;
}

const VertexClass& vertex_class(const std::string& name) {
  for (const auto& candidate : vertex_classes()) {
    if (candidate.name == name) return candidate;
  }
  throw std::invalid_argument("no codelet has a vertex '" + name + "'");
}

}  // namespace host
}  // namespace poplar

namespace {

using namespace poplar::host;

struct Instance {
  const VertexClass* type;
  std::shared_ptr<void> vertex;
};

void bind(Instance& instance, const char* name, const char* type, void* data, std::size_t count) {
  const Field& field = instance.type->field(name);
  const std::string where = instance.type->name + "." + name;
  // torch 2.0 has no unsigned tensors: a count comes as int.
  const bool is_count = field.type == "unsigned" && std::string(type) == "int";
  if (field.type != type && !is_count) {
    throw std::invalid_argument(where + " holds " + field.type + ", got " + type);
  }
  if (!field.is_vector && count != 1) {
    throw std::invalid_argument(where + " is one element, got " + std::to_string(count));
  }
  if (field.is_short && count > kMaxShortSpan) {
    throw std::invalid_argument(where + " is a SHORT_SPAN of at most 2047 elements, got " +
                                std::to_string(count));
  }
  if (reinterpret_cast<std::uintptr_t>(data) % field.alignment != 0) {
    throw std::invalid_argument(where + " must be aligned to " + std::to_string(field.alignment) +
                                " bytes");
  }
  field.bind(instance.vertex.get(), data, count);
}

}  // namespace

extern "C" {

const char* poplar_host_error() {
  return last_error.c_str();
}

// "Name workers field:direction:type:vector ...\n" for every vertex class.
const char* poplar_host_vertices() {
  static const std::string listing = [] {
    const char* const directions[] = {"in", "out", "inout", "state"};
    std::string out;
    for (const auto& type : vertex_classes()) {
      out += type.name + (type.is_multi ? " 6" : " 1");
      for (const auto& field : type.fields) {
        out += " " + field.name + ":" + directions[static_cast<int>(field.direction)] + ":" +
               field.type + ":" + (field.is_vector ? "1" : "0");
      }
      out += "\n";
    }
    return out;
  }();
  return listing.c_str();
}

void* poplar_host_vertex_new(const char* name) {
  Instance* out = nullptr;
  guarded([&] {
    const VertexClass& type = vertex_class(name);
    out = new Instance{&type, type.make()};
  });
  return out;
}

void poplar_host_vertex_free(void* instance) {
  delete static_cast<Instance*>(instance);
}

int poplar_host_vertex_bind(void* instance, const char* field, const char* type, void* data,
                            std::size_t count) {
  return guarded([&] { bind(*static_cast<Instance*>(instance), field, type, data, count); });
}

int poplar_host_vertex_run(void* instance, unsigned worker) {
  return guarded([&] {
    auto* typed = static_cast<Instance*>(instance);
    typed->type->run(typed->vertex.get(), worker);
  });
}

}  // extern "C"
