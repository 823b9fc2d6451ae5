#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/str.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string File(std::string_view header, size_t data_bytes) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

Result<std::map<std::string, TensorView>> Parse(const std::string& file,
                                                std::map<std::string, OtherTensor>* other = nullptr) {
  return SafetensorsModel::ParseHeader(std::as_bytes(std::span(file)), "f.safetensors", other);
}

constexpr std::string_view kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"scalar":{"dtype":"F16","shape":[],"data_offsets":[20,22]},)"
    R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[22,22]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[22,30]}}  )";

class Folder {
 public:
  Folder() : path_(fs::path(testing::TempDir()) / ("safetensors_test_" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }
  void Write(const std::string& name, std::string_view bytes) const {
    ASSERT_TRUE(WriteFileAtomic((path_ / name).string(), bytes).ok());
  }

 private:
  fs::path path_;
};

TEST(Safetensors, ReadsAFile) {
  const std::string file = File(kGood, 30);
  std::map<std::string, OtherTensor> other;
  const auto tensors = Parse(file, &other).value();
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors.at("b").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors.at("b").dtype, DType::kBf16);
  EXPECT_EQ(static_cast<int>(*tensors.at("b").data), 8);
  EXPECT_EQ(tensors.at("scalar").n_elements(), 1);
  EXPECT_EQ(tensors.at("none").n_bytes(), 0u);
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other.at("ids").dtype, "I64");
}

TEST(Safetensors, EveryTruncationIsCorruption) {
  const std::string file = File(kGood, 30);
  for (size_t n = 0; n < file.size(); ++n)
    EXPECT_EQ(Parse(file.substr(0, n)).status().code(), StatusCode::kCorruption) << n;
  EXPECT_EQ(Parse(file + "x").status().code(), StatusCode::kCorruption);
}

TEST(Safetensors, NamesWhatContradictsItself) {
  const auto one = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return StrFormat(R"({{"t":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  struct Case {
    std::string header, message;
  };
  const Case cases[] = {
      {"[]", "header begins with"},
      {" {}", "header begins with"},
      {"{", "JSON ends too early"},
      {R"({"t":1})", "tensor \"t\": is an integer"},
      {R"({"t":{"dtype":"F32","shape":[2]}})", "'data_offsets' is missing"},
      {R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", "'shape' is missing"},
      {R"({"t":{"shape":[2],"data_offsets":[0,8]}})", "'dtype' is missing"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", "has the field \"x\""},
      {R"({"__metadata__":{"a":1},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "'__metadata__' member \"a\""},
      {R"({"__metadata__":[]})", "'__metadata__' is an array"},
      {one("F32", "[3]", "[0,8]"), "spans 8 bytes, but 3 elements of F32 need 96 bits"},
      {one("F4", "[3]", "[0,1]"), "3 elements of F4 need 12 bits"},
      {one("F32", "[-2]", "[0,8]"), "'shape' holds -2"},
      {one("F32", "[2.0]", "[0,8]"), "'shape' holds"},
      {one("F32", "[18446744073709551615]", "[0,8]"), "'shape' holds"},
      {one("F32", "[4294967296,4294967296]", "[0,8]"), "product of 'shape' exceeds"},
      {one("F32", "[9223372036854775807]", "[0,8]"), "over 2^64 bits"},
      {one("F32", "[4294967296,4294967296,0]", "[0,0]"), "product of 'shape' exceeds"},
      {one("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]"), "17 dimensions"},
      {one("F32", "[2]", "[8,0]"), "'data_offsets' is [8,0]"},
      {one("F32", "[2]", "[9,8]"), "expected begin <= end <= 8"},
      {one("F32", "[3]", "[0,12]"),
       "its header places tensors in 12 bytes, but only 8 follow it: the file is cut short"},
      {one("F32", "[2]", "[-8,0]"), "'data_offsets' is"},
      {one("F32", "[2]", "[18446744073709551608,0]"), "'data_offsets' is"},
      {one("F32", "[2]", "[0]"), "'data_offsets' is missing"},
      {one("F32", "[1]", "[0,4]"), "tensors end at data byte 4, but 8 bytes follow"},
      {one("F32", "[1]", "[4,8]"), "begins at data byte 4, expected 0 (there is a hole)"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "tensor \"b\": begins at data byte 4, expected 8 (it overlaps"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "\"a\" occurs twice"},
      {R"({"t":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}})", "\"dtype\" occurs twice"},
      {R"({"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":1}}}}}}}}})", "header"},
  };
  for (const Case& c : cases) {
    const Status status = Parse(File(c.header, 8)).status();
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << c.header;
    EXPECT_THAT(status.message(), HasSubstr("f.safetensors"));
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(Safetensors, SaysWhatAFileIsInstead) {
  const auto message = [](const std::string& file) { return Parse(file).status().message(); };
  EXPECT_THAT(message("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
              HasSubstr("f.safetensors: is a Git LFS pointer, not the file itself; run `git lfs pull`"));
  EXPECT_THAT(message(""), HasSubstr("f.safetensors: is empty; download it again"));
  EXPECT_THAT(message("<!DOCTYPE html><html>"), HasSubstr("is a web page"));
  EXPECT_THAT(message(std::string("PK\3\4\0\0\x08\x08\0\0\0\0", 12)), HasSubstr("is a zip archive or a PyTorch file"));
}

TEST(Safetensors, RefusesAbsurdHeaderLengths) {
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 7}) {
    std::string file = File("{}", 0);
    for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xFF);
    EXPECT_THAT(Parse(file).status().message(), HasSubstr(StrFormat("header length is {}", length)));
  }
  std::string file = File("{}", 0);
  file[0] = 100;
  EXPECT_THAT(Parse(file).status().message(), HasSubstr("only 2 bytes follow"));
}

TEST(Safetensors, AnUnknownTypeIsListedButNotRead) {
  const Folder folder;
  folder.Write("model.safetensors", File(R"({"t":{"dtype":"Q3","shape":[5],"data_offsets":[0,3]}})", 3));
  const auto model = SafetensorsModel::Open(folder.path()).value();
  EXPECT_EQ(model->Find("t").status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(model->Find("t").status().message(), HasSubstr("stored as \"Q3\""));
  EXPECT_EQ(model->Find("u").status().code(), StatusCode::kNotFound);
}

constexpr std::string_view kShardA = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
constexpr std::string_view kShardB =
    R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"c":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})";

