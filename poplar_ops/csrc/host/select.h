// Sorted entries of the largest values of an array: the first step of `nms` and all of
// `topk_select`.
#pragma once

#include <cstdint>
#include <vector>

namespace poplar_ops {

// A value and its index as one integer: ascending entries are descending values, and equal values
// ascend by index. Both zeros are equal; NaN counts as -infinity.
using Entry = uint64_t;

inline uint32_t index_of(Entry entry) {
  return static_cast<uint32_t>(entry);
}

// The k largest of x[0, n) that are greater than `floor`, sorted; fewer where fewer are. Entries
// that tie with the last one may follow it. n < 2^32.
std::vector<Entry> largest_above(const float* x, int64_t n, int64_t k, float floor);

// The k largest of x[0, n), sorted. 1 <= k <= n < 2^32.
std::vector<Entry> largest(const float* x, int64_t n, int64_t k);

}  // namespace poplar_ops
