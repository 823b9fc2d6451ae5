#include "tokenizer/pipeline.h"

#include <span>

#include "base/hash.h"
#include "base/str.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/word_cache.h"

namespace spanwise {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr size_t kMaxNormalAddedBytes = 1024;

}  // namespace

Result<std::shared_ptr<const Tokenizer>> PipelineTokenizer::Create(Definition definition) {
  std::vector<AddedToken> raw, normalized, literal;
  size_t n_bytes = 0;
  for (const AddedToken& token : definition.added) n_bytes += token.content.size();
  RegexRun regexes(n_bytes);
  GrowthBudget growth(n_bytes);
  for (const AddedToken& token : definition.added) {
    if (!token.normalized) {
      raw.push_back(token);
      continue;
    }
    literal.push_back(token);
    normalized.push_back(token);
    SW_ASSIGN_OR_RETURN(std::string content, definition.normalizer.ApplyTo(token.content, &regexes, &growth));
    if (content.size() > kMaxNormalAddedBytes)
      return InvalidArgument(StrFormat("added token {} has {} bytes when normalised, expected at most {}",
                                       Quoted(token.content), content.size(), kMaxNormalAddedBytes));
    normalized.back().content = std::move(content);
  }
  std::shared_ptr<PipelineTokenizer> tokenizer(new PipelineTokenizer(std::move(definition)));
  for (const AddedToken& token : tokenizer->definition_.added) tokenizer->id_of_added_.emplace(token.content, token.id);
  tokenizer->raw_added_ = AddedTokenMatcher(raw);
  tokenizer->normalized_added_ = AddedTokenMatcher(normalized);
  tokenizer->template_added_ = AddedTokenMatcher(literal);
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

// One call of Encode: the text goes through added tokens, normalisation and splitting, word by word, into `ids` or
// `tokens`.
class PipelineTokenizer::Encoder {
 public:
  using Slice = ::spanwise::Piece;

  Encoder(const PipelineTokenizer& tokenizer, std::string_view input, std::vector<int32_t>* ids,
          std::vector<EncodedToken>* tokens)
      : tokenizer_(tokenizer),
        definition_(tokenizer.definition_),
        input_(input),
        ids_(ids),
        tokens_(tokens),
        regexes_(input.size()),
        growth_(input.size()),
        model_(definition_.model->Start()),
        encode_word_([this](const Slice& word) { return EncodeWord(word); }) {}

  Status Run(bool parse_special) {
    if (input_.size() > kMaxTextBytes)
      return ResourceExhausted(
          StrFormat("text of {} bytes, at most {} are encoded at once", input_.size(), kMaxTextBytes));
    size_t bad = 0;
    if (!IsValidUtf8(input_, &bad)) return InvalidArgument(StrFormat("text is not valid UTF-8 at byte {}", bad));
    if (input_.empty()) return Status::Ok();
    const Slice whole{input_, 0, nullptr};
    if (!parse_special) return EncodeNormalized(whole, false);
    return EachAdded(tokenizer_.raw_added_, whole, [this](const Slice& rest) { return EncodeNormalized(rest, true); });
  }

 private:
  // Emits the added tokens in `piece` and hands what is between them to `rest`.
  template <typename Rest>
  Status EachAdded(const AddedTokenMatcher& matcher, const Slice& piece, const Rest& rest) {
    size_t at = 0;
    while (const auto match = matcher.Next(piece.text, at)) {
      if (match->begin > at) SW_RETURN_IF_ERROR(rest(piece.Slice(at, match->begin)));
      Emit(match->id, piece, match->begin, match->end);
      at = match->end;
    }
    return at < piece.text.size() ? rest(piece.Slice(at, piece.text.size())) : Status::Ok();
  }

  Status EncodeNormalized(const Slice& piece, bool parse_special) {
    std::unique_ptr<RewrittenText> rewritten;
    if (!definition_.normalizer.empty()) {
      SW_ASSIGN_OR_RETURN(rewritten, definition_.normalizer.Apply(input_, piece, &regexes_, &growth_));
    }
    const Slice normal = rewritten ? Slice{rewritten->text, 0, rewritten.get()} : piece;
    const auto split = [this](const Slice& rest) {
      return definition_.pre_tokenizer.Split(rest, {input_, &regexes_, &growth_}, encode_word_);
    };
    if (!parse_special || tokenizer_.normalized_added_.empty()) return split(normal);
    return EachAdded(tokenizer_.normalized_added_, normal, split);
  }

  Status EncodeWord(const Slice& word) {
    const bool cached = word.text.size() <= WordCache::kMaxWordBytes;
    const uint64_t hash = cached ? Xxh3(word.text) : 0;
    if (cached) {
      if (const auto known = cache_.Find(word.text, hash); !known.empty()) {
        EmitKnown(known, word);
        return Status::Ok();
      }
    }
    word_tokens_.clear();
    if (const size_t bad = model_->Tokenize(word.text, &word_tokens_); bad != Model::Run::kAll)
      return InvalidArgument(StrFormat("text byte {} is 0x{:02x}, for which the vocabulary has no token",
                                       word.Source(input_, bad, bad + 1).begin, static_cast<uint8_t>(word.text[bad])));
    known_.clear();
    for (const WordToken& token : word_tokens_) {
      known_.push_back(token.id);
      if (ids_) continue;
      known_.push_back(static_cast<int32_t>(token.begin));
      known_.push_back(static_cast<int32_t>(token.end));
    }
    if (cached && !known_.empty()) cache_.Insert(word.text, hash, known_);
    EmitKnown(known_, word);
    return Status::Ok();
  }

  // What the cache keeps of a word: its ids, or where offsets are wanted ids, begins and ends.
  void EmitKnown(std::span<const int32_t> known, const Slice& word) {
    if (ids_) {
      ids_->insert(ids_->end(), known.begin(), known.end());
      return;
    }
    for (size_t i = 0; i + 2 < known.size(); i += 3)
      Emit(known[i], word, static_cast<uint32_t>(known[i + 1]), static_cast<uint32_t>(known[i + 2]));
  }

  void Emit(int32_t id, const Slice& piece, size_t begin, size_t end) {
    if (ids_) {
      ids_->push_back(id);
      return;
    }
    const ByteRange source = piece.Source(input_, begin, end);
    tokens_->push_back({id, source.begin, source.end});
  }

  const PipelineTokenizer& tokenizer_;
  const Definition& definition_;
  const std::string_view input_;
  std::vector<int32_t>* const ids_;
  std::vector<EncodedToken>* const tokens_;
  RegexRun regexes_;
  GrowthBudget growth_;
  const std::unique_ptr<Model::Run> model_;
  const PieceSink encode_word_;
  WordCache cache_;
  std::vector<WordToken> word_tokens_;
  std::vector<int32_t> known_;
};

Result<std::vector<int32_t>> PipelineTokenizer::Encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> ids;
  SW_RETURN_IF_ERROR(Encoder(*this, text, &ids, nullptr).Run(parse_special));
  return ids;
}

