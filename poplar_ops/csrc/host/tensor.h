// A tensor as it crosses the C border: pointer, element type, sizes, strides. No torch header.
//
// `poplar_ops/library.py` holds the same layout for ctypes; `register.cpp` fills it from the stable
// C functions of libtorch.
#pragma once

#include <cstdint>

namespace poplar_ops {

constexpr int kMaxDim = 4;

enum class DType : int32_t { kOther = 0, kFloat32 = 1, kInt32 = 2, kFloat16 = 3, kBFloat16 = 4 };

struct Tensor {
  void* data;
  DType dtype;
  int32_t dim;  // true rank, which may exceed kMaxDim: then only the first kMaxDim sizes are set
  int64_t size[kMaxDim];
  int64_t stride[kMaxDim];  // in elements

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

enum Code : int { kOk = 0, kBadArgument = 1, kOutOfMemory = 2 };

// Remembers the message for `poplar_ops_error()` on this thread and returns `kBadArgument`.
int refuse(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Refuses a tensor of other sizes. `layout` names the expected ones in words, as in "(B, N, 4)".
int check_sizes(const Tensor& tensor, const char* name, const char* layout, int dim,
                const int64_t (&size)[kMaxDim]);

// Refuses a tensor that is none of float32, float16, bfloat16.
int check_float(const Tensor& tensor, const char* name);

// Refuses a tensor that is not contiguous with these sizes and this type.
int check(const Tensor& tensor, const char* name, const char* layout, DType dtype, int dim,
          const int64_t (&size)[kMaxDim]);

}  // namespace poplar_ops
