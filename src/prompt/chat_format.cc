#include "prompt/chat_format.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/str.h"

namespace spanwise {
namespace {

// A mark stands for text of the caller while the template renders: two private-use characters around a number.
constexpr std::string_view kMarkBegin = "\xEE\x80\x80", kMarkEnd = "\xEE\x80\x81";

constexpr std::string_view kPlainIntroduction =
    "Answer from these documents, and after each statement cite the document it comes from as [id].\n\n";

std::string Mark(size_t index) { return StrFormat("{}{}{}", kMarkBegin, index, kMarkEnd); }

// Bytes at the end of both texts that are equal, without cutting a special token in two.
size_t CommonSuffix(const Tokenizer& tokenizer, std::string_view a, std::string_view b) {
  const std::vector<Tokenizer::Piece> x = tokenizer.SplitAtSpecials(a), y = tokenizer.SplitAtSpecials(b);
  size_t n = 0;
  for (auto i = x.rbegin(), j = y.rbegin(); i != x.rend() && j != y.rend(); ++i, ++j) {
    if (i->special == j->special && i->text == j->text) {
      n += i->text.size();
      continue;
    }
    if (!i->special && !j->special)
      n += static_cast<size_t>(std::mismatch(i->text.rbegin(), i->text.rend(), j->text.rbegin(), j->text.rend()).first -
                               i->text.rbegin());
    break;
  }
  return n;
}

json::object MessageObject(std::string_view role, std::string_view text, bool in_parts) {
  json::value content = json::string(text);
  if (in_parts) content = json::array{json::object{{"type", "text"}, {"text", std::move(content)}}};
  return {{"role", json::string(role)}, {"content", std::move(content)}};
}

bool Shows(std::string_view rendered, size_t mark) { return rendered.find(Mark(mark)) != std::string_view::npos; }

// The template sees the fields that published document templates read; absent titles are left out, so that
// conditions on them work.
json::object DocumentObject(const std::string& id, const std::string& title, const std::string& text) {
  json::object object{{"id", id}, {"doc_id", id}, {"text", text}, {"content", text}, {"contents", text}};
  if (!title.empty()) object["title"] = title;
  return object;
}

}  // namespace

struct ChatFormat::Piece {
  std::string_view text;
  bool literal;  // of the template, where special tokens count; else the caller's
};

// What stands for a document's id, title and text; the title's is empty where there is none.
struct ChatFormat::DocumentMarks {
  std::string id, title, text;
};

// The caller's texts behind their marks.
class ChatFormat::Marks {
 public:
  std::string Add(std::string text) {
    texts_.push_back(std::move(text));
    return Mark(texts_.size() - 1);
  }

  size_t last() const { return texts_.size() - 1; }  // the text added last
  std::string_view text(size_t index) const { return texts_[index]; }

  // Cuts rendered text into the template's pieces and the marked ones.
  Result<std::vector<Piece>> Cut(std::string_view rendered) const {
    std::vector<Piece> pieces;
    while (true) {
      const size_t begin = rendered.find(kMarkBegin);
      if (begin != 0) pieces.push_back({rendered.substr(0, begin), true});
      if (begin == std::string_view::npos) return pieces;
      const std::string_view digits = rendered.substr(begin + kMarkBegin.size());
      size_t index = texts_.size();
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
      const std::string_view rest(end, static_cast<size_t>(digits.data() + digits.size() - end));
      if (error != std::errc() || index >= texts_.size() || !rest.starts_with(kMarkEnd))
        return Unimplemented("the chat template alters the text of messages in a way that cannot be followed");
      pieces.push_back({texts_[index], false});
      rendered = rest.substr(kMarkEnd.size());
    }
  }

