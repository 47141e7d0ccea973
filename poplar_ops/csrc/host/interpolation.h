// Where the bins of a region of interest read a row or column of the map, and with what weights.
//
// Bilinear pooling is separable: a bin's value is a weighted sum of columns of weighted sums of
// rows. Each axis of each region has `bins` bins; a bin averages its samples, a sample weighs two
// neighbours.
#pragma once

#include <cstdint>
#include <vector>

namespace poplar_ops {

// Samples a bin and axis: the most that adaptive sampling takes, and that a caller may ask for.
constexpr int32_t kMaxSamples = 1 << 16;

struct Axis {
  std::vector<int32_t> used;   // positions on the map that any bin reads, ascending in first use
  int32_t width = 1;           // taps a bin; where it has fewer, its last one follows with weight 0
  std::vector<int32_t> taps;   // (bins, width) positions on the map
  std::vector<int32_t> slots;  // (bins, width) the same as indices into `used`
  std::vector<float> weights;  // (bins, width)
  std::vector<uint8_t> is_hit;  // (bins,) 0: every sample is outside the map, the bin is 0
};

struct Span {
  float start, length;  // in cells of the map
};

// Builds axes, one after the other, on a map of `size` cells.
class AxisBuilder {
 public:
  AxisBuilder(int64_t bins, int64_t size, int32_t sampling_ratio);

  // Samples stand at start + bin * length / bins + (i + 0.5) * (length / bins) / samples, in
  // float32 and each operation rounded on its own, as torchvision's. A sample below -1 or above
  // `size` counts as zero, others are clamped to the map.
  Axis build(Span span);

 private:
  void add_sample(float position, float share);
  void finish_bin(Axis& axis);

  const int64_t bins_, size_;
  const int32_t sampling_ratio_;
  std::vector<float> sum_;     // (size,) weights of the current bin
  std::vector<int32_t> slot_;  // (size,) index into `used`, or -1
  int64_t low_, high_;         // range of sum_ that the current bin touched
  std::vector<int32_t> begin_, taps_;
  std::vector<float> weights_;
};

}  // namespace poplar_ops
