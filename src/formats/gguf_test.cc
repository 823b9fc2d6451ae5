#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "base/str.h"
#include "formats/gguf_config.h"
#include "formats/gguf_vocabulary.h"
#include "formats/weight_source.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

template <typename T>
std::string Raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string Text(std::string_view text) { return Raw(uint64_t{text.size()}) + std::string(text); }

// A file piece by piece, so that each piece can be wrong.
struct File {
  uint32_t version = 3;
  std::string pairs, tensors, data;
  uint64_t n_pairs = 0, n_tensors = 0;
  uint64_t alignment = 32;

  template <typename T>
  File& Add(std::string_view key, GgufType type, T value) {
    return AddRaw(key, type, Raw(value));
  }
  File& AddRaw(std::string_view key, GgufType type, std::string_view bytes) {
    pairs += Text(key) + Raw(static_cast<uint32_t>(type)) + std::string(bytes);
    ++n_pairs;
    return *this;
  }
  File& Uint(std::string_view key, uint32_t value) { return Add(key, GgufType::kUint32, value); }
  File& Float(std::string_view key, float value) { return Add(key, GgufType::kFloat32, value); }
  File& String(std::string_view key, std::string_view value) { return AddRaw(key, GgufType::kString, Text(value)); }
  template <typename T>
  File& Array(std::string_view key, GgufType type, const std::vector<T>& values) {
    std::string bytes = Raw(static_cast<uint32_t>(type)) + Raw(uint64_t{values.size()});
    for (const T& value : values) {
      if constexpr (std::is_convertible_v<T, std::string_view>) {
        bytes += Text(value);
      } else {
        bytes += Raw(value);
      }
    }
    return AddRaw(key, GgufType::kArray, bytes);
  }

  // `dims` in the order of the file, fastest first.
  File& TensorAt(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    tensors += Text(name) + Raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) tensors += Raw(dim);
    tensors += Raw(type) + Raw(offset);
    ++n_tensors;
    return *this;
  }
  File& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, std::string_view bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    TensorAt(name, dims, type, data.size());
    data += bytes;
    return *this;
  }

  std::string Bytes() const {
    std::string file = "GGUF" + Raw(version) + Raw(n_tensors) + Raw(n_pairs) + pairs + tensors;
    if (!data.empty()) file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }
};

Result<std::shared_ptr<const GgufFile>> Parse(const std::string& bytes) {
  return GgufFile::Parse(std::as_bytes(std::span(bytes)), "f.gguf");
}
Status ParseStatus(const File& file) {
  const std::string bytes = file.Bytes();
  return Parse(bytes).status();
}