 private:
  std::vector<std::string> texts_;
};

Result<std::shared_ptr<const ChatFormat>> ChatFormat::Create(std::shared_ptr<const Tokenizer> tokenizer,
                                                             const json::object& tokenizer_config) {
  auto format = std::shared_ptr<ChatFormat>(new ChatFormat());
  format->tokenizer_ = std::move(tokenizer);
  SW_ASSIGN_OR_RETURN(const auto source, GetString(tokenizer_config, "chat_template"));
  if (!source)
    return NotFound("the model has no chat_template: only plain prompts (generate, /v1/completions) work with it");
  SW_ASSIGN_OR_RETURN(format->template_, ChatTemplate::Parse(*source));
  for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    // Either the token's text or an object with its "content".
    const json::value* value = tokenizer_config.if_contains(name);
    if (!value || value->is_null()) continue;
    if (value->is_object()) value = value->get_object().if_contains("content");
    if (!value || !value->is_string()) return InvalidArgument(StrFormat("'{}' holds no text", name));
    format->constants_[name] = *value;
  }
  SW_RETURN_IF_ERROR(format->ProbeMessages());
  SW_RETURN_IF_ERROR(format->ProbeDocuments());
  return std::shared_ptr<const ChatFormat>(std::move(format));
}

Result<json::array> ChatFormat::Arrange(const std::vector<Message>& messages, const std::vector<std::string>& texts,
                                        const std::string& words, const std::string& gap) const {
  const auto is = [&](size_t i, std::string_view role) { return i < messages.size() && messages[i].role == role; };
  json::array objects;
  size_t begin = 0;
  std::string before_user;  // in the user message that takes what a system message would hold
  if (takes_system_) {
    if (!words.empty() && !is(0, "system")) objects.push_back(MessageObject("system", words, in_parts_.system));
  } else {
    for (; is(begin, "system"); ++begin)
      if (!messages[begin].content.empty()) before_user += texts[begin] + gap;
    before_user += words;
  }
  size_t host = messages.size();
  if (begin > 0 || !before_user.empty()) {
    for (size_t i = begin; i < messages.size() && (host == messages.size() || !shows_first_user_); ++i)
      if (is(i, "user")) host = i;
    if (host == messages.size())
      return InvalidArgument(
          "the chat template takes no system message: documents and instructions stand before the text of a user "
          "message, "
          "and 'messages' holds none");
  }
  for (size_t i = begin; i < messages.size(); ++i) {
    std::string text = i == host ? before_user + texts[i] : texts[i];
    if (i == 0 && is(0, "system") && !words.empty()) text += gap + words;
    const bool in_parts = is(i, "system") ? in_parts_.system : is(i, "user") ? in_parts_.user : in_parts_.assistant;
    objects.push_back(MessageObject(messages[i].role, text, in_parts));
  }
  return objects;
}

Result<std::string> ChatFormat::Render(const json::array& messages, const json::array& documents) const {
  json::object variables = constants_;
  variables["messages"] = messages;
  variables["add_generation_prompt"] = true;
  if (documents.empty()) {
    variables["documents"] = nullptr;
  } else {
    variables["documents"] = documents;
  }
  variables["tools"] = nullptr;
  auto text = template_->Render(variables);
  return text.ok() ? std::move(text) : text.status().WithContext("chat template");
}

Status ChatFormat::ProbeMessages() {
  // Whether the messages with these marks show when messages of the roles `roles` are rendered; a rendering that fails
  // shows none.
  Status refusal;
  const auto show = [&](const std::vector<std::string>& roles, std::initializer_list<size_t> marks) {
    std::vector<Message> messages;
    std::vector<std::string> texts;
    for (const std::string& role : roles) {
      messages.push_back({role, {}});
      texts.push_back(Mark(texts.size()));
    }
    const auto objects = Arrange(messages, texts, {}, {});
    const auto text = objects.ok() ? Render(*objects, {}) : objects.status();
    if (!text.ok()) refusal = text.status();
    return text.ok() && std::ranges::all_of(marks, [&](size_t mark) { return Shows(*text, mark); });
  };
  if (!show({"user"}, {0})) {
    const Status of_a_string = refusal;
    in_parts_.user = true;
    if (!show({"user"}, {0})) {
      if (!of_a_string.ok()) return of_a_string;
      return InvalidArgument(
          "the chat template leaves out what the user says, as a string and as a list of text parts: only plain "
          "prompts "
          "(generate, /v1/completions) work with it");
    }
  }
  takes_system_ = true;
  if (!show({"system", "user"}, {0, 1})) {
    in_parts_.system = true;
    takes_system_ = show({"system", "user"}, {0, 1});
  }
  const std::vector<std::string> turns = {"user", "assistant", "user"};
  if (!show(turns, {1, 2})) {
    in_parts_.assistant = true;
    if (!show(turns, {1, 2})) in_parts_.assistant = false;
  }
  shows_first_user_ = show(turns, {0}) || !show(turns, {2});
  return Status::Ok();
}

