// Tile code of roi_align and of its gradient (lowering.cpp, opx.cpp and grad_opx.cpp connect it).
//
// A tile holds c channels of one image's map, channels innermost: cell y * W + x, channel i is word
// (y * W + x) * c + i. n regions, h x w bins, w workers of a tile. Sums are float32, in an order
// that depends on the graph only.
//
// Taps of a region: what each bin reads of each axis. Of bin k, rows before columns:
// ints[3k] = first cell, ints[3k + 1] = number of cells, ints[3k + 2] = where its weights begin.
#include <cmath>
#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

namespace {

using poplar::InOut;
using poplar::Input;
using poplar::Output;
using poplar::Vector;
using poplar::VectorLayout;

constexpr unsigned kMaxChannels = 8;    // of a tile, as in layout.cpp
constexpr unsigned kBinInts = 3;        // words of a bin's taps, as in layout.cpp
constexpr float kMaxSamples = 65536.f;  // of a bin and axis

// The part [begin, end) of n things that one of `workers` workers does, in steps of 2: two workers
// never write into one 32-bit word of half values.
struct Share {
  unsigned begin;
  unsigned end;
  Share(unsigned n, unsigned worker, unsigned workers) {
    const unsigned size = 2 * ((n + 2 * workers - 1) / (2 * workers));
    begin = worker * size < n ? worker * size : n;
    end = begin + size < n ? begin + size : n;
  }
};

bool is_finite(float value) {
  return value - value == 0.0f;
}

// One axis of one region on a map of `size` cells.
struct Axis {
  float start;  // in cells
  float bin;    // size of a bin, in cells
  int samples;  // of a bin
  unsigned size;

  Axis(float low, float high, unsigned bins, unsigned size_, int sampling_ratio, bool aligned)
      : start(low), size(size_) {
    float length = high - low;
    if (!aligned && length < 1.0f) length = 1.0f;
    bin = length / static_cast<float>(bins);
    samples = sampling_ratio;
    if (samples == 0) {  // adaptive: none of a reversed, empty or NaN region
      const float wanted = std::ceil(bin);
      if (wanted > 0.0f) samples = static_cast<int>(wanted < kMaxSamples ? wanted : kMaxSamples);
    }
  }

  // Each operation rounded on its own, in torchvision's order.
  float position(unsigned number, int sample) const {
    return start + static_cast<float>(number) * bin +
           (static_cast<float>(sample) + 0.5f) * bin / static_cast<float>(samples);
  }

  bool is_on_map(float at) const { return at >= -1.0f && at <= static_cast<float>(size); }

  // First sample at or above -1 (`past_end`: above the map), or `samples`; positions ascend.
  int first(unsigned number, bool past_end) const {
    int low = 0;
    int high = samples;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      const float at = position(number, middle);
      if (past_end ? at > static_cast<float>(size) : at >= -1.0f) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  // Writes the taps of one bin, its weights from `begin` on; returns where they end.
  template <class Ints, class Floats>
  unsigned write(Ints& ints, unsigned ints_at, Floats& floats, unsigned floats_at, unsigned number,
                 unsigned begin) const {
    int from = 0;
    int to = samples;
    if (bin > 0.0f) {  // of a region far larger than the map, look only at samples on the map
      from = first(number, false);
      to = first(number, true);
    }
    unsigned low = size;
    unsigned high = 0;
    for (int i = from; i < to; ++i) {  // the range of cells
      const float at = position(number, i);
      if (!is_on_map(at)) continue;
      const unsigned cell = lower(at);
      low = cell < low ? cell : low;
      high = upper(cell) > high ? upper(cell) : high;
    }
    const unsigned count = low < size ? high - low + 1 : 0;
    ints[ints_at] = static_cast<int>(count > 0 ? low : 0);
    ints[ints_at + 1] = static_cast<int>(count);
    ints[ints_at + 2] = static_cast<int>(begin);
    const unsigned weights = floats_at + begin;
    for (unsigned i = 0; i < count; ++i) floats[weights + i] = 0.0f;
    const float share = 1.0f / static_cast<float>(samples > 0 ? samples : 1);
    for (int i = from; i < to; ++i) {
      const float at = position(number, i);
      if (!is_on_map(at)) continue;
      const unsigned cell = lower(at);
      const float fraction = cell + 1 < size && at > 0.0f ? at - static_cast<float>(cell) : 0.0f;
      floats[weights + cell - low] += (1.0f - fraction) * share;
      floats[weights + upper(cell) - low] += fraction * share;
    }
    return begin + count;
  }

 private:
  unsigned lower(float at) const {
    const unsigned cell = at > 0.0f ? static_cast<unsigned>(at) : 0;
    return cell < size ? cell : size - 1;
  }
  unsigned upper(unsigned cell) const { return cell + 1 < size ? cell + 1 : cell; }
};

// The taps of one bin of one axis.
struct Bin {
  unsigned first;
  unsigned count;
  unsigned weights;

