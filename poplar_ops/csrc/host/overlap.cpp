#include "overlap.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.h"

namespace poplar_ops {
namespace {

constexpr int kLanes = BoxGroup::kLanes;
constexpr float kHugeArea = 0x1p125f;   // two such areas still add up to a finite float
constexpr float kHugeScale = 0x1p-66f;  // brings the union of the two largest boxes below 2^127

float intersection(const Box& a, const Box& b) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  return std::max(width, 0.0f) * std::max(height, 0.0f);
}

// Whether the union of this box and another may overflow.
bool is_huge(const Box& box) {
  return box.area() >= kHugeArea;
}

Box scaled(const Box& box) {
  return {box.x1 * kHugeScale, box.y1 * kHugeScale, box.x2 * kHugeScale, box.y2 * kHugeScale};
}

POPLAR_OPS_INLINE float lower(float a, float b) {
  return a < b ? a : b;
}
POPLAR_OPS_INLINE float upper(float a, float b) {
  return a > b ? a : b;
}

// Newest first: a box overlaps its neighbours in the order of scores more often than old ones. The
// division runs only where a product, made a little too small, says that the threshold is near.
POPLAR_OPS_INLINE bool any_overlap(const BoxGroup* groups, int64_t count, const Box& box,
                                   float iou_threshold) {
  const float almost = iou_threshold * (1 - 4e-6f);
  const float area = box.area();
  for (int64_t g = count; g-- > 0;) {
    const BoxGroup* group = &groups[g];
    float shared[kLanes], together[kLanes];
    int32_t near = 0;
    for (int i = 0; i < kLanes; ++i) {
      const float width = lower(box.x2, group->x2[i]) - upper(box.x1, group->x1[i]);
      const float height = lower(box.y2, group->y2[i]) - upper(box.y1, group->y1[i]);
      shared[i] = upper(width, 0.0f) * upper(height, 0.0f);
      together[i] = (area + group->area[i]) - shared[i];
      near |= (shared[i] > 0.0f) & (shared[i] >= almost * together[i]) ? -1 : 0;
    }
    if (!near) continue;
    int32_t above = 0;
    for (int i = 0; i < kLanes; ++i) above |= shared[i] / together[i] > iou_threshold ? -1 : 0;
    if (above) return true;
  }
  return false;
}

using AnyOverlap = bool (*)(const BoxGroup*, int64_t, const Box&, float);

bool any_overlap_baseline(const BoxGroup* groups, int64_t count, const Box& box, float threshold) {
  return any_overlap(groups, count, box, threshold);
}
#if POPLAR_OPS_X86
POPLAR_OPS_AVX2 bool any_overlap_avx2(const BoxGroup* groups, int64_t count, const Box& box,
                                      float threshold) {
  return any_overlap(groups, count, box, threshold);
}
POPLAR_OPS_AVX512 bool any_overlap_avx512(const BoxGroup* groups, int64_t count, const Box& box,
                                          float threshold) {
  return any_overlap(groups, count, box, threshold);
}
#endif

AnyOverlap any_overlap_for(Simd level) {
#if POPLAR_OPS_X86
  if (level == Simd::kAvx512) return any_overlap_avx512;
  if (level == Simd::kAvx2) return any_overlap_avx2;
#endif
  (void)level;
  return any_overlap_baseline;
}

}  // namespace

float iou(const Box& a, const Box& b) {
  const float shared = intersection(a, b);
  const float together = (a.area() + b.area()) - shared;
  if (std::isfinite(together)) return shared / together;
  const Box small_a = scaled(a), small_b = scaled(b);
  const float small_shared = intersection(small_a, small_b);
  return small_shared / ((small_a.area() + small_b.area()) - small_shared);
}

void KeptBoxes::add(const Box& box) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const int64_t lane = size_++ % kLanes;
  if (lane == 0) {
    BoxGroup empty;
    std::fill_n(empty.x1, kLanes, kMax);
    std::fill_n(empty.y1, kLanes, kMax);
    std::fill_n(empty.x2, kLanes, -kMax);
    std::fill_n(empty.y2, kLanes, -kMax);
    std::fill_n(empty.area, kLanes, 0.0f);
    groups_.push_back(empty);
  }
  BoxGroup& group = groups_.back();
  group.x1[lane] = box.x1;
  group.y1[lane] = box.y1;
  group.x2[lane] = box.x2;
  group.y2[lane] = box.y2;
  group.area[lane] = box.area();
  any_huge_ |= is_huge(box);
}

bool KeptBoxes::overlap(const Box& box, float iou_threshold) const {
  if (any_huge_ || is_huge(box)) return overlap_huge(box, iou_threshold);
  return any_overlap_for(simd())(groups_.data(), groups_.size(), box, iou_threshold);
}

bool KeptBoxes::overlap_huge(const Box& box, float iou_threshold) const {
  for (int64_t i = size_; i-- > 0;) {
    const BoxGroup& group = groups_[i / kLanes];
    const int64_t lane = i % kLanes;
    const Box kept{group.x1[lane], group.y1[lane], group.x2[lane], group.y2[lane]};
    if (iou(box, kept) > iou_threshold) return true;
  }
  return false;
}

}  // namespace poplar_ops
