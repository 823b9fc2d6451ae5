#include "formats/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/str.h"
#include "formats/gguf.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Folder {
 public:
  Folder() : path_((fs::temp_directory_path() / "model_file.XXXXXX").string()) {
    if (!mkdtemp(path_.data())) path_.clear();
  }
  ~Folder() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string Write(const std::string& name, const std::string& bytes = "x") const {
    std::string path = path_ + "/" + name;
    EXPECT_TRUE(WriteFileAtomic(path, bytes).ok());
    return path;
  }

 private:
  std::string path_;
};

std::string Foreign(std::string_view bytes) {
  return ForeignContent(std::as_bytes(std::span(bytes))).value_or("nothing else");
}

TEST(ModelFile, KnowsWhatIsNoModelFile) {
  EXPECT_EQ(Foreign(""), "is empty; download it again");
  EXPECT_THAT(Foreign("version https://git-lfs.github.com/spec/v1\noid"), StartsWith("is a Git LFS pointer"));
  for (const char* page : {"<!DOCTYPE html>", "\n <!doctype HTML>", "<html lang=en>", "\xEF\xBB\xBF<HTML>"})
    EXPECT_THAT(Foreign(page), StartsWith("is a web page")) << page;
  EXPECT_THAT(Foreign(std::string("PK\3\4\x14\0", 6)), StartsWith("is a zip archive or a PyTorch file"));
  EXPECT_THAT(Foreign("\x1F\x8B\x08"), StartsWith("is compressed with gzip"));
  EXPECT_THAT(Foreign("\x80\x02\x8a\x0a"), StartsWith("is a PyTorch file"));
  for (const char* good : {"{\"version\":1}", "GGUF", "version 1", "<", "{{ x }}<html>", "P", "\x80"})
    EXPECT_EQ(Foreign(good), "nothing else") << good;
}

TEST(ModelFile, ReadsTextAndJson) {
  const Folder folder;
  EXPECT_EQ(ReadModelText(folder.Write("a", "\xEF\xBB\xBFtext"), 100).value(), "text");
  const std::string pointer = folder.Write("config.json", "version https://git-lfs.github.com/spec/v1\n");
  for (const Status& status : {ReadModelText(pointer, 100).status(), ReadModelJson(pointer, 100).status()}) {
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
    EXPECT_THAT(status.message(), StartsWith(pointer + ": is a Git LFS pointer"));
  }
  EXPECT_EQ(ReadModelJson(folder.Write("b", "\xEF\xBB\xBF{\"a\":1}"), 100)->at("a"), 1);
  EXPECT_THAT(ReadModelJson(folder.Write("c", "[1]"), 100).status().message(),
              HasSubstr("c: holds an array, expected"));
  EXPECT_THAT(ReadModelJson(folder.Write("d", "{"), 100).status().message(), HasSubstr("d: JSON ends too early"));
  EXPECT_EQ(ReadModelText(folder.path() + "/none", 100).status().code(), StatusCode::kNotFound);
}

TEST(ModelFile, FindsTheModelThatAPathMeans) {
  const Folder folder;
  EXPECT_EQ(FindModel(folder.path() + "/none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(FindModel(folder.path()).value(), folder.path());
  const std::string one = folder.Write("one.gguf");
  EXPECT_EQ(FindModel(folder.path()).value(), one);
  EXPECT_EQ(FindModel(one).value(), one);
  EXPECT_EQ(FindModel(folder.Write("sha256-0123")).value(), folder.path() + "/sha256-0123");
  folder.Write("config.json", "{}");  // repositories of GGUF files often have one
  folder.Write("mmproj-f16.gguf");
  EXPECT_EQ(FindModel(folder.path()).value(), one);
  folder.Write("two-00001-of-00002.gguf");
  folder.Write("two-00002-of-00002.gguf");
  EXPECT_EQ(FindModel(folder.path()).status().message(),
            folder.path() + ": holds 2 GGUF files, name one of them: one.gguf, two-00001-of-00002.gguf");
  fs::remove(one);
  EXPECT_EQ(FindModel(folder.path()).value(), folder.path() + "/two-00001-of-00002.gguf");
  const std::string weights = folder.Write("model.safetensors");
  EXPECT_EQ(FindModel(folder.path()).value(), folder.path());
  EXPECT_EQ(FindModel(weights).status().message(),
            weights + ": is neither a model folder nor a GGUF file; name the folder that holds it");
}

TEST(ModelFile, SaysWhyThereAreNoWeights) {
  const auto why = [](std::initializer_list<const char*> names) {
    const Folder folder;
    for (const char* name : names) folder.Write(name);
    return WhyNoWeights(folder.path());
  };
  EXPECT_THAT(why({}), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(why({"config.json", "training_args.bin"}), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(why({"pytorch_model.bin"}), HasSubstr("PyTorch weights (pytorch_model.bin)"));
  EXPECT_THAT(why({"pytorch_model-00001-of-00002.bin"}), HasSubstr("convert them to safetensors"));
  EXPECT_THAT(why({"consolidated.00.pth"}), HasSubstr("PyTorch weights"));
  EXPECT_THAT(why({"adapter_config.json", "adapter_model.safetensors"}), HasSubstr("merge it into its base model"));
  EXPECT_THAT(why({"consolidated.safetensors"}), HasSubstr("use the files in the Hugging Face layout"));
  EXPECT_THAT(why({"model-00001-of-00002.safetensors"}), HasSubstr("no model.safetensors.index.json"));
}

TEST(ModelFile, GgufReaderSaysWhatAFileIsInstead) {
  const Folder folder;
  const std::string path = folder.Write("m.gguf", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(
      GgufFile::Open(path).status().message(),
      path + ": is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder, or download the file");
  EXPECT_EQ(GgufFile::Open(folder.Write("e.gguf", "")).status().message(),
            folder.path() + "/e.gguf: is empty; download it again");
}

}  // namespace
}  // namespace spanwise
