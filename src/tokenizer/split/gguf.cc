#include "tokenizer/split/gguf.h"

#include <algorithm>
#include <array>

#include "base/str.h"

namespace spanwise {
namespace {

// The expressions are those of the models' own tokenizer.json files, with contractions in ASCII only, as llama.cpp has
// them. Those of gpt-4o and tekken it approximates: there combining marks do not join words.
constexpr std::string_view kContraction = R"('[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";

// {c} stands for the contractions.
constexpr std::string_view kLlama3 =
    R"((?:{c})|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?:{c})|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?:{c})|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:{c})?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:{c})?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Letters of scripts with two cases, as DeepSeek's first models list them.
constexpr std::string_view kCasedLetters =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-)"
    R"(\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd})"
    R"(\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15})"
    R"(\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-)"
    R"(\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3})"
    R"(\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113})"
    R"(\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-)"
    R"(\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee})"
    R"(\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e})"
    R"(\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f})"
    R"(\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-)"
    R"(\x{1e943}]+)";
constexpr std::string_view kNumbers3 = R"(\p{N}{1,3})";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kLineBreak = R"([\r\n])";
constexpr std::string_view kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kEastAsian = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr std::string_view kWidePunctuation =
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";

// One kind of splitting: expressions in order, each applied to the pieces that the ones before leave.
struct Kind {
  std::array<std::string_view, 6> expressions;
  bool ignore_merges = false;
};

const Kind kGpt2Kind = {{kGpt2Pattern}};
const Kind kLlama3Kind = {{kLlama3}, true};
const Kind kLlama3MergingKind = {{kLlama3}};
const Kind kQwen2Kind = {{kQwen2}};
const Kind kQwen35Kind = {{kQwen35}};
const Kind kGpt4oKind = {{kGpt4o}};
const Kind kTekkenKind = {{kTekken}, true};
const Kind kDigitsKind = {{kDigit, kGpt2Pattern}};
const Kind kDefaultKind = {{R"([\p{P}$+<=>\^~|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}};
const Kind kFalconKind = {{R"([\p{P}$+<=>\^~|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}};
const Kind kDeepSeekLlmKind = {{kLineBreak, kCasedLetters, kWidePunctuation, R"(\s+$)", kEastAsian, R"(\p{N}+)"}};
const Kind kDeepSeekCoderKind = {{kLineBreak, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kEastAsian, kDigit}};
const Kind kDeepSeek3Kind = {{kNumbers3, kHanAndKana, kDeepSeek3Words}};
const Kind kBloomKind = {{" ?[^(\\s|.,!?…。，、।۔،)]+"}};
const Kind kVikingKind = {{" ?[^(\\s|.,!?…。，、।۔،)]+", kDigit}};
const Kind kBailingKind = {
    {R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n])"
     R"(|\s+(?!\S)|\s+)"}};
const Kind kSeedCoderKind = {
    {R"((?:{c})|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"}};
const Kind kExaoneMoeKind = {
    {R"((?:{c})|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n])"
     R"(|\s+(?!\S)|\s+)"}};
const Kind kMiniCpm5Kind = {
    {kNumbers3, R"((?:{c})|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}, true};
const Kind kLagunaKind = {{R"([^\n]+|[\n]+)", kQwen2}};
const Kind kGraniteEmbeddingKind = {{kGpt4o}, true};
const Kind kLinesKind = {{R"([^\n]+|[\n]+)"}};

struct Row {
  std::string_view name;
  const Kind* kind;
  bool begins = false;  // as llama.cpp, llama-vocab.cpp
};

constexpr Row kRows[] = {
    {"", &kDefaultKind},
    {"default", &kDefaultKind},
    {"gpt-2", &kGpt2Kind},
    {"gpt2", &kGpt2Kind},
    {"phi-2", &kGpt2Kind},
    {"mpt", &kGpt2Kind},
    {"olmo", &kGpt2Kind},
    {"jais", &kGpt2Kind},
    {"trillion", &kGpt2Kind},
    {"granite-docling", &kGpt2Kind},
    {"gigachat", &kGpt2Kind},
    {"jina-es", &kGpt2Kind},
    {"jina-de", &kGpt2Kind},
    {"jina-v1-en", &kGpt2Kind},
    {"jina-v2-es", &kGpt2Kind},
    {"jina-v2-de", &kGpt2Kind},
    {"jina-v2-code", &kGpt2Kind},
    {"roberta-bpe", &kGpt2Kind},
    {"mellum", &kGpt2Kind},
    {"modern-bert", &kGpt2Kind},
    {"a.x-4.0", &kGpt2Kind},
    {"llama3", &kLlama3Kind, true},
    {"llama-v3", &kLlama3Kind, true},
    {"llama-bpe", &kLlama3Kind, true},
    {"falcon3", &kLlama3Kind, true},
    {"falcon-h1", &kLlama3Kind, true},
    {"pixtral", &kLlama3Kind, true},
    {"midm-2.0", &kLlama3Kind, true},
    {"lfm2", &kLlama3Kind, true},
    {"glm4", &kLlama3Kind},
    {"glm5", &kLlama3Kind},
    {"chatglm-bpe", &kLlama3MergingKind},
    {"dbrx", &kLlama3MergingKind},
    {"smaug-bpe", &kLlama3MergingKind},
    {"qwen2", &kQwen2Kind},
    {"deepseek-r1-qwen", &kQwen2Kind},
    {"stablelm2", &kQwen2Kind},
    {"hunyuan", &kQwen2Kind},
    {"grok-2", &kQwen2Kind},
    {"megrez", &kQwen2Kind},
    {"solar-open", &kQwen2Kind},
    {"qwen35", &kQwen35Kind},
    {"gpt-4o", &kGpt4oKind},
    {"llama4", &kGpt4oKind},
    {"tekken", &kTekkenKind, true},
    {"starcoder", &kDigitsKind},
    {"refact", &kDigitsKind},
    {"command-r", &kDigitsKind},
    {"smollm", &kDigitsKind},
    {"codeshell", &kDigitsKind},
    {"exaone", &kDigitsKind},
    {"minerva-7b", &kDigitsKind},
    {"falcon", &kFalconKind},
    {"deepseek-llm", &kDeepSeekLlmKind},
    {"deepseek-coder", &kDeepSeekCoderKind},
    {"deepseek-v3", &kDeepSeek3Kind},
    {"hunyuan-dense", &kDeepSeek3Kind},
    {"bloom", &kBloomKind},
    {"gpt3-finnish", &kBloomKind},
    {"poro-chat", &kBloomKind},
    {"viking", &kVikingKind},
    {"gemma4", &kLinesKind},
    {"jina-v5-nano", &kLlama3Kind},
    {"kormo", &kQwen2Kind},
    {"f2llmv2", &kQwen2Kind},
    {"exaone4", &kGpt2Kind},
    {"kanana2", &kGpt4oKind},
    {"talkie", &kGpt4oKind},
    {"minimax-m2", &kGpt4oKind},
    {"granite-embed-multi-97m", &kGraniteEmbeddingKind},
    {"mellum2", &kDigitsKind},
    {"joyai-llm", &kDeepSeek3Kind},
    {"hy_v4", &kDeepSeek3Kind},
    {"bailingmoe", &kBailingKind},
    {"bailingmoe2", &kBailingKind},
    {"llada-moe", &kBailingKind},
    {"seed-coder", &kSeedCoderKind},
    {"exaone-moe", &kExaoneMoeKind},
    {"minicpm5", &kMiniCpm5Kind},
    {"laguna", &kLagunaKind},
};

}  // namespace

Result<GgufSplits> SplitsOfGguf(std::string_view name) {
  const Row* const row = std::ranges::find(kRows, name, &Row::name);
  if (row == std::end(kRows))
    return Unimplemented(
        StrFormat("pre-tokenizer is {}, which is not known; known are names like llama-bpe, qwen2, "
                  "gpt-2 and default",
                  Quoted(name)));
  GgufSplits splits;
  splits.ignore_merges = row->kind->ignore_merges;
  splits.begins = row->begins;
  for (const std::string_view expression : row->kind->expressions) {
    if (expression.empty()) break;
    std::string pattern(expression);
    for (size_t at; (at = pattern.find("{c}")) != std::string::npos;) pattern.replace(at, 3, kContraction);
    SW_ASSIGN_OR_RETURN(auto regex, Regex::Compile(pattern));
    splits.pre_tokenizer.Append(MakeRegexSplit(std::move(regex), SplitBehavior::kIsolated, false));
  }
  return splits;
}

}  // namespace spanwise