Result<std::vector<ChatFormat::Extent>> ChatFormat::FindDocuments(std::string_view rendered,
                                                                  const std::vector<DocumentMarks>& marks) const {
  std::vector<Extent> extents;
  const std::string_view open = renders_documents_ ? open_ : std::string_view(),
                         close = renders_documents_ ? close_ : open;
  for (const DocumentMarks& document : marks) {
    Extent extent{std::string_view::npos, 0};
    for (const std::string* mark : {&document.id, &document.title, &document.text}) {
      const size_t at = mark->empty() ? std::string_view::npos : rendered.find(*mark);
      if (at == std::string_view::npos) {
        if (mark == &document.title) continue;
        return Unimplemented("the chat template leaves out a document's id or text");
      }
      extent = {std::min(extent.begin, at), std::max(extent.end, rendered.rfind(*mark) + mark->size())};
    }
    if (!rendered.substr(0, extent.begin).ends_with(open) || !rendered.substr(extent.end).starts_with(close) ||
        (!extents.empty() && extent.begin - open.size() != extents.back().end))
      return Unimplemented("the chat template writes documents in a way that cannot be taken apart");
    extents.push_back({extent.begin - open.size(), extent.end + close.size()});
  }
  return extents;
}

// Learns what the template writes around a document from the text between two of them: what also stands before the
// first opens a document, the rest closes one. Then three, one of them without a title, must be found so.
Status ChatFormat::ProbeDocuments() {
  const std::vector<DocumentMarks> marks = {
      {Mark(1), Mark(2), Mark(3)}, {Mark(4), {}, Mark(6)}, {Mark(7), Mark(8), Mark(9)}};
  json::array documents;
  for (const DocumentMarks& d : marks) documents.push_back(DocumentObject(d.id, d.title, d.text));
  const auto rendered = Render({MessageObject("user", Mark(0), in_parts_.user)}, documents);
  if (!rendered.ok()) return Status::Ok();
  const std::string_view text = *rendered;
  const auto first = FindDocuments(text, {marks[0]}), second = FindDocuments(text, {marks[1]});
  if (!first.ok() || !second.ok() || (*first)[0].end >= (*second)[0].begin) return Status::Ok();
  const std::string_view between = text.substr((*first)[0].end, (*second)[0].begin - (*first)[0].end);
  const size_t n_open = CommonSuffix(*tokenizer_, text.substr(0, (*first)[0].begin), between);
  open_ = between.substr(between.size() - n_open);
  close_ = between.substr(0, between.size() - n_open);
  renders_documents_ = true;
  renders_documents_ = Shows(text, 0) && FindDocuments(text, marks).ok();
  return Status::Ok();
}