  template <class Ints>
  Bin(Ints& ints, unsigned region, unsigned bins, unsigned number, unsigned floats) {
    const unsigned at = (region * bins + number) * kBinInts;
    first = static_cast<unsigned>(ints[at]);
    count = static_cast<unsigned>(ints[at + 1]);
    weights = region * floats + static_cast<unsigned>(ints[at + 2]);
  }
};

// Sizes that every vertex is told.
struct Sizes {
  unsigned channels;
  unsigned width;
  unsigned rows;     // h, bins
  unsigned columns;  // w, bins
  unsigned floats;   // weights of a region

  unsigned bins() const { return rows + columns; }
};

template <class Out, class Map, class Ints, class Floats>
void pool_region(Out& out, const Map& map, const Ints& ints, const Floats& floats,
                 const Sizes& sizes, unsigned region) {
  for (unsigned row = 0; row < sizes.rows; ++row) {
    const Bin y(ints, region, sizes.bins(), row, sizes.floats);
    for (unsigned column = 0; column < sizes.columns; ++column) {
      const Bin x(ints, region, sizes.bins(), sizes.rows + column, sizes.floats);
      float sum[kMaxChannels] = {};
      for (unsigned i = 0; i < y.count; ++i) {
        for (unsigned j = 0; j < x.count; ++j) {
          const float weight = floats[y.weights + i] * floats[x.weights + j];
          if (weight == 0.0f) continue;  // a NaN beside a region does no harm
          const unsigned at = ((y.first + i) * sizes.width + x.first + j) * sizes.channels;
          for (unsigned c = 0; c < sizes.channels; ++c) {
            sum[c] += weight * static_cast<float>(map[at + c]);
          }
        }
      }
      const unsigned at = ((region * sizes.rows + row) * sizes.columns + column) * sizes.channels;
      for (unsigned c = 0; c < sizes.channels; ++c) out[at + c] = sum[c];
    }
  }
}

// Adds the gradients of one region to the rows y of the map with y % workers == worker.
template <class Sums, class Grad, class Ints, class Floats>
void spread_region(Sums& sums, const Grad& grad, const Ints& ints, const Floats& floats,
                   const Sizes& sizes, unsigned region, unsigned worker, unsigned workers) {
  for (unsigned row = 0; row < sizes.rows; ++row) {
    const Bin y(ints, region, sizes.bins(), row, sizes.floats);
    for (unsigned i = 0; i < y.count; ++i) {
      if ((y.first + i) % workers != worker) continue;
      for (unsigned column = 0; column < sizes.columns; ++column) {
        const Bin x(ints, region, sizes.bins(), sizes.rows + column, sizes.floats);
        const unsigned from =
            ((region * sizes.rows + row) * sizes.columns + column) * sizes.channels;
        for (unsigned j = 0; j < x.count; ++j) {
          const float weight = floats[y.weights + i] * floats[x.weights + j];
          if (weight == 0.0f) continue;
          const unsigned at = ((y.first + i) * sizes.width + x.first + j) * sizes.channels;
          for (unsigned c = 0; c < sizes.channels; ++c) {
            sums[at + c] += weight * static_cast<float>(grad[from + c]);
          }
        }
      }
    }
  }
}

// Sets the worker's rows of the map, those of `spread_region`, to 0.
template <class Sums>
void clear_rows(Sums& sums, unsigned row, unsigned worker, unsigned workers) {
  for (unsigned begin = worker * row; begin < sums.size(); begin += workers * row) {
    for (unsigned i = begin; i < begin + row; ++i) sums[i] = 0.0f;
  }
}

// Sums `groups` partial maps that lie one after the other, each in the same order.
template <class Out, class Partials>
void sum_partials(Out& out, const Partials& partials, unsigned groups, const Share& share) {
  const unsigned n = out.size();
  for (unsigned i = share.begin; i < share.end; ++i) {
    float sum = partials[i];
    for (unsigned group = 1; group < groups; ++group) sum += partials[group * n + i];
    out[i] = sum;
  }
}

}  // namespace

// Works out the taps of n regions, which are the same for all channels.
class RoiAlignTaps : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::SPAN>> rois;       // (4 * n,) xyxy, input pixels
  Output<Vector<int, VectorLayout::ONE_PTR>> ints;     // (n * (h + w) * kBinInts,)
  InOut<Vector<float, VectorLayout::ONE_PTR>> floats;  // (n * floats_per_region,)
  unsigned floats_per_region;
  unsigned height;  // cells of the map
  unsigned width;
  unsigned rows;  // h, bins
  unsigned columns;
  int sampling_ratio;  // 0: adaptive
  int aligned;
  float spatial_scale;

