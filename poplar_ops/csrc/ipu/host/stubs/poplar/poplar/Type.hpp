// Our own declaration of Poplar's element types.
#pragma once
#include <cstddef>
#include <string>

#include "StringRef.hpp"

namespace poplar {

class Type {
 public:
  Type() = default;
  Type(const char* name, std::size_t size) : name_(name), size_(size) {}
  bool operator==(const Type& other) const { return name_ == other.name_; }
  bool operator!=(const Type& other) const { return name_ != other.name_; }
  StringRef toString() const { return name_; }
  std::size_t host_size() const { return size_; }  // ours: bytes of an element

 private:
  std::string name_;
  std::size_t size_ = 0;
};

extern const Type BOOL, CHAR, UNSIGNED_CHAR, SIGNED_CHAR, SHORT, UNSIGNED_SHORT, INT, UNSIGNED_INT,
    HALF, FLOAT;

}  // namespace poplar