Result<PromptNode> ChatFormat::Tokenize(const std::vector<Piece>& pieces, std::string_view located) const {
  PromptNode node = PromptNode::Text({});
  std::string text;
  std::optional<size_t> start;  // of what is located, in `text`
  const auto flush = [&]() -> Status {
    if (located.empty()) {
      SW_ASSIGN_OR_RETURN(const std::vector<int32_t> more, tokenizer_->Encode(text, /*parse_special=*/false));
      node.tokens.insert(node.tokens.end(), more.begin(), more.end());
    } else {
      SW_ASSIGN_OR_RETURN(const std::vector<EncodedToken> more,
                          tokenizer_->EncodeWithOffsets(text, /*parse_special=*/false));
      for (const EncodedToken& token : more) {
        const auto in_text = [&](size_t byte) { return std::clamp(byte, *start, *start + located.size()) - *start; };
        node.tokens.push_back(token.id);
        node.bytes.push_back(start ? TextRange{in_text(token.begin), in_text(token.end)} : TextRange());
      }
    }
    text.clear();
    start.reset();
    return Status::Ok();
  };
  for (const Piece& piece : pieces) {
    if (!piece.literal) {
      const std::less_equal<const char*> not_after;
      if (!located.empty() && not_after(piece.text.data(), located.data()) &&
          not_after(located.data() + located.size(), piece.text.data() + piece.text.size()))
        start = text.size() + static_cast<size_t>(located.data() - piece.text.data());
      text += piece.text;
      continue;
    }
    for (const Tokenizer::Piece& part : tokenizer_->SplitAtSpecials(piece.text)) {
      if (!part.special) {
        text += part.text;
        continue;
      }
      SW_RETURN_IF_ERROR(flush());
      node.tokens.push_back(*part.special);
      if (!located.empty()) node.bytes.emplace_back();
    }
  }
  SW_RETURN_IF_ERROR(flush());
  return node;
}

// An answer may hold added tokens that are not special (<think>): a model wrote it, and the template looks for them.
std::string ChatFormat::Guarded(const Message& message, Marks* marks) const {
  std::string guarded;
  for (const Tokenizer::Piece& piece : tokenizer_->SplitAtSpecials(message.content)) {
    if (piece.special && (message.role != "assistant" || tokenizer_->IsSpecial(*piece.special))) {
      guarded += marks->Add(std::string(piece.text));
      continue;
    }
    std::string_view rest = piece.text;
    for (size_t at = 0; (at = rest.find(kMarkBegin)) != std::string_view::npos; rest.remove_prefix(at)) {
      guarded += rest.substr(0, at);
      guarded += marks->Add(std::string(kMarkBegin));
      at += kMarkBegin.size();
    }
    guarded += rest;
  }
  return guarded;
}

// Those of the template's own text, in order; none where the text cannot be cut.
std::optional<std::vector<int32_t>> ChatFormat::SpecialTokens(std::string_view rendered, const Marks& marks) const {
  const auto pieces = marks.Cut(rendered);
  if (!pieces.ok()) return std::nullopt;
  std::vector<int32_t> ids;
  for (const Piece& piece : *pieces) {
    if (!piece.literal) continue;
    for (const Tokenizer::Piece& part : tokenizer_->SplitAtSpecials(piece.text))
      if (part.special && tokenizer_->IsSpecial(*part.special)) ids.push_back(*part.special);
  }
  return ids;
}

// Of the messages that stand before the document with that mark, as they do in the rendering where all messages are
// marks: of all of them where the final one is not cut there alike.
Salts ChatFormat::SaltsBefore(const std::vector<Message>& messages, const std::string& salt, std::string_view marked,
                              std::string_view final, const std::string& document, const Marks& marks) const {
  const std::string_view before = marked.substr(0, marked.find(document));
  const bool alike = SpecialTokens(before, marks) == SpecialTokens(final.substr(0, final.find(document)), marks);
  Salts salts;
  for (size_t i = 0; i < messages.size(); ++i)
    if (!alike || before.find(Mark(i)) != std::string_view::npos || marked.find(Mark(i)) == std::string_view::npos)
      salts.merge(SaltsFrom(messages[i].cache_salt.value_or(salt)));
  return salts;
}

