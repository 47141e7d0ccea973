// Our own stand-in for the tile side of Poplar: vertex classes and the fields they are made of.
//
// It has what our codelets use and refuses what a tile would: an Input is const, a ONE_PTR has no
// size, every index is checked. Written after the published API; nothing of Poplar's is copied.
#pragma once
#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace poplar {

enum class VectorLayout { SPAN, ONE_PTR, SHORT_SPAN };

template <class T, VectorLayout layout = VectorLayout::SPAN, unsigned alignment = alignof(T),
          bool interleaved = false>
struct Vector {};

namespace host {

constexpr unsigned kWorkers = 6;             // hardware contexts of a tile
constexpr std::size_t kMaxShortSpan = 2047;  // a SHORT_SPAN counts with 11 bits

// The memory behind one field; T is const where the vertex may only read.
template <class T>
class Binding {
 public:
  void bind(T* data, std::size_t count) {
    data_ = data;
    count_ = count;
  }

 protected:
  T& at(std::size_t index) const {
    if (index >= count_) {
      throw std::out_of_range("index " + std::to_string(index) + ", size " +
                              std::to_string(count_));
    }
    return data_[index];
  }

  T* data_ = nullptr;
  std::size_t count_ = 0;
};

template <class T>
class Scalar : public Binding<T> {
 public:
  T& operator*() const { return this->at(0); }
  operator T&() const { return this->at(0); }
};

template <class T, VectorLayout layout>
class Elements : public Binding<T> {
 public:
  T& operator[](std::size_t index) const { return this->at(index); }

  template <VectorLayout own = layout>
  std::enable_if_t<own != VectorLayout::ONE_PTR, unsigned> size() const {
    return static_cast<unsigned>(this->count_);
  }
};

}  // namespace host

template <class T>
class Input : public host::Scalar<const T> {};
template <class T>
class Output : public host::Scalar<T> {};
template <class T>
class InOut : public host::Scalar<T> {};

template <class T, VectorLayout layout, unsigned alignment, bool interleaved>
class Input<Vector<T, layout, alignment, interleaved>> : public host::Elements<const T, layout> {};
template <class T, VectorLayout layout, unsigned alignment, bool interleaved>
class Output<Vector<T, layout, alignment, interleaved>> : public host::Elements<T, layout> {};
template <class T, VectorLayout layout, unsigned alignment, bool interleaved>
class InOut<Vector<T, layout, alignment, interleaved>> : public host::Elements<T, layout> {};

class Vertex {};

class MultiVertex {
 public:
  static constexpr unsigned numWorkers() { return host::kWorkers; }
};

}  // namespace poplar
