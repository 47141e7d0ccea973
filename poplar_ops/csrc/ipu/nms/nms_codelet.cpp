// Tile code of greedy NMS: what each tile does in one round (opx.cpp connects it).
//
// A record is one candidate: kFloats words (score, x1, y1, x2, y2) and kInts words (index, label).
// n candidates on this tile, w workers of a tile, r records, k detections at most. All float32.
#include <cmath>
#include <limits>
#include <poplar/Vertex.hpp>

namespace {

using poplar::InOut;
using poplar::Input;
using poplar::Output;
using poplar::Vector;
using poplar::VectorLayout;

constexpr unsigned kFloats = 5;  // score, x1, y1, x2, y2
constexpr unsigned kInts = 2;    // index, label
constexpr int kNone = -1;        // index of no candidate; label and index of an empty detection
constexpr float kRemoved = -std::numeric_limits<float>::infinity();  // never above a threshold
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kHugeScale = 1.3552527156068805e-20f;  // 2^-66, as reference.py: no area overflows

struct Box {
  float x1;
  float y1;
  float x2;
  float y2;

  // The box whose four words begin at `at`.
  template <class Words>
  Box(Words& words, unsigned at)
      : x1(words[at]), y1(words[at + 1]), x2(words[at + 2]), y2(words[at + 3]) {}

  float area() const { return (x2 - x1) * (y2 - y1); }

  Box scaled(float by) const {
    Box box = *this;
    box.x1 *= by, box.y1 *= by, box.x2 *= by, box.y2 *= by;
    return box;
  }
};

struct Overlap {
  float shared;  // area of the intersection
  float united;  // area of the union

  Overlap(const Box& a, const Box& b) {
    const float width = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1);
    const float height = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1);
    shared = width > 0.0f && height > 0.0f ? width * height : 0.0f;
    united = a.area() + b.area() - shared;
  }
};

// Intersection over union, 0 or NaN if the boxes do not overlap. Boxes whose areas overflow float32
// are scaled first.
float box_iou(const Box& a, const Box& b) {
  const Overlap overlap(a, b);
  if (overlap.shared == 0.0f) return 0.0f;
  if (overlap.united <= kLargest) return overlap.shared / overlap.united;
  const Overlap small(a.scaled(kHugeScale), b.scaled(kHugeScale));
  return small.shared / small.united;
}

// The part [begin, end) of n things that one of `workers` workers does.
struct Share {
  unsigned begin;
  unsigned end;
  Share(unsigned n, unsigned worker, unsigned workers) {
    const unsigned size = (n + workers - 1) / workers;
    begin = worker * size < n ? worker * size : n;
    end = begin + size < n ? begin + size : n;
  }
};

// The best of the records of a share: highest score, first of equals (records come by index).
struct Best {
  unsigned at;
  bool found = false;

  template <class Floats, class Ints>
  Best(Floats& floats, Ints& ints, const Share& share) : at(share.begin) {
    for (unsigned i = share.begin; i < share.end; ++i) {
      if (ints[i * kInts] == kNone) continue;
      if (!found || floats[i * kFloats] > floats[at * kFloats]) at = i;
      found = true;
    }
  }
};

}  // namespace

// Empties the answer of one image and starts its loop.
class NmsInit : public poplar::MultiVertex {
 public:
  Output<Vector<float, VectorLayout::SPAN>> boxes;          // (4 * k,) xyxy
  Output<Vector<float, VectorLayout::SPAN>> scores;         // (k,)
  Output<Vector<int, VectorLayout::ONE_PTR>> labels;        // (k,)
  Output<Vector<int, VectorLayout::ONE_PTR>> indices;       // (k,)
  Output<Vector<float, VectorLayout::SPAN>> winner_floats;  // (kFloats,)
  Output<Vector<int, VectorLayout::ONE_PTR>> winner_ints;   // (kInts,)
  Output<Vector<int, VectorLayout::ONE_PTR>> count;         // (1,)
  Output<Vector<int, VectorLayout::ONE_PTR>> active;        // (1,)

  void compute(unsigned worker) {
    const unsigned workers = numWorkers();
    for (unsigned i = worker; i < boxes.size(); i += workers) boxes[i] = 0.0f;
    for (unsigned i = worker; i < scores.size(); i += workers) {
      scores[i] = 0.0f;
      labels[i] = kNone;
      indices[i] = kNone;
    }
    if (worker != 0) return;
    for (unsigned i = 0; i < winner_floats.size(); ++i) winner_floats[i] = 0.0f;
    for (unsigned i = 0; i < kInts; ++i) winner_ints[i] = kNone;
    count[0] = 0;
    active[0] = 1;
  }
};

