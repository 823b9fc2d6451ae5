#include "server/known_fields.h"

#include <algorithm>
#include <array>

namespace spanwise::server {

namespace {

constexpr auto kIgnored = KnownField::Use::kIgnored, kOnly = KnownField::Use::kOnly;

template <size_t A, size_t B>
constexpr std::array<KnownField, A + B> Join(const KnownField (&a)[A], const KnownField (&b)[B]) {
  std::array<KnownField, A + B> out;
  std::copy(b, b + B, std::copy(a, a + A, out.begin()));
  return out;
}

constexpr KnownField kCommon[] = {
    {"model"},
    {"stream"},
    {"stream_options"},
    {"temperature"},
    {"top_p"},
    {"top_k"},
    {"min_p"},
    {"presence_penalty"},
    {"frequency_penalty"},
    {"repetition_penalty"},
    {"max_tokens"},
    {"min_tokens"},
    {"ignore_eos"},
    {"stop"},
    {"seed"},
    {"logit_bias"},
    {"logprobs"},
    {"user"},
    {"cache_salt"},
    {"spanwise"},
    {"metadata", kIgnored},
    {"store", kIgnored},
    {"service_tier", kIgnored},
    {"safety_identifier", kIgnored},
    {"prompt_cache_key", kIgnored},
    {"prompt_cache_retention", kIgnored},
    {"n", kOnly, "[1]"},
    {"best_of", kOnly, "[1]"},
    {"response_format", kOnly, R"([{"type":"text"}])"},
    {"structured_outputs", kOnly},
    {"guided_json", kOnly},
    {"guided_regex", kOnly},
    {"guided_choice", kOnly},
    {"guided_grammar", kOnly},
    {"json_schema", kOnly},
    {"grammar", kOnly, R"([""])"},
    {"use_beam_search", kOnly, "[false]"},
    {"length_penalty", kOnly, "[1]"},
    {"stop_token_ids", kOnly, "[[]]"},
    {"allowed_token_ids", kOnly, "[[]]"},
    {"bad_words", kOnly, "[[]]"},
    {"include_stop_str_in_output", kOnly, "[false]"},
    {"prompt_logprobs", kOnly},
    {"truncate_prompt_tokens", kOnly},
};

constexpr auto kChat = Join(kCommon, {
                                         {"messages"},
                                         {"documents"},
                                         {"max_completion_tokens"},
                                         {"top_logprobs"},
                                         {"tools"},
                                         {"tool_choice"},
                                         {"parallel_tool_calls", kIgnored},
                                         {"prediction", kIgnored},
                                         {"reasoning_effort", kIgnored},
                                         {"verbosity", kIgnored},
                                         {"functions", kOnly, "[[]]"},
                                         {"function_call", kOnly, R"(["none","auto"])"},
                                         {"modalities", kOnly, R"([["text"]])"},
                                         {"audio", kOnly},
                                         {"web_search_options", kOnly},
                                         {"echo", kOnly, "[false]"},
                                         {"add_generation_prompt", kOnly, "[true]"},
                                         {"continue_final_message", kOnly, "[false]"},
                                         {"chat_template", kOnly},
                                         {"chat_template_kwargs", kOnly, "[{}]"},
                                     });

constexpr auto kCompletion = Join(kCommon, {
                                               {"prompt"},
                                               {"echo"},
                                               {"suffix", kOnly, R"([""])"},
                                               {"documents", kOnly, "[[]]"},
                                               {"prompt_embeds", kOnly},
                                           });

constexpr KnownField kTokenize[] = {
    {"model"},
    {"text"},
    {"parse_special"},
    {"prompt"},
    {"messages"},
    {"add_special_tokens"},
    {"return_token_strs"},
    {"content"},
    {"add_special"},
    {"with_pieces"},
    {"add_generation_prompt", kOnly, "[true]"},
    {"continue_final_message", kOnly, "[false]"},
    {"chat_template", kOnly},
    {"chat_template_kwargs", kOnly, "[{}]"},
    {"tools", kOnly, "[[]]"},
};

constexpr KnownField kDetokenize[] = {{"model"}, {"tokens"}, {"keep_special"}};

constexpr KnownField kMessage[] = {
    {"role"},
    {"content"},
    {"cache_salt"},
    {"name", kIgnored},
    // What clients send back with an answer that they return.
    {"refusal", kIgnored},
    {"annotations", kIgnored},
    {"tool_calls", kOnly, "[[]]"},
    {"function_call", kOnly},
    {"audio", kOnly},
};

constexpr KnownField kContentPart[] = {{"type"}, {"text"}};

constexpr KnownField kDocument[] = {
    {"id"},       {"title"}, {"text"},       {"content"},        {"page_content"},
    {"metadata"}, {"score"}, {"cache_salt"}, {"type", kIgnored},
};

constexpr KnownField kStreamOptions[] = {
    {"include_usage"},
    {"include_obfuscation", kOnly, "[false]"},
    {"continuous_usage_stats", kOnly, "[false]"},
};

constexpr KnownField kCommonOptions[] = {
    {"cache"}, {"priority"}, {"branches"}, {"join"}, {"steps"}, {"keep_subtasks"},
};

constexpr auto kChatOptions = Join(kCommonOptions, {
                                                       {"compose"},
                                                       {"order"},
                                                       {"repair_fraction"},
                                                       {"repair_policy"},
                                                       {"repair_threshold"},
                                                       {"documents_temperature"},
                                                       {"documents_scale"},
                                                       {"search_draft"},
                                                       {"search_trials"},
                                                       {"force"},
                                                       {"top_k"},
                                                       {"cite"},
                                                       {"extract"},
                                                   });

// What is done with documents needs messages.
constexpr auto kCompletionOptions = Join(kCommonOptions, {
                                                             {"compose", kOnly, R"(["exact"])"},
                                                             {"order", kOnly, R"(["given"])"},
                                                             {"repair_fraction", kIgnored},
                                                             {"repair_policy", kIgnored},
                                                             {"repair_threshold", kIgnored},
                                                             {"documents_temperature", kIgnored},
                                                             {"documents_scale", kIgnored},
                                                             {"search_draft", kIgnored},
                                                             {"search_trials", kIgnored},
                                                             {"force", kIgnored},
                                                             {"top_k", kOnly, "[0]"},
                                                             {"cite", kOnly, "[false]"},
                                                             {"extract", kOnly, "[false]"},
                                                         });

constexpr KnownField kContinuation[] = {{"prompt"}, {"max_tokens"}};

}  // namespace

const FieldTable kChatFields = kChat, kCompletionFields = kCompletion, kTokenizeFields = kTokenize,
                 kDetokenizeFields = kDetokenize;
const FieldTable kMessageFields = kMessage, kContentPartFields = kContentPart, kDocumentFields = kDocument,
                 kStreamOptionsFields = kStreamOptions;
const FieldTable kChatOptionFields = kChatOptions, kCompletionOptionFields = kCompletionOptions;
const FieldTable kContinuationFields = kContinuation;

}  // namespace spanwise::server
