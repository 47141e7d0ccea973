#include "simd.h"

#include <atomic>

#include "entry_points.h"

namespace poplar_ops {
namespace {

Simd best() {
#if POPLAR_OPS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return Simd::kAvx512;
  }
  if (__builtin_cpu_supports("avx2")) return Simd::kAvx2;
#endif
  return Simd::kBaseline;
}

std::atomic<Simd>& level() {
  static std::atomic<Simd> value{best()};
  return value;
}

}  // namespace

Simd simd() {
  return level().load(std::memory_order_relaxed);
}

}  // namespace poplar_ops

extern "C" int poplar_ops_simd() {
  return static_cast<int>(poplar_ops::simd());
}

// Returns 0, or 1 where this CPU does not have the level.
extern "C" int poplar_ops_set_simd(int level) {
  if (level < 0 || level > static_cast<int>(poplar_ops::best())) return 1;
  poplar_ops::level() = static_cast<poplar_ops::Simd>(level);
  return 0;
}
