#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/checked.h"
#include "base/str.h"
#include "formats/model_file.h"

namespace spanwise {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie in the file");

constexpr size_t kMaxKeyBytes = 65'535;
constexpr size_t kMaxTensorNameBytes = 64;
constexpr uint32_t kMaxDims = 4;
constexpr int64_t kMaxParts = 10'000;
// The shortest key-value pair (length, one byte of key, type, one byte of value) and tensor (length, one byte of name,
// rank, one dimension, type, offset): what a count of them needs at least.
constexpr uint64_t kMinPairBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

struct TypeName {
  std::string_view name;
  size_t bytes;  // 0: not of fixed size
};

// By number.
constexpr TypeName kValueTypes[] = {
    {"uint8", 1},   {"int8", 1},   {"uint16", 2}, {"int16", 2},  {"uint32", 4}, {"int32", 4},   {"float32", 4},
    {"boolean", 1}, {"string", 0}, {"array", 0},  {"uint64", 8}, {"int64", 8},  {"float64", 8},
};

// Tensor types of ggml (enum ggml_type): those that are read, and those whose size is known.
struct TensorType {
  uint32_t number;
  std::string_view name;
  WeightBlock block;
  std::optional<WeightType> ours;
};

constexpr TensorType kTensorTypes[] = {
    {0, "F32", {1, 4}, WeightType::kF32},       {1, "F16", {1, 2}, WeightType::kF16},
    {2, "Q4_0", {32, 18}, WeightType::kQ4_0},   {3, "Q4_1", {32, 20}, WeightType::kQ4_1},
    {6, "Q5_0", {32, 22}, WeightType::kQ5_0},   {7, "Q5_1", {32, 24}, WeightType::kQ5_1},
    {8, "Q8_0", {32, 34}, WeightType::kQ8_0},   {9, "Q8_1", {32, 36}, std::nullopt},
    {10, "Q2_K", {256, 84}, std::nullopt},      {11, "Q3_K", {256, 110}, std::nullopt},
    {12, "Q4_K", {256, 144}, WeightType::kQ4K}, {13, "Q5_K", {256, 176}, WeightType::kQ5K},
    {14, "Q6_K", {256, 210}, WeightType::kQ6K}, {15, "Q8_K", {256, 292}, std::nullopt},
    {16, "IQ2_XXS", {256, 66}, std::nullopt},   {17, "IQ2_XS", {256, 74}, std::nullopt},
    {18, "IQ3_XXS", {256, 98}, std::nullopt},   {19, "IQ1_S", {256, 50}, std::nullopt},
    {20, "IQ4_NL", {32, 18}, std::nullopt},     {21, "IQ3_S", {256, 110}, std::nullopt},
    {22, "IQ2_S", {256, 82}, std::nullopt},     {23, "IQ4_XS", {256, 136}, std::nullopt},
    {24, "I8", {1, 1}, std::nullopt},           {25, "I16", {1, 2}, std::nullopt},
    {26, "I32", {1, 4}, std::nullopt},          {27, "I64", {1, 8}, std::nullopt},
    {28, "F64", {1, 8}, std::nullopt},          {29, "IQ1_M", {256, 56}, std::nullopt},
    {30, "BF16", {1, 2}, WeightType::kBf16},    {34, "TQ1_0", {256, 54}, std::nullopt},
    {35, "TQ2_0", {256, 66}, std::nullopt},     {39, "MXFP4", {32, 17}, std::nullopt},
};

const TensorType* FindTensorType(uint32_t number) {
  for (const TensorType& type : kTensorTypes)
    if (type.number == number) return &type;
  return nullptr;
}

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// The values of a fixed-size type, one after another.
int64_t LoadInt(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::kUint8:
      return Load<uint8_t>(at);
    case GgufType::kInt8:
      return Load<int8_t>(at);
    case GgufType::kUint16:
      return Load<uint16_t>(at);
    case GgufType::kInt16:
      return Load<int16_t>(at);
    case GgufType::kUint32:
      return Load<uint32_t>(at);
    case GgufType::kInt32:
      return Load<int32_t>(at);
    case GgufType::kUint64:  // beyond every range that is asked for, so capping cannot let a value in
      return static_cast<int64_t>(std::min(Load<uint64_t>(at), uint64_t{std::numeric_limits<int64_t>::max()}));
    default:
      return Load<int64_t>(at);
  }
}