class Folder {
 public:
  Folder() : path_(fs::path(testing::TempDir()) / ("gguf_test_" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string Path(const std::string& name) const { return (path_ / name).string(); }
  std::string Write(const std::string& name, std::string_view bytes) const {
    EXPECT_TRUE(WriteFileAtomic(Path(name), bytes).ok());
    return Path(name);
  }

 private:
  fs::path path_;
};

File Good() {
  File f;
  f.Uint("a.uint", 7)
      .Add("a.int", GgufType::kInt64, int64_t{-5})
      .Float("a.float", 0.5f)
      .Add("a.bool", GgufType::kBool, uint8_t{1})
      .String("a.text", "h\xC3\xA9")
      .Array("a.ints", GgufType::kInt16, std::vector<int16_t>{1, -2, 3})
      .Array("a.numbers", GgufType::kFloat64, std::vector<double>{0.25, 4})
      .Array("a.strings", GgufType::kString, std::vector<std::string>{"x", "", "\xFF"})
      .Array("a.none", GgufType::kUint8, std::vector<uint8_t>{});
  f.Tensor("t.f32", {3, 2}, 0, std::string(24, '\1'))
      .Tensor("t.q8", {64, 2}, 8, std::string(136, '\2'))
      .Tensor("t.iq2", {256}, 17, std::string(74, '\3'));
  return f;
}

TEST(Gguf, ReadsEveryKindOfValue) {
  for (const uint32_t version : {2u, 3u}) {
    File f = Good();
    f.version = version;
    const std::string bytes = f.Bytes();
    const auto file = Parse(bytes).value();
    EXPECT_EQ(file->GetInt("a.uint", 0, 10).value(), 7);
    EXPECT_EQ(file->GetInt("a.int", -9, 0).value(), -5);
    EXPECT_EQ(file->GetNumber("a.float", 0, 1).value(), 0.5);
    EXPECT_EQ(file->GetNumber("a.uint", 0, 10).value(), 7.0);
    EXPECT_EQ(file->GetBool("a.bool").value(), true);
    EXPECT_EQ(file->GetString("a.text").value(), "h\xC3\xA9");
    EXPECT_EQ(file->GetInts("a.ints", -9, 9).value(), (std::vector<int64_t>{1, -2, 3}));
    EXPECT_EQ(file->GetNumbers("a.numbers", 0, 9).value(), (std::vector<double>{0.25, 4}));
    EXPECT_EQ(file->GetStrings("a.strings").value(), (std::vector<std::string_view>{"x", "", "\xFF"}));
    EXPECT_EQ(file->GetInts("a.none", 0, 1).value(), std::vector<int64_t>());
    EXPECT_EQ(file->GetInt("absent", 0, 1).value(), std::nullopt);
    EXPECT_EQ(file->tensors().at("t.f32").shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(file->tensors().at("t.q8").type, WeightType::kQ8_0);
    EXPECT_EQ(static_cast<int>(*file->tensors().at("t.q8").data), 2);
    EXPECT_EQ(file->tensors().at("t.iq2").type, std::nullopt);
    EXPECT_EQ(file->tensors().at("t.iq2").stored_type, "IQ2_XS");
  }
}

TEST(Gguf, NamesAWrongKindOrRange) {
  const std::string bytes = Good().Bytes();
  const auto file = Parse(bytes).value();
  const auto message = [](const auto& result) {
    EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
    return result.status().message();
  };
  EXPECT_EQ(message(file->GetInt("a.uint", 0, 6)), "'a.uint' is 7, expected an integer from 0 to 6");
  EXPECT_THAT(message(file->GetInt("a.text", 0, 6)), HasSubstr("'a.text' is a string, expected an integer"));
  EXPECT_THAT(message(file->GetInt("a.float", 0, 6)), HasSubstr("'a.float' is a float32"));
  EXPECT_THAT(message(file->GetInt("a.ints", 0, 6)), HasSubstr("'a.ints' is an array of 3 int16"));
  EXPECT_THAT(message(file->GetInts("a.ints", 0, 6)), HasSubstr("holds at index 1 -2"));
  EXPECT_THAT(message(file->GetInts("a.uint", 0, 6)), HasSubstr("expected an array of integers"));
  EXPECT_THAT(message(file->GetBool("a.uint")), HasSubstr("expected a boolean"));
  EXPECT_THAT(message(file->GetString("a.strings")), HasSubstr("expected a string"));
  EXPECT_THAT(message(file->GetStrings("a.ints")), HasSubstr("expected an array of strings"));
  const std::string nan = File().Float("n", std::numeric_limits<float>::quiet_NaN()).Bytes();
  EXPECT_FALSE(Parse(nan).value()->GetNumber("n", -1e30, 1e30).ok());
  const std::string bad = File().String("s", "\xFF").Bytes();
  EXPECT_EQ(Parse(bad).value()->GetString("s").status().code(), StatusCode::kCorruption);
  const std::string huge = File().Add("u", GgufType::kUint64, UINT64_MAX).Bytes();
  EXPECT_FALSE(Parse(huge).value()->GetInt("u", -1, 1 << 30).ok());
}

TEST(Gguf, EveryTruncationIsCorruption) {
  const std::string whole = Good().Bytes();
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string part = whole.substr(0, n);
    EXPECT_EQ(Parse(part).status().code(), StatusCode::kCorruption) << n;
  }
}

// Counts, lengths, dimensions and offsets that overflow or point outside: the classes of errors found in other readers
// (for instance CVE-2024-21802, -21825, -21836, -23496, -23605 and TALOS-2024-1912 to 1916 of ggml's gguf_init).
TEST(Gguf, RefusesWhatLies) {
  struct Case {
    File file;
    std::string message;
    StatusCode code = StatusCode::kCorruption;
  };
  const auto version = [](uint32_t v) {
    File f;
    f.version = v;
    return f;
  };
  const auto counts = [](uint64_t n_tensors, uint64_t n_pairs) {
    File f = Good();
    f.n_tensors = n_tensors;
    f.n_pairs = n_pairs;
    return f;
  };
  const auto raw = [](std::string_view bytes) {
    File f;
    f.pairs = std::string(bytes) + std::string(64, '\0');
    f.n_pairs = 1;
    return f;
  };
  const auto tensor = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    File f;
    f.TensorAt("t", dims, type, offset).data = std::string(1024, '\0');
    return f;
  };
  const auto array = [](GgufType type, uint64_t count, std::string_view bytes) {
    File f;
    return f.AddRaw("k", GgufType::kArray, Raw(static_cast<uint32_t>(type)) + Raw(count) + std::string(bytes));
  };
  const auto alignment = [](uint32_t value) {
    File f;
    return f.Uint("general.alignment", value);
  };
  const std::string uint32 = Raw(static_cast<uint32_t>(GgufType::kUint32));
  const Case cases[] = {
      {version(1), "is GGUF version 1", StatusCode::kUnimplemented},
      {version(4), "is GGUF version 4", StatusCode::kUnimplemented},
      {version(0), "is GGUF version 0", StatusCode::kUnimplemented},
      {version(0x03000000), "big-endian", StatusCode::kUnimplemented},
      // Counts.
      {counts(UINT64_MAX, 9), "states 18446744073709551615 tensors, but"},
      {counts(uint64_t{1} << 61, 9), "tensors, but"},
      {counts(3, UINT64_MAX), "states 18446744073709551615 metadata pairs, but"},
      {counts(3, uint64_t{1} << 58), "metadata pairs, but"},
      {counts(4, 9), ""},
      {counts(3, 10), ""},
      {array(GgufType::kUint64, uint64_t{1} << 61, ""), "states 2305843009213693952 values of uint64"},
      {array(GgufType::kUint8, 9, "12345678"), "states 9 values of uint8, but only 8 bytes follow"},
      {array(GgufType::kString, UINT64_MAX, ""), "states 18446744073709551615 strings"},
      {array(GgufType::kString, 2, Text("x")), "key \"k\""},
      {array(GgufType::kString, 1, Raw(UINT64_MAX)), "string 0 has the length 18446744073709551615"},
      {array(GgufType::kString, 1, Raw(UINT64_MAX - 7)), "string 0 has the length"},
      {array(GgufType::kArray, 1, ""), "is an array of arrays", StatusCode::kUnimplemented},
      {array(static_cast<GgufType>(13), 1, ""), "has the type 13"},
      // Keys and their values.
      {raw(Raw(UINT64_MAX)), "metadata key 0 has the length 18446744073709551615, but only 64 bytes follow"},
      {raw(Raw(uint64_t{65'536}) + std::string(65'536, 'k')), "metadata key 0 has the length 65536, expected at most"},
      {raw(Text("")), "metadata key 0 is empty"},
      {raw(Text("k\xFF") + uint32), "not UTF-8 at its byte 1"},
      {raw(Text("k") + Raw(uint32_t{13})), "key \"k\" has the type 13, expected 0 to 12"},
      {raw(Text("k") + Raw(UINT32_MAX)), "has the type 4294967295"},
      {File().Uint("k", 1).Uint("k", 2), "key \"k\" occurs twice"},
      {File().Add("k", GgufType::kBool, uint8_t{2}), "holds the boolean 2"},
      {alignment(0), "'general.alignment' is 0"},
      {alignment(3), "'general.alignment' is 3"},
      {alignment(4), "'general.alignment' is 4"},
      {alignment(0x80000000), "'general.alignment' is 2147483648"},
      {File().Add("general.alignment", GgufType::kUint64, uint64_t{32}), "is a uint64, expected a uint32"},
      // Tensors.
      {tensor({}, 0, 0), "tensor \"t\" has 0 dimensions, expected 1 to 4"},
      {tensor({1, 1, 1, 1, 1}, 0, 0), "has 5 dimensions"},
      {tensor({0}, 0, 0), "dimension 0 is 0"},
      {tensor({UINT64_MAX}, 0, 0), "dimension 0 is 18446744073709551615"},
      {tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0), "dimension 1 is 4294967296"},
      {tensor({uint64_t{1} << 31, uint64_t{1} << 31, 4}, 0, 0), "dimension 1 is 2147483648"},
      {tensor({uint64_t{1} << 60}, 0, 0), "has 4611686018427387904 bytes at offset 0, but the data end after 1024"},
      {tensor({257}, 0, 0), "has 1028 bytes at offset 0, but the data end after 1024"},
      {tensor({256}, 0, 32), "has 1024 bytes at offset 32"},
      {tensor({8}, 0, 1024), "at offset 1024"},
      {tensor({8}, 0, UINT64_MAX - 31), "at offset 18446744073709551584"},
      {tensor({8}, 0, 8), "has the offset 8, expected a multiple of the alignment 32"},
      {tensor({33}, 8, 0), "has rows of 33 elements, expected a multiple of 32, the block of Q8_0"},
      {tensor({128, 2}, 12, 0), "has rows of 128 elements, expected a multiple of 256"},
      {tensor({32}, 4, 0), "has the type 4, which is not known", StatusCode::kUnimplemented},
      {tensor({32}, UINT32_MAX, 0), "which is not known", StatusCode::kUnimplemented},
      {tensor({16}, 0, 0).TensorAt("t", {16}, 0, 64), "tensor \"t\" occurs twice"},
      {tensor({16}, 0, 0).TensorAt("u", {16}, 0, 32),
       "\"u\" begins at offset 32, inside tensor \"t\", which ends at 64"},
      {tensor({16}, 0, 0).TensorAt("u", {16}, 0, 0), "inside tensor \"t\""},
      {File().TensorAt(std::string(65, 'n'), {1}, 0, 0), "the name of tensor 0 has the length 65, expected at most 64"},
      {File().TensorAt("\xC0\x80", {1}, 0, 0), "not UTF-8"},
      {File().TensorAt("t", {1}, 0, 0), "the data end after 0"},
      {File().Uint("split.no", 2).Uint("split.count", 2), "'split.no' is 2, expected below 'split.count', which is 2"},
  };
  for (const Case& c : cases) {
    const Status status = ParseStatus(c.file);
    EXPECT_EQ(status.code(), c.code) << c.message << ": " << status.message();
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), HasSubstr("f.gguf"));
    EXPECT_THAT(status.message(), Not(HasSubstr("\n")));
  }
  EXPECT_THAT(Parse("GGML").status().message(), HasSubstr("expected the magic \"GGUF\""));
}

