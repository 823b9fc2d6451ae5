#include "retrieval/index/lexical.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include "base/str.h"
#include "retrieval/unicode.h"

namespace spanwise::retrieval {
namespace {

constexpr const char* kTokenizerName = "spanwise";
constexpr const char* kInnerName = "porter";
const char* kInnerArguments[] = {"unicode61", "remove_diacritics", "2"};

Result<fts5_api*> Fts5(Database* database) {
  fts5_api* api = nullptr;
  SW_ASSIGN_OR_RETURN(Statement statement, database->Prepare("SELECT fts5(?1)"));
  statement.BindPointer(1, &api, "fts5_api_ptr");
  SW_RETURN_IF_ERROR(statement.Run());
  if (!api) return Unimplemented("this build of SQLite has no FTS5");
  return api;
}

// FTS5's own tokenizer, and what becomes of its tokens.
struct WordTokenizer {
  fts5_tokenizer methods{};
  Fts5Tokenizer* inner = nullptr;
  ~WordTokenizer() {
    if (inner) methods.xDelete(inner);
  }
};

using TokenSink = int (*)(void*, int, const char*, int, int, int);

struct Splitter {
  void* context;
  TokenSink sink;
  std::string_view text;
  bool query;

  // One word of the inner tokenizer: passed on, or its runs without spaces as pairs. In documents the last character of
  // a run follows alone, so that a prefix query finds it there as well.
  int Word(int flags, std::string_view token, size_t begin, size_t end) const {
    bool unspaced = false;
    for (size_t i = 0; i < token.size() && !unspaced; i += DecodeAt(token, i).bytes)
      unspaced = IsUnspaced(DecodeAt(token, i).value);
    if (!unspaced) return Emit(flags, token, begin, end);
    // The written form, since folding may change lengths; these scripts have no case.
    const std::string_view word = text.substr(begin, end - begin);
    for (size_t i = 0; i < word.size();) {
      const size_t run = i;
      const bool pairs = IsUnspaced(DecodeAt(word, i).value);
      while (i < word.size() && IsUnspaced(DecodeAt(word, i).value) == pairs) i += DecodeAt(word, i).bytes;
      const int code = pairs ? Pairs(flags, word.substr(run, i - run), begin + run)
                             : Emit(flags, Lower(word.substr(run, i - run)), begin + run, begin + i);
      if (code != SQLITE_OK) return code;
    }
    return SQLITE_OK;
  }

  int Pairs(int flags, std::string_view run, size_t begin) const {
    for (size_t i = 0; i < run.size();) {
      const size_t first = DecodeAt(run, i).bytes;
      const size_t second = i + first < run.size() ? DecodeAt(run, i + first).bytes : 0;
      if (second == 0 && query && i > 0) break;
      if (const int code = Emit(flags, run.substr(i, first + second), begin + i, begin + i + first + second))
        return code;
      i += first;
    }
    return SQLITE_OK;
  }

  int Emit(int flags, std::string_view token, size_t begin, size_t end) const {
    return sink(context, flags, token.data(), static_cast<int>(token.size()), static_cast<int>(begin),
                static_cast<int>(end));
  }

  static std::string Lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
      if (IsAsciiUpper(c)) c = static_cast<char>(c + 32);
    return lower;
  }
};

int CreateTokenizer(void* api_pointer, const char**, int, Fts5Tokenizer** out) {
  auto* const api = static_cast<fts5_api*>(api_pointer);
  auto tokenizer = std::make_unique<WordTokenizer>();
  void* context = nullptr;
  int code = api->xFindTokenizer(api, kInnerName, &context, &tokenizer->methods);
  if (code != SQLITE_OK) return code;
  code = tokenizer->methods.xCreate(context, kInnerArguments, std::size(kInnerArguments), &tokenizer->inner);
  if (code != SQLITE_OK) return code;
  *out = reinterpret_cast<Fts5Tokenizer*>(tokenizer.release());
  return SQLITE_OK;
}

void DeleteTokenizer(Fts5Tokenizer* tokenizer) { delete reinterpret_cast<WordTokenizer*>(tokenizer); }

int Tokenize(Fts5Tokenizer* tokenizer, void* context, int flags, const char* text, int n_bytes, TokenSink sink) {
  const auto* words = reinterpret_cast<const WordTokenizer*>(tokenizer);
  Splitter splitter{context, sink, {text, static_cast<size_t>(n_bytes)}, (flags & FTS5_TOKENIZE_QUERY) != 0};
  return words->methods.xTokenize(
      words->inner, &splitter, flags, text, n_bytes,
      [](void* self, int token_flags, const char* token, int token_bytes, int begin, int end) {
        return static_cast<const Splitter*>(self)->Word(token_flags, {token, static_cast<size_t>(token_bytes)},
                                                        static_cast<size_t>(begin), static_cast<size_t>(end));
      });
}

// Well-formed UTF-8 of at most 64 KiB, every bad byte a space.
std::string Cleaned(std::string_view text) {
  constexpr size_t kMaxQueryBytes = size_t{1} << 16;
  std::string clean;
  for (size_t i = 0; i < std::min(text.size(), kMaxQueryBytes);) {
    const auto [value, bytes] = DecodeAt(text, i);
    if (value == 0 || (value == 0xFFFD && bytes == 1) || !IsValidUtf8(text.substr(i, bytes))) {
      clean += ' ';
    } else {
      clean += text.substr(i, bytes);
    }
    i += bytes;
  }
  return clean;
}

}  // namespace

