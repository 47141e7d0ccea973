// nms: greedy non-maximum suppression, hard or gaussian, of every image on its own.
//
// B images, N boxes, C scores a box, K detections. Candidate (n, c) has class labels[n] + c; its
// index among the N * C candidates decides ties.
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <vector>

#include "entry_points.h"
#include "overlap.h"
#include "parallel.h"
#include "select.h"

namespace poplar_ops {
namespace {

struct Image {
  const float* scores;    // (N, C)
  const Box* boxes;       // (N,)
  const int32_t* labels;  // (N,)
  int64_t count, classes;

  const Box& box(uint32_t candidate) const { return boxes[candidate / classes]; }
  int64_t label(uint32_t candidate) const {
    return int64_t(labels[candidate / classes]) + candidate % classes;
  }
};

struct Rows {
  float *boxes, *scores;
  int32_t *labels, *indices, *count;
  int64_t capacity;

  bool is_full() const { return *count == capacity; }

  void clear() {
    std::fill_n(boxes, 4 * capacity, 0.0f);
    std::fill_n(scores, capacity, 0.0f);
    std::fill_n(labels, capacity, -1);
    std::fill_n(indices, capacity, -1);
    *count = 0;
  }

  void add(const Image& image, uint32_t candidate, float score) {
    const int32_t row = (*count)++;
    const Box& box = image.box(candidate);
    boxes[4 * row] = box.x1;
    boxes[4 * row + 1] = box.y1;
    boxes[4 * row + 2] = box.x2;
    boxes[4 * row + 3] = box.y2;
    scores[row] = score;
    labels[row] = static_cast<int32_t>(image.label(candidate));
    indices[row] = static_cast<int32_t>(candidate / image.classes);
  }
};

// What was kept so far, one `Kept` a class; candidates in a row are often of one class.
template <typename Kept>
class ByClass {
 public:
  explicit ByClass(bool class_aware) : class_aware_(class_aware) {}

  Kept& operator[](int64_t label) {
    if (!class_aware_) label = 0;
    if (last_ == nullptr || label != last_label_) last_ = &kept_[label];
    last_label_ = label;
    return *last_;
  }

 private:
  const bool class_aware_;
  std::unordered_map<int64_t, Kept> kept_;
  int64_t last_label_ = 0;
  Kept* last_ = nullptr;
};

// Keeps every candidate that overlaps none kept before it, best first.
void remove_overlaps(const Image& image, const std::vector<Entry>& candidates,
                     const NmsConfig& config, Rows& rows) {
  ByClass<KeptBoxes> by_class(config.class_aware);
  for (const Entry entry : candidates) {
    const uint32_t candidate = index_of(entry);
    // `largest_above` starts at the next float, which is 0 itself where the CPU flushes denormals.
    if (!(image.scores[candidate] > config.score_threshold)) return;
    const Box& box = image.box(candidate);
    KeptBoxes& kept = by_class[image.label(candidate)];
    if (kept.overlap(box, config.iou_threshold)) continue;
    rows.add(image, candidate, image.scores[candidate]);
    if (rows.is_full()) return;
    kept.add(box);
  }
}

void hard(const Image& image, const NmsConfig& config, Rows& rows) {
  const int64_t total = image.count * image.classes;
  // Of millions of candidates only the best few thousand are looked at, more if they do not
  // suffice.
  for (int64_t k = std::max<int64_t>(1 << 15, 16 * rows.capacity);; k *= 16) {
    const auto candidates = largest_above(image.scores, total, k, config.score_threshold);
    rows.clear();
    remove_overlaps(image, candidates, config, rows);
    if (rows.is_full() || static_cast<int64_t>(candidates.size()) < k || k >= total) return;
  }
}

struct Decaying {
  float score;  // after the first `decays` boxes of its class
  uint32_t candidate;
  uint32_t decays;

