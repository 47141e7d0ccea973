// Overlap of boxes, and the search through those already kept: the inner loop of `nms`.
#pragma once

#include <cstdint>
#include <vector>

namespace poplar_ops {

struct Box {
  float x1, y1, x2, y2;

  float area() const { return (x2 - x1) * (y2 - y1); }
};

// Intersection over union in float32, each operation rounded on its own. Where the union overflows,
// both boxes are first scaled by 2^-66. At most 0, or NaN, where a box is empty, reversed or not
// finite: such a box overlaps nothing.
float iou(const Box& a, const Box& b);

// Up to 16 boxes side by side; unused lanes hold a box that overlaps nothing.
struct alignas(64) BoxGroup {
  static constexpr int kLanes = 16;
  float x1[kLanes], y1[kLanes], x2[kLanes], y2[kLanes], area[kLanes];
};

class KeptBoxes {
 public:
  void add(const Box& box);

  // Whether the `iou` with any of the kept boxes is greater than the threshold.
  bool overlap(const Box& box, float iou_threshold) const;

 private:
  bool overlap_huge(const Box& box, float iou_threshold) const;

  std::vector<BoxGroup> groups_;
  int64_t size_ = 0;
  bool any_huge_ = false;  // then unions may overflow
};

}  // namespace poplar_ops