  void compute(unsigned worker) {
    const unsigned n = rois.size() / 4;
    for (unsigned region = worker; region < n; region += numWorkers()) write(region);
  }

 private:
  void write(unsigned region) {
    const float offset = aligned ? 0.5f : 0.0f;
    float box[4];
    bool finite = true;
    for (unsigned i = 0; i < 4; ++i) {
      finite = finite && is_finite(rois[4 * region + i]);
      box[i] = rois[4 * region + i] * spatial_scale - offset;
    }
    const Axis y(box[1], box[3], rows, height, sampling_ratio, aligned != 0);
    const Axis x(box[0], box[2], columns, width, sampling_ratio, aligned != 0);
    unsigned begin = 0;
    for (unsigned bin = 0; bin < rows + columns; ++bin) {
      const unsigned at = (region * (rows + columns) + bin) * kBinInts;
      const unsigned from = region * floats_per_region;
      if (!finite) {
        for (unsigned i = 0; i < kBinInts; ++i) ints[at + i] = 0;
      } else if (bin < rows) {
        begin = y.write(ints, at, floats, from, bin, begin);
      } else {
        begin = x.write(ints, at, floats, from, bin - rows, begin);
      }
    }
    for (; begin < floats_per_region; ++begin) floats[region * floats_per_region + begin] = 0.0f;
  }
};

// Pools n regions of c channels.
class RoiAlignFloat : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::ONE_PTR, 8>> map;   // (H * W * c,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;       // (n * (h + w) * kBinInts,)
  Input<Vector<float, VectorLayout::ONE_PTR>> floats;   // (n * floats_per_region,)
  Output<Vector<float, VectorLayout::ONE_PTR, 8>> out;  // (n * h * w * c,)
  unsigned regions;
  unsigned floats_per_region;
  unsigned channels;
  unsigned width;  // W
  unsigned rows;   // h
  unsigned columns;

  void compute(unsigned worker) {
    const Sizes sizes{channels, width, rows, columns, floats_per_region};
    const Share share(regions, worker, numWorkers());
    for (unsigned i = share.begin; i < share.end; ++i)
      pool_region(out, map, ints, floats, sizes, i);
  }
};