double LoadNumber(GgufType type, const std::byte* at) {
  if (type == GgufType::kFloat32) return static_cast<double>(Load<float>(at));
  if (type == GgufType::kFloat64) return Load<double>(at);
  return static_cast<double>(LoadInt(type, at));
}

bool IsInt(GgufType type) {
  return type != GgufType::kFloat32 && type != GgufType::kFloat64 && type != GgufType::kBool &&
         type != GgufType::kString && type != GgufType::kArray;
}
bool IsNumber(GgufType type) { return IsInt(type) || type == GgufType::kFloat32 || type == GgufType::kFloat64; }

size_t FixedBytes(GgufType type) { return kValueTypes[static_cast<size_t>(type)].bytes; }

std::string KindOf(const GgufValue& value) {
  const std::string_view name = GgufTypeName(value.type);
  if (!value.is_array) return StrFormat("{} {}", name.starts_with('i') ? "an" : "a", name);
  return StrFormat("an array of {} {}", value.count, GgufTypeName(value.type));
}

// What one file says about itself as a part.
struct Part {
  int64_t number = 0, count = 1;  // split.no, split.count
  std::optional<int64_t> n_tensors;
};

// "NAME-00001-of-00003.gguf" -> NAME and its number from 1, where the file's name is that of a part.
struct PartName {
  std::string prefix;
  int64_t number, count;
  std::string Other(int64_t i) const { return StrFormat("{}-{:05}-of-{:05}.gguf", prefix, i, count); }
};

std::optional<PartName> ParsePartName(std::string_view path) {
  constexpr std::string_view kShape = "-00000-of-00000.gguf";
  if (path.size() <= kShape.size()) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kShape.size());
  int64_t numbers[2] = {0, 0};
  for (size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != '0') {
      if (tail[i] != kShape[i]) return std::nullopt;
    } else if (tail[i] >= '0' && tail[i] <= '9') {
      int64_t& number = numbers[i > 8];
      number = 10 * number + (tail[i] - '0');
    } else {
      return std::nullopt;
    }
  }
  return PartName{std::string(path.substr(0, path.size() - kShape.size())), numbers[0], numbers[1]};
}

}  // namespace

