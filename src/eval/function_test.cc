#include "eval/function.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "base/file.h"
#include "base/json.h"
#include "engine/test_engines.h"

namespace spanwise::eval {
namespace {

namespace fs = std::filesystem;

class ModelFunctionTest : public testing::Test {
 protected:
  ModelFunctionTest() : folder_((fs::temp_directory_path() / "function.XXXXXX").string()) {
    if (!mkdtemp(folder_.data())) std::abort();
  }
  ~ModelFunctionTest() override { fs::remove_all(folder_); }

  // The bundled model with one of its files changed.
  ModelFunction With(const std::string& name, const std::function<void(json::object*)>& change) {
    const std::string model = InSource("models/pocket"), copy = folder_ + "/" + std::to_string(++n_);
    fs::create_directories(copy);
    for (const auto& file : fs::directory_iterator(model))
      if (file.path().filename() != name)
        fs::create_symlink(fs::absolute(file.path()), copy + "/" + file.path().filename().string());
    json::object object = ParseJson(ReadFile(model + "/" + name).value(), name).value().as_object();
    change(&object);
    std::ofstream(copy + "/" + name) << json::serialize(object);
    return Probed({.model = copy, .threads = 2, .kv_memory_bytes = size_t{8} << 20});
  }
  static ModelFunction Probed(const EngineOptions& options) {
    auto function = ProbeModel(options);
    EXPECT_TRUE(function.ok()) << function.status().message();
    return function.ok() ? *function : ModelFunction();
  }

  std::string folder_;
  int n_ = 0;
};

TEST_F(ModelFunctionTest, TellsWhatModelsDoAndNotWhatTheirFilesSay) {
  const EngineOptions pocket{.model = InSource("models/pocket"), .threads = 2, .kv_memory_bytes = size_t{8} << 20};
  const ModelFunction base = Probed(pocket);
  const auto expect = [&](const ModelFunction& other, bool kv, bool prompts) {
    EXPECT_EQ(other.kv == base.kv, kv);
    EXPECT_EQ(other.logits == base.logits, kv);
    EXPECT_EQ(other.tokens, base.tokens);
    EXPECT_EQ(other.prompts == base.prompts, prompts);
  };
  expect(Probed(pocket), true, true);
  expect(With("config.json", [](json::object* o) { (*o)["_name_or_path"] = "x"; }), true, true);
  expect(With("config.json", [](json::object* o) { (*o)["rope_theta"] = 12345.0; }), false, true);
  const auto template_with = [&](const std::function<std::string(std::string)>& change) {
    return With("tokenizer_config.json", [&](json::object* o) {
      (*o)["chat_template"] = change(std::string(o->at("chat_template").as_string()));
    });
  };
  expect(template_with([](const std::string& t) { return "{# a comment #}{%- set x = 3 -%}" + t; }), true, true);
  // Differs with two messages of one role in a row alone: some probes tell, and not all.
  const ModelFunction strict = template_with([](const std::string& t) {
    return "{% for m in messages %}{% if not loop.first and m.role == messages[loop.index0 - 1].role %}"
           "{{ raise_exception('twice') }}{% endif %}{% endfor %}" +
           t;
  });
  expect(strict, true, false);
  EXPECT_EQ(strict.prompts[0], base.prompts[0]);
  EngineOptions wide = pocket;
  wide.dtype = "f32";
  expect(Probed(wide), false, true);
}

}  // namespace
}  // namespace spanwise::eval
