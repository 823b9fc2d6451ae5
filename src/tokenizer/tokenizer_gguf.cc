// Tokenizers from the metadata of GGUF files: docs/formats/tokenizer.md says how each kind is read.
#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "base/str.h"
#include "formats/gguf_vocabulary.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/definition.h"
#include "tokenizer/split/gguf.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace spanwise {
namespace {

using Definition = PipelineTokenizer::Definition;
using Kind = TokenTable::Kind;
using TokenType = GgufVocabulary::TokenType;

constexpr std::string_view kSpace = "\u2581";
constexpr size_t kMaxTokens = size_t{1} << 24;
constexpr size_t kMaxVocabularyBytes = size_t{128} << 20;
constexpr size_t kMaxAddedBytes = 1024;
constexpr double kUnknownPenalty = 10;

// One file's vocabulary on its way into a definition.
class Reader {
 public:
  explicit Reader(const GgufVocabulary& vocabulary) : vocabulary_(vocabulary) {}

  Result<Definition> Read() {
    const std::string& model = vocabulary_.model;
    digest_.Add("spanwise gguf tokenizer 1", model);
    out_.token_bytes = model == "gpt2";
    SW_RETURN_IF_ERROR(ReadTokens());
    if (model == "gpt2") {
      SW_RETURN_IF_ERROR(ReadByteBpe());
    } else if (model == "gemma4") {
      SW_RETURN_IF_ERROR(ReadGemma4());
    } else if (model == "llama") {
      SW_RETURN_IF_ERROR(ReadSentencePieceBpe());
    } else if (model == "t5") {
      SW_RETURN_IF_ERROR(ReadUnigram());
    } else if (model == "bert") {
      SW_RETURN_IF_ERROR(ReadWordPiece());
    } else {
      return Unimplemented(StrFormat("tokenizer model is {}, expected llama, gpt2, gemma4, bert or t5", Quoted(model)));
    }
    ReadAround();
    for (size_t id = 0; id < texts_.size(); ++id)
      digest_.Add("token", texts_[id]).Add("type", static_cast<uint64_t>(TypeOf(static_cast<int32_t>(id))));
    out_.digest = digest_.Finish(out_);
    return std::move(out_);
  }

 private:
  TokenType TypeOf(int32_t id) const {
    return vocabulary_.types.empty() ? TokenType::kNormal : vocabulary_.types[static_cast<size_t>(id)];
  }
  double ScoreOf(int32_t id) const {
    return vocabulary_.scores.empty() ? 0 : double{vocabulary_.scores[static_cast<size_t>(id)]};
  }
  std::string_view TextOf(int32_t id) const { return texts_[static_cast<size_t>(id)]; }
  int32_t n_ids() const { return static_cast<int32_t>(texts_.size()); }

  Status ReadTokens() {
    const auto& tokens = vocabulary_.tokens;
    if (tokens.empty() || tokens.size() > kMaxTokens)
      return InvalidArgument(StrFormat("vocabulary of {} tokens, expected 1 to {}", tokens.size(), kMaxTokens));
    for (const auto& [name, size] :
         {std::pair{"scores", vocabulary_.scores.size()}, std::pair{"types", vocabulary_.types.size()}})
      if (size != 0 && size != tokens.size())
        return InvalidArgument(StrFormat("{} {} for {} tokens, expected one each", size, name, tokens.size()));
    out_.tokens.Resize(tokens.size());
    size_t n_bytes = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      n_bytes += tokens[i].size();
      if (tokens[i].size() > kMaxTokenBytes || n_bytes > kMaxVocabularyBytes)
        return InvalidArgument(StrFormat("token {} has {} bytes, all up to it {}, expected at most {} and {}", i,
                                         tokens[i].size(), n_bytes, kMaxTokenBytes, kMaxVocabularyBytes));
      texts_.push_back(tokens[i]);
      AddToken(static_cast<int32_t>(i));
    }
    return Status::Ok();
  }

  void AddToken(int32_t id) {
    const std::string_view text = TextOf(id);
    const TokenType type = TypeOf(id);
    const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
    const bool added = special || type == TokenType::kUserDefined;
    // Only text can be decoded to text and found in it.
    std::string decoded;
    if (const auto bytes = out_.token_bytes && !added ? BytesOfSymbols(text) : std::nullopt) {
      decoded = *bytes;
    } else {
      decoded = IsValidUtf8(text) ? text : std::string_view("\uFFFD");
    }
    out_.tokens.Set(id, decoded, special ? Kind::kSpecial : added ? Kind::kAdded : Kind::kPlain);
    if (added && !text.empty() && text.size() <= kMaxAddedBytes && IsValidUtf8(text) && seen_added_.insert(text).second)
      out_.added.push_back({.id = id, .content = std::string(text), .special = special});
    if (!special && !text.empty()) id_of_.insert_or_assign(text, id);
  }

