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

json::object MessageObject(std::string_view role, std::string_view content) {
  return {{"role", json::string(role)}, {"content", json::string(content)}};
}

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
  SW_RETURN_IF_ERROR(format->ProbeDocuments());
  return std::shared_ptr<const ChatFormat>(std::move(format));
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

// Learns what the template writes around a document from the text between two of them: what also stands before the
// first opens a document, the rest closes one.
Status ChatFormat::ProbeDocuments() {
  const json::array question = {MessageObject("user", Mark(0))};
  SW_ASSIGN_OR_RETURN(const std::string plain, Render(question, {}));
  const auto with_documents =
      Render(question, {DocumentObject(Mark(1), Mark(2), Mark(3)), DocumentObject(Mark(4), Mark(5), Mark(6))});
  if (!with_documents.ok()) return Status::Ok();
  const std::string_view text = *with_documents;
  const auto extent = [&](size_t from, size_t to) {
    size_t begin = std::string_view::npos, end = 0;
    for (size_t i = from; i <= to; ++i)
      if (const size_t at = text.find(Mark(i)); at != std::string_view::npos) {
        begin = std::min(begin, at);
        end = std::max(end, at + Mark(i).size());
      }
    return std::pair(begin, end);
  };
  const auto [a_begin, a_end] = extent(1, 3);
  const auto [b_begin, b_end] = extent(4, 6);
  if (a_begin == std::string_view::npos || b_begin == std::string_view::npos || a_end > b_begin) return Status::Ok();
  const std::string_view between = text.substr(a_end, b_begin - a_end);
  const size_t n_open = CommonSuffix(*tokenizer_, text.substr(0, a_begin), between);
  const std::string_view close = between.substr(0, between.size() - n_open);
  if (between.empty() || !text.substr(b_end).starts_with(close)) return Status::Ok();
  open_ = between.substr(between.size() - n_open);
  close_ = close;
  renders_documents_ = true;
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
  json::array message_objects;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& m = messages[i];
    if (m.role != "system" && m.role != "user" && m.role != "assistant")
      return InvalidArgument(
          StrFormat("messages[{}].role {} is not one of system, user, assistant", i, Quoted(m.role)));
    message_objects.push_back(MessageObject(m.role, marks.Add(m.content)));
  }

  json::array document_objects;
  std::vector<std::pair<std::string, std::string>> ends;  // first and last mark of each document
  std::vector<std::pair<size_t, size_t>> bodies;          // the text that holds it, and where in that its own begins
  std::string in_words;                                   // the same for a template without documents
  for (size_t i = 0; i < documents.size(); ++i) {
    const Document& d = documents[i];
    if (renders_documents_) {
      const std::string id = marks.Add(labels[i]), title = d.title.empty() ? "" : marks.Add(d.title),
                        text = marks.Add(d.text);
      document_objects.push_back(DocumentObject(id, title, text));
      ends.emplace_back(id, text);
      bodies.emplace_back(marks.last(), 0);
    } else {
      const std::string head = StrFormat("[{}]{}{}\n", labels[i], d.title.empty() ? "" : " ", d.title);
      const std::string mark = marks.Add(StrFormat("{}{}\n\n", head, d.text));
      in_words += mark;
      ends.emplace_back(mark, mark);
      bodies.emplace_back(marks.last(), head.size());
    }
  }
  if (!in_words.empty()) {
    in_words = marks.Add(std::string(kPlainIntroduction)) + in_words;
    json::object& first = message_objects[0].get_object();
    if (messages[0].role == "system") {
      first["content"] = std::string(first["content"].get_string()) + marks.Add("\n\n") + in_words;
    } else {
      message_objects.insert(message_objects.begin(), MessageObject("system", in_words));
    }
  }

  SW_ASSIGN_OR_RETURN(const std::string rendered, Render(message_objects, document_objects));
  // Templates look into messages: they trim them, and leave out the reasoning of earlier answers. So what counts is the
  // rendering of their text as it is, but for special tokens in it. It must have the special tokens of the first one,
  // lest a template that edits a message puts one together from its parts.
  for (size_t i = 0, offset = message_objects.size() - messages.size(); i < messages.size(); ++i) {
    json::object& object = message_objects[i + offset].get_object();
    std::string content = Guarded(messages[i], &marks);
    if (i + offset == 0 && !in_words.empty()) content += marks.Add("\n\n") + in_words;
    object["content"] = content;
  }
  SW_ASSIGN_OR_RETURN(const std::string exact, Render(message_objects, document_objects));
  const std::string_view text = SpecialTokens(exact, marks) == SpecialTokens(rendered, marks) ? exact : rendered;
  const auto tokenized = [&](size_t begin, size_t end, std::string_view located = {}) -> Result<PromptNode> {
    SW_ASSIGN_OR_RETURN(const std::vector<Piece> pieces, marks.Cut(text.substr(begin, end - begin)));
    return Tokenize(pieces, located);
  };

  std::vector<PromptNode> parts, members;
  size_t at = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    const std::string_view open = renders_documents_ ? open_ : std::string_view(),
                           close = renders_documents_ ? close_ : open;
    size_t begin = text.find(ends[i].first), end = text.rfind(ends[i].second);
    if (begin == std::string_view::npos || end == std::string_view::npos)
      return Unimplemented("the chat template leaves out a document's id or text");
    end += ends[i].second.size();
    if (!text.substr(0, begin).ends_with(open) || !text.substr(end).starts_with(close) ||
        (i > 0 && begin - open.size() != at))
      return Unimplemented("the chat template writes documents in a way that cannot be taken apart");
    begin -= open.size();
    end += close.size();
    if (i == 0) {
      SW_ASSIGN_OR_RETURN(PromptNode before, tokenized(0, begin));
      before.salts = SaltsBefore(messages, salt, rendered, text, ends[0].first, marks);
      parts.push_back(std::move(before));
    }
    const std::string_view body = marks.text(bodies[i].first).substr(bodies[i].second, documents[i].text.size());
    SW_ASSIGN_OR_RETURN(PromptNode member, tokenized(begin, end, locate ? body : std::string_view()));
    member.document = documents[i].id;
    member.score = documents[i].score;
    member.salts = SaltsFrom(documents[i].cache_salt.value_or(salt));
    members.push_back(std::move(member));
    at = end;
  }
  if (!members.empty()) parts.push_back(PromptNode::Set(std::move(members)));
  SW_ASSIGN_OR_RETURN(PromptNode after, tokenized(at, text.size()));
  for (const Message& m : messages) after.salts.merge(SaltsFrom(m.cache_salt.value_or(salt)));
  parts.push_back(std::move(after));
  return PromptNode::Sequence(std::move(parts));
}

}  // namespace spanwise
