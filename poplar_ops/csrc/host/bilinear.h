// The separable passes of `roi_align` over one block of channels, for one region.
//
// A block's map is (H * W,) cells, its pooled values are (h * w,).
#pragma once

#include "channel_block.h"
#include "interpolation.h"

namespace poplar_ops {

// Weighs columns into `scratch`, (used rows of the map, w), then those rows into `pooled`.
void pool(const Cell* map, int64_t map_width, const Axis& y, const Axis& x, Cell* scratch,
          Cell* pooled);

// The transpose: adds the gradient of `pooled` to that of the map.
void add_gradient(const Cell* pooled, int64_t map_width, const Axis& y, const Axis& x,
                  Cell* scratch, Cell* map);

}  // namespace poplar_ops