// Suppresses this tile's candidates with the last winner and finds the best one that is left.
class NmsRound : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::ONE_PTR>> boxes;          // (4 * n,) xyxy
  Input<Vector<int, VectorLayout::ONE_PTR>> labels;           // (n,)
  InOut<Vector<float, VectorLayout::SPAN>> scores;            // (n,) kRemoved once suppressed
  Input<Vector<float, VectorLayout::ONE_PTR>> winner_floats;  // (kFloats,)
  Input<Vector<int, VectorLayout::ONE_PTR>> winner_ints;      // (kInts,) kNone in the first round
  Output<Vector<float, VectorLayout::ONE_PTR>> best_floats;   // (w * kFloats,)
  Output<Vector<int, VectorLayout::ONE_PTR>> best_ints;       // (w * kInts,)
  int first;              // index of this tile's first candidate in its image
  int class_aware;        // 0: boxes of different labels suppress each other too
  float iou_threshold;    // suppress strictly above
  float score_threshold;  // a candidate's score is strictly above
  float sigma;            // > 0: decay scores by exp(-iou^2 / sigma) and never remove

  void compute(unsigned worker) {
    const Share share(scores.size(), worker, numWorkers());
    const int winner = winner_ints[0];
    const int winner_label = winner_ints[1];
    const Box winner_box(winner_floats, 1);
    float best_score = score_threshold;
    int best = kNone;
    for (unsigned i = share.begin; i < share.end; ++i) {
      float score = scores[i];
      if (!(score > score_threshold)) continue;
      if (winner != kNone) {
        if (first + static_cast<int>(i) == winner) {
          score = kRemoved;
        } else if (!class_aware || labels[i] == winner_label) {
          score = suppressed(score, box_iou(winner_box, Box(boxes, 4 * i)));
        }
        scores[i] = score;
      }
      if (score > best_score) {  // strictly: the lowest index wins a tie
        best_score = score;
        best = static_cast<int>(i);
      }
    }
    write_best(worker, best_score, best);
  }

 private:
  float suppressed(float score, float iou) const {
    if (sigma > 0.0f) return iou > 0.0f ? score * std::exp(-(iou * iou) / sigma) : score;
    return iou > iou_threshold ? kRemoved : score;
  }

  void write_best(unsigned worker, float score, int best) {
    const bool found = best != kNone;
    const unsigned at = found ? static_cast<unsigned>(best) : 0;
    best_floats[worker * kFloats] = score;
    for (unsigned j = 0; j < 4; ++j) {
      best_floats[worker * kFloats + 1 + j] = found ? boxes[4 * at + j] : 0.0f;
    }
    best_ints[worker * kInts] = found ? first + best : kNone;
    best_ints[worker * kInts + 1] = found ? labels[at] : kNone;
  }
};

// The best of many records, one per worker: records come in the order of their indices.
class NmsReduce : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::SPAN>> floats;           // (r * kFloats,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;            // (r * kInts,)
  Output<Vector<float, VectorLayout::ONE_PTR>> best_floats;  // (w * kFloats,)
  Output<Vector<int, VectorLayout::ONE_PTR>> best_ints;      // (w * kInts,)

  void compute(unsigned worker) {
    const Best best(floats, ints, Share(floats.size() / kFloats, worker, numWorkers()));
    for (unsigned j = 0; j < kFloats; ++j) {
      best_floats[worker * kFloats + j] = best.found ? floats[best.at * kFloats + j] : 0.0f;
    }
    for (unsigned j = 0; j < kInts; ++j) {
      best_ints[worker * kInts + j] = best.found ? ints[best.at * kInts + j] : kNone;
    }
  }
};

// Ends one image's round: the best record becomes the winner and the next detection.
class NmsRecord : public poplar::Vertex {
 public:
  Input<Vector<float, VectorLayout::SPAN>> floats;             // (w * kFloats,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;              // (w * kInts,)
  Output<Vector<float, VectorLayout::ONE_PTR>> winner_floats;  // (kFloats,)
  Output<Vector<int, VectorLayout::ONE_PTR>> winner_ints;      // (kInts,)
  InOut<Vector<float, VectorLayout::ONE_PTR>> boxes;           // (4 * k,) xyxy
  InOut<Vector<float, VectorLayout::SPAN>> scores;             // (k,)
  InOut<Vector<int, VectorLayout::ONE_PTR>> labels;            // (k,)
  InOut<Vector<int, VectorLayout::ONE_PTR>> indices;           // (k,)
  InOut<Vector<int, VectorLayout::ONE_PTR>> count;             // (1,)
  Output<Vector<int, VectorLayout::ONE_PTR>> active;           // (1,) 0: this image is done

  void compute() {
    const Best best(floats, ints, Share(floats.size() / kFloats, 0, 1));
    const unsigned slot = static_cast<unsigned>(count[0]);
    const bool found = best.found && slot < scores.size();
    for (unsigned j = 0; j < kFloats; ++j) {
      winner_floats[j] = found ? floats[best.at * kFloats + j] : 0.0f;
    }
    for (unsigned j = 0; j < kInts; ++j) {
      winner_ints[j] = found ? ints[best.at * kInts + j] : kNone;
    }
    if (found) {
      scores[slot] = floats[best.at * kFloats];
      for (unsigned j = 0; j < 4; ++j) boxes[4 * slot + j] = floats[best.at * kFloats + 1 + j];
      indices[slot] = ints[best.at * kInts];
      labels[slot] = ints[best.at * kInts + 1];
      count[0] = static_cast<int>(slot + 1);
    }
    active[0] = found && slot + 1 < scores.size();
  }
};

// Whether any image still looks for detections: the condition of the loop.
class NmsAnyActive : public poplar::Vertex {
 public:
  Input<Vector<int, VectorLayout::SPAN>> active;  // (images,)
  Output<bool> any;

  void compute() {
    bool found = false;
    for (unsigned i = 0; i < active.size(); ++i) found = found || active[i] != 0;
    *any = found;
  }
};