Result<PromptNode> ChatFormat::Build(const std::vector<Message>& messages, const std::vector<Document>& documents,
                                     const std::vector<std::string>& labels, const std::string& salt,
                                     bool locate) const {
  if (messages.empty()) return InvalidArgument("'messages' is empty; at least one message is needed");
  Marks marks;
  std::vector<std::string> texts;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& m = messages[i];
    if (m.role != "system" && m.role != "user" && m.role != "assistant")
      return InvalidArgument(
          StrFormat("messages[{}].role {} is not one of system, user, assistant", i, Quoted(m.role)));
    texts.push_back(marks.Add(m.content));
  }

  json::array document_objects;
  std::vector<DocumentMarks> document_marks;
  std::vector<std::pair<size_t, size_t>> bodies;  // the text that holds it, and where in that its own begins
  std::string words;                              // the documents for a template that renders none
  for (size_t i = 0; i < documents.size(); ++i) {
    const Document& d = documents[i];
    if (renders_documents_) {
      const std::string id = marks.Add(labels[i]), title = d.title.empty() ? "" : marks.Add(d.title),
                        text = marks.Add(d.text);
      document_objects.push_back(DocumentObject(id, title, text));
      document_marks.push_back({id, title, text});
      bodies.emplace_back(marks.last(), 0);
    } else {
      const std::string head = StrFormat("[{}]{}{}\n", labels[i], d.title.empty() ? "" : " ", d.title);
      const std::string mark = marks.Add(StrFormat("{}{}\n\n", head, d.text));
      words += mark;
      document_marks.push_back({mark, {}, mark});
      bodies.emplace_back(marks.last(), head.size());
    }
  }
  if (!words.empty()) words = marks.Add(std::string(kPlainIntroduction)) + words;
  const std::string gap = marks.Add("\n\n");

  SW_ASSIGN_OR_RETURN(const json::array marked, Arrange(messages, texts, words, gap));
  SW_ASSIGN_OR_RETURN(const std::string rendered, Render(marked, document_objects));
  bool is_last_user = true;
  for (size_t i = messages.size(); i-- > 0;) {
    const bool wanted = messages[i].role == "system" || (messages[i].role == "user" && is_last_user);
    if (messages[i].role == "user") is_last_user = false;
    if (wanted && !messages[i].content.empty() && !Shows(rendered, i))
      return InvalidArgument(
          StrFormat("the chat template leaves out messages[{}], a {} message at this place of the conversation", i,
                    messages[i].role));
  }
  // Templates look into messages: they trim them, and leave out the reasoning of earlier answers. So what counts is the
  // rendering of their text as it is, but for special tokens in it. It must have the special tokens of the first one,
  // lest a template that edits a message puts one together from its parts.
  for (size_t i = 0; i < messages.size(); ++i) texts[i] = Guarded(messages[i], &marks);
  SW_ASSIGN_OR_RETURN(const json::array guarded, Arrange(messages, texts, words, gap));
  SW_ASSIGN_OR_RETURN(const std::string exact, Render(guarded, document_objects));
  const std::string_view text = SpecialTokens(exact, marks) == SpecialTokens(rendered, marks) ? exact : rendered;
  const auto tokenized = [&](size_t begin, size_t end, std::string_view located = {}) -> Result<PromptNode> {
    SW_ASSIGN_OR_RETURN(const std::vector<Piece> pieces, marks.Cut(text.substr(begin, end - begin)));
    return Tokenize(pieces, located);
  };

  SW_ASSIGN_OR_RETURN(const std::vector<Extent> extents, FindDocuments(text, document_marks));
  std::vector<PromptNode> parts, members;
  size_t at = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (i == 0) {
      SW_ASSIGN_OR_RETURN(PromptNode before, tokenized(0, extents[i].begin));
      before.salts = SaltsBefore(messages, salt, rendered, text, document_marks[0].id, marks);
      parts.push_back(std::move(before));
    }
    const std::string_view body = marks.text(bodies[i].first).substr(bodies[i].second, documents[i].text.size());
    SW_ASSIGN_OR_RETURN(PromptNode member,
                        tokenized(extents[i].begin, extents[i].end, locate ? body : std::string_view()));
    member.document = documents[i].id;
    member.score = documents[i].score;
    member.salts = SaltsFrom(documents[i].cache_salt.value_or(salt));
    members.push_back(std::move(member));
    at = extents[i].end;
  }
  if (!members.empty()) parts.push_back(PromptNode::Set(std::move(members)));
  SW_ASSIGN_OR_RETURN(PromptNode after, tokenized(at, text.size()));
  for (const Message& m : messages) after.salts.merge(SaltsFrom(m.cache_salt.value_or(salt)));
  parts.push_back(std::move(after));
  return PromptNode::Sequence(std::move(parts));
}

}  // namespace spanwise