TEST(Safetensors, ReadsShards) {
  const Folder folder;
  folder.Write("s1.safetensors", File(kShardA, 4));
  folder.Write("s2.safetensors", File(kShardB, 5));
  folder.Write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":9},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors"}})");
  const auto model = SafetensorsModel::Open(folder.path()).value();
  EXPECT_EQ(model->files().size(), 2u);
  EXPECT_EQ(model->tensors().size(), 2u);
  EXPECT_TRUE(model->Find("a").ok());
  EXPECT_EQ(model->Find("b").value().shape, (std::vector<int64_t>{2}));
}

TEST(Safetensors, ShardsMustBeAsTheIndexSays) {
  struct Case {
    std::string index, message;
    StatusCode code = StatusCode::kCorruption;
  };
  const auto map = [](std::string_view entries) { return StrFormat(R"({{"weight_map":{{{}}}}})", entries); };
  const std::string good = R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors")";
  const Case cases[] = {
      {"", "index.json"},
      {"[]", "'weight_map' is missing"},
      {"{}", "'weight_map' is missing"},
      {map(R"("a":1)"), "member \"a\" is an integer"},
      {map(good + R"(,"d":"s1.safetensors")"), "places tensor \"d\" in s1.safetensors, which does not hold it"},
      {map(R"("a":"s1.safetensors","b":"s2.safetensors")"),
       "tensor \"c\" is here, but model.safetensors.index.json places it in no shard"},
      {map(R"("a":"s2.safetensors","b":"s1.safetensors","c":"s2.safetensors")"), "places it in"},
      {map(good + R"(,"b":"s1.safetensors")"), "\"b\" occurs twice"},
      {map(good + R"(,"d":"s3.safetensors")"), "s3.safetensors", StatusCode::kNotFound},
      {map(R"("a":"s1.safetensors","a2":"s1b.safetensors","b":"s2.safetensors","c":"s2.safetensors")"), "is also in"},
      {map(R"("a":"../s1.safetensors")"), "names the shard"},
      {map(R"("a":"/etc/passwd")"), "names the shard \"/etc/passwd\""},
      {map(R"("a":"sub/s1.safetensors")"), "names the shard"},
      {map(R"("a":"..")"), "names the shard"},
      {map(R"("a":"")"), "names the shard"},
      {map(R"("a":".hidden.safetensors")"), "names the shard"},
      {map(R"("a":"s1.bin")"), "names the shard"},
      {map(R"("a":"s1\\x.safetensors")"), "names the shard"},
      {map(R"("a":"s1\u0000.safetensors")"), "names the shard"},
  };
  for (const Case& c : cases) {
    const Folder folder;
    folder.Write("s1.safetensors", File(kShardA, 4));
    folder.Write("s1b.safetensors", File(kShardA, 4));
    folder.Write("s2.safetensors", File(kShardB, 5));
    folder.Write("model.safetensors.index.json", c.index);
    const Status status = SafetensorsModel::Open(folder.path()).status();
    EXPECT_EQ(status.code(), c.code) << c.index << ": " << status.message();
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(Safetensors, AFolderWithoutWeightsIsNotFound) {
  const Folder folder;
  EXPECT_EQ(SafetensorsModel::Open(folder.path()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(SafetensorsModel::Open(folder.path() + "/absent").status().code(), StatusCode::kNotFound);
  folder.Write("model.safetensors", "");
  EXPECT_EQ(SafetensorsModel::Open(folder.path()).status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace spanwise