Status RegisterTokenizer(Database* database) {
  SW_ASSIGN_OR_RETURN(fts5_api * api, Fts5(database));
  fts5_tokenizer methods{CreateTokenizer, DeleteTokenizer, Tokenize};
  const int code = api->xCreateTokenizer(api, kTokenizerName, api, &methods, nullptr);
  return code == SQLITE_OK ? Status::Ok() : SqliteError(database->handle(), code, database->path());
}

struct QueryTokenizer::Impl {
  Fts5Tokenizer* tokenizer = nullptr;
  ~Impl() {
    if (tokenizer) DeleteTokenizer(tokenizer);
  }
};

Result<QueryTokenizer> QueryTokenizer::Create(Database* database) {
  SW_ASSIGN_OR_RETURN(fts5_api * api, Fts5(database));
  auto impl = std::make_shared<Impl>();
  if (const int code = CreateTokenizer(api, nullptr, 0, &impl->tokenizer); code != SQLITE_OK)
    return SqliteError(nullptr, code, database->path());
  QueryTokenizer tokenizer;
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

Result<std::vector<QueryTerm>> QueryTokenizer::Terms(std::string_view text) const {
  struct Found {
    std::string_view text;
    std::vector<QueryTerm> terms;
    size_t end = 0;
  } found;
  const std::string clean = Cleaned(text);
  found.text = clean;
  const int code =
      Tokenize(impl_->tokenizer, &found, FTS5_TOKENIZE_QUERY, clean.data(), static_cast<int>(clean.size()),
               [](void* context, int, const char* token, int n_bytes, int begin, int end) {
                 auto* f = static_cast<Found*>(context);
                 const auto from = static_cast<size_t>(begin), to = static_cast<size_t>(end);
                 const std::string_view written = f->text.substr(from, to - from);
                 const std::string indexed(token, static_cast<size_t>(n_bytes));
                 if (from < f->end && !f->terms.empty()) {  // the next pair of a run
                   QueryTerm& term = f->terms.back();
                   term.text += f->text.substr(f->end, to - f->end);
                   term.tokens.push_back(indexed);
                 } else {
                   const CodePoint first = DecodeAt(written, 0);
                   f->terms.push_back(
                       {std::string(written), {indexed}, first.bytes == written.size() && IsUnspaced(first.value)});
                 }
                 f->end = to;
                 return SQLITE_OK;
               });
  if (code != SQLITE_OK) return SqliteError(nullptr, code, "tokenizing the query");
  std::set<std::vector<std::string>> seen;
  std::erase_if(found.terms, [&](const QueryTerm& term) { return !seen.insert(term.tokens).second; });
  return std::move(found.terms);
}

Result<std::string> BuildMatch(const std::vector<QueryTerm>& terms, size_t n_chunks, const MatchOptions& options,
                               const std::function<Result<size_t>(const std::string&)>& document_count) {
  struct Candidate {
    const QueryTerm* term;
    size_t count;
  };
  std::vector<Candidate> candidates;
  for (const QueryTerm& term : terms) {
    size_t count = term.prefix ? 1 : std::numeric_limits<size_t>::max();  // of a prefix, nothing is known
    for (const std::string& token : term.tokens) {
      if (term.prefix) break;
      SW_ASSIGN_OR_RETURN(const size_t n, document_count(token));
      count = std::min(count, n);
    }
    if (count > 0) candidates.push_back({&term, count});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.count < b.count; });
  const auto too_common = [&](size_t count) {
    const double share = static_cast<double>(count) / static_cast<double>(std::max<size_t>(n_chunks, 1));
    return share > 0.5 || (share > options.max_document_share && count > options.always_short);
  };
  while (candidates.size() > options.keep_at_least && too_common(candidates.back().count)) candidates.pop_back();
  if (candidates.size() > options.max_terms) candidates.resize(options.max_terms);

  std::string match;
  for (const Candidate& candidate : candidates) {
    if (!match.empty()) match += " OR ";
    match += '"';
    for (const char c : candidate.term->text) {
      match += c;
      if (c == '"') match += c;
    }
    match += candidate.term->prefix ? "\" *" : "\"";
  }
  return match;
}

}  // namespace spanwise::retrieval