  // Order of a heap: the best score on top, then the lowest index.
  bool operator<(const Decaying& other) const {
    return score != other.score ? score < other.score : candidate > other.candidate;
  }
};

float decay(const Box& a, const Box& b, double sigma) {
  const double overlap = iou(a, b);
  return overlap > 0 ? static_cast<float>(std::exp(-(overlap * overlap) / sigma)) : 1.0f;
}

// Scores only fall, so a candidate's old score is a bound: its decays are applied, in the order in
// which boxes were kept, when it comes to the top of the heap.
void gaussian(const Image& image, const NmsConfig& config, Rows& rows) {
  const int64_t total = image.count * image.classes;
  std::vector<Decaying> heap;
  for (const Entry entry : largest_above(image.scores, total, total, config.score_threshold)) {
    heap.push_back({image.scores[index_of(entry)], index_of(entry), 0});
  }
  ByClass<std::vector<Box>> by_class(config.class_aware);
  rows.clear();
  while (!heap.empty() && !rows.is_full()) {
    std::pop_heap(heap.begin(), heap.end());
    Decaying best = heap.back();
    heap.pop_back();
    const Box& box = image.box(best.candidate);
    std::vector<Box>& kept = by_class[image.label(best.candidate)];
    const float bound = best.score;
    for (; best.decays < kept.size() && best.score > config.score_threshold; ++best.decays) {
      best.score *= decay(kept[best.decays], box, config.sigma);
    }
    if (!(best.score > config.score_threshold)) continue;
    if (best.score == bound) {
      rows.add(image, best.candidate, best.score);
      kept.push_back(box);
    } else {
      heap.push_back(best);
      std::push_heap(heap.begin(), heap.end());
    }
  }
}

}  // namespace
}  // namespace poplar_ops

using namespace poplar_ops;

extern "C" int poplar_ops_nms(const Tensor* scores, const Tensor* boxes, const Tensor* labels,
                              const NmsConfig* config, const Tensor* out_boxes,
                              const Tensor* out_scores, const Tensor* out_labels,
                              const Tensor* out_indices, const Tensor* out_count, int threads) {
  constexpr DType kFloat = DType::kFloat32, kInt = DType::kInt32;
  const int64_t b = scores->size[0], n = scores->size[1], c = scores->size[2];
  const int64_t k = out_scores->size[1];
  if (int code = check(*scores, "scores", "(B, N, C)", kFloat, 3, {b, n, c})) return code;
  if (int code = check(*boxes, "boxes", "(B, N, 4)", kFloat, 3, {b, n, 4})) return code;
  if (int code = check(*labels, "labels", "(B, N)", kInt, 2, {b, n})) return code;
  if (int code = check(*out_boxes, "boxes out", "(B, K, 4)", kFloat, 3, {b, k, 4})) return code;
  if (int code = check(*out_scores, "scores out", "(B, K)", kFloat, 2, {b, k})) return code;
  if (int code = check(*out_labels, "labels out", "(B, K)", kInt, 2, {b, k})) return code;
  if (int code = check(*out_indices, "indices out", "(B, K)", kInt, 2, {b, k})) return code;
  if (int code = check(*out_count, "count out", "(B,)", kInt, 1, {b})) return code;
  if (k < 1) return refuse("max_detections must be at least 1, got %lld", (long long)k);
  if (n * c > std::numeric_limits<int32_t>::max()) return refuse("N * C must be below 2^31");

  return for_each_image(b, threads, [&](int64_t i) {
    const Image image{scores->as<float>() + i * n * c, boxes->as<Box>() + i * n,
                      labels->as<int32_t>() + i * n, n, c};
    Rows rows{out_boxes->as<float>() + 4 * i * k, out_scores->as<float>() + i * k,
              out_labels->as<int32_t>() + i * k,  out_indices->as<int32_t>() + i * k,
              out_count->as<int32_t>() + i,       k};
    if (config->sigma > 0) {
      gaussian(image, *config, rows);
    } else {
      hard(image, *config, rows);
    }
  });
}
