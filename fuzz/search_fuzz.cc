// Any bytes as text and as a question: the folded text is UTF-8 and folds to itself, and a text that holds words is
// found by itself.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/str.h"
#include "retrieval/index/lexical.h"
#include "retrieval/quote.h"
#include "retrieval/words.h"

namespace {

using namespace spanwise;
using namespace spanwise::retrieval;

Database OpenIndex() {
  auto database = Database::Open(":memory:", ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  SW_CHECK(database.ok());
  SW_CHECK(RegisterTokenizer(&*database).ok());
  SW_CHECK(database->Execute("CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize='spanwise')").ok());
  return *std::move(database);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Database database = OpenIndex();
  static const QueryTokenizer tokenizer = QueryTokenizer::Create(&database).value();
  const std::string text(reinterpret_cast<const char*>(data), size);

  const std::string folded = ToUtf8(Fold(text));
  SW_CHECK(IsValidUtf8(folded));
  SW_CHECK(ToUtf8(Fold(folded)) == folded);
  static_cast<void>(BestQuote(text, text));

  const auto terms = tokenizer.Terms(text);
  SW_CHECK(terms.ok());
  SW_CHECK(terms->empty() == folded.empty() || size > size_t{1} << 16);
  const auto match = BuildMatch(*terms, 4, {}, [](const std::string&, bool, size_t) { return size_t{1}; });
  SW_CHECK(match.ok());
  if (match->empty()) return 0;

  SW_CHECK(database.Execute("INSERT INTO t(t) VALUES('delete-all')").ok());
  auto put = database.Prepare("INSERT INTO t(rowid, text) VALUES(1, ?1)");
  SW_CHECK(put.ok() && put->Bind(1, text).Run().ok());
  auto find = database.Prepare("SELECT count(*) FROM t WHERE t MATCH ?1");
  SW_CHECK(find.ok());
  const auto row = find->Bind(1, *match).Step();
  SW_CHECK(row.ok() && *row && find->Int(0) == 1);
  return 0;
}
