// roi_align: bilinear pooling of regions of a map to a fixed size, and its gradient to the map.
//
// B images, R regions an image, C channels, (H, W) map, (h, w) bins a region. A task is one block
// of channels of one image: its map is read once and stays in the cache for all regions, and no two
// tasks write the same gradient, which therefore is the same on any number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bilinear.h"
#include "entry_points.h"
#include "parallel.h"

namespace poplar_ops {
namespace {

struct Region {
  Axis y, x;
};

struct Sizes {
  int64_t batch, regions, channels, height, width, bins_y, bins_x;

  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  int64_t cells() const { return height * width; }
  int64_t bins() const { return bins_y * bins_x; }
};

Span span(float low, float high, const RoiAlignConfig& config) {
  const float offset = config.aligned ? 0.5f : 0.0f;
  const float start = low * config.spatial_scale - offset;
  const float length = (high * config.spatial_scale - offset) - start;
  // Not std::max: a NaN stays one.
  return {start, !config.aligned && length < 1.0f ? 1.0f : length};
}

std::vector<Region> find_regions(const float* rois, const Sizes& sizes,
                                 const RoiAlignConfig& config) {
  std::vector<Region> regions(sizes.batch * sizes.regions);
  AxisBuilder y(sizes.bins_y, sizes.height, config.sampling_ratio);
  AxisBuilder x(sizes.bins_x, sizes.width, config.sampling_ratio);
  for (size_t i = 0; i < regions.size(); ++i) {
    const float* box = rois + 4 * i;
    regions[i] = {y.build(span(box[1], box[3], config)), x.build(span(box[0], box[2], config))};
  }
  return regions;
}

// One thread's buffers.
struct Buffers {
  explicit Buffers(const Sizes& sizes)
      : map(sizes.cells()), scratch(sizes.height * sizes.bins_x), pooled(sizes.bins()) {}

  std::vector<Cell> map, scratch, pooled;
};

struct Task {
  int64_t image, channel, channels;  // `channels` from `channel` on, at most kBlock