  std::optional<int32_t> IdOf(std::string_view text) const {
    const auto found = id_of_.find(text);
    return found == id_of_.end() ? std::nullopt : std::optional(found->second);
  }

  Vocabulary PlainTokens() const { return Vocabulary(id_of_.begin(), id_of_.end()); }

  std::array<int32_t, 256> ByteTokens() const {
    std::array<int32_t, 256> ids;
    for (int byte = 0; byte < 256; ++byte) {
      const auto id = IdOf(TokenOfByte(static_cast<uint8_t>(byte)));
      ids[static_cast<size_t>(byte)] = id ? *id : IdOf(std::string(1, static_cast<char>(byte))).value_or(-1);
    }
    return ids;
  }

  // The merges as the file lists them: "left right", parted by the first space after the first character.
  Status ReadMerges(std::vector<MergeTable::Merge>* merges) {
    if (vocabulary_.merges.empty()) return InvalidArgument("merges are missing");
    std::string joined;
    for (size_t i = 0; i < vocabulary_.merges.size(); ++i) {
      const std::string_view text = vocabulary_.merges[i];
      const size_t space = text.empty() ? std::string_view::npos : text.find(' ', 1);
      if (space == std::string_view::npos || space + 1 == text.size())
        return InvalidArgument(StrFormat("merge {} is {}, expected \"left right\"", i, Quoted(text)));
      const std::string_view left = text.substr(0, space), right = text.substr(space + 1);
      joined.assign(left);
      joined += right;
      MergeTable::Merge merge{.rank = static_cast<uint32_t>(i)};
      for (const auto& [name, id] : {std::pair{left, &merge.left}, std::pair{right, &merge.right},
                                     std::pair{std::string_view(joined), &merge.result}}) {
        const auto found = IdOf(name);
        // A merge that makes a special token is left out below; one that needs one never happens.
        if (!found && !seen_added_.contains(name))
          return InvalidArgument(StrFormat("merge {} needs {}, which the vocabulary lacks", i, Quoted(name)));
        *id = found.value_or(-1);
      }
      if (merge.left >= 0 && merge.right >= 0 && merge.result >= 0) merges->push_back(merge);
    }
    digest_.AddMerges(*merges);
    return Status::Ok();
  }

  Status ReadByteBpe() {
    SW_ASSIGN_OR_RETURN(GgufSplits splits, SplitsOfGguf(vocabulary_.pre));
    begins_ = splits.begins;
    out_.pre_tokenizer = std::move(splits.pre_tokenizer);
    ByteBpeDefinition bpe;
    SW_RETURN_IF_ERROR(ReadMerges(&bpe.merges));
    bpe.id_of_byte.fill(-1);
    std::vector<std::string> words;
    words.reserve(id_of_.size());
    for (const auto& [text, id] : id_of_) {
      auto bytes = BytesOfSymbols(text);
      if (!bytes) continue;
      if (bytes->size() == 1) bpe.id_of_byte[static_cast<uint8_t>(bytes->front())] = id;
      if (!splits.ignore_merges || bytes->empty()) continue;
      words.push_back(std::move(*bytes));
      bpe.whole_words.emplace_back(words.back(), id);
    }
    digest_.Add("ignore_merges", uint64_t{splits.ignore_merges});
    out_.model = MakeByteBpe(bpe);
    out_.decoder = Decoder({MakeByteLevelDecoder(true)});
    return Status::Ok();
  }

  // Merges by rank over characters, spaces as U+2581, and lines apart.
  Status ReadGemma4() {
    SW_ASSIGN_OR_RETURN(GgufSplits splits, SplitsOfGguf("gemma4"));
    out_.pre_tokenizer = std::move(splits.pre_tokenizer);
    out_.normalizer = Normalizer({MakeReplaceText(" ", std::string(kSpace))});
    CharBpeDefinition bpe;
    SW_RETURN_IF_ERROR(ReadMerges(&bpe.merges));
    FinishCharBpe(&bpe);
    out_.decoder = Decoder({MakeReplaceTextDecoder(std::string(kSpace), " "), MakeByteFallbackDecoder()});
    return Status::Ok();
  }

