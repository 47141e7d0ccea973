#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "tensor.h"

namespace poplar_ops {
namespace {

TorchParallelFor torch_parallel_for = nullptr;

struct Job {
  const std::function<void(int64_t)>& body;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<bool> out_of_memory{false};

  // No exception may leave a thread, nor cross libtorch's C border.
  void run_one(int64_t image) noexcept {
    try {
      body(image);
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  }

  void run_all() noexcept {
    for (int64_t image = next++; image < count; image = next++) run_one(image);
  }
};

void run_range(int64_t begin, int64_t end, void* context) {
  for (int64_t image = begin; image < end; ++image) static_cast<Job*>(context)->run_one(image);
}

void run_threads(Job& job, int64_t threads) {
  std::vector<std::thread> others;
  try {
    for (int64_t i = 1; i < threads; ++i) others.emplace_back([&job] { job.run_all(); });
  } catch (const std::system_error&) {
    // The system has no thread left: those that started, and this one, do the work.
  }
  job.run_all();
  for (std::thread& other : others) other.join();
}

}  // namespace

void use_torch_threads(TorchParallelFor parallel_for) {
  torch_parallel_for = parallel_for;
}

int for_each_image(int64_t count, int threads, const std::function<void(int64_t)>& body) {
  Job job{body, count};
  if (count == 1 || threads == 1) {
    job.run_all();
  } else if (torch_parallel_for != nullptr) {
    if (torch_parallel_for(0, count, 1, run_range, &job) != 0) job.out_of_memory = true;
  } else {
    run_threads(job, std::min<int64_t>(count, threads));
  }
  return job.out_of_memory ? kOutOfMemory : kOk;
}

}  // namespace poplar_ops
