// Images of a batch over threads: torch's own pool where libtorch offers it, else plain threads.
#pragma once

#include <cstdint>
#include <functional>

namespace poplar_ops {

// torch_parallel_for of libtorch's stable C functions; returns 0 on success.
using TorchParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain_size,
                                     void (*body)(int64_t begin, int64_t end, void* context),
                                     void* context);

void use_torch_threads(TorchParallelFor parallel_for);

// Runs `body(i)` for i in [0, count) on at most `threads` threads and returns a `Code`. `body` may
// throw std::bad_alloc and nothing else.
int for_each_image(int64_t count, int threads, const std::function<void(int64_t)>& body);

}  // namespace poplar_ops
