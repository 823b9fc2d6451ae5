// The text side of models as people have them: folders whose files say more, less or other than they should.
#include "engine/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "engine/test_engines.h"
#include "formats/model_file.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr int32_t kBegin = 1, kEnd = 2;  // of the bundled model

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>";

json::object JsonOf(const std::string& path) { return ParseJson(ReadFile(path).value(), path).value().get_object(); }

// A copy of the bundled model without what says how to chat, begin and end; weights are links.
class ModelFolder : public testing::Test {
 protected:
  ModelFolder() : folder_((fs::temp_directory_path() / "model_text.XXXXXX").string()) {
    if (!mkdtemp(folder_.data())) folder_.clear();
    for (const auto& file : fs::directory_iterator(InSource("models/pocket"))) {
      const std::string name = file.path().filename().string();
      if (name.starts_with("model")) fs::create_symlink(fs::absolute(file.path()), folder_ + "/" + name);
    }
    fs::copy_file(InSource("models/pocket/tokenizer.json"), folder_ + "/tokenizer.json");
    json::object config = JsonOf(InSource("models/pocket/config.json"));
    config.erase("eos_token_id");
    WriteJson("config.json", config);
  }
  ~ModelFolder() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& bytes) const {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    ASSERT_TRUE(WriteFileAtomic(folder_ + "/" + name, bytes).ok());
  }
  void WriteJson(const std::string& name, const json::value& value) const { Write(name, json::serialize(value)); }

  ModelText Load() const { return LoadModelText(folder_).value(); }
  // The tokens of a chat that says "hi", as text.
  std::string Chat() const {
    const ModelText text = Load();
    if (!text.chat) return text.no_chat.message();
    const PromptNode tree = text.chat->Build({{"user", "hi"}}, {}, {}).value();
    return text.tokenizer->Decode(tree.children.front().tokens, true);
  }
  // The bundled tokenizer with a post-processor that puts the begin token before a text and the end token behind it.
  void AddPostProcessor() const {
    json::object tokenizer = JsonOf(folder_ + "/tokenizer.json");
    tokenizer["post_processor"] = ParseJson(R"({"type":"TemplateProcessing",
      "single":[{"SpecialToken":{"id":"<|begin|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
                {"SpecialToken":{"id":"<|end|>","type_id":0}}],"pair":[],
      "special_tokens":{"<|begin|>":{"id":"<|begin|>","ids":[1],"tokens":["<|begin|>"]},
                        "<|end|>":{"id":"<|end|>","ids":[2],"tokens":["<|end|>"]}}})",
                                            "t")
                                      .value();
    WriteJson("tokenizer.json", tokenizer);
  }

  std::string folder_;
};

using ModelFolderTemplates = ModelFolder;

TEST_F(ModelFolderTemplates, AreFoundInEveryFileThatHoldsThem) {
  const std::string answer = "<|begin|><|user|>hi<|end|><|assistant|>";
  const json::object token{{"bos_token", "<|begin|>"}};
  EXPECT_THAT(Chat(), AllOf(StartsWith(folder_ + ": has no chat template, neither chat_template.jinja"),
                            HasSubstr("only plain prompts")));
  // A file of its own alone; the begin token is not known then.
  Write("chat_template.jinja", std::string("\xEF\xBB\xBF") + kTemplate);
  EXPECT_EQ(Chat(), "<|user|>hi<|end|><|assistant|>");
  WriteJson("tokenizer_config.json", token);
  EXPECT_EQ(Chat(), answer);
  fs::remove(folder_ + "/chat_template.jinja");
  WriteJson("chat_template.json", json::object{{"chat_template", kTemplate}});
  EXPECT_EQ(Chat(), answer);
  // Several files: the one that transformers takes.
  WriteJson("tokenizer_config.json",
            json::object{{"bos_token", "<|begin|>"}, {"chat_template", "config {{ messages[0]['content'] }}"}});
  EXPECT_EQ(Chat(), "config hi");
  Write("chat_template.jinja", "jinja {{ messages[0]['content'] }}");
  EXPECT_EQ(Chat(), "jinja hi");
}