// Reads one file's header into a GgufFile. Every read is checked against the end of the file first.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, GgufFile* out) : bytes_(bytes), out_(*out) {}

  Status Parse() {
    SW_RETURN_IF_ERROR(ReadPreamble());
    for (uint64_t i = 0; i < n_pairs_; ++i) SW_RETURN_IF_ERROR(ReadPair(i));
    SW_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < n_tensors_; ++i) SW_RETURN_IF_ERROR(ReadTensor(i));
    return PlaceTensors();
  }

  static std::shared_ptr<GgufFile> New(std::string_view name) {
    std::shared_ptr<GgufFile> file(new GgufFile);
    file->name_ = name;
    return file;
  }

  static Result<std::shared_ptr<GgufFile>> OpenOne(const std::string& path) {
    auto file = New(path);
    SW_ASSIGN_OR_RETURN(auto map, MappedFile::Open(path));
    SW_RETURN_IF_ERROR(GgufParser(map->bytes(), file.get()).Parse().WithContext(path));
    file->files_.push_back(std::move(map));
    return file;
  }

  static Result<Part> PartOf(const GgufFile& file) {
    auto part = ReadPart(file);
    return part.ok() ? part : part.status().WithContext(file.name_);
  }

  static Result<Part> ReadPart(const GgufFile& file) {
    SW_ASSIGN_OR_RETURN(const auto number, file.GetInt("split.no", 0, kMaxParts - 1));
    SW_ASSIGN_OR_RETURN(const auto count, file.GetInt("split.count", 0, kMaxParts));
    SW_ASSIGN_OR_RETURN(const auto n_tensors,
                        file.GetInt("split.tensors.count", 0, std::numeric_limits<int32_t>::max()));
    Part part{.number = number.value_or(0), .count = std::max(count.value_or(1), int64_t{1}), .n_tensors = n_tensors};
    if (part.number >= part.count)
      return Corruption(
          StrFormat("'split.no' is {}, expected below 'split.count', which is {}", part.number, part.count));
    return part;
  }

  // Moves the tensors of another part into `to`.
  static Status Merge(GgufFile& from, GgufFile* to) {
    for (auto& [name, tensor] : from.tensors_)
      if (!to->tensors_.emplace(name, std::move(tensor)).second)
        return Corruption(StrFormat("{}: tensor {} is also in an earlier part", from.name_, Quoted(name)));
    to->files_.insert(to->files_.end(), from.files_.begin(), from.files_.end());
    return Status::Ok();
  }

 private:
  struct Placed {
    std::string name;
    uint64_t offset;
  };

  uint64_t left() const { return bytes_.size() - at_; }

  // The next n bytes. REQUIRES: n <= left().
  std::span<const std::byte> Take(uint64_t n) {
    const auto taken = bytes_.subspan(at_, n);
    at_ += n;
    return taken;
  }

  Status Need(uint64_t n, std::string_view what) const {
    if (n <= left()) return Status::Ok();
    return Corruption(StrFormat("{} needs {} bytes at byte {}, but the file ends after {}", what, n, at_, left()));
  }

  template <typename T>
  Result<T> Read(std::string_view what) {
    SW_RETURN_IF_ERROR(Need(sizeof(T), what));
    return Load<T>(Take(sizeof(T)).data());
  }

  Result<std::string_view> ReadString(std::string_view what, uint64_t max_bytes) {
    SW_ASSIGN_OR_RETURN(const uint64_t length, Read<uint64_t>(what));
    if (length > left())
      return Corruption(StrFormat("{} has the length {}, but only {} bytes follow", what, length, left()));
    if (length > max_bytes)
      return Corruption(StrFormat("{} has the length {}, expected at most {}", what, length, max_bytes));
    return std::string_view(reinterpret_cast<const char*>(Take(length).data()), length);
  }

  Result<std::string> ReadName(std::string_view what, uint64_t max_bytes) {
    SW_ASSIGN_OR_RETURN(const std::string_view name, ReadString(what, max_bytes));
    if (name.empty()) return Corruption(StrFormat("{} is empty", what));
    size_t bad = 0;
    if (!IsValidUtf8(name, &bad))
      return Corruption(StrFormat("{} is {}, which is not UTF-8 at its byte {}", what, Quoted(name), bad));
    return std::string(name);
  }

  Status ReadPreamble() {
    if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
      if (const auto foreign = ForeignContent(bytes_)) return Corruption(*foreign);
      return Corruption(
          StrFormat("begins with {}, expected the magic \"GGUF\"",
                    Quoted({reinterpret_cast<const char*>(bytes_.data()), std::min(bytes_.size(), size_t{4})})));
    }
    at_ = 4;
    SW_ASSIGN_OR_RETURN(const uint32_t version, Read<uint32_t>("the version"));
    if (version != 0 && (version & 0xFFFF) == 0)
      return Unimplemented("is a big-endian GGUF file, expected little endian");
    if (version == 1) return Unimplemented("is GGUF version 1, expected 2 or 3");
    if (version != 2 && version != 3) return Unimplemented(StrFormat("is GGUF version {}, expected 2 or 3", version));
    SW_ASSIGN_OR_RETURN(n_tensors_, Read<uint64_t>("the number of tensors"));
    SW_ASSIGN_OR_RETURN(n_pairs_, Read<uint64_t>("the number of metadata pairs"));
    if (n_tensors_ > left() / kMinTensorBytes)
      return Corruption(StrFormat("states {} tensors, but the {} bytes that follow hold at most {}", n_tensors_, left(),
                                  left() / kMinTensorBytes));
    if (n_pairs_ > left() / kMinPairBytes)
      return Corruption(StrFormat("states {} metadata pairs, but the {} bytes that follow hold at most {}", n_pairs_,
                                  left(), left() / kMinPairBytes));
    return Status::Ok();
  }

  Result<GgufType> ReadType(std::string_view what) {
    SW_ASSIGN_OR_RETURN(const uint32_t number, Read<uint32_t>(what));
    if (number >= std::size(kValueTypes))
      return Corruption(StrFormat("{} has the type {}, expected 0 to {}", what, number, std::size(kValueTypes) - 1));
    return static_cast<GgufType>(number);
  }

  Status ReadPair(uint64_t index) {
    SW_ASSIGN_OR_RETURN(const std::string key, ReadName(StrFormat("metadata key {}", index), kMaxKeyBytes));
    const std::string what = StrFormat("key {}", Quoted(key));
    GgufValue value;
    SW_ASSIGN_OR_RETURN(value.type, ReadType(what));
    if (value.type == GgufType::kArray) {
      value.is_array = true;
      SW_ASSIGN_OR_RETURN(value.type, ReadType(what + ": the array"));
      if (value.type == GgufType::kArray) return Unimplemented(what + " is an array of arrays, which is not read");
      SW_ASSIGN_OR_RETURN(value.count, Read<uint64_t>(what + ": the number of elements"));
    }
    const size_t begin = at_;
    if (value.type == GgufType::kString) {
      if (value.count > left() / sizeof(uint64_t))
        return Corruption(StrFormat("{} states {} strings, but only {} bytes follow", what, value.count, left()));
      for (uint64_t i = 0; i < value.count; ++i) SW_RETURN_IF_ERROR(SkipString(what, i));
    } else {
      const auto size = CheckedMul(value.count, FixedBytes(value.type));
      if (!size || *size > left())
        return Corruption(StrFormat("{} states {} values of {}, but only {} bytes follow", what, value.count,
                                    GgufTypeName(value.type), left()));
      for (const std::byte b : Take(*size))
        if (value.type == GgufType::kBool && std::to_integer<int>(b) > 1)
          return Corruption(StrFormat("{} holds the boolean {}, expected 0 or 1", what, std::to_integer<int>(b)));
    }
    value.bytes = bytes_.subspan(begin, at_ - begin);
    if (!out_.metadata_.emplace(key, value).second) return Corruption(what + " occurs twice");
    return Status::Ok();
  }

  Status SkipString(std::string_view what, uint64_t index) {
    if (left() >= sizeof(uint64_t)) {
      const auto length = Load<uint64_t>(bytes_.data() + at_);
      if (length <= left() - sizeof(uint64_t)) {
        at_ += sizeof(uint64_t) + length;
        return Status::Ok();
      }
    }
    return ReadString(StrFormat("{}: string {}", what, index), std::numeric_limits<uint64_t>::max()).status();
  }

  Status ReadAlignment() {
    const auto found = out_.metadata_.find("general.alignment");
    if (found == out_.metadata_.end()) return Status::Ok();
    const GgufValue& value = found->second;
    if (value.is_array || value.type != GgufType::kUint32)
      return Corruption(StrFormat("'general.alignment' is {}, expected a uint32", KindOf(value)));
    alignment_ = Load<uint32_t>(value.bytes.data());
    if (!std::has_single_bit(alignment_) || alignment_ < 8 || alignment_ > uint64_t{1} << 20)
      return Corruption(StrFormat("'general.alignment' is {}, expected a power of two from 8 to 2^20", alignment_));
    return Status::Ok();
  }

  Status ReadTensor(uint64_t index) {
    SW_ASSIGN_OR_RETURN(std::string name, ReadName(StrFormat("the name of tensor {}", index), kMaxTensorNameBytes));
    return ReadShape(std::move(name));
  }

  Status ReadShape(std::string name) {
    const std::string what = StrFormat("tensor {}", Quoted(name));
    SW_ASSIGN_OR_RETURN(const uint32_t rank, Read<uint32_t>(what));
    if (rank < 1 || rank > kMaxDims)
      return Corruption(StrFormat("{} has {} dimensions, expected 1 to {}", what, rank, kMaxDims));
    GgufTensor tensor;
    uint64_t elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      SW_ASSIGN_OR_RETURN(const uint64_t dim, Read<uint64_t>(what));
      const auto product = CheckedMul(elements, dim);
      if (dim == 0 || !product || *product > uint64_t{std::numeric_limits<int64_t>::max()} / 4)
        return Corruption(
            StrFormat("{}: dimension {} is {}, expected at least 1 and a product of all below 2^61", what, i, dim));
      elements = *product;
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
    }
    SW_ASSIGN_OR_RETURN(const uint32_t number, Read<uint32_t>(what));
    SW_ASSIGN_OR_RETURN(const uint64_t offset, Read<uint64_t>(what));
    const TensorType* const type = FindTensorType(number);
    if (!type) return Unimplemented(StrFormat("{} has the type {}, which is not known", what, number));
    if (static_cast<uint64_t>(tensor.shape.back()) % type->block.elements != 0)
      return Corruption(StrFormat("{} has rows of {} elements, expected a multiple of {}, the block of {}", what,
                                  tensor.shape.back(), type->block.elements, type->name));
    const auto size = CheckedMul(elements / type->block.elements, type->block.bytes);
    if (!size) return Corruption(StrFormat("{} has {} elements, whose bytes exceed 2^64", what, elements));
    if (offset % alignment_ != 0)
      return Corruption(
          StrFormat("{} has the offset {}, expected a multiple of the alignment {}", what, offset, alignment_));
    tensor.n_bytes = *size;
    tensor.type = type->ours;
    tensor.stored_type = type->name;
    if (!out_.tensors_.emplace(name, std::move(tensor)).second) return Corruption(what + " occurs twice");
    placed_.push_back({std::move(name), offset});
    return Status::Ok();
  }

  // The data begin at the next multiple of the alignment; tensors lie inside and apart.
  Status PlaceTensors() {
    const auto padded = CheckedAdd(at_, alignment_ - 1);
    const uint64_t begin = padded ? *padded / alignment_ * alignment_ : bytes_.size();
    const uint64_t data_bytes = begin < bytes_.size() ? bytes_.size() - begin : 0;
    std::sort(placed_.begin(), placed_.end(),
              [](const Placed& a, const Placed& b) { return std::tie(a.offset, a.name) < std::tie(b.offset, b.name); });
    uint64_t end = 0;
    const Placed* before = nullptr;
    for (const Placed& p : placed_) {
      GgufTensor& tensor = out_.tensors_.find(p.name)->second;
      const auto tensor_end = CheckedAdd(p.offset, tensor.n_bytes);
      if (!tensor_end || *tensor_end > data_bytes)
        return Corruption(StrFormat(
            "tensor {} has {} bytes at offset {}, but the data end after {}: the file is cut short or damaged; "
            "download it again",
            Quoted(p.name), tensor.n_bytes, p.offset, data_bytes));
      if (p.offset < end)
        return Corruption(StrFormat("tensor {} begins at offset {}, inside tensor {}, which ends at {}", Quoted(p.name),
                                    p.offset, Quoted(before->name), end));
      tensor.data = bytes_.data() + begin + p.offset;
      end = *tensor_end;
      before = &p;
    }
    return Status::Ok();
  }

  std::span<const std::byte> bytes_;
  GgufFile& out_;
  uint64_t at_ = 0;
  uint64_t n_tensors_ = 0, n_pairs_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Placed> placed_;
};

