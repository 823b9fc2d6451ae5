#include "eval/qa.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "prompt/labels.h"
#include "rag/answerer.h"

namespace spanwise::eval {
namespace {

Result<QaRecord> ParseRecord(std::string_view line, const std::string& where) {
  SW_ASSIGN_OR_RETURN(const json::value value, ParseJson(line, where));
  if (!value.is_object())
    return InvalidArgument(where + ": is " + std::string(JsonKindName(value)) + ", expected an object");
  const json::object& o = value.get_object();
  QaRecord record;
  const auto text = [&](const char* key, bool required, std::string* out) -> Status {
    auto member = GetString(o, key);
    if (!member.ok()) return member.status().WithContext(where);
    if (!*member && required) return InvalidArgument(StrFormat("{}: '{}' is missing", where, key));
    *out = member->value_or("");
    return Status::Ok();
  };
  SW_RETURN_IF_ERROR(text("kind", true, &record.kind));
  SW_RETURN_IF_ERROR(text("system", false, &record.system));
  SW_RETURN_IF_ERROR(text("question", true, &record.question));
  SW_RETURN_IF_ERROR(text("answer", true, &record.answer));
  SW_RETURN_IF_ERROR(text("value", false, &record.value));
  auto documents = GetArray(o, "documents");
  if (!documents.ok()) return documents.status().WithContext(where);
  for (const json::value& d : *documents ? **documents : json::array()) {
    if (!d.is_object()) return InvalidArgument(where + ": a document is no object");
    Document document;
    for (const auto& [key, out] :
         {std::pair{"id", &document.id}, {"title", &document.title}, {"text", &document.text}}) {
      auto member = GetString(d.get_object(), key);
      if (!member.ok()) return member.status().WithContext(where);
      *out = member->value_or("");
    }
    record.documents.push_back(std::move(document));
  }
  auto citations = GetArray(o, "citations");
  if (!citations.ok()) return citations.status().WithContext(where);
  for (const json::value& c : *citations ? **citations : json::array()) {
    if (!c.is_string()) return InvalidArgument(where + ": a citation is no string");
    record.citations.emplace_back(c.get_string());
  }
  auto also = GetArray(o, "also");
  if (!also.ok()) return also.status().WithContext(where);
  for (const json::value& a : *also ? **also : json::array()) {
    if (!a.is_string()) return InvalidArgument(where + ": 'also' holds what is no string");
    record.also.emplace_back(a.get_string());
  }
  auto answerable = GetBool(o, "answerable");
  if (!answerable.ok()) return answerable.status().WithContext(where);
  record.answerable = answerable->value_or(true);
  return record;
}

}  // namespace

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto flush = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") words.push_back(word);
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '[') {  // a citation
      const size_t close = text.find(']', i);
      if (close != std::string_view::npos) i = close;
      flush();
    } else if (c >= 0x80 || std::isalnum(c)) {
      word += static_cast<char>(std::tolower(c));
    } else if (std::isspace(c)) {
      flush();
    }
  }
  flush();
  return words;
}

namespace {

double F1(const std::string& answer, const std::string& gold) {
  const std::vector<std::string> a = Words(answer), g = Words(gold);
  std::multiset<std::string> left(g.begin(), g.end());
  double common = 0;
  for (const std::string& word : a)
    if (const auto it = left.find(word); it != left.end()) {
      left.erase(it);
      ++common;
    }
  if (a.empty() || g.empty()) return a.empty() == g.empty();
  return 2 * common / static_cast<double>(a.size() + g.size());
}

std::set<std::string> Cited(const Answer& answer, const std::vector<Document>& documents) {
  std::set<std::string> ids;
  for (size_t i = 0; i < documents.size(); ++i)
    if (answer.text.find("[" + answer.document_labels[i] + "]") != std::string::npos) ids.insert(documents[i].id);
  return ids;
}

void ScoreAttention(const QaRecord& record, const Answer& answer, const std::set<std::string>& gold, QaScore* score) {
  const std::vector<rag::Citation> citations =
      rag::CitationsByAttention(*answer.attention, rag::WholeDocuments(record.documents), answer.document_labels);
  ++score->n_attention;
  score->attention += !citations.empty() && gold.contains(citations[0].document_id);
  if (record.value.empty()) return;
  ++score->n_attention_quote;
  score->attention_quote += std::ranges::any_of(
      citations, [&](const rag::Citation& c) { return c.quote.find(record.value) != std::string::npos; });
}

}  // namespace

