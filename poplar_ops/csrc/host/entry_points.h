// The C entry points: what ctypes calls from Python, and `register.cpp` from torch's dispatcher.
// Each checks its tensors and returns a `Code`; `poplar_ops_error()` has the words.
#pragma once

#include "tensor.h"

namespace poplar_ops {

struct NmsConfig {
  float iou_threshold;
  float score_threshold;
  double sigma;  // 0: remove what overlaps; else decay it by exp(-IoU^2 / sigma)
  int32_t class_aware;
};

struct RoiAlignConfig {
  float spatial_scale;
  int32_t sampling_ratio;  // samples a bin and axis; 0: as many as the bin has cells
  int32_t aligned;         // subtract half a cell from coordinates
  int32_t stream;          // write float32 results past the cache
};

}  // namespace poplar_ops

#pragma GCC visibility push(default)
extern "C" {

const char* poplar_ops_error();

// scores (B, N, C), boxes (B, N, 4) float32, labels (B, N) int32 -> boxes (B, K, 4), scores (B, K)
// float32, labels, indices (B, K), count (B,) int32; rows from count on hold 0, 0, -1, -1.
int poplar_ops_nms(const poplar_ops::Tensor* scores, const poplar_ops::Tensor* boxes,
                   const poplar_ops::Tensor* labels, const poplar_ops::NmsConfig* config,
                   const poplar_ops::Tensor* out_boxes, const poplar_ops::Tensor* out_scores,
                   const poplar_ops::Tensor* out_labels, const poplar_ops::Tensor* out_indices,
                   const poplar_ops::Tensor* out_count, int threads);

// x (B, N) float32 -> values (B, k) float32, indices (B, k) int32.
int poplar_ops_topk_select(const poplar_ops::Tensor* x, const poplar_ops::Tensor* values,
                           const poplar_ops::Tensor* indices, int threads);

// features (B, C, H, W) of any strides, rois (B, R, 4) float32 -> out (B * R, C, h, w), of the
// features' type: float32, float16 or bfloat16.
int poplar_ops_roi_align(const poplar_ops::Tensor* features, const poplar_ops::Tensor* rois,
                         const poplar_ops::RoiAlignConfig* config, const poplar_ops::Tensor* out,
                         int threads);

// grad (B * R, C, h, w), rois (B, R, 4) float32 -> out (B, C, H, W), of grad's type.
int poplar_ops_roi_align_backward(const poplar_ops::Tensor* grad, const poplar_ops::Tensor* rois,
                                  const poplar_ops::RoiAlignConfig* config,
                                  const poplar_ops::Tensor* out, int threads);

// Finds libtorch's stable C functions, given dlopen's handle of libtorch_cpu. Returns 1 where it
// lacks them.
int poplar_ops_find_torch(void* libtorch);

// Enters the kernel `name` for CPU tensors of torch.ops.poplar_ops. Returns 1 where torch refuses.
int poplar_ops_register(const char* name);

// Instruction set in use: 0 baseline, 1 AVX2, 2 AVX-512; setting one that the CPU lacks returns 1.
int poplar_ops_simd();
int poplar_ops_set_simd(int level);

}  // extern "C"
#pragma GCC visibility pop
