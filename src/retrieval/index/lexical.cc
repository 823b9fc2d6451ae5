#include "retrieval/index/lexical.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/str.h"
#include "retrieval/unicode.h"
#include "retrieval/words.h"

namespace spanwise::retrieval {
namespace {

constexpr int kTermsVersion = 1;  // of this file and words.cc

constexpr const char* kTokenizerName = "spanwise";
constexpr const char* kWholeName = "spanwise_whole";
constexpr const char* kPorterName = "porter";

using TokenSink = int (*)(void*, int, const char*, int, int, int);

Result<fts5_api*> Fts5(Database* database) {
  fts5_api* api = nullptr;
  SW_ASSIGN_OR_RETURN(Statement statement, database->Prepare("SELECT fts5(?1)"));
  statement.BindPointer(1, &api, "fts5_api_ptr");
  SW_RETURN_IF_ERROR(statement.Run());
  if (!api) return Unimplemented("this build of SQLite has no FTS5");
  return api;
}

// A tokenizer without state whose one token is the text.
int CreateWhole(void*, const char**, int, Fts5Tokenizer** out) {
  static char nothing;
  *out = reinterpret_cast<Fts5Tokenizer*>(&nothing);
  return SQLITE_OK;
}
void DeleteWhole(Fts5Tokenizer*) {}
int TokenizeWhole(Fts5Tokenizer*, void* context, int, const char* text, int n_bytes, TokenSink sink) {
  return n_bytes > 0 ? sink(context, 0, text, n_bytes, 0, n_bytes) : SQLITE_OK;
}

// FTS5's porter, a tokenizer that stems the tokens of another one, here over single words.
struct Stemmer {
  fts5_tokenizer porter{};
  Fts5Tokenizer* instance = nullptr;

  Stemmer() = default;
  Stemmer(const Stemmer&) = delete;
  Stemmer& operator=(const Stemmer&) = delete;
  ~Stemmer() {
    if (instance) porter.xDelete(instance);
  }

  int Open(fts5_api* api) {
    void* context = nullptr;
    if (const int code = api->xFindTokenizer(api, kPorterName, &context, &porter)) return code;
    const char* inner[] = {kWholeName};
    return porter.xCreate(context, inner, 1, &instance);
  }