  void FinishCharBpe(CharBpeDefinition* bpe) {
    bpe->byte_tokens = ByteTokens();
    bpe->unknown = vocabulary_.unk_id;
    if (vocabulary_.unk_id) digest_.Add("unknown", static_cast<uint64_t>(*vocabulary_.unk_id));
    for (const auto& token : PlainTokens()) bpe->vocabulary.push_back(token);
    const auto text_of = [&](int32_t id) {
      return id < n_ids() ? TextOf(id) : std::string_view(provisional_[static_cast<size_t>(id - n_ids())]);
    };
    if (IdOf(kSpace) && MayCutBeforeSpaces(bpe->merges, text_of))
      out_.pre_tokenizer.Append(MakeCutBefore(std::string(kSpace)));
    out_.model = MakeCharBpe(*bpe);
  }

  // SentencePiece's BPE: of neighbours that make a token together, those of the best score merge first.
  Status ReadSentencePieceBpe() {
    CharBpeDefinition bpe;
    std::map<double, uint32_t, std::greater<>> ranks;
    for (const auto& [text, id] : id_of_) {
      if (std::isnan(ScoreOf(id)))
        return InvalidArgument(StrFormat("token {} {} has a score that is no number", id, Quoted(text)));
      ranks.emplace(ScoreOf(id), 0);
    }
    uint32_t next = 0;
    for (auto& [score, rank] : ranks) rank = next++;
    AddProvisional();
    for (const auto& [text, id] : id_of_) {
      if (!IsValidUtf8(text)) continue;
      digest_.Add("rank", uint64_t{ranks.at(ScoreOf(id))});
      for (size_t cut = CharacterAt(text, 0).length; cut < text.size(); cut += CharacterAt(text, cut).length) {
        const auto left = PartOf(text.substr(0, cut)), right = PartOf(text.substr(cut));
        if (left && right) bpe.merges.push_back({*left, *right, id, ranks.at(ScoreOf(id))});
      }
    }
    for (size_t i = 0; i < provisional_.size(); ++i)
      bpe.vocabulary.emplace_back(provisional_[i], n_ids() + static_cast<int32_t>(i));
    bpe.first_provisional = n_ids();
    const bool prefix = vocabulary_.add_space_prefix.value_or(true);
    std::vector<std::shared_ptr<const NormalizerStep>> steps;
    if (prefix) steps.push_back(MakePrepend(" "));
    steps.push_back(MakeReplaceText(" ", std::string(kSpace)));
    out_.normalizer = Normalizer(std::move(steps));
    FinishCharBpe(&bpe);
    out_.decoder = SentencePieceDecoder(prefix);
    return Status::Ok();
  }

  // Characters that are parts of tokens and no tokens themselves.
  void AddProvisional() {
    for (const auto& [text, id] : id_of_) {
      if (!IsValidUtf8(text)) continue;
      for (size_t i = 0; i < text.size();) {
        const uint32_t length = CharacterAt(text, i).length;
        const std::string_view character = text.substr(i, length);
        if (!IdOf(character) &&
            id_of_provisional_.emplace(character, n_ids() + static_cast<int32_t>(provisional_.size())).second)
          provisional_.emplace_back(character);
        i += length;
      }
    }
  }

  std::optional<int32_t> PartOf(std::string_view text) const {
    if (const auto id = IdOf(text)) return id;
    const auto found = id_of_provisional_.find(text);
    return found == id_of_provisional_.end() ? std::nullopt : std::optional(found->second);
  }

  static Decoder SentencePieceDecoder(bool prefix) {
    std::vector<std::shared_ptr<const DecoderStep>> steps = {MakeReplaceTextDecoder(std::string(kSpace), " "),
                                                             MakeByteFallbackDecoder(), MakeFuseDecoder()};
    if (prefix) steps.push_back(MakeStripDecoder(" ", 1, 0));
    return Decoder(std::move(steps));
  }

  Status ReadUnigram() {
    UnigramDefinition unigram;
    double worst = std::numeric_limits<double>::infinity();
    for (int32_t id = 0; id < n_ids(); ++id) {
      if (!std::isfinite(ScoreOf(id)))
        return InvalidArgument(StrFormat("token {} has score {}, expected a finite number", id, ScoreOf(id)));
      const TokenType type = TypeOf(id);
      if (type == TokenType::kNormal) worst = std::min(worst, ScoreOf(id));
      digest_.Add("score", std::bit_cast<uint64_t>(ScoreOf(id)));
      if ((type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kUnused) &&
          !TextOf(id).empty())
        unigram.tokens.push_back({TextOf(id), id, type == TokenType::kUserDefined ? 0 : ScoreOf(id)});
    }
    // As a float, which is how the score of an unknown character is kept elsewhere.
    if (std::isfinite(worst)) unigram.unknown_score = static_cast<float>(worst) - static_cast<float>(kUnknownPenalty);
    unigram.unknown = vocabulary_.unk_id.value_or(2);
    if (*unigram.unknown >= n_ids()) unigram.unknown.reset();
    digest_.Add("unknown", static_cast<uint64_t>(unigram.unknown.value_or(-1)));
    out_.model = MakeUnigram(unigram);

    std::vector<std::shared_ptr<const NormalizerStep>> steps;
    if (!vocabulary_.precompiled_charsmap.empty()) {
      SW_ASSIGN_OR_RETURN(auto step, MakePrecompiled(vocabulary_.precompiled_charsmap, CharsmapMatch::kLongest));
      steps.push_back(std::move(step));
    }
    const bool prefix = vocabulary_.add_space_prefix.value_or(true);
    steps.push_back(MakeSentencePieceSpaces(prefix, vocabulary_.remove_extra_whitespaces.value_or(false)));
    out_.normalizer = Normalizer(std::move(steps));
    out_.decoder = SentencePieceDecoder(prefix);
    return Status::Ok();
  }

