// One source, several instruction sets: which one runs is decided when the library is loaded.
//
// A kernel is an always-inline function of plain loops, compiled once per level inside a function
// that carries the level's target attribute. Nothing is compiled with -march=native, and
// no standard-library template is instantiated under a target attribute, so no newer instruction
// can leak into code that an older CPU runs. Elsewhere than on x86 only the baseline exists.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define POPLAR_OPS_X86 1
#define POPLAR_OPS_AVX2 __attribute__((target("avx2")))
#if defined(__clang__)
#define POPLAR_OPS_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl")))
#else
#define POPLAR_OPS_AVX512 \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")))
#endif
#else
#define POPLAR_OPS_X86 0
#endif

#define POPLAR_OPS_INLINE __attribute__((always_inline)) inline

namespace poplar_ops {

enum class Simd : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The level in use: the best this CPU has, unless `poplar_ops_set_simd` lowered it.
Simd simd();

}  // namespace poplar_ops
