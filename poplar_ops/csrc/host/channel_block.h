// Sixteen channels side by side: how kernels hold a map, whatever its type and layout outside.
#pragma once

#include <cstdint>

#include "tensor.h"

namespace poplar_ops {

constexpr int kBlock = 16;  // channels a block: one AVX-512 register of float32

// One position of a block. A struct, because containers drop the alignment of a bare vector type.
struct alignas(sizeof(float) * kBlock) Cell {
  float channel[kBlock];
};

// A matrix of channels x positions in memory of any float type, strides in elements.
struct ChannelRows {
  const void* data;
  DType dtype;
  int64_t channels;  // at most kBlock
  int64_t channel_stride, position_stride;
};

// Reads `count` positions; channels beyond those of `rows` become 0.
void load_block(const ChannelRows& rows, int64_t count, Cell* out);

// Writes `count` cells as `channels` rows of adjacent elements of `dtype`, which begin `row_stride`
// elements apart. `stream`: past the cache, where the processor can; faster for much memory that is
// in use already, slower for new pages. Other threads may read them after `finish_streams`.
void store_block(const Cell* block, int64_t count, int64_t channels, DType dtype, void* out,
                 int64_t row_stride, bool stream);

void finish_streams();

}  // namespace poplar_ops