  // Word pieces; in GGUF files those that begin a word are marked, with U+2581, and not the others. A text's own U+2581
  // is a character like others, as in the model's tokenizer.
  Status ReadWordPiece() {
    // The order and the rules of BERT's own tokenizer.
    const bool lowercase = vocabulary_.lowercase.value_or(true);
    std::vector<std::shared_ptr<const NormalizerStep>> steps = {MakeCharacterRule(CharacterRule::kBertClean),
                                                                MakeCharacterRule(CharacterRule::kBertHan)};
    if (vocabulary_.strip_accents.value_or(lowercase)) {
      steps.push_back(MakeUnicodeForm(UnicodeForm::kNfd));
      steps.push_back(MakeCharacterRule(CharacterRule::kStripNonspacingMarks));
    }
    if (lowercase) steps.push_back(MakeCharacterRule(CharacterRule::kLowercase));
    out_.normalizer = Normalizer(std::move(steps));
    out_.pre_tokenizer = PreTokenizer({MakeCharacterSplit(IsWhiteSpace, "space", SplitBehavior::kRemoved),
                                       MakeCharacterSplit(IsPunctuation, "punctuation", SplitBehavior::kIsolated)});
    WordPieceDefinition pieces;
    pieces.continuing_prefix = "##";
    std::deque<std::string> continuing;
    for (const auto& [text, id] : PlainTokens()) {
      const bool first = text.size() > kSpace.size() && text.starts_with(kSpace);
      if (first) {
        pieces.vocabulary.emplace_back(text.substr(kSpace.size()), id);
      } else {
        pieces.vocabulary.emplace_back(continuing.emplace_back("##").append(text), id);
      }
    }
    pieces.max_characters = std::numeric_limits<size_t>::max();
    pieces.unknown = vocabulary_.unk_id.value_or(100);
    if (*pieces.unknown >= n_ids()) pieces.unknown.reset();
    digest_.Add("unknown", static_cast<uint64_t>(pieces.unknown.value_or(-1)));
    out_.model = MakeWordPiece(pieces);
    out_.decoder =
        Decoder({MakeReplaceTextDecoder(std::string(kSpace), " "), MakeFuseDecoder(), MakeStripDecoder(" ", 1, 0)});
    return Status::Ok();
  }

  void ReadAround() {
    const std::string& model = vocabulary_.model;
    const auto add = [&](bool wanted, const std::optional<int32_t>& id, std::vector<int32_t>* ids) {
      if (wanted && id) ids->push_back(*id);
    };
    const bool bert = model == "bert";
    add(vocabulary_.add_bos.value_or(bert || model == "llama" || begins_),
        bert && vocabulary_.cls_id ? vocabulary_.cls_id : vocabulary_.bos_id, &out_.around.before);
    add(vocabulary_.add_sep.value_or(bert), vocabulary_.sep_id, &out_.around.after);
    add(vocabulary_.add_eos.value_or(model == "t5"), vocabulary_.eos_id, &out_.around.after);
  }

  const GgufVocabulary& vocabulary_;
  Definition out_;
  DefinitionDigest digest_;
  bool begins_ = false;
  std::vector<std::string_view> texts_;        // by id
  std::map<std::string_view, int32_t> id_of_;  // all but special tokens; of equal texts the last
  std::set<std::string_view> seen_added_;
  std::vector<std::string> provisional_;  // by id - n_ids()
  std::map<std::string, int32_t, std::less<>> id_of_provisional_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::FromGguf(const GgufVocabulary& vocabulary, std::string_view where) {
  auto definition = Reader(vocabulary).Read();
  if (!definition.ok()) return definition.status().WithContext(where);
  auto tokenizer = PipelineTokenizer::Create(std::move(*definition));
  if (!tokenizer.ok()) return tokenizer.status().WithContext(where);
  return tokenizer;
}

}  // namespace spanwise
