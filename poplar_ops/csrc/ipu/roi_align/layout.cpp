#include "roi_align/layout.hpp"

#include <algorithm>

namespace poplar_ops::roi_align {

namespace {

constexpr std::size_t kMaxChannels = 8;        // of a unit, as in roi_align_codelet.cpp
constexpr std::size_t kBinInts = 3;            // words of a bin's taps, as in the codelet
constexpr std::size_t kMapBytes = 160 * 1024;  // most of a tile for a float32 map of its unit

}  // namespace

std::size_t divide_up(std::size_t a, std::size_t b) {
  return (a + b - 1) / b;
}

Range part(std::size_t n, std::size_t size, std::size_t index) {
  return {std::min(n, index * size), std::min(n, (index + 1) * size)};
}

Layout::Layout(const std::vector<std::size_t>& map, std::size_t regions_, const Config& config,
               std::size_t tiles)
    : images(map[0]),
      channels(map[1]),
      regions(regions_),
      height(map[2]),
      width(map[3]),
      rows(static_cast<std::size_t>(config.output_height)),
      columns(static_cast<std::size_t>(config.output_width)) {
  const std::size_t fit = std::max<std::size_t>(1, kMapBytes / (4 * cells()));
  block = std::min({kMaxChannels, fit, channels});
  const std::size_t blocks = divide_up(channels, block);
  const std::size_t wanted = std::max<std::size_t>(1, tiles / (images * blocks));
  span = divide_up(regions, std::min(wanted, regions));
  groups = divide_up(regions, span);
  std::size_t number = 0;
  for (std::size_t image = 0; image < images; ++image) {
    for (std::size_t i = 0; i < blocks; ++i) {
      units.emplace_back();
      for (std::size_t group = 0; group < groups; ++group, ++number) {
        rounds = number / tiles + 1;
        units.back().push_back({image, group, part(channels, block, i), part(regions, span, group),
                                static_cast<unsigned>(number % tiles), number / tiles});
      }
    }
  }
}

std::size_t Layout::ints() const {
  return kBinInts * (rows + columns);
}

// Weights: an axis' bins overlap by two cells, by one more if positions are rounded.
std::size_t Layout::floats() const {
  return height + width + 4 * (rows + columns);
}

}  // namespace poplar_ops::roi_align
