// Engines for tests of whole requests, and what it means for two answers to be the same.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "spanwise/engine.h"

namespace spanwise {

inline std::string InSource(const std::string& path) {
  const char* root = std::getenv("SPANWISE_SOURCE_DIR");
  return std::string(root ? root : ".") + "/" + path;
}

// A random model with bytes as tokens.
inline std::string TinyModel() { return InSource("tests/golden/gguf/llama3-bf16.gguf"); }

inline std::unique_ptr<Engine> OpenTiny(int n_blocks = 256, int max_running = 64) {
  static const size_t block_bytes = Engine::Open({.model = TinyModel(), .threads = 1, .kv_memory_bytes = 1 << 20})
                                        .value()
                                        ->model()
                                        .kv_bytes_per_token *
                                    64;
  return Engine::Open({.model = TinyModel(),
                       .threads = 2,
                       .kv_memory_bytes = static_cast<size_t>(n_blocks) * block_bytes,
                       .max_running = max_running,
                       .step_tokens = 40})
      .value();
}

// The bundled model.
inline std::unique_ptr<Engine> OpenPocket(int step_tokens = 512) {
  return Engine::Open({.model = InSource("models/pocket"),
                       .threads = 2,
                       .kv_memory_bytes = size_t{128} << 20,
                       .step_tokens = step_tokens})
      .value();
}

// Tokens and their probabilities, to the bit.
inline void ExpectSame(const std::vector<TokenReport>& got, const std::vector<TokenReport>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].id, expected[i].id) << i;
    EXPECT_EQ(got[i].logprob, expected[i].logprob) << i;
  }
}

}  // namespace spanwise