TEST_F(ModelFolderTemplates, WithNamesAreChosenAmong) {
  const auto with = [&](json::value templates) {
    WriteJson("tokenizer_config.json",
              json::object{{"bos_token", "<|begin|>"}, {"chat_template", std::move(templates)}});
  };
  const auto named = [](const char* name, const char* source) {
    return json::object{{"name", name}, {"template", source}};
  };
  const std::string answer = "<|begin|><|user|>hi<|end|><|assistant|>";
  with(json::array{named("tool_use", "tools"), named("default", kTemplate), named("rag", "rag")});
  EXPECT_EQ(Chat(), answer);
  EXPECT_THAT(Load().templates, ElementsAre("default", "rag", "tool_use"));
  EXPECT_EQ(Load().chosen_template, "default");
  with(json::object{{"default", kTemplate}, {"rag", "rag"}});
  EXPECT_EQ(Chat(), answer);
  with(json::array{named("chat", kTemplate)});  // the only one
  EXPECT_EQ(Chat(), answer);
  EXPECT_EQ(Load().chosen_template, "chat");
  with(json::array{named("rag", "r"), named("tool_use", "t")});
  EXPECT_EQ(Chat(), folder_ +
                        "/tokenizer_config.json: has the chat templates rag, tool_use, and none that is called "
                        "\"default\"; rename one");
  for (const auto& [value, message] :
       {std::pair<json::value, std::string>{7, "'chat_template' is an integer, expected a string or a list"},
        {json::array{"x"}, "'chat_template' holds what has no 'name' and 'template'"},
        {json::array{json::object{{"name", "default"}, {"template", 7}}},
         "'chat_template' \"default\" is an integer"}}) {
    with(value);
    EXPECT_THAT(Chat(), AllOf(StartsWith(folder_ + "/tokenizer_config.json: "), HasSubstr(message)));
  }
  // As transformers 4.50 and later write them: they come before tokenizer_config.json's.
  with(json::array{named("default", "config")});
  Write("additional_chat_templates/rag.jinja", "rag {{ messages[0]['content'] }}");
  EXPECT_EQ(Chat(), "rag hi");
  Write("chat_template.jinja", kTemplate);
  EXPECT_EQ(Chat(), answer);
  EXPECT_THAT(Load().templates, ElementsAre("default", "rag"));
}