TEST(Gguf, AnotherAlignmentMovesTheData) {
  File f;
  f.alignment = 4096;
  f.Uint("general.alignment", 4096).Tensor("a", {2}, 0, "12345678").Tensor("b", {2}, 0, "abcdefgh");
  const std::string bytes = f.Bytes();
  const auto file = Parse(bytes).value();
  EXPECT_EQ(std::memcmp(file->tensors().at("b").data, "abcdefgh", 8), 0);
}

// --- parts ---

File Part(uint16_t number, uint16_t count, int32_t n_tensors) {
  File f;
  f.Add("split.no", GgufType::kUint16, number)
      .Add("split.count", GgufType::kUint16, count)
      .Add("split.tensors.count", GgufType::kInt32, n_tensors);
  if (number == 0) f.Uint("a.b", 5);
  return f.Tensor("t" + std::to_string(number), {1}, 0, "abcd");
}

TEST(Gguf, AnyPartOpensAll) {
  const Folder folder;
  for (uint16_t i = 0; i < 3; ++i) folder.Write(StrFormat("m-{:05}-of-00003.gguf", i + 1), Part(i, 3, 3).Bytes());
  for (const char* name : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    const auto whole = GgufFile::Open(folder.Path(name));
    ASSERT_TRUE(whole.ok()) << whole.status().message();
    EXPECT_EQ((*whole)->tensors().size(), 3u);
    EXPECT_EQ((*whole)->GetInt("a.b", 0, 9).value(), 5);
    EXPECT_THAT((*whole)->name(), HasSubstr("m-00001-of-00003.gguf"));
  }
}

