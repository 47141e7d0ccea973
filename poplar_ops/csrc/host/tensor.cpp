#include "tensor.h"

#include <cstdarg>
#include <cstdio>
#include <string>

#include "entry_points.h"

namespace poplar_ops {
namespace {

thread_local char message[256] = "";

std::string shape_of(const Tensor& tensor) {
  std::string text = "(";
  for (int i = 0; i < tensor.dim && i < kMaxDim; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(tensor.size[i]);
  }
  if (tensor.dim > kMaxDim) text += ", ...";
  return text + (tensor.dim == 1 ? ",)" : ")");
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kInt32:
      return "int32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kOther:
      break;
  }
  return "of another type";
}

bool is_contiguous(const Tensor& tensor) {
  int64_t expected = 1;
  for (int i = tensor.dim - 1; i >= 0; --i) {
    if (tensor.size[i] == 0) return true;
    if (tensor.size[i] != 1 && tensor.stride[i] != expected) return false;
    expected *= tensor.size[i];
  }
  return true;
}

}  // namespace

int refuse(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return kBadArgument;
}

int check_sizes(const Tensor& tensor, const char* name, const char* layout, int dim,
                const int64_t (&size)[kMaxDim]) {
  bool fits = tensor.dim == dim;
  for (int i = 0; fits && i < dim; ++i) fits = tensor.size[i] == size[i];
  if (fits) return kOk;
  return refuse("%s must be %s, got %s", name, layout, shape_of(tensor).c_str());
}

int check_float(const Tensor& tensor, const char* name) {
  const DType dtype = tensor.dtype;
  if (dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16) return kOk;
  return refuse("%s must be float32, float16 or bfloat16", name);
}

int check(const Tensor& tensor, const char* name, const char* layout, DType dtype, int dim,
          const int64_t (&size)[kMaxDim]) {
  if (int code = check_sizes(tensor, name, layout, dim, size)) return code;
  if (tensor.dtype != dtype) return refuse("%s must be %s", name, name_of(dtype));
  if (!is_contiguous(tensor)) return refuse("%s must be contiguous", name);
  return kOk;
}

}  // namespace poplar_ops

extern "C" const char* poplar_ops_error() {
  return poplar_ops::message;
}