Request QuestionOf(const QaRecord& record, const ComposeOptions& compose) {
  Request request;
  if (!record.system.empty()) request.messages.push_back({"system", record.system});
  request.messages.push_back({"user", record.question});
  request.documents = record.documents;
  request.compose = compose;
  request.sampling.max_tokens = 256;
  return request;
}

std::string ReferenceAnswer(const QaRecord& record, const std::vector<std::string>& labels) {
  std::string gold = record.answer;
  for (size_t i = 0; i < record.documents.size(); ++i) {
    const std::string id = "[" + record.documents[i].id + "]", label = "[" + labels[i] + "]";
    for (size_t at = 0; id != label && (at = gold.find(id, at)) != std::string::npos; at += label.size())
      gold.replace(at, id.size(), label);
  }
  return gold;
}

Result<std::vector<int32_t>> ReferenceTokens(const Engine& engine, const QaRecord& record) {
  const std::string text = ReferenceAnswer(record, AssignLabels(record.documents));
  SW_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, engine.Tokenize(text, /*parse_special=*/false));
  if (tokens.empty()) return InvalidArgument("the reference answer to " + Quoted(record.question) + " is empty");
  return tokens;
}

bool IsRight(const QaRecord& record, const Answer& answer) {
  const auto has = [&](const std::string& value) {
    return !value.empty() && answer.text.find(value) != std::string::npos;
  };
  return answer.text == ReferenceAnswer(record, answer.document_labels) || has(record.value) ||
         std::ranges::any_of(record.also, has);
}

Result<std::vector<QaRecord>> ReadQaRecords(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  std::error_code error;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> inside;
    for (const auto& entry : std::filesystem::directory_iterator(path, error))
      if (entry.path().extension() == ".jsonl") inside.push_back(entry.path().string());
    std::ranges::sort(inside);
    files.insert(files.end(), inside.begin(), inside.end());
  }
  std::vector<QaRecord> records;
  for (const std::string& file : files) {
    SW_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(file));
    int line_number = 0;
    for (const std::string_view line : Split(bytes, '\n')) {
      ++line_number;
      if (Trim(line).empty()) continue;
      SW_ASSIGN_OR_RETURN(QaRecord record, ParseRecord(line, StrFormat("{}:{}", file, line_number)));
      records.push_back(std::move(record));
    }
  }
  if (records.empty()) return NotFound("no question records (.jsonl) under the paths given");
  return records;
}

Result<std::map<std::string, QaScore>> ScoreQa(Engine& engine, const std::vector<QaRecord>& records,
                                               const ComposeOptions& compose, bool attention,
                                               const std::function<void(size_t done)>& progress,
                                               const std::function<void(const QaRecord&, const Answer&)>& on_answer) {
  std::map<std::string, QaScore> scores;
  size_t done = 0;
  for (const QaRecord& record : records) {
    Request request = QuestionOf(record, compose);
    request.attention = attention;
    auto answer = engine.Run(std::move(request));
    if (!answer.ok()) return answer.status().WithContext("question " + Quoted(record.question));
    if (on_answer) on_answer(record, *answer);
    QaScore& score = scores[record.kind];
    const std::string gold_answer = ReferenceAnswer(record, answer->document_labels);
    ++score.n;
    score.exact += answer->text == gold_answer;
    score.value += IsRight(record, *answer);
    score.f1 += F1(answer->text, gold_answer);
    score.refusal += answer->text.starts_with(kRefusal);
    const std::set<std::string> cited = Cited(*answer, record.documents),
                                gold(record.citations.begin(), record.citations.end());
    double right = 0;
    for (const std::string& id : cited) right += gold.contains(id);
    if (!cited.empty()) {
      score.citation_precision += right / static_cast<double>(cited.size());
      ++score.n_cited;
    }
    if (!gold.empty()) {
      score.citation_recall += right / static_cast<double>(gold.size());
      ++score.n_to_cite;
    }
    if (attention && !gold.empty() && IsRight(record, *answer)) ScoreAttention(record, *answer, gold, &score);
    if (progress) progress(++done);
  }
  for (auto& [kind, s] : scores) {
    for (double* sum : {&s.exact, &s.value, &s.f1, &s.refusal}) *sum /= s.n;
    if (s.n_cited) s.citation_precision /= s.n_cited;
    if (s.n_to_cite) s.citation_recall /= s.n_to_cite;
    if (s.n_attention) s.attention /= s.n_attention;
    if (s.n_attention_quote) s.attention_quote /= s.n_attention_quote;
  }
  return scores;
}

}  // namespace spanwise::eval