TEST(Gguf, PartsMustBeThereAndAgree) {
  {
    const Folder folder;
    const std::string first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, 2).Bytes());
    const Status missing = GgufFile::Open(first).status();
    EXPECT_EQ(missing.code(), StatusCode::kNotFound);
    EXPECT_THAT(missing.message(), HasSubstr("part 2 of 2"));
    EXPECT_THAT(missing.message(), HasSubstr("m-00002-of-00002.gguf"));
    folder.Write("m-00002-of-00002.gguf", Part(0, 2, 2).Bytes());
    EXPECT_THAT(GgufFile::Open(first).status().message(), HasSubstr("says it is part 1 of 2, expected part 2 of 2"));
    folder.Write("m-00002-of-00002.gguf", Part(1, 3, 2).Bytes());
    EXPECT_THAT(GgufFile::Open(first).status().message(), HasSubstr("says it is part 2 of 3"));
    folder.Write("m-00002-of-00002.gguf", Part(1, 2, 2).Tensor("t0", {1}, 0, "abcd").Bytes());
    EXPECT_THAT(GgufFile::Open(first).status().message(), HasSubstr("tensor \"t0\" is also in an earlier part"));
    folder.Write("m-00002-of-00002.gguf", Part(1, 2, 2).Tensor("t2", {1}, 0, "abcd").Bytes());
    EXPECT_THAT(GgufFile::Open(first).status().message(),
                HasSubstr("'split.tensors.count' is 2, but its 2 parts hold 3"));
  }
  const Folder folder;
  const Status name = GgufFile::Open(folder.Write("model.gguf", Part(1, 2, 2).Bytes())).status();
  EXPECT_EQ(name.code(), StatusCode::kCorruption);
  EXPECT_THAT(name.message(), HasSubstr("expected a name that ends in -00002-of-00002.gguf"));
}

// --- vocabulary ---

