// topk_select: the k largest of every row, descending, ties by lowest index.
#include <limits>

#include "entry_points.h"
#include "parallel.h"
#include "select.h"

using namespace poplar_ops;

extern "C" int poplar_ops_topk_select(const Tensor* x, const Tensor* values, const Tensor* indices,
                                      int threads) {
  const int64_t batch = x->size[0], n = x->size[1], k = values->size[1];
  if (int code = check(*x, "x", "(B, N)", DType::kFloat32, 2, {batch, n})) return code;
  if (int code = check(*values, "values", "(B, k)", DType::kFloat32, 2, {batch, k})) return code;
  if (int code = check(*indices, "indices", "(B, k)", DType::kInt32, 2, {batch, k})) return code;
  if (k < 1 || k > n) {
    return refuse("k must be from 1 to N = %lld, got %lld", (long long)n, (long long)k);
  }
  if (n > std::numeric_limits<int32_t>::max()) return refuse("x has more than 2^31 - 1 columns");

  return for_each_image(batch, threads, [&](int64_t image) {
    const float* row = x->as<float>() + image * n;
    float* value = values->as<float>() + image * k;
    int32_t* index = indices->as<int32_t>() + image * k;
    for (const Entry entry : largest(row, n, k)) {
      *value++ = row[index_of(entry)];
      *index++ = static_cast<int32_t>(index_of(entry));
    }
  });
}
