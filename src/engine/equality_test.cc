// What is the same: texts, requests and models that are written down otherwise find each other's KV.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/test_engines.h"
#include "prompt/normal_text.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTexts = {
    "The Cawick T40 weighs 12 kg.\n\nIts maker is Caf\u00e9 Noemi of Quistburg.",
    "Harlow Instruments was founded in 1931.\n\nIts chief executive is Ren\u00e9e Strand.",
    "The bridge of Noagate is 840 metres long.\n\nIt was built by \u00c5sa Lund.",
};

// As another program would have saved it: a byte order mark, other ends of lines, accents apart, white space at the
// end.
std::string Otherwise(std::string text) {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\n", "\r\n"}, {"\u00e9", "e\u0301"}, {"\u00c5", "\u212b"}};
  for (const auto& [from, to] : changes)
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  return "\ufeff" + text + " \r\n";
}

Request Asked(ComposeMode mode) {
  Request request;
  for (size_t i = 0; i < kTexts.size(); ++i)
    request.documents.push_back({"notes/" + std::to_string(i) + ".txt", "Note", kTexts[i]});
  request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
  request.compose = {.mode = mode, .force = true};
  request.sampling.max_tokens = 24;
  request.sampling.logprobs = 1;
  return request;
}

// Documents' tokens that were found, and all of them.
std::pair<int, int> DocumentTokens(const Answer& answer) {
  int found = 0, all = 0;
  for (const PieceReport& piece : answer.compose.spans) {
    if (piece.document.empty()) continue;
    found += piece.cached_tokens;
    all += piece.tokens;
  }
  return {found, all};
}

TEST(Equality, OfTextsUnderOtherIdsAtOtherPlacesAndWrittenOtherwise) {
  const auto renamed = [](Request* r) {
    for (Document& d : r->documents) d.id = "copy of " + d.id + "@77";
  };
  const auto nameless = [](Request* r) {
    for (Document& d : r->documents) d.id.clear();
  };
  const auto written_otherwise = [](Request* r) {
    for (Document& d : r->documents) d.text = Otherwise(d.text);
  };
  const auto moved = [](Request* r) {
    std::rotate(r->documents.begin(), r->documents.begin() + 1, r->documents.end());
  };
  const auto all = [&](Request* r) {
    written_otherwise(r);
    moved(r);
    nameless(r);
  };
  for (const ComposeMode mode : {ComposeMode::kSet, ComposeMode::kApe, ComposeMode::kRepair, ComposeMode::kExact}) {
    const bool ordered = mode == ComposeMode::kRepair || mode == ComposeMode::kExact;
    const std::vector<std::pair<std::string, std::function<void(Request*)>>> cases = {
        {"renamed", renamed},
        {"nameless", nameless},
        {"written otherwise", written_otherwise},
        {"moved", moved},
        {"all", all}};
    for (const auto& [name, change] : cases) {
      SCOPED_TRACE(StrFormat("{}, {}", ComposeModeName(mode), name));
      const auto engine = OpenPocket();
      const Answer first = engine->Run(Asked(mode)).value();
      Request other = Asked(mode);
      change(&other);
      const Answer second = engine->Run(other).value();
      const bool same_order = !ordered || (name != "moved" && name != "all");
      if (same_order) {  // the very same prompt
        ExpectSame(second.tokens, first.tokens);
        EXPECT_EQ(second.usage.cached_tokens, second.usage.prompt_tokens - 1);
      } else if (mode == ComposeMode::kRepair) {  // found, then repaired anew
        const auto [found, documents] = DocumentTokens(second);
        EXPECT_GT(found, documents * 3 / 4);
      }
      for (size_t i = 0; i < second.compose.spans.size(); ++i)
        if (!second.compose.spans[i].document.empty()) {
          EXPECT_TRUE(std::ranges::any_of(other.documents, [&](const Document& d) {
            return (d.id.empty() ? std::to_string(&d - other.documents.data() + 1) : d.id) ==
                   second.compose.spans[i].document;
          }));
        }
    }
  }
}

TEST(Equality, TwoCopiesInOneSetAreOne) {
  const auto engine = OpenPocket();
  const Request once = Asked(ComposeMode::kSet);
  Request twice = once;
  twice.documents.push_back({"copy.txt", "Note", Otherwise(kTexts[0])});
  const Answer one = engine->Run(once).value(), two = engine->Run(twice).value();
  ExpectSame(two.tokens, one.tokens);
  EXPECT_EQ(two.usage.prompt_tokens, one.usage.prompt_tokens);
  EXPECT_EQ(two.document_labels[3], two.document_labels[0]);
  EXPECT_EQ(two.compose.spans.size(), one.compose.spans.size() + 1);
}