File Vocabulary() {
  File f;
  f.String("tokenizer.ggml.model", "gpt2")
      .String("tokenizer.ggml.pre", "llama-bpe")
      .Array("tokenizer.ggml.tokens", GgufType::kString, std::vector<std::string>{"a", "b", "<|im_end|>", "\xFF", "ab"})
      .Array("tokenizer.ggml.token_type", GgufType::kInt32, std::vector<int32_t>{1, 1, 3, 6, 1})
      .Array("tokenizer.ggml.merges", GgufType::kString, std::vector<std::string>{"a b", "  x"})
      .Uint("tokenizer.ggml.eos_token_id", 1)
      .Add("tokenizer.ggml.add_bos_token", GgufType::kBool, uint8_t{0})
      .Array("tokenizer.ggml.precompiled_charsmap", GgufType::kUint8, std::vector<uint8_t>{0, 255})
      .String("tokenizer.chat_template", "{{ x }}")
      .String("tokenizer.chat_template.tool_use", "{{ y }}");
  return f;
}

TEST(GgufVocabulary, IsRead) {
  const std::string bytes = Vocabulary().Bytes();
  const GgufVocabulary v = ReadGgufVocabulary(*Parse(bytes).value()).value();
  EXPECT_EQ(v.model, "gpt2");
  EXPECT_EQ(v.pre, "llama-bpe");
  EXPECT_EQ(v.tokens.size(), 5u);
  EXPECT_EQ(v.tokens[3], "\xFF");
  EXPECT_EQ(v.types[2], GgufVocabulary::TokenType::kControl);
  EXPECT_EQ(v.merges, (std::vector<std::string>{"a b", "  x"}));
  EXPECT_EQ(v.eos_id, 1);
  EXPECT_EQ(v.bos_id, std::nullopt);
  EXPECT_EQ(v.add_bos, false);
  EXPECT_EQ(v.add_eos, std::nullopt);
  EXPECT_EQ(v.precompiled_charsmap, std::string("\0\xFF", 2));
  EXPECT_EQ(v.chat_template, "{{ x }}");
  EXPECT_EQ(v.chat_templates.at("tool_use"), "{{ y }}");
  EXPECT_TRUE(v.warnings.empty());
}

TEST(GgufVocabulary, OnlyBeginAndEndMustBeTokens) {
  const auto read = [](const File& file) {
    const std::string bytes = file.Bytes();
    return ReadGgufVocabulary(*Parse(bytes).value());
  };
  const GgufVocabulary v = read(Vocabulary()
                                    .Uint("tokenizer.ggml.padding_token_id", 5)
                                    .Uint("tokenizer.ggml.unknown_token_id", 0)
                                    .Uint("tokenizer.ggml.eot_token_id", 99)
                                    .Add("tokenizer.ggml.mask_token_id", GgufType::kInt32, int32_t{-1})
                                    .Uint("tokenizer.ggml.bos_token_id", UINT32_MAX))
                               .value();
  EXPECT_EQ(v.pad_id, std::nullopt);
  EXPECT_EQ(v.mask_id, std::nullopt);
  EXPECT_EQ(v.eot_id, std::nullopt);
  EXPECT_EQ(v.bos_id, std::nullopt);
  EXPECT_EQ(v.unk_id, 0);
  EXPECT_EQ(v.warnings, (std::vector<std::string>{
                            "'tokenizer.ggml.eot_token_id' is 99, 'tokenizer.ggml.padding_token_id' is 5, outside the "
                            "vocabulary of 5 tokens, and ignored"}));
}

TEST(GgufVocabulary, NamesWhatIsWrong) {
  struct Case {
    File file;
    std::string message;
  };
  const Case cases[] = {
      {File(), "'tokenizer.ggml.model' is missing"},
      {File().String("tokenizer.ggml.model", "llama"), "'tokenizer.ggml.tokens' is missing or empty"},
      {File().Uint("tokenizer.ggml.model", 1), "'tokenizer.ggml.model' is a uint32, expected a string"},
      {Vocabulary().Uint("tokenizer.ggml.bos_token_id", 5),
       "'tokenizer.ggml.bos_token_id' is 5, outside the vocabulary of 5"},
      {Vocabulary().Add("tokenizer.ggml.bos_token_id", GgufType::kInt32, int32_t{-2}),
       "'tokenizer.ggml.bos_token_id' is -2, outside the vocabulary"},
      {Vocabulary().Array("tokenizer.ggml.scores", GgufType::kFloat32, std::vector<float>{1, 2}),
       "'tokenizer.ggml.scores' has 2 members, expected one for each of 5 tokens"},
      {Vocabulary().Array("tokenizer.ggml.scores", GgufType::kFloat32,
                          std::vector<float>{1, 2, 3, 4, std::numeric_limits<float>::quiet_NaN()}),
       "holds at index 4 nan"},
      {File()
           .String("tokenizer.ggml.model", "llama")
           .Array("tokenizer.ggml.tokens", GgufType::kString, (std::vector<std::string>{"a"}))
           .Array("tokenizer.ggml.token_type", GgufType::kInt32, std::vector<int32_t>{7}),
       "'tokenizer.ggml.token_type' holds at index 0 7"},
      {File()
           .String("tokenizer.ggml.model", "gpt2")
           .Array("tokenizer.ggml.tokens", GgufType::kString, (std::vector<std::string>{"a"}))
           .Array("tokenizer.ggml.merges", GgufType::kString, (std::vector<std::string>{"ab"})),
       "'tokenizer.ggml.merges' holds \"ab\" at index 0"},
  };
  for (const Case& c : cases) {
    const std::string bytes = c.file.Bytes();
    const Status status = ReadGgufVocabulary(*Parse(bytes).value()).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), Not(HasSubstr("f.gguf")));  // which is the caller's to say
  }
}