Result<std::vector<EncodedToken>> PipelineTokenizer::EncodeWithOffsets(std::string_view text,
                                                                       bool parse_special) const {
  std::vector<EncodedToken> tokens;
  SW_RETURN_IF_ERROR(Encoder(*this, text, nullptr, &tokens).Run(parse_special));
  return tokens;
}

// Ids that the vocabulary lacks are no tokens at all.
class PipelineTokenizer::Stream final : public DecoderStream {
 public:
  explicit Stream(const PipelineTokenizer& tokenizer) : tokenizer_(tokenizer), run_(tokenizer.definition_.decoder) {}

  std::string Push(int32_t id, bool keep_special) override {
    const TokenTable& tokens = tokenizer_.definition_.tokens;
    if (tokens.KindOf(id) == TokenTable::Kind::kNone || (!keep_special && tokenizer_.IsSpecial(id))) return {};
    return run_.Push(std::string(tokens.Text(id)));
  }
  std::string Finish() override { return run_.Finish(); }

 private:
  const PipelineTokenizer& tokenizer_;
  Decoder::Run run_;
};

std::unique_ptr<DecoderStream> PipelineTokenizer::StartDecoding() const { return std::make_unique<Stream>(*this); }

std::string PipelineTokenizer::Decode(const std::vector<int32_t>& ids, bool keep_special) const {
  Stream stream(*this);
  std::string text;
  for (const int32_t id : ids) text += stream.Push(id, keep_special);
  return text + stream.Finish();
}

std::string PipelineTokenizer::TokenBytes(int32_t id, bool keep_special) const {
  if (IsSpecial(id) && !keep_special) return {};
  std::string text(definition_.tokens.Text(id));
  if (definition_.token_bytes || text.empty()) return text;
  if (definition_.decoder.reads_bytes())
    if (const auto byte = ByteOfToken(text)) return std::string(1, *byte);
  // What the token adds between two others.
  const auto decode = [&](std::initializer_list<std::string> tokens) {
    Decoder::Run run(definition_.decoder);
    std::string out;
    for (const std::string& token : tokens) out += run.Push(token);
    return out + run.Finish();
  };
  const std::string with = decode({"x", text, "x"}), without = decode({"x", "x"});
  if (!with.starts_with('x') || !without.starts_with('x') || !with.ends_with(without.substr(1)) ||
      with.size() < without.size())
    return text;
  return with.substr(1, with.size() - without.size());
}

std::optional<int32_t> PipelineTokenizer::IdOf(std::string_view token) const {
  const auto found = id_of_added_.find(token);
  return found == id_of_added_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

std::vector<Tokenizer::Piece> PipelineTokenizer::SplitAtSpecials(std::string_view text) const {
  if (!IsValidUtf8(text)) return {{text, std::nullopt}};
  std::vector<Piece> pieces;
  const auto split = [&](const AddedTokenMatcher& matcher, std::string_view part, const auto& rest) {
    size_t at = 0;
    while (const auto match = matcher.Next(part, at)) {
      if (match->begin > at) rest(part.substr(at, match->begin - at));
      pieces.push_back({part.substr(match->begin, match->end - match->begin), match->id});
      at = match->end;
    }
    if (at < part.size()) rest(part.substr(at));
  };
  split(raw_added_, text, [&](std::string_view part) {
    split(template_added_, part, [&](std::string_view plain) { pieces.push_back({plain, std::nullopt}); });
  });
  return pieces;
}

}  // namespace spanwise
