#include "tokenizer/split/gguf.h"

#include <algorithm>
#include <array>

#include "base/str.h"

namespace spanwise {
namespace {

// The expressions below are those of the models' own tokenizer.json files, and where llama.cpp splits differently on
// purpose, its own: what counts is the ids that a file's model was converted with.
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
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-"
    "Ὅὐ-"
    "ὗὙὛὝὟ-ώᾀ-ᾴᾶ-"
    "ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-"
    "𐑏𐒰-"
    "𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
constexpr std::string_view kNumbers3 = R"(\p{N}{1,3})";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kLineBreak = R"([\r\n])";
constexpr std::string_view kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kEastAsian = "[一-龥ࠀ-一가-\\x{d7ff}]+";

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
const Kind kDeepSeekLlmKind = {
    {kLineBreak, kCasedLetters, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", R"(\s+$)", kEastAsian, R"(\p{N}+)"}};
const Kind kDeepSeekCoderKind = {{kLineBreak, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kEastAsian, kDigit}};
const Kind kDeepSeek3Kind = {{kNumbers3, kHanAndKana, kDeepSeek3Words}};
const Kind kBloomKind = {{" ?[^(\\s|.,!?…。，、।۔،)]+"}};
const Kind kVikingKind = {{" ?[^(\\s|.,!?…。，、।۔،)]+", kDigit}};
const Kind kLinesKind = {{R"([^\n]+|[\n]+)"}};

struct Row {
  std::string_view name;
  const Kind* kind;
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
    {"llama3", &kLlama3Kind},
    {"llama-v3", &kLlama3Kind},
    {"llama-bpe", &kLlama3Kind},
    {"falcon3", &kLlama3Kind},
    {"falcon-h1", &kLlama3Kind},
    {"pixtral", &kLlama3Kind},
    {"midm-2.0", &kLlama3Kind},
    {"lfm2", &kLlama3Kind},
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
    {"tekken", &kTekkenKind},
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
