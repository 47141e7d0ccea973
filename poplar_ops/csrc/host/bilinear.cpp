#include "bilinear.h"

#include "simd.h"

namespace poplar_ops {
namespace {

using Lanes = float __attribute__((vector_size(sizeof(Cell)), may_alias));

POPLAR_OPS_INLINE const Lanes* lanes(const Cell* cells) {
  return reinterpret_cast<const Lanes*>(cells);
}

POPLAR_OPS_INLINE Lanes* lanes(Cell* cells) {
  return reinterpret_cast<Lanes*>(cells);
}

// An axis as plain pointers: its vectors must not be touched under a newer instruction set.
struct View {
  int64_t bins, count, width;  // count: positions in `used`
  const int32_t *used, *taps, *slots;
  const float* weights;
  const uint8_t* is_hit;
};

View view(const Axis& axis) {
  return {static_cast<int64_t>(axis.is_hit.size()),
          static_cast<int64_t>(axis.used.size()),
          axis.width,
          axis.used.data(),
          axis.taps.data(),
          axis.slots.data(),
          axis.weights.data(),
          axis.is_hit.data()};
}

// One bin's taps, `step` elements apart for each position, K of them: copied, so that they stay in
// registers whatever is written. K = 0: as many as the axis has.
template <int K>
struct Taps {
  int64_t at[K];
  float weight[K];

  POPLAR_OPS_INLINE Taps(const int32_t* positions, const float* weights, int64_t, int64_t step) {
    for (int k = 0; k < K; ++k) {
      at[k] = positions[k] * step;
      weight[k] = weights[k];
    }
  }

  // *to = the weighted sum of from[at].
  POPLAR_OPS_INLINE void gather(const Lanes* from, Lanes* to) const {
    Lanes sum = from[at[0]] * weight[0];
    for (int k = 1; k < K; ++k) sum += from[at[k]] * weight[k];
    *to = sum;
  }

  // to[at] += weight * from.
  POPLAR_OPS_INLINE void scatter(const Lanes& from, Lanes* to) const {
    for (int k = 0; k < K; ++k) to[at[k]] += from * weight[k];
  }
};

template <>
struct Taps<0> {
  const int32_t* positions;
  const float* weights;
  int64_t width, step;

  POPLAR_OPS_INLINE Taps(const int32_t* positions_, const float* weights_, int64_t width_,
                         int64_t step_)
      : positions(positions_), weights(weights_), width(width_), step(step_) {}

  POPLAR_OPS_INLINE void gather(const Lanes* from, Lanes* to) const {
    Lanes sum = from[positions[0] * step] * weights[0];
    for (int64_t k = 1; k < width; ++k) sum += from[positions[k] * step] * weights[k];
    *to = sum;
  }

