#include "bench/trace.h"

#include <zlib.h>

#include <memory>
#include <unordered_map>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

namespace spanwise::bench {
namespace {

constexpr uint32_t kMooncakeTokens = 512;
constexpr size_t kMaxLine = size_t{16} << 20;
constexpr int64_t kMaxTokens = int64_t{1} << 30;

// The lines of a plain or gzip file.
class LineReader {
 public:
  explicit LineReader(const std::string& path) : file_(gzopen(path.c_str(), "rb"), gzclose), path_(path) {}

  // False at the end.
  Result<bool> Next(std::string* line) {
    if (!file_) return NotFound(path_ + ": cannot be opened");
    line->clear();
    while (true) {
      if (at_ == size_) {
        const int n = gzread(file_.get(), buffer_, sizeof buffer_);
        // Also when a compressed file ends too early.
        int error = Z_OK;
        const char* message = gzerror(file_.get(), &error);
        if (n < 0 || error != Z_OK) return Corruption(StrFormat("{}: cannot be read: {}", path_, message));
        if (n == 0) return !line->empty();
        at_ = 0;
        size_ = static_cast<size_t>(n);
      }
      const std::string_view left(buffer_ + at_, size_ - at_);
      const size_t end = left.find('\n');
      line->append(left.substr(0, end));
      at_ += std::min(left.size(), end == left.npos ? end : end + 1);
      if (line->size() > kMaxLine) return InvalidArgument(StrFormat("{}: a line of over {} bytes", path_, kMaxLine));
      if (end != left.npos) return true;
    }
  }

 private:
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
  std::string path_;
  char buffer_[1 << 16];
  size_t at_ = 0, size_ = 0;
};

}  // namespace

uint64_t Trace::n_uses() const {
  uint64_t n = 0;
  for (const TraceRequest& request : requests) n += request.blocks.size();
  return n;
}

Result<Trace> ReadTrace(const std::string& path, size_t max_requests) {
  Trace trace{
      .name = path.substr(path.find_last_of('/') + 1), .block_tokens = kMooncakeTokens, .blocks = {}, .requests = {}};
  std::unordered_map<int64_t, uint32_t> ids;
  LineReader lines(path);
  std::string line;
  for (size_t n = 1; trace.requests.size() < max_requests; ++n) {
    SW_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (Trim(line).empty()) continue;
    const std::string where = StrFormat("{}:{}", path, n);
    SW_ASSIGN_OR_RETURN(const json::value value, ParseJson(line, where));
    if (!value.is_object()) return InvalidArgument(where + ": expected an object");
    SW_ASSIGN_OR_RETURN(const auto length, GetInt(value.get_object(), "input_length"));
    SW_ASSIGN_OR_RETURN(const json::array* hashes, GetArray(value.get_object(), "hash_ids"));
    if (!length || !hashes) return InvalidArgument(where + ": expected input_length and hash_ids");
    const auto n_blocks = static_cast<int64_t>(hashes->size());
    if (*length < 1 || *length > kMaxTokens || (*length + kMooncakeTokens - 1) / kMooncakeTokens != n_blocks)
      return InvalidArgument(StrFormat("{}: input_length {} does not go with {} hash ids of {} tokens", where, *length,
                                       n_blocks, kMooncakeTokens));
    TraceRequest request;
    uint32_t parent = TraceBlock::kNone;
    for (const json::value& hash : *hashes) {
      if (!hash.is_int64()) return InvalidArgument(where + ": hash_ids: expected integers");
      const auto position = static_cast<uint32_t>(request.blocks.size()) * kMooncakeTokens;
      const uint32_t tokens = std::min(kMooncakeTokens, static_cast<uint32_t>(*length) - position);
      const auto [it, fresh] = ids.emplace(hash.get_int64(), static_cast<uint32_t>(trace.blocks.size()));
      if (fresh) trace.blocks.push_back({parent, tokens, position});
      TraceBlock& block = trace.blocks[it->second];
      if (block.parent != parent)
        return InvalidArgument(StrFormat("{}: hash id {} follows two different ids", where, hash.get_int64()));
      block.tokens = std::max(block.tokens, tokens);
      request.blocks.push_back(parent = it->second);
    }
    request.n_shared = static_cast<uint32_t>(request.blocks.size());
    trace.requests.push_back(std::move(request));
  }
  if (trace.requests.empty()) return InvalidArgument(path + ": no requests");
  return trace;
}

}  // namespace spanwise::bench
