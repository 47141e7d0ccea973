// What the simulation knows of each vertex class: name, fields, how to make one and run one.
//
// `glue.py` writes one `describe<Class>(name, {field<&Class::member>(name), ...})` a class; types,
// directions and alignments come from the members themselves.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace poplar {
namespace host {

enum class Direction { kInput, kOutput, kInOut, kState };

struct Field {
  std::string name;
  Direction direction;
  std::string type;       // "float", "half", "int", "bool"
  std::size_t size;       // bytes of an element
  std::size_t alignment;  // bytes
  bool is_vector;
  bool is_short;  // SHORT_SPAN: its length has 11 bits
  std::function<void(void* vertex, void* data, std::size_t count)> bind;
};

struct VertexClass {
  std::string name;
  bool is_multi;
  std::vector<Field> fields;
  std::function<std::shared_ptr<void>()> make;
  std::function<void(void* vertex, unsigned worker)> run;

  const Field& field(const std::string& wanted) const {
    for (const auto& candidate : fields) {
      if (candidate.name == wanted) return candidate;
    }
    throw std::invalid_argument("vertex " + name + " has no field '" + wanted + "'");
  }
};

// Every class of the codelet files that this library was built from; the glue adds them.
const std::vector<VertexClass>& vertex_classes();
bool add_vertex_classes(const std::vector<VertexClass>& classes);
const VertexClass& vertex_class(const std::string& name);

template <class T>
const char* type_name() {
  if (std::is_same<T, float>::value) return "float";
  if (std::is_same<T, half>::value) return "half";
  if (std::is_same<T, bool>::value) return "bool";
  if (std::is_same<T, int>::value) return "int";
  if (std::is_same<T, unsigned>::value) return "unsigned";
  if (std::is_same<T, short>::value) return "short";
  return "unsigned short";
}

// Element type, direction and layout of a member, from its type alone.
template <class Member>
struct Traits {  // a plain value, set once when the graph is built
  using Element = Member;
  static constexpr Direction direction = Direction::kState;
  static constexpr bool is_vector = false, is_short = false;
  static constexpr std::size_t alignment = alignof(Member);
};

template <class T, Direction way>
struct EdgeTraits {
  using Element = T;
  static constexpr Direction direction = way;
  static constexpr bool is_vector = false, is_short = false;
  static constexpr std::size_t alignment = alignof(T);
};

template <class T, VectorLayout layout, unsigned align, bool interleaved, Direction way>
struct EdgeTraits<Vector<T, layout, align, interleaved>, way> {
  using Element = T;
  static constexpr Direction direction = way;
  static constexpr bool is_vector = true, is_short = layout == VectorLayout::SHORT_SPAN;
  static constexpr std::size_t alignment = align < alignof(T) ? alignof(T) : align;
};

template <class T>
struct Traits<Input<T>> : EdgeTraits<T, Direction::kInput> {};
template <class T>
struct Traits<Output<T>> : EdgeTraits<T, Direction::kOutput> {};
template <class T>
struct Traits<InOut<T>> : EdgeTraits<T, Direction::kInOut> {};

template <class Class, class Member>
Class class_of(Member Class::*);
template <class Class, class Member>
Member member_of(Member Class::*);

template <auto member>
Field field(const char* name) {
  using Class = decltype(class_of(member));
  using Member = decltype(member_of(member));
  using Info = Traits<Member>;
  using Element = typename Info::Element;
  Field out{name,
            Info::direction,
            type_name<Element>(),
            sizeof(Element),
            Info::alignment,
            Info::is_vector,
            Info::is_short,
            {}};
  if constexpr (Info::direction == Direction::kState) {
    out.bind = [](void* vertex, void* data, std::size_t) {
      std::memcpy(&(static_cast<Class*>(vertex)->*member), data, sizeof(Element));
    };
  } else {
    out.bind = [](void* vertex, void* data, std::size_t count) {
      (static_cast<Class*>(vertex)->*member).bind(static_cast<Element*>(data), count);
    };
  }
  return out;
}

template <class Class>
VertexClass describe(const char* name, std::vector<Field> fields) {
  VertexClass out{name, std::is_base_of<MultiVertex, Class>::value, std::move(fields), {}, {}};
  out.make = [] { return std::make_shared<Class>(); };
  out.run = [](void* vertex, unsigned worker) {
    auto* typed = static_cast<Class*>(vertex);
    if constexpr (std::is_base_of<MultiVertex, Class>::value) {
      typed->compute(worker);
    } else {
      (void)worker;
      typed->compute();
    }
  };
  return out;
}

}  // namespace host
}  // namespace poplar