std::string_view GgufTypeName(GgufType type) { return kValueTypes[static_cast<size_t>(type)].name; }

Result<std::shared_ptr<const GgufFile>> GgufFile::Parse(std::span<const std::byte> bytes, std::string_view name) {
  auto file = GgufParser::New(name);
  SW_RETURN_IF_ERROR(GgufParser(bytes, file.get()).Parse().WithContext(name));
  SW_RETURN_IF_ERROR(GgufParser::PartOf(*file).status());
  return std::shared_ptr<const GgufFile>(std::move(file));
}

Result<std::shared_ptr<const GgufFile>> GgufFile::Open(const std::string& path) {
  SW_ASSIGN_OR_RETURN(auto file, GgufParser::OpenOne(path));
  SW_ASSIGN_OR_RETURN(const Part part, GgufParser::PartOf(*file));
  if (part.count == 1) return std::shared_ptr<const GgufFile>(std::move(file));

  const auto name = ParsePartName(path);
  if (!name || name->count != part.count || name->number != part.number + 1)
    return Corruption(StrFormat("{}: is part {} of {}, expected a name that ends in -{:05}-of-{:05}.gguf", path,
                                part.number + 1, part.count, part.number + 1, part.count));
  std::shared_ptr<GgufFile> all;
  for (int64_t i = 0; i < part.count; ++i) {
    const std::string other_path = name->Other(i + 1);
    auto other = i == part.number ? Result(file) : GgufParser::OpenOne(other_path);
    if (!other.ok()) return other.status().WithContext(StrFormat("part {} of {}", i + 1, part.count));
    SW_ASSIGN_OR_RETURN(const Part found, GgufParser::PartOf(**other));
    if (found.number != i || found.count != part.count)
      return Corruption(StrFormat("{}: says it is part {} of {}, expected part {} of {}", other_path, found.number + 1,
                                  found.count, i + 1, part.count));
    if (!all) {
      all = *other;
    } else {
      SW_RETURN_IF_ERROR(GgufParser::Merge(**other, all.get()));
    }
  }
  SW_ASSIGN_OR_RETURN(const Part first, GgufParser::PartOf(*all));
  if (first.n_tensors && *first.n_tensors != static_cast<int64_t>(all->tensors_.size()))
    return Corruption(StrFormat("{}: 'split.tensors.count' is {}, but its {} parts hold {}", all->name_,
                                *first.n_tensors, part.count, all->tensors_.size()));
  return std::shared_ptr<const GgufFile>(std::move(all));
}

