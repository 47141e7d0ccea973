#include "interpolation.h"

#include <algorithm>
#include <cmath>

namespace poplar_ops {
namespace {

// torchvision's ceil(length / bins); 0 for a reversed, empty or NaN span.
int32_t adaptive_samples(float bin) {
  const float samples = std::ceil(bin);
  if (!(samples > 0)) return 0;
  return static_cast<int32_t>(std::min(samples, static_cast<float>(kMaxSamples)));
}

// First i in [0, count) for which `is_past(position(i))`, or count; positions ascend.
template <typename Position, typename IsPast>
int32_t first(int32_t count, const Position& position, const IsPast& is_past) {
  int32_t low = 0, high = count;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (is_past(position(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

AxisBuilder::AxisBuilder(int64_t bins, int64_t size, int32_t sampling_ratio)
    : bins_(bins), size_(size), sampling_ratio_(sampling_ratio), sum_(size), slot_(size) {}

Axis AxisBuilder::build(Span span) {
  Axis axis;
  std::fill(slot_.begin(), slot_.end(), -1);
  begin_.assign(1, 0);
  taps_.clear();
  weights_.clear();
  const float bin = span.length / static_cast<float>(bins_);
  const int32_t samples = sampling_ratio_ > 0 ? sampling_ratio_ : adaptive_samples(bin);
  const float share = 1.0f / static_cast<float>(std::max(samples, 1));
  const float size = static_cast<float>(size_);
  for (int64_t b = 0; b < bins_; ++b) {
    const float origin = span.start + static_cast<float>(b) * bin;
    const auto position = [&](int32_t i) {
      return origin + (static_cast<float>(i) + 0.5f) * bin / static_cast<float>(samples);
    };
    int32_t begin = 0, end = samples;
    if (bin > 0) {  // of a region far larger than the map, look only at samples on the map
      begin = first(samples, position, [](float p) { return p >= -1.0f; });
      end = first(samples, position, [size](float p) { return p > size; });
    }
    low_ = size_;
    high_ = -1;
    for (int32_t i = begin; i < end; ++i) add_sample(position(i), share);
    finish_bin(axis);
  }
  for (int64_t b = 0; b < bins_; ++b) axis.width = std::max(axis.width, begin_[b + 1] - begin_[b]);
  axis.taps.assign(bins_ * axis.width, 0);
  axis.slots.assign(bins_ * axis.width, 0);
  axis.weights.assign(bins_ * axis.width, 0.0f);
  for (int64_t b = 0; b < bins_; ++b) {
    const int32_t count = begin_[b + 1] - begin_[b];
    for (int32_t k = 0; k < axis.width && count > 0; ++k) {
      const int32_t from = begin_[b] + std::min(k, count - 1);
      axis.taps[b * axis.width + k] = taps_[from];
      axis.slots[b * axis.width + k] = slot_[taps_[from]];
      if (k < count) axis.weights[b * axis.width + k] = weights_[from];
    }
  }
  return axis;
}

void AxisBuilder::add_sample(float position, float share) {
  if (!(position >= -1.0f && position <= static_cast<float>(size_))) return;  // nor NaN
  position = std::max(position, 0.0f);
  int64_t lower = static_cast<int64_t>(position), upper = lower + 1;
  if (lower >= size_ - 1) {
    lower = upper = size_ - 1;
    position = static_cast<float>(lower);
  }
  const float fraction = position - static_cast<float>(lower);
  sum_[lower] += (1.0f - fraction) * share;
  sum_[upper] += fraction * share;
  low_ = std::min(low_, lower);
  high_ = std::max(high_, upper);
}

void AxisBuilder::finish_bin(Axis& axis) {
  for (int64_t i = low_; i <= high_; ++i) {
    if (sum_[i] == 0.0f) continue;
    if (slot_[i] < 0) {
      slot_[i] = static_cast<int32_t>(axis.used.size());
      axis.used.push_back(static_cast<int32_t>(i));
    }
    taps_.push_back(static_cast<int32_t>(i));
    weights_.push_back(sum_[i]);
    sum_[i] = 0.0f;
  }
  const int32_t end = static_cast<int32_t>(taps_.size());
  axis.is_hit.push_back(end > begin_.back());
  begin_.push_back(end);
}

}  // namespace poplar_ops
