// What a tokenizer makes of many texts, for comparison with other implementations, and how fast it is:
//   tokenize_lines TOKENIZER            JSON strings, one a line, from standard input; one JSON object a line comes out
//   tokenize_lines TOKENIZER --speed F  MB/s of one thread over the text of the file F
// TOKENIZER is a tokenizer.json or a GGUF file.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {
namespace {

Result<std::shared_ptr<const Tokenizer>> Load(const std::string& path) {
  if (path.ends_with(".gguf")) {
    SW_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
    SW_ASSIGN_OR_RETURN(const GgufVocabulary vocabulary, ReadGgufVocabulary(*file));
    return Tokenizer::FromGguf(vocabulary, path);
  }
  SW_ASSIGN_OR_RETURN(const std::string source, ReadFile(path));
  return Tokenizer::FromJson(source, path);
}

json::object Describe(const Tokenizer& tokenizer, std::string_view text) {
  json::object out;
  for (const bool parse_special : {true, false}) {
    const auto tokens = tokenizer.EncodeWithOffsets(text, parse_special);
    if (!tokens.ok()) return {{"error", tokens.status().message()}};
    json::array ids, offsets;
    std::vector<int32_t> all;
    for (const EncodedToken& token : *tokens) {
      ids.push_back(token.id);
      offsets.push_back(token.begin);
      offsets.push_back(token.end);
      all.push_back(token.id);
    }
    if (const auto plain_ids = tokenizer.Encode(text, parse_special); !plain_ids.ok() || *plain_ids != all)
      return {{"error", "Encode and EncodeWithOffsets differ"}};
    out[parse_special ? "special" : "plain"] = {{"ids", std::move(ids)}, {"offsets", std::move(offsets)}};
    if (!parse_special) continue;
    out["decoded"] = tokenizer.Decode(all, true);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const int32_t id : all) streamed += stream.Push(id);
    streamed += stream.Finish();
    if (streamed != tokenizer.Decode(all)) return {{"error", "StreamDecoder and Decode differ"}};
    out["skipped"] = streamed;
  }
  return out;
}

Status MeasureSpeed(const Tokenizer& tokenizer, const std::string& path) {
  SW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  double best = 1e9;
  size_t n_tokens = 0;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    SW_ASSIGN_OR_RETURN(const auto ids, tokenizer.Encode(text, false));
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    n_tokens = ids.size();
  }
  fmt::print("{:.1f} MB/s, {} bytes, {} tokens\n", static_cast<double>(text.size()) / 1e6 / best, text.size(),
             n_tokens);
  return Status::Ok();
}

Status Main(int argc, char** argv) {
  if (argc != 2 && !(argc == 4 && std::string_view(argv[2]) == "--speed"))
    return InvalidArgument("expected TOKENIZER [--speed FILE]");
  SW_ASSIGN_OR_RETURN(const auto tokenizer, Load(argv[1]));
  if (argc == 4) return MeasureSpeed(*tokenizer, argv[3]);
  for (std::string line; std::getline(std::cin, line);) {
    SW_ASSIGN_OR_RETURN(const json::value text, ParseJson(line, "standard input"));
    if (!text.is_string()) return InvalidArgument("standard input: expected a JSON string on each line");
    std::cout << json::serialize(Describe(*tokenizer, text.get_string())) << '\n';
  }
  return Status::Ok();
}

}  // namespace
}  // namespace spanwise

int main(int argc, char** argv) {
  const spanwise::Status status = spanwise::Main(argc, argv);
  if (status.ok()) return 0;
  fmt::print(stderr, "tokenize_lines: {}\n", status.message());
  return 1;
}
