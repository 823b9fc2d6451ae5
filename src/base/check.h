// SW_CHECK and SW_DCHECK: for our own bugs only. Outside data is judged with Status.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace spanwise {

[[noreturn]] inline void CheckFailed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
  std::abort();
}

}  // namespace spanwise

#define SW_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::spanwise::CheckFailed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define SW_DCHECK(condition) static_cast<void>(0)
#else
#define SW_DCHECK(condition) SW_CHECK(condition)
#endif
