// Memory for large arrays.
#pragma once

#include <cstddef>
#include <utility>

namespace spanwise {

// Zeroed bytes, page-aligned, in huge pages where the system has them to give, so that reading them from one end to the
// other waits less for addresses to be looked up. Allocating throws std::bad_alloc, as containers do.
class Pages {
 public:
  Pages() = default;
  explicit Pages(size_t size);
  Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Pages();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Takes a range of a mapped file out of memory; it is read again when it is touched.
void ReleaseFilePages(const std::byte* data, size_t size);

}  // namespace spanwise
