// The calibration beside a model: its file, and the gate.
#include "engine/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "spanwise/engine.h"

namespace spanwise {
namespace {

using ::testing::HasSubstr;

Calibration Sample() {
  CalibratedMode set{.compose = {.mode = ComposeMode::kSet},
                     .n = 230,
                     .kl = 0.0031,
                     .agreement = 0.9,
                     .accuracy = 0.97,
                     .exact_accuracy = 0.98};
  CalibratedMode repair = set;
  repair.compose = {.mode = ComposeMode::kRepair, .repair_fraction = 0.1, .repair_policy = "first"};
  repair.accuracy = 0.9;
  return {.model = "abc", .limits = {.kl = 0.05, .accuracy_loss = 0.03}, .modes = {set, repair}};
}

TEST(Calibration, GivesDefaultsToWhatIsLeftOpen) {
  Calibration written = Sample();
  EXPECT_FALSE(Calibration::Parse(written.ToJson(), "f")->defaults.documents_scale);  // a file without them
  EXPECT_FALSE(written.Resolve({.mode = ComposeMode::kApe}).documents_scale);
  written.defaults = {.documents_temperature = 0.8, .documents_scale = 1.25};
  CalibratedMode ape = written.modes[0];
  ape.compose = written.Resolve({.mode = ComposeMode::kApe});
  written.modes.push_back(ape);
  const Calibration read = Calibration::Parse(written.ToJson(), "f").value();
  const ComposeOptions open = read.Resolve({.mode = ComposeMode::kApe});
  EXPECT_EQ(open.documents_temperature, 0.8);
  EXPECT_EQ(open.documents_scale, 1.25);
  EXPECT_TRUE(read.Check(open).value());
  EXPECT_FALSE(read.Check({.mode = ComposeMode::kApe}).value());
  written.defaults = {.repair_threshold = 0.6};
  CalibratedMode repair = written.modes[1];
  repair.compose = written.Resolve(repair.compose);
  written.modes.push_back(repair);
  const Calibration other = Calibration::Parse(written.ToJson(), "f").value();
  EXPECT_EQ(other.ToJson(), written.ToJson());
  EXPECT_FALSE(other.defaults.documents_scale);
  EXPECT_EQ(other.Resolve({.mode = ComposeMode::kRepair}).repair_threshold, 0.6);
  EXPECT_EQ(other.Resolve({.mode = ComposeMode::kRepair, .repair_threshold = 0}).repair_threshold, 0);
  EXPECT_EQ(other.modes[3].compose.repair_threshold, 0.6);
  EXPECT_EQ(CompositionName(other.modes[3].compose), "repair fraction=0.1 policy=first threshold=0.6");
  EXPECT_EQ(CompositionName(other.modes[1].compose), "repair fraction=0.1 policy=first");
  written.defaults = read.defaults;
  const ComposeOptions named = read.Resolve({.mode = ComposeMode::kApe, .documents_temperature = 1});
  EXPECT_EQ(named.documents_temperature, 1);
  EXPECT_EQ(named.documents_scale, 1.25);
  for (const auto& [from, to, says] :
       {std::tuple{"\"documents_temperature\": 0.8, \"documents_scale\": 1.25}", "\"repair_threshold\": -1}",
                   "defaults: 'repair_threshold' is -1"},
        {"\"documents_temperature\": 0.8, \"documents_scale\": 1.25}",
         "\"documents_temperature\": 0, \"documents_scale\": 1}", "defaults: 'documents_temperature' is 0"},
        {"\"defaults\": {", "\"defaults\": 3, \"x\": {", "defaults"}}) {
    std::string text = written.ToJson();
    text.replace(text.find(from), std::string_view(from).size(), to);
    const Status status = Calibration::Parse(text, "f").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << to;
    EXPECT_THAT(status.message(), HasSubstr(says)) << to;
  }
}

TEST(Calibration, ReadsWhatItWrites) {
  const Calibration written = Sample();
  const Calibration read = Calibration::Parse(written.ToJson(), "f").value();
  EXPECT_EQ(read.ToJson(), written.ToJson());
  EXPECT_EQ(read.model, "abc");
  EXPECT_EQ(read.limits.kl, 0.05);
  ASSERT_EQ(read.modes.size(), 2u);
  EXPECT_EQ(read.modes[1].compose.repair_policy, "first");
  EXPECT_EQ(read.modes[1].compose.repair_fraction, 0.1);
  EXPECT_EQ(read.modes[0].kl, 0.0031);
  EXPECT_EQ(read.modes[0].n, 230);
}

TEST(Calibration, ReadsMinusZeroAsZero) {
  Calibration written = Sample();
  written.modes[0].kl = 0;
  const std::string text = written.ToJson();
  std::string negative = text;
  negative.replace(text.find("\"kl\": 0,"), 8, "\"kl\": -0e0,");
  EXPECT_EQ(Calibration::Parse(negative, "f").value().ToJson(), text);
}

TEST(Calibration, ReadsNumbersAsItWritesThem) {
  Calibration written = Sample();
  written.modes.push_back(written.modes[1]);
  written.modes[1].compose.repair_fraction = 0.15;
  written.modes[2].compose.repair_fraction = 0.16;
  const std::string text = written.ToJson();
  std::string longer = text;
  longer.replace(text.find("0.16"), 4, "0.16000000000001");
  EXPECT_EQ(Calibration::Parse(longer, "f").value().ToJson(), text);
  longer.replace(longer.find("0.16"), 4, "0.15");  // written, both would be 0.15
  EXPECT_THAT(Calibration::Parse(longer, "f").status().message(), HasSubstr("is there twice"));
}

TEST(Calibration, LetsPassWhatIsWithinTheLimits) {
  const Calibration c = Sample();
  EXPECT_TRUE(c.Check({.mode = ComposeMode::kSet}).value());
  // Not measured: another mode, other parameters.
  EXPECT_FALSE(c.Check({.mode = ComposeMode::kApe}).value());
  EXPECT_FALSE(c.Check({.mode = ComposeMode::kRepair, .repair_fraction = 0.2, .repair_policy = "first"}).value());
  const Status refused =
      c.Check({.mode = ComposeMode::kRepair, .repair_fraction = 0.1, .repair_policy = "first"}).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("'repair fraction=0.1 policy=first'"));
  EXPECT_THAT(refused.message(), HasSubstr("90.0 % of the answers right against 98.0 %"));
  EXPECT_THAT(refused.message(), HasSubstr("230 prompts"));
}

TEST(Calibration, EitherLimitCloses) {
  Calibration c = Sample();
  c.modes[0].kl = 0.051;
  EXPECT_FALSE(c.Check({.mode = ComposeMode::kSet}).ok());
  c.limits.kl = 0.06;
  EXPECT_TRUE(c.Check({.mode = ComposeMode::kSet}).ok());
  c.modes[0].accuracy = 0.94;
  EXPECT_FALSE(c.Check({.mode = ComposeMode::kSet}).ok());
}

TEST(Calibration, NamesWhatIsWrong) {
  const std::string good = Sample().ToJson();
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return Calibration::Parse(text, "f.json").status();
  };
  const struct {
    std::string_view from, to, says;
  } kCases[] = {
      {"\"version\": 1", "\"version\": 2", "'version' is 2, this engine reads 1"},
      {"\"version\": 1", "\"version\": \"1\"", "version"},
      {"\"model\": \"abc\"", "\"other\": \"abc\"", "'model' is missing"},
      {"\"limits\": {\"kl\": 0.05", "\"limits\": {\"kl\": -1", "limits: 'kl' is -1"},
      {"\"limits\"", "\"limit\"", "'limits' is missing"},
      {"\"modes\": [", "\"modes\": [7,", "modes[0]: is"},
      {"\"mode\": \"set\"", "\"mode\": \"mix\"", "modes[0]: compose mode"},
      {"\"n\": 230", "\"n\": 0", "modes[0]: 'n' is 0"},
      {"\"n\": 230", "\"n\": 99999999999999", "modes[0]: 'n' is 99999999999999"},
      {"\"agreement\": 0.9", "\"agreement\": 1.5", "modes[0]: 'agreement' is 1.5"},
      {"\"kl\": 0.0031", "\"kl\": 1e999", "f.json"},
      {"\"repair_fraction\": 0.1", "\"repair_fraction\": 2", "modes[1]: 'repair_fraction' is 2"},
      {"\"repair_policy\": \"first\", ", "", "modes[1]: 'repair_policy' is missing"},
  };
  for (const auto& c : kCases) {
    const Status status = with(c.from, c.to);
    EXPECT_FALSE(status.ok()) << c.to;
    EXPECT_THAT(status.message(), HasSubstr(c.says));
    EXPECT_THAT(status.message(), ::testing::StartsWith("f.json")) << c.to;
  }
  for (size_t n = 0; n + 2 < good.size(); ++n)
    EXPECT_FALSE(Calibration::Parse(std::string_view(good).substr(0, n), "f.json").ok()) << n;
  Calibration twice = Sample();
  twice.modes.push_back(twice.modes[0]);
  EXPECT_THAT(Calibration::Parse(twice.ToJson(), "f").status().message(), HasSubstr("is there twice"));
}