  Task(int64_t number, const Sizes& sizes)
      : image(number / sizes.blocks()),
        channel(number % sizes.blocks() * kBlock),
        channels(std::min<int64_t>(kBlock, sizes.channels - channel)) {}
};

int64_t element_size(DType dtype) {
  return dtype == DType::kFloat32 ? 4 : 2;
}

char* element(const Tensor& tensor, int64_t index) {
  return tensor.as<char>() + index * element_size(tensor.dtype);
}

void load_map(const Tensor& features, const Task& task, const Sizes& sizes, Cell* map) {
  const int64_t* stride = features.stride;
  const int64_t first = task.image * stride[0] + task.channel * stride[1];
  const bool is_one_row = stride[2] == sizes.width * stride[3];
  const int64_t rows = is_one_row ? 1 : sizes.height;
  const int64_t length = is_one_row ? sizes.cells() : sizes.width;
  for (int64_t row = 0; row < rows; ++row) {
    load_block({element(features, first + row * stride[2]), features.dtype, task.channels,
                stride[1], stride[3]},
               length, map + row * length);
  }
}

void forward(const Tensor& features, const std::vector<Region>& regions, const Task& task,
             int64_t begin, int64_t end, const Sizes& sizes, bool stream, const Tensor& out) {
  Buffers buffers(sizes);
  load_map(features, task, sizes, buffers.map.data());
  for (int64_t r = begin; r < end; ++r) {
    const int64_t i = task.image * sizes.regions + r;
    pool(buffers.map.data(), sizes.width, regions[i].y, regions[i].x, buffers.scratch.data(),
         buffers.pooled.data());
    store_block(buffers.pooled.data(), sizes.bins(), task.channels, out.dtype,
                element(out, (i * sizes.channels + task.channel) * sizes.bins()), sizes.bins(),
                stream);
  }
  if (stream) finish_streams();
}

void backward(const Tensor& grad, const std::vector<Region>& regions, const Task& task,
              const Sizes& sizes, const Tensor& out) {
  Buffers buffers(sizes);
  for (int64_t r = 0; r < sizes.regions; ++r) {
    const int64_t i = task.image * sizes.regions + r;
    load_block({element(grad, (i * sizes.channels + task.channel) * sizes.bins()), grad.dtype,
                task.channels, sizes.bins(), 1},
               sizes.bins(), buffers.pooled.data());
    add_gradient(buffers.pooled.data(), sizes.width, regions[i].y, regions[i].x,
                 buffers.scratch.data(), buffers.map.data());
  }
  store_block(buffers.map.data(), sizes.cells(), task.channels, out.dtype,
              element(out, (task.image * sizes.channels + task.channel) * sizes.cells()),
              sizes.cells(), false);
}

int check_map(const Tensor& map, const char* name, Sizes& sizes) {
  if (map.dim != 4) return check_sizes(map, name, "(B, C, H, W)", 4, {});
  if (int code = check_float(map, name)) return code;
  sizes.batch = map.size[0];
  sizes.channels = map.size[1];
  sizes.height = map.size[2];
  sizes.width = map.size[3];
  if (sizes.height < 1 || sizes.width < 1) return refuse("%s must not be empty", name);
  if (sizes.cells() > std::numeric_limits<int32_t>::max()) {
    return refuse("H * W of %s must be below 2^31", name);
  }
  return kOk;
}

int check_rest(const Tensor& rois, const Tensor& pooled, const char* name,
               const RoiAlignConfig& config, DType dtype, Sizes& sizes) {
  sizes.regions = rois.size[1];
  sizes.bins_y = pooled.size[2];
  sizes.bins_x = pooled.size[3];
  const int64_t total = sizes.batch * sizes.regions;
  if (int code = check(rois, "rois", "(B, R, 4) with B as in features", DType::kFloat32, 3,
                       {sizes.batch, sizes.regions, 4})) {
    return code;
  }
  if (int code = check(pooled, name, "(B * R, C, h, w)", dtype, 4,
                       {total, sizes.channels, sizes.bins_y, sizes.bins_x})) {
    return code;
  }
  if (sizes.bins_y < 1 || sizes.bins_x < 1) return refuse("output_size must be at least 1");
  if (config.sampling_ratio < 0 || config.sampling_ratio > kMaxSamples) {
    return refuse("sampling_ratio must be from 0 to %d, got %d", kMaxSamples,
                  config.sampling_ratio);
  }
  return kOk;
}

}  // namespace
}  // namespace poplar_ops

using namespace poplar_ops;

extern "C" int poplar_ops_roi_align(const Tensor* features, const Tensor* rois,
                                    const RoiAlignConfig* config, const Tensor* out, int threads) {
  Sizes sizes{};
  if (int code = check_map(*features, "features", sizes)) return code;
  if (int code = check_rest(*rois, *out, "out", *config, features->dtype, sizes)) return code;
  const int64_t tasks = sizes.batch * sizes.blocks();
  if (tasks == 0 || sizes.regions == 0) return kOk;
  // A map of few channels is shared: its regions are divided, too.
  const int64_t parts = std::min(sizes.regions, (2 * threads + tasks - 1) / tasks);
  try {
    const std::vector<Region> regions = find_regions(rois->as<float>(), sizes, *config);
    return for_each_image(tasks * parts, threads, [&](int64_t number) {
      const int64_t part = number % parts;
      forward(*features, regions, Task(number / parts, sizes), part * sizes.regions / parts,
              (part + 1) * sizes.regions / parts, sizes, config->stream, *out);
    });
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  }
}

extern "C" int poplar_ops_roi_align_backward(const Tensor* grad, const Tensor* rois,
                                             const RoiAlignConfig* config, const Tensor* out,
                                             int threads) {
  Sizes sizes{};
  if (int code = check_map(*out, "out", sizes)) return code;
  if (int code = check_rest(*rois, *grad, "grad", *config, out->dtype, sizes)) return code;
  if (int code = check(*out, "out", "(B, C, H, W)", out->dtype, 4,
                       {sizes.batch, sizes.channels, sizes.height, sizes.width})) {
    return code;
  }
  try {
    const std::vector<Region> regions = find_regions(rois->as<float>(), sizes, *config);
    return for_each_image(sizes.batch * sizes.blocks(), threads, [&](int64_t number) {
      backward(*grad, regions, Task(number, sizes), sizes, *out);
    });
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  }
}