  int Stem(const std::string& word, std::string* stem) const {
    return porter.xTokenize(instance, stem, FTS5_TOKENIZE_DOCUMENT, word.data(), static_cast<int>(word.size()),
                            [](void* out, int, const char* token, int n_bytes, int, int) {
                              static_cast<std::string*>(out)->assign(token, static_cast<size_t>(n_bytes));
                              return SQLITE_OK;
                            });
  }
};

int CreateTokenizer(void* api, const char**, int, Fts5Tokenizer** out) {
  auto stemmer = std::make_unique<Stemmer>();
  if (const int code = stemmer->Open(static_cast<fts5_api*>(api))) return code;
  *out = reinterpret_cast<Fts5Tokenizer*>(stemmer.release());
  return SQLITE_OK;
}

void DeleteTokenizer(Fts5Tokenizer* tokenizer) { delete reinterpret_cast<Stemmer*>(tokenizer); }

int Tokenize(Fts5Tokenizer* tokenizer, void* context, int flags, const char* text, int n_bytes, TokenSink sink) {
  if (flags & FTS5_TOKENIZE_QUERY) return TokenizeWhole(nullptr, context, flags, text, n_bytes, sink);
  const auto* const stemmer = reinterpret_cast<const Stemmer*>(tokenizer);
  int code = SQLITE_OK;
  std::string stem;
  ForEachTerm(Fold({text, static_cast<size_t>(n_bytes)}), [&](const Term& term) {
    if (code != SQLITE_OK) return;
    std::string token = ToUtf8(term.text);
    if (term.kind == Term::kWord) {
      if (code = stemmer->Stem(token, &stem); code != SQLITE_OK) return;
      token.swap(stem);
    }
    // Where a token stands is not told: the text is read from the chunk, and nothing asks FTS5 for excerpts of it.
    code = sink(context, term.kind == Term::kStripped ? FTS5_TOKEN_COLOCATED : 0, token.data(),
                static_cast<int>(token.size()), 0, n_bytes);
  });
  return code;
}

// Words of these scripts are looked for with other endings only where they are not indexed: in English that adds little
// to what the stemmer does and takes time.
bool IsLatin(char32_t c) { return c < 0x370; }

}  // namespace

Status RegisterTokenizer(Database* database) {
  SW_ASSIGN_OR_RETURN(fts5_api * api, Fts5(database));
  fts5_tokenizer whole{CreateWhole, DeleteWhole, TokenizeWhole};
  fts5_tokenizer methods{CreateTokenizer, DeleteTokenizer, Tokenize};
  int code = api->xCreateTokenizer(api, kWholeName, nullptr, &whole, nullptr);
  if (code == SQLITE_OK) code = api->xCreateTokenizer(api, kTokenizerName, api, &methods, nullptr);
  return code == SQLITE_OK ? Status::Ok() : SqliteError(database->handle(), code, database->path());
}

int64_t TokenizerVersion() {
  // "15.0.0" is 15'000'000.
  int64_t unicode = 0;
  for (const std::string_view part : Split(utf8proc_unicode_version(), '.')) {
    int64_t number = 0;
    std::from_chars(part.data(), part.data() + part.size(), number);
    unicode = unicode * 1000 + number;
  }
  return kTermsVersion * int64_t{1'000'000'000} + unicode;
}

struct QueryTokenizer::Impl {
  Stemmer stemmer;
};

Result<QueryTokenizer> QueryTokenizer::Create(Database* database) {
  SW_ASSIGN_OR_RETURN(fts5_api * api, Fts5(database));
  auto impl = std::make_shared<Impl>();
  if (const int code = impl->stemmer.Open(api)) return SqliteError(nullptr, code, database->path());
  QueryTokenizer tokenizer;
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

namespace {

// Collects the terms of a question.
class TermList {
 public:
  explicit TermList(const Stemmer& stemmer) : stemmer_(stemmer) {}

  void Take(const Term& term) {
    switch (term.kind) {
      case Term::kLast:
        previous_.clear();
        return;
      case Term::kCharacter:
        previous_.clear();
        Put({.form = QueryTerm::kPrefix, .token = ToUtf8(term.text)});
        return;
      case Term::kPair: {
        std::string token = ToUtf8(term.text);
        Put({.token = token});
        TakePhrase(std::move(token), &terms_);
        return;
      }
      case Term::kWord: {
        ++n_words_;
        std::string token = Indexed(term);
        Put({.token = token});
        TakePhrase(std::move(token), &word_phrases_);
        return TakeOtherForms(term);
      }
      case Term::kStripped:
        Put({.token = ToUtf8(term.text)});
        return TakeOtherForms(term);
    }
  }

  Result<std::vector<QueryTerm>> Finish() {
    if (code_ != SQLITE_OK) return SqliteError(nullptr, code_, "tokenizing the query");
    // In a sentence the words of a phrase say enough; where there are few, their neighbourhood says what they mean.
    constexpr size_t kMaxShortQuery = 4;
    if (n_words_ <= kMaxShortQuery) terms_.insert(terms_.end(), word_phrases_.begin(), word_phrases_.end());
    return std::move(terms_);
  }

 private:
  std::string Indexed(const Term& term) {
    std::string word = ToUtf8(term.text), stem;
    if (term.kind != Term::kWord) return word;
    if (const int code = stemmer_.Stem(word, &stem)) code_ = code;
    return stem;
  }

  void Put(QueryTerm term) {
    if (seen_.emplace(term.token, term.form == QueryTerm::kPrefix).second) terms_.push_back(std::move(term));
  }

  void TakePhrase(std::string token, std::vector<QueryTerm>* phrases) {
    if (!previous_.empty())
      phrases->push_back({.form = QueryTerm::kPhrase, .token = previous_, .second = token, .extra = true});
    previous_ = std::move(token);
  }

  // The word without its last letters, and what begins as it does.
  void TakeOtherForms(const Term& term) {
    constexpr size_t kMinRest = 3;
    const std::u32string_view word = term.text;
    if (word.size() < kMinRest || std::any_of(word.begin(), word.end(), IsAsciiDigit)) return;
    const bool only_if_unknown = IsLatin(word[0]);
    for (size_t cut = 1; cut <= 3 && word.size() >= kMinRest + cut; ++cut)
      Put({.token = Indexed({term.kind, word.substr(0, word.size() - cut)}),
           .extra = true,
           .only_if_unknown = only_if_unknown});
    for (const size_t cut : {2, 3})
      Put({.form = QueryTerm::kPrefix,
           .token = ToUtf8(word.substr(0, std::max(kMinRest, word.size() - std::min(cut, word.size())))),
           .extra = true,
           .only_if_unknown = only_if_unknown});
  }

  const Stemmer& stemmer_;
  std::vector<QueryTerm> terms_, word_phrases_;
  std::set<std::pair<std::string, bool>> seen_;
  std::string previous_;  // the token before, where a phrase may go on
  size_t n_words_ = 0;
  int code_ = SQLITE_OK;
};

}  // namespace

Result<std::vector<QueryTerm>> QueryTokenizer::Terms(std::string_view text) const {
  constexpr size_t kMaxQueryBytes = size_t{1} << 16;
  TermList terms(impl_->stemmer);
  ForEachTerm(Fold(text.substr(0, kMaxQueryBytes)), [&](const Term& term) { terms.Take(term); });
  return terms.Finish();
}

Result<std::string> BuildMatch(const std::vector<QueryTerm>& terms, size_t n_chunks, const MatchOptions& options,
                               const ChunkCounter& chunk_count) {
  struct Candidate {
    const QueryTerm* term;
    size_t count;
  };
  const auto n = static_cast<double>(n_chunks);
  const double most =
      std::min(n * 0.5, std::max(n * options.max_document_share, static_cast<double>(options.always_short)));
  const size_t common_from = static_cast<size_t>(most) + 1;
  std::vector<Candidate> candidates, extra;
  std::unordered_map<std::string_view, size_t> counts;  // of tokens
  bool known = false;                                   // whether the last word is indexed
  for (const QueryTerm& term : terms) {
    if (term.only_if_unknown && known) continue;
    size_t count = 0;
    if (term.form == QueryTerm::kPhrase) {
      count = std::min(counts[term.token], counts[term.second]);
    } else {
      SW_ASSIGN_OR_RETURN(count, chunk_count(term.token, term.form == QueryTerm::kPrefix,
                                             term.extra ? common_from : std::max<size_t>(n_chunks, 1)));
      if (term.form == QueryTerm::kToken) counts[term.token] = count;
    }
    if (!term.extra) known = count > 0;
    if (count == 0) continue;
    (term.extra ? extra : candidates).push_back({&term, count});
  }
  const auto keep_rarest = [&](std::vector<Candidate>* list) {
    std::stable_sort(list->begin(), list->end(),
                     [](const Candidate& a, const Candidate& b) { return a.count < b.count; });
    if (list->size() > options.max_terms) list->resize(options.max_terms);
  };
  const auto drop_common = [&](std::vector<Candidate>* list, size_t keep) {
    while (list->size() > keep && list->back().count >= common_from) list->pop_back();
  };
  keep_rarest(&candidates);
  drop_common(&candidates, options.keep_at_least);
  keep_rarest(&extra);
  drop_common(&extra, candidates.empty() ? options.keep_at_least : 0);
  candidates.insert(candidates.end(), extra.begin(), extra.end());

  std::string match;
  for (const auto& [term, count] : candidates) {
    if (!match.empty()) match += " OR ";
    match += '"' + term->token + '"';  // tokens hold letters, marks and digits alone
    if (term->form == QueryTerm::kPrefix) match += " *";
    if (term->form == QueryTerm::kPhrase) match += " + \"" + term->second + '"';
  }
  return match;
}

}  // namespace spanwise::retrieval