TEST(Calibration, StandsBesideTheModel) {
  EXPECT_EQ(CalibrationPath("models/pocket"), "models/pocket/spanwise.json");
  EXPECT_EQ(CalibrationPath("models/a.gguf"), "models/a.spanwise.json");
}

// A folder with the bundled model's files and a calibration of its own.
class CalibratedModel : public ::testing::Test {
 protected:
  CalibratedModel() {
    const char* root = std::getenv("SPANWISE_SOURCE_DIR");
    folder_ = (std::filesystem::temp_directory_path() / "spanwise.XXXXXX").string();
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    for (const auto& file : std::filesystem::directory_iterator(std::string(root ? root : ".") + "/models/pocket"))
      if (file.path().filename() != "spanwise.json")
        std::filesystem::create_symlink(std::filesystem::absolute(file.path()),
                                        std::filesystem::path(folder_) / file.path().filename());
  }
  ~CalibratedModel() override { std::filesystem::remove_all(folder_); }

  Result<std::unique_ptr<Engine>> Open(bool calibration = true) const {
    return Engine::Open({.model = folder_, .calibration = calibration, .kv_memory_bytes = size_t{64} << 20});
  }
  void Write(const std::string& text) const { ASSERT_TRUE(WriteFileAtomic(CalibrationPath(folder_), text).ok()); }

