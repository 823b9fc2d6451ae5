// Question answering over given documents: how often answers, values, citations and refusals are right.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "spanwise/engine.h"

namespace spanwise::eval {

// One line of a .jsonl file: {"kind", "system"?, "documents": [{"id", "title"?, "text"}], "question", "answer",
// "value", "also"?: [strings], "citations": [document ids], "answerable"}.
struct QaRecord {
  std::string kind;
  std::string system;
  std::vector<Document> documents;
  std::string question;
  std::string answer;
  std::string value;              // the part of the answer that carries the information
  std::vector<std::string> also;  // other strings that count as the value
  std::vector<std::string> citations;
  bool answerable = true;
};

// Reads .jsonl files and folders of them. InvalidArgument names file and line.
Result<std::vector<QaRecord>> ReadQaRecords(const std::vector<std::string>& paths);

// Lower-case words without punctuation, articles and citations: what SQuAD's F1 compares.
std::vector<std::string> Words(std::string_view text);

// The record as a request, answered greedily in at most 256 tokens.
Request QuestionOf(const QaRecord& record, const ComposeOptions& compose);

// The record's answer as a prompt must have it in which document i is labelled labels[i].
std::string ReferenceAnswer(const QaRecord& record, const std::vector<std::string>& labels);

// The same as tokens, for teacher forcing. InvalidArgument: the answer is empty.
Result<std::vector<int32_t>> ReferenceTokens(const Engine& engine, const QaRecord& record);

// Whether the answer is the reference to the letter, or has the value in it.
bool IsRight(const QaRecord& record, const Answer& answer);

struct QaScore {
  int n = 0;
  double exact = 0;               // the whole answer is right, to the letter
  double value = 0;               // the value is in the answer
  double f1 = 0;                  // words of the answer without citations, as in SQuAD
  double citation_precision = 0;  // of the answers with citations: share of right ones
  double citation_recall = 0;     // of the answers to be cited: share of the citations that are there
  double refusal = 0;             // share of answers that refuse
  int n_cited = 0, n_to_cite = 0;
  // Of the right answers to be cited, where attention is asked for: the document that got most of it is one of those to
  // be cited; and of those with a value, one of the quotes has it.
  double attention = 0, attention_quote = 0;
  int n_attention = 0, n_attention_quote = 0;
};

inline constexpr char kRefusal[] = "The documents do not say.";

// Answers every record greedily and scores by kind; unanswerable records count under their kind too. progress may be
// empty.
Result<std::map<std::string, QaScore>> ScoreQa(Engine& engine, const std::vector<QaRecord>& records,
                                               const ComposeOptions& compose, bool attention,
                                               const std::function<void(size_t done)>& progress,
                                               const std::function<void(const QaRecord&, const Answer&)>& on_answer);

}  // namespace spanwise::eval
