// Which tiles hold which candidates of NMS.
#pragma once
#include <algorithm>
#include <cstddef>

namespace poplar_ops::nms {

constexpr std::size_t kMinCandidates =
    24;  // four a worker: a tile with fewer only waits for others

// `parts` tiles an image, `chunk` candidates each.
struct Layout {
  std::size_t images;
  std::size_t candidates;
  std::size_t tiles;   // of the device
  std::size_t stride;  // tiles an image may use
  std::size_t chunk;
  std::size_t parts;

  Layout(std::size_t images_, std::size_t candidates_, std::size_t tiles_)
      : images(images_), candidates(candidates_), tiles(tiles_) {
    stride = std::max<std::size_t>(1, tiles / images);
    chunk = std::max(kMinCandidates, (candidates + stride - 1) / stride);
    parts = (candidates + chunk - 1) / chunk;
  }

  std::size_t begin(std::size_t part) const { return part * chunk; }
  std::size_t end(std::size_t part) const { return std::min(candidates, (part + 1) * chunk); }
  unsigned tile(std::size_t image, std::size_t part) const {
    return static_cast<unsigned>((image * stride + part) % tiles);
  }
};

}  // namespace poplar_ops::nms