  static Request Question() {
    Request request;
    request.documents = {{"a", "", "The Cawick T40 weighs 12 kg."}, {"b", "", "The Velk lighthouse is in Norholm."}};
    request.messages = {{"user", "How much does the Cawick T40 weigh?"}};
    request.compose.mode = ComposeMode::kSet;
    return request;
  }

  std::string folder_;
};

TEST_F(CalibratedModel, WithoutACalibrationComposesAndSaysSo) {
  auto engine = Open().value();
  EXPECT_EQ(engine->model().calibration_note, "");
  Request request = Question();
  EXPECT_FALSE(engine->Run(request)->compose.calibrated);
  request.compose.mode = ComposeMode::kExact;
  EXPECT_TRUE(engine->Run(request)->compose.calibrated);
}

std::vector<float> Logprobs(const Answer& answer) {
  std::vector<float> logprobs;
  for (const TokenReport& token : answer.tokens) logprobs.push_back(token.logprob.value());
  return logprobs;
}

TEST_F(CalibratedModel, ComposesWithItsDefaultsUnlessOthersAreNamed) {
  Request request = Question();
  request.compose.mode = ComposeMode::kApe;
  request.sampling.logprobs = 0;
  request.sampling.max_tokens = 4;
  auto engine = Open().value();
  const Answer builtin = engine->Run(request).value();
  request.compose.documents_temperature = request.compose.documents_scale = 0.5;
  const Answer named = engine->Run(request).value();
  Calibration calibration = Sample();
  calibration.model = engine->model().digest;
  calibration.defaults = {.documents_temperature = 0.5, .documents_scale = 0.5};
  Write(calibration.ToJson());
  engine = Open().value();
  request.compose = {.mode = ComposeMode::kApe};
  EXPECT_EQ(Logprobs(engine->Run(request).value()), Logprobs(named));
  EXPECT_NE(Logprobs(named), Logprobs(builtin));
  request.compose.documents_temperature = ComposeOptions::kDocumentsTemperature;
  request.compose.documents_scale = ComposeOptions::kDocumentsScale;
  EXPECT_EQ(Logprobs(engine->Run(request).value()), Logprobs(builtin));
}

TEST_F(CalibratedModel, RecomputingAllIsExactAndNeedsNoCalibration) {
  Calibration calibration = Sample();
  calibration.model = Open().value()->model().digest;
  calibration.defaults = {.repair_threshold = 0.2};
  Write(calibration.ToJson());
  Request request = Question();
  request.sampling.logprobs = 0;
  request.compose = {.mode = ComposeMode::kExact};
  const Answer exact = Open().value()->Run(request).value();
  request.compose = {.mode = ComposeMode::kRepair, .repair_fraction = 1};
  auto engine = Open().value();
  const Answer cold = engine->Run(request).value(), warm = engine->Run(request).value();
  for (const Answer* answer : {&cold, &warm}) {
    EXPECT_EQ(answer->text, exact.text);
    EXPECT_EQ(Logprobs(*answer), Logprobs(exact));
    EXPECT_EQ(answer->compose.exactness, "causal-exact");
    EXPECT_TRUE(answer->compose.calibrated);
  }
  EXPECT_GT(cold.compose.repaired_tokens, 20);
  EXPECT_EQ(warm.compose.repaired_tokens, 0);
}

TEST_F(CalibratedModel, RefusesWhatIsOutsideUnlessForced) {
  Calibration calibration = Sample();
  calibration.model = Open().value()->model().digest;
  Write(calibration.ToJson());
  Request request = Question();
  EXPECT_TRUE(Open().value()->Run(request)->compose.calibrated);

  calibration.modes[0].kl = 0.2;
  Write(calibration.ToJson());
  auto engine = Open().value();
  const Status refused = engine->Run(request).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("0.2000 nats"));
  request.compose.force = true;
  EXPECT_FALSE(engine->Run(request)->compose.calibrated);
  request.compose.force = false;
  request.documents.clear();  // nothing is composed
  EXPECT_TRUE(engine->Run(request).ok());
}

TEST_F(CalibratedModel, AnotherModelsIsNotUsed) {
  Write(Sample().ToJson());
  auto engine = Open().value();
  EXPECT_THAT(engine->model().calibration_note, HasSubstr("measured with other weights"));
  EXPECT_FALSE(engine->Run(Question())->compose.calibrated);
}

TEST_F(CalibratedModel, WhatCannotBeReadIsAnError) {
  Write("{\"version\": 1");
  EXPECT_THAT(Open().status().message(), HasSubstr("spanwise.json"));
  EXPECT_TRUE(Open(/*calibration=*/false).ok());
  Write(std::string((size_t{1} << 20) + 1, ' '));
  EXPECT_EQ(Open().status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace spanwise