// --- configuration ---

File Llama(std::string_view architecture = "llama") {
  const auto key = [&](std::string_view name) { return StrFormat("{}.{}", architecture, name); };
  File f;
  f.String("general.architecture", architecture)
      .Uint(key("block_count"), 2)
      .Uint(key("context_length"), 128)
      .Uint(key("embedding_length"), 8)
      .Uint(key("feed_forward_length"), 12)
      .Uint(key("attention.head_count"), 2)
      .Uint(key("attention.head_count_kv"), 1)
      .Float(key("attention.layer_norm_rms_epsilon"), 1e-5f);
  return f.Tensor("token_embd.weight", {8, 16}, 0, std::string(512, '\0'));
}

Result<ModelConfig> Config(const File& file) {
  const std::string bytes = file.Bytes();
  return ReadGgufConfig(*Parse(bytes).value());
}

TEST(GgufConfig, ReadsALlama) {
  const ModelConfig c = Config(Llama()).value();
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.n_layers, 2);
  EXPECT_EQ(c.head_dim, 4);
  EXPECT_EQ(c.vocab_size, 16);
  EXPECT_EQ(c.max_positions, 128);
  EXPECT_TRUE(c.tie_embeddings);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_FLOAT_EQ(c.norm_eps, 1e-5f);
  EXPECT_EQ(c.ropes.at(0).theta, 10000);
  EXPECT_TRUE(c.eos_ids.empty());
}

TEST(GgufConfig, TensorsSayWhatElseThereIs) {
  File f = Llama();
  f.Float("llama.rope.freq_base", 5e5f)
      .Tensor("output.weight", {8, 16}, 0, std::string(512, '\0'))
      .Tensor("blk.0.attn_q.bias", {8}, 0, std::string(32, '\0'))
      .Tensor("rope_freqs.weight", {2}, 0, Raw(1.0f) + Raw(8.0f));
  const ModelConfig c = Config(f).value();
  EXPECT_FALSE(c.tie_embeddings);
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_FALSE(c.output_bias);
  EXPECT_EQ(c.ropes.at(0).theta, 5e5);
  EXPECT_EQ(c.ropes.at(0).scaling, RopeConfig::Scaling::kDivided);
  EXPECT_EQ(c.ropes.at(0).divisors, (std::vector<double>{1, 8}));
}

TEST(GgufConfig, ReadsScalingWindowsAndEnds) {
  File f = Llama();
  f.String("llama.rope.scaling.type", "yarn")
      .Float("llama.rope.scaling.factor", 4)
      .Uint("llama.rope.scaling.original_context_length", 32)
      .Uint("llama.attention.sliding_window", 16)
      .String("tokenizer.ggml.model", "gpt2")
      .Array("tokenizer.ggml.tokens", GgufType::kString, std::vector<std::string>{"a", "b"})
      .Uint("tokenizer.ggml.bos_token_id", 0)
      .Uint("tokenizer.ggml.eos_token_id", 1);
  const ModelConfig c = Config(f).value();
  EXPECT_EQ(c.ropes.at(0).scaling, RopeConfig::Scaling::kYarn);
  EXPECT_EQ(c.ropes.at(0).factor, 4);
  EXPECT_EQ(c.ropes.at(0).original_max_positions, 32);
  EXPECT_EQ(c.windows, (std::vector<int>{16, 16}));
  EXPECT_EQ(c.eos_ids, (std::vector<int>{1}));
  EXPECT_EQ(c.bos_id, 0);
}

