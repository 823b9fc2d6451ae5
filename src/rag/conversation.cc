#include "rag/conversation.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

#include "base/str.h"
#include "rag/names.h"

namespace spanwise::rag {
namespace {

// English words that stand for what was named before.
constexpr std::array<std::string_view, 20> kPronouns = {"he",   "her",   "hers",  "him",  "his",  "it",
                                                        "its",  "one",   "same",  "she",  "that", "their",
                                                        "them", "there", "these", "they", "this", "those"};

// Words besides names with which a question says hardly more than its names: "And what about the T45?"
constexpr size_t kFewWords = 3;

bool HasPronoun(const std::vector<NamedWord>& words) {
  return std::ranges::any_of(words, [](const NamedWord& word) {
    return !word.name && std::ranges::find(kPronouns, word.lower) != kPronouns.end();
  });
}

void Append(const std::vector<NamedWord>& words, bool names, std::string* out) {
  for (const NamedWord& word : words)
    if (word.name == names) *out += " " + std::string(word.text);
}

// Without its citations.
std::string Uncited(std::string_view answer) {
  std::string text;
  while (!answer.empty()) {
    const size_t open = std::min(answer.find('['), answer.size());
    text += answer.substr(0, open);
    const size_t close = answer.find(']', open);
    answer.remove_prefix(close == std::string_view::npos ? answer.size() : close + 1);
  }
  return text;
}

}  // namespace

SearchQuestion QuestionToSearch(const std::vector<Message>& messages) {
  const auto is_user = [](const Message& m) { return m.role == "user"; };
  const auto last = std::find_if(messages.rbegin(), messages.rend(), is_user);
  if (last == messages.rend()) return {};
  SearchQuestion question{.alone = last->content, .complete = last->content, .quarters = 0};
  const auto before = std::find_if(std::next(last), messages.rend(), is_user);
  if (before == messages.rend()) return question;

  const std::vector<NamedWord> words = WordsWithNames(last->content);
  const auto n_names = static_cast<size_t>(std::ranges::count(words, true, &NamedWord::name));
  const bool named = n_names > 0;
  if (named && words.size() - n_names <= kFewWords) {
    Append(WordsWithNames(before->content), /*names=*/false, &question.complete);
    question.quarters = 2;
    return question;
  }
  if (named && !HasPronoun(words)) return question;
  question.quarters = named ? 2 : 3;
  for (auto turn = before; turn != messages.rend(); turn = std::find_if(std::next(turn), messages.rend(), is_user)) {
    std::string names;
    Append(WordsWithNames(turn->content), /*names=*/true, &names);
    if (names.empty()) continue;
    if (turn != messages.rbegin() && std::prev(turn)->role == "assistant")
      Append(WordsWithNames(Uncited(std::prev(turn)->content)), /*names=*/true, &names);
    question.complete += names;
    return question;
  }
  question.complete += " " + before->content;
  return question;
}

Result<int> FitConversation(const std::function<Result<PromptSize>(const Request&)>& size, int context_tokens,
                            Request* request) {
  std::vector<Message>& messages = request->messages;
  const auto is_user = [](const Message& m) { return m.role == "user"; };
  const auto first =
      std::ranges::find_if(messages, [](const Message& m) { return m.role != "system"; }) - messages.begin();
  auto n_turns = std::ranges::count_if(messages, is_user);
  const auto n_before = n_turns;
  const int answer = std::min(request->sampling.max_tokens, context_tokens / 4);
  int wanted = answer;
  while (n_turns > 1) {
    SW_ASSIGN_OR_RETURN(const PromptSize now, size(*request));
    if (now.room >= wanted || (now.room >= answer && 2 * n_turns <= n_before)) break;
    const auto begin = messages.begin() + first;
    n_turns -= is_user(*begin);  // an answer that stands first has no question
    messages.erase(begin, std::find_if(std::next(begin), messages.end(), is_user));
    wanted = answer + context_tokens / 8;
  }
  return static_cast<int>(n_before - n_turns);
}

}  // namespace spanwise::rag
