// Our own declaration of Poplar's non-owning sequence argument.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <vector>

namespace poplar {

template <class T>
class ArrayRef {
 public:
  ArrayRef() = default;
  ArrayRef(const std::vector<T>& values) : values_(values) {}
  ArrayRef(const std::initializer_list<T>& values) : values_(values) {}

  std::size_t size() const { return values_.size(); }
  const T& operator[](std::size_t index) const { return values_[index]; }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

 private:
  std::vector<T> values_;
};

}  // namespace poplar