TEST(GgufConfig, ReadsEveryArchitecture) {
  for (const char* name :
       {"llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "olmo2", "smollm3", "granite"}) {
    File f = Llama(name);
    if (std::string_view(name) == "qwen3moe") {
      f.Uint("qwen3moe.expert_count", 4)
          .Uint("qwen3moe.expert_used_count", 2)
          .Uint("qwen3moe.expert_feed_forward_length", 6);
    }
    const auto config = Config(f);
    ASSERT_TRUE(config.ok()) << name << ": " << config.status().message();
    EXPECT_FALSE(config->norm_adds_one) << name;
  }
  const ModelConfig moe = Config(Llama().Uint("llama.expert_count", 4).Uint("llama.expert_used_count", 2)).value();
  EXPECT_EQ(moe.model_type, "mixtral");
  EXPECT_EQ(moe.experts.n_experts, 4);
}

TEST(GgufConfig, NamesWhatIsWrong) {
  struct Case {
    File file;
    std::string message;
    StatusCode code = StatusCode::kInvalidArgument;
  };
  const Case cases[] = {
      {File(), "'general.architecture' is missing"},
      {File().String("general.architecture", "rwkv6"), "'general.architecture' is \"rwkv6\", expected one of llama",
       StatusCode::kUnimplemented},
      {File().String("general.architecture", "llama"), "'llama.block_count' is missing"},
      {File().String("general.architecture", "llama").Uint("llama.block_count", 0), "'llama.block_count' is 0"},
      {File().String("general.architecture", "llama").Uint("llama.block_count", UINT32_MAX), "'llama.block_count' is"},
      {File()
           .String("general.architecture", "llama")
           .Array("llama.block_count", GgufType::kUint32, std::vector<uint32_t>{1, 2}),
       "'llama.block_count' differs by layer", StatusCode::kUnimplemented},
      {Llama().Uint("llama.attention.value_length", 2), "'llama.attention.value_length' is 2, expected 4",
       StatusCode::kUnimplemented},
      {Llama().String("llama.rope.scaling.type", "su"), "'llama.rope.scaling.type' is \"su\"",
       StatusCode::kUnimplemented},
      {Llama().Tensor("rope_freqs.weight", {3}, 0, std::string(12, '\0')), "expected F32 of shape [2]",
       StatusCode::kCorruption},
      {Llama().Tensor("rope_freqs.weight", {2}, 0, std::string(8, '\0')), "holds 0, expected", StatusCode::kCorruption},
      {Llama()
           .String("tokenizer.ggml.model", "gpt2")
           .Array("tokenizer.ggml.tokens", GgufType::kString, std::vector<std::string>(17, "a")),
       "holds 17 tokens, but \"token_embd.weight\" has 16 rows", StatusCode::kCorruption},
      {Llama("qwen2").Uint("qwen2.rope.dimension_count", 2), "partial_rotary_factor", StatusCode::kUnimplemented},
  };
  for (const Case& c : cases) {
    const Status status = Config(c.file).status();
    EXPECT_EQ(status.code(), c.code) << c.message << ": " << status.message();
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), Not(HasSubstr("f.gguf")));  // which is the caller's to say
  }
}

TEST(GgufConfig, ScalesPositionsAsOldFilesSay) {
  using Scaling = RopeConfig::Scaling;
  const auto rope = [](const File& file) { return Config(file).value().ropes.at(0); };
  EXPECT_EQ(rope(Llama().Float("llama.rope.scale_linear", 4)).scaling, Scaling::kLinear);
  EXPECT_EQ(rope(Llama().Float("llama.rope.scale_linear", 4)).factor, 4);
  EXPECT_EQ(rope(Llama().Float("llama.rope.scaling.factor", 4)).factor, 4);  // the kind where it says none: linear
  for (const float none : {0.0f, 1.0f})
    EXPECT_EQ(rope(Llama().Float("llama.rope.scale_linear", none)).scaling, Scaling::kNone);
  EXPECT_EQ(rope(Llama().Float("llama.rope.scale_linear", 4).String("llama.rope.scaling.type", "none")).scaling,
            Scaling::kNone);
  EXPECT_EQ(rope(Llama().Float("llama.rope.scale_linear", 4).Float("llama.rope.scaling.factor", 4)).factor, 4);
  EXPECT_THAT(
      Config(Llama().Float("llama.rope.scale_linear", 4).Float("llama.rope.scaling.factor", 2)).status().message(),
      HasSubstr("'llama.rope.scale_linear' is 4, but 'llama.rope.scaling.factor' is 2"));
  EXPECT_EQ(Config(Llama().Float("llama.rope.scale_linear", -4)).status().code(), StatusCode::kInvalidArgument);
}

