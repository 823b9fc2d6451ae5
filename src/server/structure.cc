#include "server/structure.h"

#include <utility>

#include "base/str.h"
#include "server/known_fields.h"

namespace spanwise::server {
namespace {

// [{"prompt", "max_tokens"}]. The engine settles how much fits.
std::vector<Continuation> ReadContinuations(Fields& options, const std::string& name, size_t most) {
  std::vector<Continuation> out;
  const json::array* items = options.Array(name);
  if (!items) return out;
  if (items->empty() || items->size() > most) {
    options.Fail(StrFormat("'{}' has {} entries, expected 1 to {}", options.PathOf(name), items->size(), most), name);
    return out;
  }
  for (size_t i = 0; i < items->size(); ++i) {
    const std::string key = StrFormat("{}[{}]", name, i);
    const json::value& item = (*items)[i];
    if (!item.is_object()) {
      options.WrongType(key, item, "an object");
      return out;
    }
    Fields fields(item.get_object(), kContinuationFields, &options, key);
    Continuation continuation{.prompt = fields.String("prompt").value_or(""),
                              .max_tokens = fields.Int("max_tokens", 0)};
    if (!fields.Finish()) return out;
    out.push_back(std::move(continuation));
  }
  return out;
}

}  // namespace

void ReadStructure(Fields& options, Request* request) {
  request->branches = ReadContinuations(options, "branches", Request::kMostBranches);
  for (size_t i = 0; i < request->branches.size(); ++i)
    if (const std::string key = StrFormat("branches[{}].prompt", i); request->branches[i].prompt.empty())
      options.Fail(StrFormat("'{}' is missing or empty, expected text to begin with", options.PathOf(key)), key);
  request->join = options.String("join").value_or("");
  request->steps = ReadContinuations(options, "steps", Request::kMostSteps);
  for (size_t i = 1; i < request->steps.size(); ++i)
    if (const std::string key = StrFormat("steps[{}].prompt", i); request->steps[i].prompt.empty())
      options.Fail(StrFormat("'{}' is missing or empty, which only the first step's may be", options.PathOf(key)), key);
  request->keep_subtasks = options.Int("keep_subtasks", 0);
  const std::string_view other = !request->steps.empty() ? "steps" : request->keep_subtasks ? "keep_subtasks" : "";
  if (!request->branches.empty() && !other.empty())
    options.Fail(StrFormat("'{}' do not go with '{}'", options.PathOf("branches"), options.PathOf(other)), "branches");
  if (!request->join.empty() && request->branches.empty())
    options.Fail(StrFormat("'{}' goes with '{}'", options.PathOf("join"), options.PathOf("branches")), "join");
}

}  // namespace spanwise::server
