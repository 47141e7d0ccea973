// Which tiles do what for ROI-Align and for its gradient.
//
// B images, C channels, (H, W) cells of the map, R regions an image, (h, w) bins a region. A unit
// is one image and up to kMaxChannels channels. A unit's regions are split over `groups` tiles, so
// every tile has about as much to do and a unit's map goes to its tiles in one broadcast.
#pragma once
#include <cstddef>
#include <vector>

#include "roi_align/op.hpp"

namespace poplar_ops::roi_align {

std::size_t divide_up(std::size_t a, std::size_t b);

struct Range {
  std::size_t begin;
  std::size_t end;
  std::size_t size() const { return end - begin; }
};

// Part `index` of n things in steps of `size`.
Range part(std::size_t n, std::size_t size, std::size_t index);

// A job is one unit and one group of regions; jobs of one round have a tile each.
struct Job {
  std::size_t image;
  std::size_t group;
  Range channels;
  Range regions;
  unsigned tile;
  std::size_t round;
};

struct Layout {
  std::size_t images;
  std::size_t channels;
  std::size_t regions;
  std::size_t height;
  std::size_t width;
  std::size_t rows;
  std::size_t columns;
  std::size_t block;   // channels of a unit, at most
  std::size_t groups;  // of regions
  std::size_t span;    // regions of a group, at most
  std::size_t rounds = 1;
  std::vector<std::vector<Job>> units;

  // `map` is the shape of the features, (B, C, H, W).
  Layout(const std::vector<std::size_t>& map, std::size_t regions_, const Config& config,
         std::size_t tiles);

  std::size_t cells() const { return height * width; }
  std::size_t bins() const { return rows * columns; }
  std::size_t ints() const;    // of a region's taps
  std::size_t floats() const;  // of a region's taps
};

}  // namespace poplar_ops::roi_align