TEST(GgufConfig, RecommendsHowToSample) {
  const ModelConfig c = Config(Llama()
                                   .Float("general.sampling.temp", 0.5f)
                                   .Add("general.sampling.top_k", GgufType::kInt32, int32_t{20})
                                   .Float("general.sampling.penalty_repeat", 1.25f)
                                   .Float("general.sampling.top_p", 7)
                                   .Add("general.sampling.mirostat", GgufType::kInt32, int32_t{2}))
                            .value();
  EXPECT_EQ(c.sampling.temperature, 0.5f);
  EXPECT_EQ(c.sampling.top_k, 20);
  EXPECT_EQ(c.sampling.repetition_penalty, 1.25f);
  EXPECT_EQ(c.sampling.top_p, std::nullopt);
  EXPECT_EQ(c.warnings, (std::vector<std::string>{
                            "f.gguf: 'general.sampling.top_p' is 7, expected a number from 0 to 1; it is ignored",
                            "f.gguf: 'general.sampling.mirostat' is 2, which is not done and is ignored"}));
  EXPECT_TRUE(Config(Llama()).value().warnings.empty());
}

// --- source of weights ---

TEST(GgufSource, MessagesNameTheFileOnce) {
  const Folder folder;
  const std::string path = folder.Write("m.gguf", Llama().String("llama.rope.scaling.type", "su").Bytes());
  EXPECT_EQ(WeightSource::Open(path).status().message(),
            path + ": 'llama.rope.scaling.type' is \"su\", expected none, linear or yarn");
  const std::string wrong =
      folder.Write("w.gguf", Llama().Uint("llama.vocab_size", 3).Float("llama.rope.scaling.factor", 0.5f).Bytes());
  EXPECT_THAT(WeightSource::Open(wrong).status().message(),
              testing::StartsWith(wrong + ": metadata as config.json: 'rope_scaling': 'factor' is 0.5"));
}

TEST(GgufSource, FindsTensorsByTheirHuggingFaceNames) {
  const Folder folder;
  File f = Llama();
  f.Tensor("blk.0.attn_q.weight", {8, 8}, 0, std::string(256, '\0'))
      .Tensor("blk.0.attn_k.weight", {8, 4}, 1, std::string(64, '\0'))
      .Tensor("blk.0.ffn_down.weight", {256}, 17, std::string(74, '\0'));
  const auto source = WeightSource::Open(folder.Write("m.gguf", f.Bytes())).value();
  const StoredTensor q = source->Find("model.layers.0.self_attn.q_proj.weight").value();
  EXPECT_EQ(q.name, "blk.0.attn_q.weight");
  EXPECT_EQ(q.interleaved_heads, 2);
  std::vector<size_t> rows;
  for (size_t i = 0; i < 8; ++i) rows.push_back(q.StoredRow(i));
  EXPECT_EQ(rows, (std::vector<size_t>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(source->Find("model.layers.0.self_attn.k_proj.weight")->interleaved_heads, 1);
  EXPECT_EQ(source->Find("model.layers.0.self_attn.v_proj.weight").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(source->Find("model.layers.2.self_attn.q_proj.weight").status().code(), StatusCode::kNotFound);
  const Status iq = source->Find("model.layers.0.mlp.down_proj.weight").status();
  EXPECT_EQ(iq.code(), StatusCode::kUnimplemented);
  EXPECT_THAT(iq.message(), HasSubstr("tensor \"blk.0.ffn_down.weight\" is stored as IQ2_XS, expected F32, F16, Q4_0, "
                                      "Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K or BF16"));
}

TEST(GgufSource, CutsExpertsOutOfTheirTensor) {
  const Folder folder;
  File f = Llama();
  std::string experts;
  for (int i = 0; i < 4 * 12 * 8; ++i) experts += Raw(static_cast<float>(i));
  f.Uint("llama.expert_count", 4)
      .Uint("llama.expert_used_count", 2)
      .Tensor("blk.1.ffn_gate_exps.weight", {8, 12, 4}, 0, experts)
      .Tensor("blk.1.ffn_up_exps.weight", {8, 12}, 0, experts.substr(0, 384));
  const auto source = WeightSource::Open(folder.Write("m.gguf", f.Bytes())).value();
  const StoredTensor w1 = source->Find("model.layers.1.block_sparse_moe.experts.2.w1.weight").value();
  EXPECT_EQ(w1.shape, (std::vector<int64_t>{12, 8}));
  float first = 0;
  std::memcpy(&first, w1.data, sizeof first);
  EXPECT_EQ(first, 2 * 96);
  EXPECT_THAT(source->Find("model.layers.1.block_sparse_moe.experts.0.w3.weight").status().message(),
              HasSubstr("expected 4 matrices"));
  for (const char* absent :
       {"model.layers.1.block_sparse_moe.experts.4.w1.weight", "model.layers.2.block_sparse_moe.experts.0.w1.weight",
        "model.layers.1.block_sparse_moe.experts.-1.w1.weight", "model.layers.1.block_sparse_moe.experts.0.w1.bias",
        "model.layers.1.", "model.layers."})
    EXPECT_EQ(source->Find(absent).status().code(), StatusCode::kNotFound) << absent;
}

}  // namespace
}  // namespace spanwise
