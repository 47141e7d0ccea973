// A cut is guessed from a sample so that slightly more than k values lie above it, one pass at
// memory speed collects these, and a radix sort of the few thousand that remain does the rest. A
// guess that turns out too high is lowered, so the result is exact whatever the data.
#include "select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "simd.h"

namespace poplar_ops {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kBlock = 32;        // values tested at a time
constexpr int64_t kSmall = 1 << 15;   // below this, sorting everything is as fast as a cut
constexpr int64_t kSample = 1 << 13;  // values that the cut is guessed from

Entry entry(float value, int64_t index) {
  // -0 becomes +0 in the addition, NaN becomes -infinity.
  value = std::isnan(value) ? -kInfinity : value + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t ascending = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return static_cast<Entry>(~ascending) << 32 | static_cast<uint32_t>(index);
}

// First multiple of kBlock, from `begin` on, whose block holds a value >= bound; else `end`. Both
// ends are multiples of kBlock.
POPLAR_OPS_INLINE int64_t find_block(const float* x, int64_t begin, int64_t end, float bound) {
  for (; begin < end; begin += kBlock) {
    int32_t any = 0;
    for (int64_t lane = 0; lane < kBlock; ++lane) any |= x[begin + lane] >= bound ? -1 : 0;
    if (any) break;
  }
  return begin;
}

using FindBlock = int64_t (*)(const float*, int64_t, int64_t, float);

int64_t find_block_baseline(const float* x, int64_t begin, int64_t end, float bound) {
  return find_block(x, begin, end, bound);
}
#if POPLAR_OPS_X86
POPLAR_OPS_AVX2 int64_t find_block_avx2(const float* x, int64_t begin, int64_t end, float bound) {
  return find_block(x, begin, end, bound);
}
POPLAR_OPS_AVX512 int64_t find_block_avx512(const float* x, int64_t begin, int64_t end,
                                            float bound) {
  return find_block(x, begin, end, bound);
}
#endif

FindBlock find_block_for(Simd level) {
#if POPLAR_OPS_X86
  if (level == Simd::kAvx512) return find_block_avx512;
  if (level == Simd::kAvx2) return find_block_avx2;
#endif
  (void)level;
  return find_block_baseline;
}

// Entries of all x[i] >= bound in order of i; of those equal to it, only the first `max_equal`:
// later ones lose every tie.
std::vector<Entry> collect(const float* x, int64_t n, float bound, int64_t max_equal) {
  std::vector<Entry> found;
  found.reserve(std::min(n, kSmall));
  int64_t equal = 0;
  const auto take = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (x[i] > bound || (x[i] == bound && equal++ < max_equal)) found.push_back(entry(x[i], i));
    }
  };
  const FindBlock find = find_block_for(simd());
  const int64_t whole = n - n % kBlock;
  float search = bound;
  for (int64_t i = 0; i < whole; i += kBlock) {
    i = find(x, i, whole, search);
    if (i == whole) break;
    take(i, i + kBlock);
    if (equal >= max_equal) search = std::nextafter(bound, kInfinity);
  }
  take(whole, n);
  return found;
}

std::vector<Entry> collect_all(const float* x, int64_t n) {
  std::vector<Entry> found(n);
  for (int64_t i = 0; i < n; ++i) found[i] = entry(x[i], i);
  return found;
}

// Sorts entries that stand in order of index: stable, by the upper 32 bits, 11 at a time.
void sort(std::vector<Entry>& entries) {
  constexpr int kPasses = 3, kBits = 11, kBuckets = 1 << kBits;
  uint32_t start[kPasses][kBuckets] = {};
  for (const Entry e : entries) {
    for (int pass = 0; pass < kPasses; ++pass) {
      ++start[pass][(e >> (32 + kBits * pass)) & (kBuckets - 1)];
    }
  }
  std::vector<Entry> other(entries.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    uint32_t sum = 0;
    bool one_bucket = false;
    for (uint32_t& bucket : start[pass]) {
      const uint32_t count = bucket;
      one_bucket |= count == entries.size();
      bucket = sum;
      sum += count;
    }
    if (one_bucket) continue;
    for (const Entry e : entries) {
      other[start[pass][(e >> (32 + kBits * pass)) & (kBuckets - 1)]++] = e;
    }
    entries.swap(other);
  }
}

// Values spread over x; NaN counts as -infinity.
std::vector<float> take_sample(const float* x, int64_t n) {
  std::vector<float> sample(kSample);
  for (int64_t i = 0; i < kSample; ++i) {
    const float value = x[i * n / kSample];
    sample[i] = std::isnan(value) ? -kInfinity : value;
  }
  return sample;
}

// At least k sorted entries, or all that are >= floor.
std::vector<Entry> select(const float* x, int64_t n, int64_t k, float floor) {
  if (n > kSmall && k < n / 4) {
    std::vector<float> sample = take_sample(x, n);
    const double expected = double(k) * kSample / double(n);
    double rank = expected + 4 * std::sqrt(expected) + 4;  // four standard deviations to spare
    for (; rank < kSample; rank *= 4) {
      const auto cut_at = sample.begin() + static_cast<int64_t>(rank);
      std::nth_element(sample.begin(), cut_at, sample.end(), std::greater<float>());
      const float cut = *cut_at;
      if (!(cut > floor)) break;
      std::vector<Entry> entries = collect(x, n, cut, k);
      if (static_cast<int64_t>(entries.size()) < k) continue;
      sort(entries);
      return entries;
    }
  }
  std::vector<Entry> entries = collect(x, n, floor, n);
  sort(entries);
  return entries;
}

}  // namespace

std::vector<Entry> largest_above(const float* x, int64_t n, int64_t k, float floor) {
  return select(x, n, k, std::nextafter(floor, kInfinity));
}

std::vector<Entry> largest(const float* x, int64_t n, int64_t k) {
  std::vector<Entry> entries;
  if (n > kSmall) entries = select(x, n, k, -kInfinity);
  if (static_cast<int64_t>(entries.size()) < k) {  // few values, or some are NaN
    entries = collect_all(x, n);
    sort(entries);
  }
  entries.resize(k);
  return entries;
}

}  // namespace poplar_ops
