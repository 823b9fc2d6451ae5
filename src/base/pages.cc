#include "base/pages.h"

#include <sys/mman.h>

#include <new>

namespace spanwise {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

Pages::Pages(size_t size) : size_(size) {
  if (size == 0) return;
  constexpr size_t kHugePage = size_t{2} << 20;
  // Only whole huge pages at multiples of their size can be huge: the mapping begins at one, and what is mapped beside
  // it is given back.
  const size_t slack = size >= kHugePage ? kHugePage : 0;
  if (size + slack < size) throw std::bad_alloc();
  void* mapped = mmap(nullptr, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(mapped);
  if (slack == 0) return;
  const size_t before = (kHugePage - reinterpret_cast<size_t>(mapped) % kHugePage) % kHugePage;
  const size_t end = (before + size + kPage - 1) / kPage * kPage;
  if (before > 0) munmap(data_, before);
  if (end < size + slack) munmap(data_ + end, size + slack - end);
  data_ += before;
  madvise(data_, size, MADV_HUGEPAGE);  // a wish; without it the pages are small
}

Pages::~Pages() {
  if (data_ != nullptr) munmap(data_, size_);
}

void ReleaseFilePages(const std::byte* data, size_t size) {
  const size_t before = reinterpret_cast<size_t>(data) % kPage;
  if (size > 0) madvise(const_cast<std::byte*>(data) - before, size + before, MADV_DONTNEED);
}

}  // namespace spanwise