// What an answer says of places is of the text that was given, whatever was read.
TEST(Equality, PlacesAreInTheTextThatWasGiven) {
  const auto engine = OpenPocket();
  Request plain = Asked(ComposeMode::kSet);
  plain.attention = true;
  Request other = plain;
  for (Document& d : other.documents) d.text = Otherwise(d.text);
  const Answer expected = engine->Run(plain).value(), answer = engine->Run(other).value();
  ExpectSame(answer.tokens, expected.tokens);
  const auto normal_of = [](std::string_view text) {
    const auto normal = NormalText(text).value();
    return normal ? normal->text : std::string(text);
  };
  for (size_t d = 0; d < kTexts.size(); ++d) {
    const auto &got = answer.attention->documents[d].stretches, &want = expected.attention->documents[d].stretches;
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].share, want[i].share);
      EXPECT_EQ(normal_of(other.documents[d].text.substr(got[i].begin, got[i].end - got[i].begin)),
                kTexts[d].substr(want[i].begin, want[i].end - want[i].begin));
    }
  }
  for (const char* question : {"Who is the maker of the Cawick T40?", "Who built the bridge of Noagate?"}) {
    other.extract = plain.extract = true;
    other.messages = plain.messages = {{"user", question}};
    const Answer copied = engine->Run(other).value(), from_plain = engine->Run(plain).value();
    EXPECT_EQ(copied.text, from_plain.text);
    ASSERT_TRUE(copied.extraction);
    const auto document = std::ranges::find(other.documents, copied.extraction->document, &Document::id);
    ASSERT_NE(document, other.documents.end());
    EXPECT_EQ(
        normal_of(document->text.substr(copied.extraction->begin, copied.extraction->end - copied.extraction->begin)),
        copied.text);
  }
}

class ModelFolders : public testing::Test {
 protected:
  ModelFolders() : folder_((fs::temp_directory_path() / "models.XXXXXX").string()) {
    if (!mkdtemp(folder_.data())) std::abort();
  }
  ~ModelFolders() override { fs::remove_all(folder_); }

  // The bundled model with another text in its tokenizer_config.json, or beside it.
  std::string WithTemplate(const std::string& name, const std::function<std::string(std::string)>& change) {
    const std::string model = InSource("models/pocket");
    std::string copy = folder_ + "/" + name;
    fs::create_directories(copy);
    for (const auto& file : fs::directory_iterator(model))
      if (file.path().filename() != "tokenizer_config.json" && file.is_regular_file())
        fs::create_symlink(fs::absolute(file.path()), copy + "/" + file.path().filename().string());
    json::object config = ParseJson(ReadFile(model + "/tokenizer_config.json").value(), "config").value().as_object();
    config["chat_template"] = change(std::string(config.at("chat_template").as_string()));
    std::ofstream(copy + "/tokenizer_config.json") << json::serialize(config);
    return copy;
  }
  std::unique_ptr<Engine> Open(const std::string& model) const {
    return Engine::Open({.model = model,
                         .threads = 2,
                         .kv_memory_bytes = size_t{64} << 20,
                         .cache_dir = folder_ + "/kv",
                         .cache_dir_bytes = uint64_t{64} << 20,
                         .cache_dir_waits = true,
                         .plan_loads = false})
        .value();
  }

  std::string folder_;
};

TEST_F(ModelFolders, ShareWhereTheirTemplatesRenderTheSameTokens) {
  const Request request = Asked(ComposeMode::kSet);
  const Answer first = Open(InSource("models/pocket"))->Run(request).value();
  // Another text of the same function.
  const std::string same = WithTemplate(
      "same", [](const std::string& text) { return "{#- says nothing -#}\n{%- set unused = 1 -%}\n" + text; });
  const Answer shared = Open(same)->Run(request).value();
  ExpectSame(shared.tokens, first.tokens);
  EXPECT_EQ(shared.usage.cached_tokens, shared.usage.prompt_tokens - 1);
  // One that puts other text around documents shares what stands before, and no document.
  const std::string other = WithTemplate("other", [](std::string text) {
    text.replace(text.find("<|doc|>' ~ "), std::string("<|doc|>' ~ ").size(), "<|doc|>' ~ 'No. ' ~ ");
    return text;
  });
  const Answer apart = Open(other)->Run(request).value();
  const auto [found, all] = DocumentTokens(apart);
  EXPECT_LE(found, 3 * static_cast<int>(kTexts.size()));  // of how every document begins
  EXPECT_GT(all, 60);
}

}  // namespace
}  // namespace spanwise
