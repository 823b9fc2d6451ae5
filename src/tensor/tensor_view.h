// A typed, shaped, read-only window on bytes that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace spanwise {

// Row-major and dense. The owner of `data` (a mapped file, a buffer) must outlive the view. `data` may be unaligned
// only where its file was; kernels load it without assuming alignment beyond the element's.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t n_elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  size_t n_bytes() const { return static_cast<size_t>(n_elements()) * DTypeBytes(dtype); }
};

}  // namespace spanwise
