// Our own declaration of PopART's serialiser: what tells two operators apart.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "op.hpp"

namespace popart {

class OpSerialiserBase {
 public:
  void appendAttribute(const std::string& name, float value) { append(name, value); }
  void appendAttribute(const std::string& name, double value) { append(name, value); }
  void appendAttribute(const std::string& name, int value) { append(name, value); }
  void appendAttribute(const std::string& name, int64_t value) { append(name, value); }
  void appendAttribute(const std::string& name, bool value) { append(name, value); }
  void appendAttribute(const std::string& name, const std::string& value) {
    host_attributes[name] = value;
  }

  std::map<std::string, std::string> host_attributes;  // ours

 private:
  template <class T>
  void append(const std::string& name, T value) {
    std::ostringstream text;
    text.precision(9);
    text << value;
    host_attributes[name] = text.str();
  }
};

inline void Op::appendAttributes(OpSerialiserBase&) const {}
inline void Op::appendOutlineAttributes(OpSerialiserBase&) const {}

}  // namespace popart