TEST_F(ModelFolderTemplates, ThatCannotBeReadLeavePlainPrompts) {
  Write("chat_template.jinja", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_THAT(Chat(), StartsWith(folder_ + "/chat_template.jinja: is a Git LFS pointer"));
  Write("chat_template.jinja", "{% if %}");
  EXPECT_THAT(Chat(), StartsWith(folder_ + "/chat_template.jinja: line 1"));
}

TEST_F(ModelFolder, SpecialTokensComeFromTheFileThatTransformersTakes) {
  WriteJson("tokenizer_config.json", json::object{{"chat_template", kTemplate}});
  WriteJson("special_tokens_map.json", json::object{{"bos_token", json::object{{"content", "<|begin|>"}}}});
  EXPECT_EQ(Chat(), "<|begin|><|user|>hi<|end|><|assistant|>");
  // Without added_tokens_decoder the map comes first, with it the map is not read.
  json::object config{{"chat_template", kTemplate}, {"bos_token", "<|pad|>"}, {"eos_token", nullptr}};
  WriteJson("tokenizer_config.json", config);
  EXPECT_THAT(Chat(), StartsWith("<|begin|>"));
  config["added_tokens_decoder"] = json::object();
  WriteJson("tokenizer_config.json", config);
  EXPECT_THAT(Chat(), StartsWith("<|pad|>"));
}

TEST_F(ModelFolder, EveryEndThatAFileNamesEndsAnAnswer) {
  EXPECT_THAT(Load().ends, ElementsAre(kEnd));  // "<|end|>" is a known one
  const auto pad = Load().tokenizer->IdOf("<|pad|>");
  WriteJson("tokenizer_config.json", json::object{{"eos_token", "<|pad|>"}});
  EXPECT_THAT(Load().ends, ElementsAre(*pad, kEnd));
  // What is no special token is text that a model may well write.
  json::object tokenizer = JsonOf(folder_ + "/tokenizer.json");
  for (json::value& token : tokenizer["added_tokens"].get_array())
    if (token.at("content") == "<|end|>") token.get_object()["special"] = false;
  WriteJson("tokenizer.json", tokenizer);
  EXPECT_THAT(Load().ends, ElementsAre(*pad));
}

TEST_F(ModelFolder, AnswersEndWhereOnlyTheTokenizerSaysHow) {
  fs::copy_file(InSource("models/pocket/tokenizer_config.json"), folder_ + "/tokenizer_config.json");
  WriteJson("generation_config.json", json::object{{"eos_token_id", 7}});
  const auto engine = Engine::Open({.model = folder_, .threads = 1, .kv_memory_bytes = size_t{64} << 20}).value();
  Request request;
  request.documents = {{.id = "1", .title = "", .text = "The pump weighs 14 kg."}};
  request.messages = {{"user", "How much does the pump weigh?"}};
  request.sampling.max_tokens = 64;
  const Answer answer = engine->Run(request).value();
  EXPECT_EQ(answer.finish_reason, FinishReason::kStop) << answer.text;
  EXPECT_THAT(answer.text, HasSubstr("14"));
}

TEST_F(ModelFolder, PromptsBeginAsTheFilesAsk) {
  const auto prompt = [&](const std::string& text) { return Load().EncodePrompt(text).value(); };
  const std::vector<int32_t> plain = Load().tokenizer->Encode("hello", true).value();
  const auto begun = [&] {
    std::vector<int32_t> tokens = {kBegin};
    tokens.insert(tokens.end(), plain.begin(), plain.end());
    return tokens;
  }();
  EXPECT_EQ(prompt("hello"), plain);
  AddPostProcessor();
  EXPECT_EQ(prompt("hello"), begun);  // and nothing behind it: the prompt is gone on with
  EXPECT_EQ(prompt("<|begin|>hello"), begun);
  EXPECT_THAT(prompt(""), ElementsAre(kBegin));
  const auto stated = [&](bool add, json::value bos) {
    WriteJson("tokenizer_config.json", json::object{{"add_bos_token", add}, {"bos_token", std::move(bos)}});
    return prompt("hello");
  };
  EXPECT_EQ(stated(true, "<|begin|>"), begun);
  EXPECT_EQ(stated(false, "<|begin|>"), plain);
  fs::remove(folder_ + "/tokenizer.json");
  fs::copy_file(InSource("models/pocket/tokenizer.json"), folder_ + "/tokenizer.json");
  EXPECT_EQ(stated(true, json::object{{"content", "<|begin|>"}}), begun);
  EXPECT_EQ(stated(true, nullptr), plain);
}

TEST(ModelPrompts, BeginOnceInAnswersAndEchoes) {
  const auto engine = OpenTiny();
  Request request;
  request.prompt = "hello";
  request.echo = true;
  request.sampling.max_tokens = 0;
  request.sampling.logprobs = 0;
  const Answer answer = engine->Run(request).value();
  EXPECT_EQ(answer.usage.prompt_tokens, 6);
  EXPECT_EQ(answer.text, "hello");
  ASSERT_EQ(answer.tokens.size(), 6u);
  EXPECT_EQ(answer.tokens[0].token, "<|begin_of_text|>");
  EXPECT_TRUE(answer.tokens[0].special);
  EXPECT_EQ(answer.tokens[0].logprob, std::nullopt);
  EXPECT_TRUE(answer.tokens[1].logprob.has_value());
  EXPECT_FALSE(answer.tokens[1].special);
  request.prompt = "<|begin_of_text|>hello";
  ExpectSame(engine->Run(request)->tokens, answer.tokens);
  // Token ids are the whole prompt.
  request.prompt.reset();
  request.prompt_tokens = engine->Tokenize("hello", true).value();
  EXPECT_EQ(engine->Run(request)->usage.prompt_tokens, 5);
}

TEST_F(ModelFolder, MessagesSayWhatToDo) {
  const auto message = [&] { return LoadModelText(folder_).status().message(); };
  Write("tokenizer.json", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(message(), folder_ +
                           "/tokenizer.json: is a Git LFS pointer, not the file itself; run `git lfs pull` in its "
                           "folder, or download the file");
  fs::remove(folder_ + "/tokenizer.json");
  EXPECT_THAT(message(), HasSubstr(": has no tokenizer.json; download it"));
  Write("tokenizer.model", "x");
  EXPECT_THAT(message(), HasSubstr(": has no tokenizer.json, only tokenizer.model, which is not read; make one with"));
}

TEST_F(ModelFolder, ByteOrderMarksArePassedOver) {
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors.index.json"}) {
    const std::string bytes = ReadFile(folder_ + "/" + name).value();
    fs::remove(folder_ + "/" + name);
    Write(name, "\xEF\xBB\xBF" + bytes);
  }
  for (const char* name : {"tokenizer_config.json", "generation_config.json", "spanwise.json"})
    Write(name, "\xEF\xBB\xBF" + ReadFile(InSource("models/pocket/") + name).value());
  Write("special_tokens_map.json", "\xEF\xBB\xBF{}");
  EXPECT_TRUE(Load().chat);
  const auto engine = Engine::Open({.model = folder_, .threads = 1, .kv_memory_bytes = size_t{16} << 20});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_EQ((*engine)->model().sampling.temperature, 0.0f);
}

TEST_F(ModelFolder, WarnsOfTokensThatOneFileLacks) {
  EXPECT_THAT(Load().warnings, IsEmpty());
  WriteJson("added_tokens.json", json::object{{"<|end|>", 2}, {"<|tool|>", 9000}});
  EXPECT_THAT(Load().warnings, ElementsAre(StartsWith(folder_ + "/added_tokens.json: adds \"<|tool|>\", which")));
  WriteJson("tokenizer_config.json",
            json::object{{"added_tokens_decoder", json::object{{"2", json::object{{"content", "<|end|>"}}}}}});
  EXPECT_THAT(Load().warnings, IsEmpty());
}

// Whatever is wrong with a model, its name stands in the message once.
TEST_F(ModelFolder, EveryMessageNamesItsFileOnce) {
  const auto open = [](const std::string& path) {
    return Engine::Open({.model = path, .threads = 1, .kv_memory_bytes = size_t{16} << 20}).status().message();
  };
  const auto once = [&](const std::string& message) {
    const size_t first = message.find(folder_);
    EXPECT_EQ(first, 0u) << message;
    EXPECT_EQ(message.find(folder_, first + 1), std::string::npos) << message;
  };
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                           "special_tokens_map.json", "model.safetensors.index.json", "spanwise.json"})
    for (const char* bytes : {"", "{", "[]", "version https://git-lfs.github.com/spec/v1\n", "<html>", "\xFF\xFE{"}) {
      const std::string path = folder_ + "/" + name;
      const std::string before = FileExists(path) ? ReadFile(path).value() : "";
      fs::remove(path);
      Write(name, bytes);
      const std::string message = open(folder_);
      EXPECT_THAT(message, StartsWith(path + ": ")) << bytes;
      once(message);
      fs::remove(path);
      if (!before.empty()) Write(name, before);
    }
  const std::string gguf = ReadFile(TinyModel()).value();
  const std::string path = folder_ + "/m.gguf";
  const auto swapped = [&](const std::string& from, const std::string& to) {
    std::string bytes = gguf;
    for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size())
      bytes.replace(at, from.size(), to);
    Write("m.gguf", bytes);
    once(open(path));
  };
  swapped("blk.1.attn_k.weight", "blk.1.attn_x.weight");  // a tensor that is not there
  swapped("blk.1.ffn_norm.weight", "blk.1.ffn_nurm.weight");
  swapped("llama.block_count", "llama.block_kount");
  swapped("tokenizer.ggml.tokens", "tokenizer.ggml.tokans");
  swapped("llama.context_length", "llama.context_langth");
  Write("m.gguf", gguf.substr(0, gguf.size() / 2));
  EXPECT_THAT(open(path), HasSubstr("the file is cut short or damaged; download it again"));
  once(open(path));
}

}  // namespace
}  // namespace spanwise