std::string GgufTensorTypes() {
  std::vector<std::string_view> names;
  for (const TensorType& type : kTensorTypes)
    if (type.ours) names.push_back(type.name);
  return StrFormat("{} or {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
}

namespace {

Status WrongKind(std::string_view key, const GgufValue& value, std::string_view expected) {
  return InvalidArgument(StrFormat("'{}' is {}, expected {}", key, KindOf(value), expected));
}

// The elements of a fixed-size type that `accepts`, each within [low, high].
template <typename T, typename LoadOne>
Result<std::optional<std::vector<T>>> Elements(const GgufFile& file, std::string_view key, bool array,
                                               bool (*accepts)(GgufType), LoadOne load, T low, T high,
                                               std::string_view kind) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return std::optional<std::vector<T>>();
  const GgufValue& value = found->second;
  const std::string expected = StrFormat("{} {} from {} to {}",
                                         array               ? "an array of"
                                         : kind == "integer" ? "an"
                                                             : "a",
                                         array ? std::string(kind) + "s" : std::string(kind), low, high);
  if (value.is_array != array || !accepts(value.type)) return WrongKind(key, value, expected);
  std::vector<T> out(value.count);
  const size_t step = FixedBytes(value.type);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = load(value.type, value.bytes.data() + i * step);
    if (out[i] >= low && out[i] <= high) continue;
    return InvalidArgument(
        StrFormat("'{}' {} {}, expected {}", key, array ? StrFormat("holds at index {}", i) : "is", out[i], expected));
  }
  return std::optional(std::move(out));
}

