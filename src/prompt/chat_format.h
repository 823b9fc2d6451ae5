// From messages and documents to a prompt tree, through the model's own chat template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "prompt/tree.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

// Renders the template with marks in place of documents and of the special tokens that the caller wrote, then cuts the
// result: the template's own text may hold special tokens, the caller's text never does, and each document becomes a
// text of its own in a set.
// Text between two special tokens is tokenised as one piece. Immutable, thread-safe.
//
// How the template takes what it is given is found out once, with marks: whether it shows the text of a message as a
// string or only as a list of parts, whether it takes a system message, and whether it renders documents. Documents
// that it does not render stand in plain words in the system message. Where it takes none, because it refuses or loses
// it, they stand before the text of the first user message, and a system message of the caller's before them.
class ChatFormat {
 public:
  // `tokenizer_config` is tokenizer_config.json's object (chat_template, bos_token, eos_token). Fails with the
  // template's own error when it does not render a plain question; InvalidArgument when it renders one and leaves out
  // what the user says.
  static Result<std::shared_ptr<const ChatFormat>> Create(std::shared_ptr<const Tokenizer> tokenizer,
                                                          const json::object& tokenizer_config);

  // Sequence{ text before the documents, Set{document...}, text after }, ending where the answer begins; without
  // documents a sequence of one text. labels[i] is how documents[i] is named in the prompt. What has no salt of its own
  // has `salt`; the template's own text has none. With `locate` the documents have PromptNode::bytes. InvalidArgument:
  // no messages, a role the template refuses, a system message or the last user message that it leaves out, invalid
  // UTF-8.
  Result<PromptNode> Build(const std::vector<Message>& messages, const std::vector<Document>& documents,
                           const std::vector<std::string>& labels, const std::string& salt = {},
                           bool locate = false) const;

  // Whether the template itself renders documents.
  bool renders_documents() const { return renders_documents_; }

 private:
  ChatFormat() = default;
  struct Piece;
  struct DocumentMarks;
  struct Extent {
    size_t begin = 0, end = 0;
  };
  class Marks;
  // The messages as the template takes them, with `texts` for what they say. `words`, the documents that it does not
  // render, stand where it shows them, behind `gap` where something stands before them. InvalidArgument: they, or a
  // system message, need a user message to stand in, and there is none.
  Result<json::array> Arrange(const std::vector<Message>& messages, const std::vector<std::string>& texts,
                              const std::string& words, const std::string& gap) const;
  Result<std::string> Render(const json::array& messages, const json::array& documents) const;
  Status ProbeMessages();
  Status ProbeDocuments();
  // Where the documents stand in a rendering, each with what the template writes around it: one right behind the other.
  Result<std::vector<Extent>> FindDocuments(std::string_view rendered, const std::vector<DocumentMarks>& marks) const;
  std::string Guarded(const Message& message, Marks* marks) const;
  std::optional<std::vector<int32_t>> SpecialTokens(std::string_view rendered, const Marks& marks) const;
  Salts SaltsBefore(const std::vector<Message>& messages, const std::string& salt, std::string_view marked,
                    std::string_view final, const std::string& document, const Marks& marks) const;
  // `text`, a part of one of the pieces, is located where it is given.
  Result<PromptNode> Tokenize(const std::vector<Piece>& pieces, std::string_view text = {}) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> template_;
  json::object constants_;  // bos_token, eos_token
  struct {
    bool system = false, user = false, assistant = false;
  } in_parts_;                    // roles whose text is given as a list of parts
  bool takes_system_ = false;     // before a user message, both of which it shows
  bool shows_first_user_ = true;  // of several user messages; else the last alone
  bool renders_documents_ = false;
  std::string open_, close_;  // the template's text around a document
};

}  // namespace spanwise
