// Any bytes as the body of a request. The first byte chooses the endpoint.
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/str.h"
#include "decode/sampler.h"
#include "server/openai.h"

namespace {

using namespace spanwise;
using namespace spanwise::server;

void CheckError(const ApiError& error) {
  SW_CHECK(error.http_status == 400 && !error.message.empty() && IsValidUtf8(error.message));
  SW_CHECK(ParseJson(json::serialize(ErrorJson(error)), "error").ok());
}

void CheckSampling(const SamplingParams& sampling) {
  SW_CHECK(decode::ValidateSampling(sampling, std::numeric_limits<int>::max()).ok());
}

void CheckSalt(const std::optional<std::string>& salt) {
  SW_CHECK(!salt || (salt->size() <= Document::kMostSaltBytes && IsValidUtf8(*salt)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 4) {
    case 0: {
      ChatCall call;
      if (const auto error = ParseChat(body, {}, &call)) {
        CheckError(*error);
        break;
      }
      SW_CHECK(!call.job.request.messages.empty());
      for (const Message& message : call.job.request.messages) {
        SW_CHECK(IsValidUtf8(message.content));
        CheckSalt(message.cache_salt);
      }
      for (const Document& document : call.job.request.documents) {
        SW_CHECK(IsValidUtf8(document.id) && IsValidUtf8(document.text));
        CheckSalt(document.cache_salt);
      }
      CheckSampling(call.job.request.sampling);
      break;
    }
    case 1: {
      CompletionCall call;
      if (const auto error = ParseCompletion(body, {}, &call)) {
        CheckError(*error);
        break;
      }
      SW_CHECK(!call.jobs.empty());
      for (const Job& job : call.jobs) {
        SW_CHECK(job.request.prompt.has_value() != job.request.prompt_tokens.has_value());
        CheckSampling(job.request.sampling);
      }
      break;
    }
    case 2: {
      TokenizeCall call;
      if (const auto error = ParseTokenize(body, {}, &call)) CheckError(*error);
      break;
    }
    default: {
      DetokenizeCall call;
      if (const auto error = ParseDetokenize(body, {}, &call)) CheckError(*error);
      break;
    }
  }
  return 0;
}