  POPLAR_OPS_INLINE void scatter(const Lanes& from, Lanes* to) const {
    for (int64_t k = 0; k < width; ++k) to[positions[k] * step] += from * weights[k];
  }
};

// (H, W) map -> (used rows, w): one bin after the other, down all rows.
template <int K>
POPLAR_OPS_INLINE void pool_columns(const Lanes* map, int64_t map_width, const View& y,
                                    const View& x, Lanes* scratch) {
  for (int64_t bin = 0; bin < x.bins; ++bin) {
    Lanes* to = scratch + bin;
    if (!x.is_hit[bin]) {
      for (int64_t i = 0; i < y.count; ++i) to[i * x.bins] = Lanes{};
      continue;
    }
    const Taps<K> taps(x.taps + bin * x.width, x.weights + bin * x.width, x.width, 1);
    for (int64_t i = 0; i < y.count; ++i) {
      taps.gather(map + y.used[i] * map_width, to + i * x.bins);
    }
  }
}

// (used rows, w) -> (h, w).
template <int K>
POPLAR_OPS_INLINE void pool_rows(const Lanes* scratch, const View& y, int64_t columns,
                                 Lanes* pooled) {
  for (int64_t bin = 0; bin < y.bins; ++bin) {
    Lanes* to = pooled + bin * columns;
    if (!y.is_hit[bin]) {
      for (int64_t j = 0; j < columns; ++j) to[j] = Lanes{};
      continue;
    }
    const Taps<K> taps(y.slots + bin * y.width, y.weights + bin * y.width, y.width, columns);
    for (int64_t j = 0; j < columns; ++j) taps.gather(scratch + j, to + j);
  }
}

// (h, w) -> (used rows, w), which is overwritten.
template <int K>
POPLAR_OPS_INLINE void spread_rows(const Lanes* pooled, const View& y, int64_t columns,
                                   Lanes* scratch) {
  for (int64_t i = 0; i < y.count * columns; ++i) scratch[i] = Lanes{};
  for (int64_t bin = 0; bin < y.bins; ++bin) {
    if (!y.is_hit[bin]) continue;
    const Taps<K> taps(y.slots + bin * y.width, y.weights + bin * y.width, y.width, columns);
    for (int64_t j = 0; j < columns; ++j) taps.scatter(pooled[bin * columns + j], scratch + j);
  }
}

// (used rows, w) -> added to the (H, W) map.
template <int K>
POPLAR_OPS_INLINE void spread_columns(const Lanes* scratch, int64_t map_width, const View& y,
                                      const View& x, Lanes* map) {
  for (int64_t bin = 0; bin < x.bins; ++bin) {
    if (!x.is_hit[bin]) continue;
    const Taps<K> taps(x.taps + bin * x.width, x.weights + bin * x.width, x.width, 1);
    for (int64_t i = 0; i < y.count; ++i) {
      taps.scatter(scratch[i * x.bins + bin], map + y.used[i] * map_width);
    }
  }
}

// Ratio 2 gives bins up to four taps: their loops are unrolled.
#define POPLAR_OPS_BY_WIDTH(function, width, ...) \
  switch (width) {                                \
    case 1:                                       \
      function<1>(__VA_ARGS__);                   \
      break;                                      \
    case 2:                                       \
      function<2>(__VA_ARGS__);                   \
      break;                                      \
    case 3:                                       \
      function<3>(__VA_ARGS__);                   \
      break;                                      \
    case 4:                                       \
      function<4>(__VA_ARGS__);                   \
      break;                                      \
    default:                                      \
      function<0>(__VA_ARGS__);                   \
  }

POPLAR_OPS_INLINE void pool_any(const Lanes* map, int64_t map_width, const View& y, const View& x,
                                Lanes* scratch, Lanes* pooled){
    POPLAR_OPS_BY_WIDTH(pool_columns, x.width, map, map_width, y, x, scratch)
        POPLAR_OPS_BY_WIDTH(pool_rows, y.width, scratch, y, x.bins, pooled)}

POPLAR_OPS_INLINE void add_gradient_any(const Lanes* pooled, int64_t map_width, const View& y,
                                        const View& x, Lanes* scratch, Lanes* map){
    POPLAR_OPS_BY_WIDTH(spread_rows, y.width, pooled, y, x.bins, scratch)
        POPLAR_OPS_BY_WIDTH(spread_columns, x.width, scratch, map_width, y, x, map)}
#if POPLAR_OPS_X86
POPLAR_OPS_AVX2 void pool_avx2(const Lanes* map, int64_t map_width, const View& y, const View& x,
                               Lanes* scratch, Lanes* pooled) {
  pool_any(map, map_width, y, x, scratch, pooled);
}
POPLAR_OPS_AVX512 void pool_avx512(const Lanes* map, int64_t map_width, const View& y,
                                   const View& x, Lanes* scratch, Lanes* pooled) {
  pool_any(map, map_width, y, x, scratch, pooled);
}
POPLAR_OPS_AVX2 void add_gradient_avx2(const Lanes* pooled, int64_t map_width, const View& y,
                                       const View& x, Lanes* scratch, Lanes* map) {
  add_gradient_any(pooled, map_width, y, x, scratch, map);
}
POPLAR_OPS_AVX512 void add_gradient_avx512(const Lanes* pooled, int64_t map_width, const View& y,
                                           const View& x, Lanes* scratch, Lanes* map) {
  add_gradient_any(pooled, map_width, y, x, scratch, map);
}
#endif

}  // namespace

void pool(const Cell* map, int64_t map_width, const Axis& y, const Axis& x, Cell* scratch,
          Cell* pooled) {
#if POPLAR_OPS_X86
  if (simd() == Simd::kAvx512) {
    return pool_avx512(lanes(map), map_width, view(y), view(x), lanes(scratch), lanes(pooled));
  }
  if (simd() == Simd::kAvx2)
    return pool_avx2(lanes(map), map_width, view(y), view(x), lanes(scratch), lanes(pooled));
#endif
  pool_any(lanes(map), map_width, view(y), view(x), lanes(scratch), lanes(pooled));
}

void add_gradient(const Cell* pooled, int64_t map_width, const Axis& y, const Axis& x,
                  Cell* scratch, Cell* map) {
#if POPLAR_OPS_X86
  if (simd() == Simd::kAvx512) {
    return add_gradient_avx512(lanes(pooled), map_width, view(y), view(x), lanes(scratch),
                               lanes(map));
  }
  if (simd() == Simd::kAvx2) {
    return add_gradient_avx2(lanes(pooled), map_width, view(y), view(x), lanes(scratch),
                             lanes(map));
  }
#endif
  add_gradient_any(lanes(pooled), map_width, view(y), view(x), lanes(scratch), lanes(map));
}

}  // namespace poplar_ops
