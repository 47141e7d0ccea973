// Enters the kernels into torch's dispatcher through the stable C functions of libtorch (2.10 and
// later), found by name in the library that Python has loaded: nothing of torch is needed to build.
#include <dlfcn.h>

#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

#include "entry_points.h"
#include "parallel.h"
#include "tensor.h"

namespace poplar_ops {
namespace {

// libtorch's types at this border: error codes, opaque handles, and 64-bit slots for any value.
using Error = int32_t;
using Handle = struct Opaque*;
using Slot = uint64_t;

struct Torch {
  Error (*library_init_impl)(const char* domain, const char* key, const char* file, uint32_t line,
                             Handle* library);
  Error (*library_impl)(Handle library, const char* name,
                        void (*kernel)(Slot* stack, Slot inputs, Slot outputs));
  Error (*get_data_ptr)(Handle tensor, void** data);
  Error (*get_dim)(Handle tensor, int64_t* dim);
  Error (*get_sizes)(Handle tensor, int64_t** sizes);
  Error (*get_strides)(Handle tensor, int64_t** strides);
  Error (*get_dtype)(Handle tensor, int32_t* dtype);
  Error (*delete_tensor)(Handle tensor);
  Error (*empty_strided)(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                         int32_t device_type, int32_t device_index, Handle* tensor);
  int32_t (*dtype_float32)();
  int32_t (*dtype_int32)();
  int32_t (*device_type_cpu)();
};

Torch torch;

template <typename Function>
bool find(void* libtorch, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(libtorch, name));
  return function != nullptr;
}

bool find_all(void* lib) {
  return find(lib, "aoti_torch_library_init_impl", torch.library_init_impl) &&
         find(lib, "aoti_torch_library_impl", torch.library_impl) &&
         find(lib, "aoti_torch_get_data_ptr", torch.get_data_ptr) &&
         find(lib, "aoti_torch_get_dim", torch.get_dim) &&
         find(lib, "aoti_torch_get_sizes", torch.get_sizes) &&
         find(lib, "aoti_torch_get_strides", torch.get_strides) &&
         find(lib, "aoti_torch_get_dtype", torch.get_dtype) &&
         find(lib, "aoti_torch_delete_tensor_object", torch.delete_tensor) &&
         find(lib, "aoti_torch_empty_strided", torch.empty_strided) &&
         find(lib, "aoti_torch_dtype_float32", torch.dtype_float32) &&
         find(lib, "aoti_torch_dtype_int32", torch.dtype_int32) &&
         find(lib, "aoti_torch_device_type_cpu", torch.device_type_cpu);
}

void require(Error error) {
  if (error != 0) throw std::runtime_error("poplar_ops: libtorch refused a call");
}

// A tensor of torch that this side owns: an argument off the stack, or a new result.
class Owned {
 public:
  explicit Owned(Slot slot) { std::memcpy(&handle_, &slot, sizeof handle_); }

  Owned(DType dtype, std::initializer_list<int64_t> sizes) {
    int64_t strides[kMaxDim];
    int64_t stride = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      strides[i] = stride;
      stride *= sizes.begin()[i];
    }
    require(
        torch.empty_strided(sizes.size(), sizes.begin(), strides,
                            dtype == DType::kFloat32 ? torch.dtype_float32() : torch.dtype_int32(),
                            torch.device_type_cpu(), 0, &handle_));
  }

  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) torch.delete_tensor(handle_);
  }

  Tensor view() const {
    Tensor tensor{};
    int64_t dim, *sizes, *strides;
    int32_t dtype;
    require(torch.get_data_ptr(handle_, &tensor.data));
    require(torch.get_dim(handle_, &dim));
    require(torch.get_sizes(handle_, &sizes));
    require(torch.get_strides(handle_, &strides));
    require(torch.get_dtype(handle_, &dtype));
    tensor.dim = static_cast<int32_t>(dim);
    for (int i = 0; i < dim && i < kMaxDim; ++i) {
      tensor.size[i] = sizes[i];
      tensor.stride[i] = strides[i];
    }
    if (dtype == torch.dtype_float32()) tensor.dtype = DType::kFloat32;
    if (dtype == torch.dtype_int32()) tensor.dtype = DType::kInt32;
    return tensor;
  }

  // Hands the tensor over to torch.
  Slot release() {
    Slot slot = 0;
    std::memcpy(&slot, &handle_, sizeof handle_);
    handle_ = nullptr;
    return slot;
  }

 private:
  Handle handle_ = nullptr;
};

template <typename T>
T value(Slot slot) {
  T result;
  std::memcpy(&result, &slot, sizeof result);
  return result;
}

// An exception out of a kernel arrives in Python as RuntimeError.
void raise(int code) {
  if (code == kBadArgument) throw std::runtime_error(poplar_ops_error());
  if (code == kOutOfMemory) throw std::bad_alloc();
}

constexpr int kAllThreads = std::numeric_limits<int>::max();  // torch's pool knows its own size

void nms_kernel(Slot* stack, Slot, Slot) {
  const Owned scores(stack[0]), boxes(stack[1]), labels(stack[2]);
  const NmsConfig config{static_cast<float>(value<double>(stack[3])),
                         static_cast<float>(value<double>(stack[4])), value<double>(stack[7]),
                         value<bool>(stack[6])};
  const Tensor scores_view = scores.view(), boxes_view = boxes.view(), labels_view = labels.view();
  const int64_t b = scores_view.size[0], k = value<int64_t>(stack[5]);
  Owned out[] = {{DType::kFloat32, {b, k, 4}},
                 {DType::kFloat32, {b, k}},
                 {DType::kInt32, {b, k}},
                 {DType::kInt32, {b, k}},
                 {DType::kInt32, {b}}};
  const Tensor view[] = {out[0].view(), out[1].view(), out[2].view(), out[3].view(), out[4].view()};
  raise(poplar_ops_nms(&scores_view, &boxes_view, &labels_view, &config, &view[0], &view[1],
                       &view[2], &view[3], &view[4], kAllThreads));
  for (int i = 0; i < 5; ++i) stack[i] = out[i].release();
}

void topk_select_kernel(Slot* stack, Slot, Slot) {
  const Owned x(stack[0]);
  const Tensor x_view = x.view();
  const int64_t b = x_view.size[0], k = value<int64_t>(stack[1]);
  Owned values(DType::kFloat32, {b, k}), indices(DType::kInt32, {b, k});
  const Tensor values_view = values.view(), indices_view = indices.view();
  raise(poplar_ops_topk_select(&x_view, &values_view, &indices_view, kAllThreads));
  stack[0] = values.release();
  stack[1] = indices.release();
}

}  // namespace
}  // namespace poplar_ops

using namespace poplar_ops;

extern "C" int poplar_ops_find_torch(void* libtorch) {
  TorchParallelFor parallel_for = nullptr;
  if (!find_all(libtorch) || !find(libtorch, "torch_parallel_for", parallel_for)) return 1;
  use_torch_threads(parallel_for);
  return 0;
}

extern "C" int poplar_ops_register(const char* name) {
  static Handle library =
      nullptr;  // lives as long as the process: its end would remove the kernels
  if (library == nullptr &&
      torch.library_init_impl("poplar_ops", "CPU", __FILE__, __LINE__, &library) != 0) {
    return 1;
  }
  if (std::strcmp(name, "nms") == 0) return torch.library_impl(library, name, nms_kernel) != 0;
  if (std::strcmp(name, "topk_select") == 0) {
    return torch.library_impl(library, name, topk_select_kernel) != 0;
  }
  return 1;
}
