// A backend without a model, for tests of the protocol: its answers follow from the request alone.
#pragma once

#include <chrono>
#include <memory>

#include "server/backend.h"

namespace spanwise::server {

struct FakeOptions {
  int max_queued = 4;
  std::chrono::microseconds per_token{0};  // the time each token takes
  double drain_s = 0;                      // what the statistics say
  std::chrono::microseconds per_text{0};   // the time that tokenising a text takes
};

// Tokens are the bytes of the text, end-of-text is 256. A request is answered, token by token, with "You said: " and
// the last message (a plain prompt is continued with "..."), "[1]" where there are documents, cut at max_tokens.
// Prompts that hold "FAIL" fail after the first token, "HALF" answers with half a character, "REFUSE" is refused by
// Submit. Honours stop strings, cancellation, the queue's limit; reports log-probabilities of -0.5.
std::unique_ptr<Backend> NewFakeBackend(const FakeOptions& options = {});

}  // namespace spanwise::server
