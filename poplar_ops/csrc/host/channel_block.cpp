#include "channel_block.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "float16.h"
#include "simd.h"

namespace poplar_ops {
namespace {

constexpr int64_t kChunk = 64;  // positions converted at a time, on the stack

using Quad = float __attribute__((vector_size(16)));
#if defined(__clang__)
#define POPLAR_OPS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
using QuadIndex = int32_t __attribute__((vector_size(16)));
#define POPLAR_OPS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, QuadIndex{__VA_ARGS__})
#endif

POPLAR_OPS_INLINE Quad load_quad(const float* from) {
  Quad quad;
  std::memcpy(&quad, from, sizeof quad);
  return quad;
}

template <bool kStream>
POPLAR_OPS_INLINE void store_quad(Quad quad, float* to) {
#if defined(__SSE__)
  if (kStream) return _mm_stream_ps(to, quad);
#endif
  std::memcpy(to, &quad, sizeof quad);
}

// out[j * out_stride + i] = in[i * in_stride + j] for i, j in [0, 4). kStream: past the cache; then
// `out` and `out_stride` are multiples of 16 bytes.
template <bool kStream>
POPLAR_OPS_INLINE void transpose_4x4(const float* in, int64_t in_stride, float* out,
                                     int64_t out_stride) {
  const Quad a = load_quad(in), b = load_quad(in + in_stride);
  const Quad c = load_quad(in + 2 * in_stride), d = load_quad(in + 3 * in_stride);
  const Quad ab_low = POPLAR_OPS_SHUFFLE(a, b, 0, 4, 1, 5);
  const Quad ab_high = POPLAR_OPS_SHUFFLE(a, b, 2, 6, 3, 7);
  const Quad cd_low = POPLAR_OPS_SHUFFLE(c, d, 0, 4, 1, 5);
  const Quad cd_high = POPLAR_OPS_SHUFFLE(c, d, 2, 6, 3, 7);
  store_quad<kStream>(POPLAR_OPS_SHUFFLE(ab_low, cd_low, 0, 1, 4, 5), out);
  store_quad<kStream>(POPLAR_OPS_SHUFFLE(ab_low, cd_low, 2, 3, 6, 7), out + out_stride);
  store_quad<kStream>(POPLAR_OPS_SHUFFLE(ab_high, cd_high, 0, 1, 4, 5), out + 2 * out_stride);
  store_quad<kStream>(POPLAR_OPS_SHUFFLE(ab_high, cd_high, 2, 3, 6, 7), out + 3 * out_stride);
}

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns.
template <bool kStream = false>
POPLAR_OPS_INLINE void transpose(const float* in, int64_t in_stride, int64_t rows, int64_t columns,
                                 float* out, int64_t out_stride) {
  const int64_t whole_rows = rows & ~int64_t(3), whole_columns = columns & ~int64_t(3);
  for (int64_t j = 0; j < whole_columns; j += 4) {
    for (int64_t i = 0; i < whole_rows; i += 4) {
      transpose_4x4<kStream>(in + i * in_stride + j, in_stride, out + j * out_stride + i,
                             out_stride);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      out[j * out_stride + i] = in[i * in_stride + j];
    }
  }
}

// `count` elements from `first` on, `stride` apart, as float32.
POPLAR_OPS_INLINE void widen(const void* data, DType dtype, int64_t first, int64_t stride,
                             int64_t count, float* out) {
  if (dtype == DType::kFloat32) {
    const float* from = static_cast<const float*>(data) + first;
    for (int64_t i = 0; i < count; ++i) out[i] = from[i * stride];
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(data) + first;
  if (dtype == DType::kBFloat16) {
    for (int64_t i = 0; i < count; ++i) out[i] = from_bfloat16(from[i * stride]);
  } else if (stride == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = from_float16(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = from_float16(from[i * stride]);
  }
}

POPLAR_OPS_INLINE void load(const ChannelRows& rows, int64_t count, float* out) {
  if (rows.channels < kBlock) {
    for (int64_t i = 0; i < count * kBlock; ++i) out[i] = 0.0f;
  }
  if (rows.channel_stride == 1) {  // channels last
    for (int64_t i = 0; i < count; ++i) {
      widen(rows.data, rows.dtype, i * rows.position_stride, 1, rows.channels, out + i * kBlock);
    }
    return;
  }
  if (rows.dtype == DType::kFloat32 && rows.position_stride == 1) {
    transpose(static_cast<const float*>(rows.data), rows.channel_stride, rows.channels, count, out,
              kBlock);
    return;
  }
  float chunk[kBlock * kChunk];
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t length = count - i < kChunk ? count - i : kChunk;
    for (int64_t c = 0; c < rows.channels; ++c) {
      widen(rows.data, rows.dtype, c * rows.channel_stride + i * rows.position_stride,
            rows.position_stride, length, chunk + c * kChunk);
    }
    transpose(chunk, kChunk, rows.channels, length, out + i * kBlock, kBlock);
  }
}

POPLAR_OPS_INLINE void store(const float* block, int64_t count, int64_t channels, DType dtype,
                             void* out, int64_t row_stride, bool stream) {
  if (dtype == DType::kFloat32) {
    float* to = static_cast<float*>(out);
    if (stream && reinterpret_cast<uintptr_t>(to) % sizeof(Quad) == 0 && row_stride % 4 == 0) {
      transpose<true>(block, kBlock, count, channels, to, row_stride);
    } else {
      transpose(block, kBlock, count, channels, to, row_stride);
    }
    return;
  }
  float chunk[kBlock * kChunk];
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t length = count - i < kChunk ? count - i : kChunk;
    transpose(block + i * kBlock, kBlock, length, channels, chunk, kChunk);
    for (int64_t c = 0; c < channels; ++c) {
      uint16_t* to = static_cast<uint16_t*>(out) + c * row_stride + i;
      const float* from = chunk + c * kChunk;
      if (dtype == DType::kBFloat16) {
        for (int64_t j = 0; j < length; ++j) to[j] = to_bfloat16(from[j]);
      } else {
        for (int64_t j = 0; j < length; ++j) to[j] = to_float16(from[j]);
      }
    }
  }
}

#if POPLAR_OPS_X86
POPLAR_OPS_AVX2 void load_avx2(const ChannelRows& rows, int64_t count, float* out) {
  load(rows, count, out);
}
POPLAR_OPS_AVX512 void load_avx512(const ChannelRows& rows, int64_t count, float* out) {
  load(rows, count, out);
}
POPLAR_OPS_AVX2 void store_avx2(const float* block, int64_t count, int64_t channels, DType dtype,
                                void* out, int64_t row_stride, bool stream) {
  store(block, count, channels, dtype, out, row_stride, stream);
}
POPLAR_OPS_AVX512 void store_avx512(const float* block, int64_t count, int64_t channels,
                                    DType dtype, void* out, int64_t row_stride, bool stream) {
  store(block, count, channels, dtype, out, row_stride, stream);
}
#endif

}  // namespace

void load_block(const ChannelRows& rows, int64_t count, Cell* cells) {
  float* out = cells->channel;
#if POPLAR_OPS_X86
  if (simd() == Simd::kAvx512) return load_avx512(rows, count, out);
  if (simd() == Simd::kAvx2) return load_avx2(rows, count, out);
#endif
  load(rows, count, out);
}

void store_block(const Cell* cells, int64_t count, int64_t channels, DType dtype, void* out,
                 int64_t row_stride, bool stream) {
  const float* block = cells->channel;
#if POPLAR_OPS_X86
  if (simd() == Simd::kAvx512) {
    return store_avx512(block, count, channels, dtype, out, row_stride, stream);
  }
  if (simd() == Simd::kAvx2)
    return store_avx2(block, count, channels, dtype, out, row_stride, stream);
#endif
  store(block, count, channels, dtype, out, row_stride, stream);
}

void finish_streams() {
#if defined(__SSE__)
  _mm_sfence();
#endif
}

}  // namespace poplar_ops
