// Our own declaration of Poplar's tensor: a view of elements of variables.
//
// In the simulation a tensor lists the numbers of its elements, so every view is index arithmetic.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ArrayRef.hpp"
#include "DebugContext.hpp"
#include "Interval.hpp"
#include "Type.hpp"

namespace poplar {

class Tensor {
 public:
  Tensor() = default;
  Type elementType() const;
  std::size_t dim(unsigned index) const;
  unsigned rank() const;
  std::vector<std::size_t> shape() const;
  std::size_t numElements() const;

  Tensor operator[](std::size_t index) const;
  Tensor slice(std::size_t begin, std::size_t end, unsigned dimension) const;
  Tensor slice(std::size_t begin, std::size_t end) const;  // of dimension 0
  Tensor flatten() const;
  Tensor reshape(ArrayRef<std::size_t> shape) const;
  Tensor dimShuffle(ArrayRef<unsigned> permutation) const;

  // Ours: a tensor of the simulation, and its elements' numbers.
  Tensor(Type type, std::vector<std::size_t> shape, std::vector<std::uint32_t> elements);
  const std::vector<std::uint32_t>& host_elements() const { return elements_; }

 private:
  Type type_;
  std::vector<std::size_t> shape_;
  std::vector<std::uint32_t> elements_;
};

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension = 0);

}  // namespace poplar