template <typename T>
Result<std::optional<T>> Only(Result<std::optional<std::vector<T>>> elements) {
  if (!elements.ok()) return elements.status();
  return *elements ? std::optional<T>(elements->value().front()) : std::nullopt;
}

}  // namespace

Result<std::optional<int64_t>> GgufFile::GetInt(std::string_view key, int64_t low, int64_t high) const {
  return Only(Elements<int64_t>(*this, key, false, IsInt, LoadInt, low, high, "integer"));
}

Result<std::optional<double>> GgufFile::GetNumber(std::string_view key, double low, double high) const {
  return Only(Elements<double>(*this, key, false, IsNumber, LoadNumber, low, high, "number"));
}

Result<std::optional<std::vector<int64_t>>> GgufFile::GetInts(std::string_view key, int64_t low, int64_t high) const {
  return Elements<int64_t>(*this, key, true, IsInt, LoadInt, low, high, "integer");
}

Result<std::optional<std::vector<double>>> GgufFile::GetNumbers(std::string_view key, double low, double high) const {
  return Elements<double>(*this, key, true, IsNumber, LoadNumber, low, high, "number");
}

Result<std::optional<bool>> GgufFile::GetBool(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<bool>();
  const GgufValue& value = found->second;
  if (value.is_array || value.type != GgufType::kBool) return WrongKind(key, value, "a boolean");
  return std::optional(value.bytes[0] != std::byte{0});
}

Result<std::optional<std::string>> GgufFile::GetString(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<std::string>();
  const GgufValue& value = found->second;
  if (value.is_array || value.type != GgufType::kString) return WrongKind(key, value, "a string");
  std::string text(reinterpret_cast<const char*>(value.bytes.data()) + sizeof(uint64_t),
                   value.bytes.size() - sizeof(uint64_t));
  size_t bad = 0;
  if (!IsValidUtf8(text, &bad)) return Corruption(StrFormat("'{}' is not UTF-8 at its byte {}", key, bad));
  return std::optional(std::move(text));
}

Result<std::optional<std::vector<std::string_view>>> GgufFile::GetStrings(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::optional<std::vector<std::string_view>>();
  const GgufValue& value = found->second;
  if (!value.is_array || value.type != GgufType::kString) return WrongKind(key, value, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(value.count);
  for (size_t at = 0; out.size() < value.count;) {
    const auto length = Load<uint64_t>(value.bytes.data() + at);
    out.emplace_back(reinterpret_cast<const char*>(value.bytes.data()) + at + sizeof length, length);
    at += sizeof length + length;
  }
  return std::optional(std::move(out));
}

}  // namespace spanwise
