// Reader of GGUF files, versions 2 and 3: typed metadata and tensors, in one file or in parts. Bytes stay in the map.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "spanwise/status.h"
#include "tensor/weight_type.h"

namespace spanwise {

// The numbers are those of the file.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};
std::string_view GgufTypeName(GgufType type);  // "uint8", "float32", "string", "array", ...

// A value of the metadata, checked and still in the file: a scalar, or an array of scalars or strings.
struct GgufValue {
  GgufType type = GgufType::kUint8;  // never kArray: the type of the elements
  bool is_array = false;
  uint64_t count = 1;                // of elements
  std::span<const std::byte> bytes;  // the elements as they are stored; each string is a length (uint64) and its bytes
};

// The types of tensors that are read, as ggml names them, for messages: "F32, F16, ... or Q6_K".
std::string GgufTensorTypes();

struct GgufTensor {
  const std::byte* data = nullptr;
  uint64_t n_bytes = 0;
  std::optional<WeightType> type;  // absent: a type that is not read
  std::string_view stored_type;    // as ggml names it: "Q4_K", "IQ2_XS"
  std::vector<int64_t> shape;      // 1 to 4 dimensions, each at least 1, slowest first (the file's order reversed)
};

// One model: the metadata of the first part and the tensors of all. Immutable, thread-safe; values and tensors live as
// long as the object.
//
// Everything is checked before anything is handed out: magic and version, counts and lengths against the bytes that are
// there, keys (UTF-8, unique, at most 65,535 bytes), value types, booleans, the alignment (a power of two from 8 to
// 2^20), tensor names (UTF-8, unique over all parts, at most 64 bytes), dimensions and their product, rows of whole
// blocks, offsets (multiples of the alignment, inside the file, no two tensors overlapping), and parts exactly as
// split.no, split.count and split.tensors.count say. Arrays of arrays are refused. Memory used is a small multiple of
// the bytes before the data. Failures are Corruption, or Unimplemented for what is valid but not read (version 1, big
// endian, a tensor type of unknown size, nested arrays), in one line naming the file and the key or tensor.
class GgufFile {
 public:
  // `path` is a whole file or any part NAME-00001-of-00003.gguf, whose other parts stand beside it.
  static Result<std::shared_ptr<const GgufFile>> Open(const std::string& path);

  // One file's bytes, which must outlive the result; a part stays alone. `name` is used in messages. For tests and
  // fuzzing.
  static Result<std::shared_ptr<const GgufFile>> Parse(std::span<const std::byte> bytes, std::string_view name);

  const std::string& name() const { return name_; }  // the path of the first part
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }

  // Typed reads; nullopt when the key is absent. A value of another kind or out of range is InvalidArgument naming
  // key, value and expectation; a string that is not UTF-8 is Corruption. The file's name is for the caller to add,
  // once. Integers may be stored in any integer type, numbers in any integer or float type; numbers are never NaN.
  Result<std::optional<int64_t>> GetInt(std::string_view key, int64_t low, int64_t high) const;
  Result<std::optional<double>> GetNumber(std::string_view key, double low, double high) const;
  Result<std::optional<bool>> GetBool(std::string_view key) const;
  Result<std::optional<std::string>> GetString(std::string_view key) const;

  // Arrays. Strings are bytes in the file, not checked to be UTF-8.
  Result<std::optional<std::vector<std::string_view>>> GetStrings(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> GetInts(std::string_view key, int64_t low, int64_t high) const;
  Result<std::optional<std::vector<double>>> GetNumbers(std::string_view key, double low, double high) const;

 private:
  friend class GgufParser;
  GgufFile() = default;
  std::string name_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

}  // namespace spanwise