// The same of half features.
class RoiAlignHalf : public poplar::MultiVertex {
 public:
  Input<Vector<half, VectorLayout::ONE_PTR, 8>> map;   // (H * W * c,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;      // (n * (h + w) * kBinInts,)
  Input<Vector<float, VectorLayout::ONE_PTR>> floats;  // (n * floats_per_region,)
  Output<Vector<half, VectorLayout::ONE_PTR, 8>> out;  // (n * h * w * c,)
  unsigned regions;
  unsigned floats_per_region;
  unsigned channels;
  unsigned width;  // W
  unsigned rows;   // h
  unsigned columns;

  void compute(unsigned worker) {
    const Sizes sizes{channels, width, rows, columns, floats_per_region};
    const Share share(regions, worker, numWorkers());
    for (unsigned i = share.begin; i < share.end; ++i)
      pool_region(out, map, ints, floats, sizes, i);
  }
};

// Adds the gradients of n regions to c channels of the map.
class RoiAlignGradFloat : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::ONE_PTR, 8>> grad;  // (n * h * w * c,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;       // (n * (h + w) * kBinInts,)
  Input<Vector<float, VectorLayout::ONE_PTR>> floats;   // (n * floats_per_region,)
  InOut<Vector<float, VectorLayout::SPAN, 8>> sums;     // (H * W * c,)
  unsigned first;                                       // 1: the sums begin here, at 0
  unsigned regions;
  unsigned floats_per_region;
  unsigned channels;
  unsigned width;  // W
  unsigned rows;   // h
  unsigned columns;

  void compute(unsigned worker) {
    const Sizes sizes{channels, width, rows, columns, floats_per_region};
    if (first) clear_rows(sums, width * channels, worker, numWorkers());
    for (unsigned i = 0; i < regions; ++i) {
      spread_region(sums, grad, ints, floats, sizes, i, worker, numWorkers());
    }
  }
};

// The same of half gradients.
class RoiAlignGradHalf : public poplar::MultiVertex {
 public:
  Input<Vector<half, VectorLayout::ONE_PTR, 8>> grad;  // (n * h * w * c,)
  Input<Vector<int, VectorLayout::ONE_PTR>> ints;      // (n * (h + w) * kBinInts,)
  Input<Vector<float, VectorLayout::ONE_PTR>> floats;  // (n * floats_per_region,)
  InOut<Vector<float, VectorLayout::SPAN, 8>> sums;    // (H * W * c,)
  unsigned first;                                      // 1: the sums begin here, at 0
  unsigned regions;
  unsigned floats_per_region;
  unsigned channels;
  unsigned width;  // W
  unsigned rows;   // h
  unsigned columns;

  void compute(unsigned worker) {
    const Sizes sizes{channels, width, rows, columns, floats_per_region};
    if (first) clear_rows(sums, width * channels, worker, numWorkers());
    for (unsigned i = 0; i < regions; ++i) {
      spread_region(sums, grad, ints, floats, sizes, i, worker, numWorkers());
    }
  }
};

// Adds up what the groups of regions gave to n words of the map.
class RoiAlignSumFloat : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::ONE_PTR>> partials;  // (groups * n,)
  Output<Vector<float, VectorLayout::SPAN, 8>> out;      // (n,)
  unsigned groups;

  void compute(unsigned worker) {
    sum_partials(out, partials, groups, Share(out.size(), worker, numWorkers()));
  }
};

// The same as half, rounded once.
class RoiAlignSumHalf : public poplar::MultiVertex {
 public:
  Input<Vector<float, VectorLayout::ONE_PTR>> partials;  // (groups * n,)
  Output<Vector<half, VectorLayout::SPAN, 8>> out;       // (n,)
  unsigned groups;

  void compute(unsigned worker) {
    sum_partials(out, partials, groups, Share(out.size(), worker, numWorkers()));
  }
};
