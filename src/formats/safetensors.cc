#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "base/checked.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/json_keys.h"
#include "formats/model_file.h"

namespace spanwise {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxIndexBytes = size_t{100} << 20;
constexpr size_t kMaxRank = 16;
constexpr size_t kMaxShards = 10'000;
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

struct StoredType {
  std::string_view name;
  int bits;
  std::optional<DType> ours;
};

constexpr StoredType kStoredTypes[] = {
    {"F32", 32, DType::kF32},     {"F16", 16, DType::kF16},     {"BF16", 16, DType::kBf16},
    {"F64", 64, std::nullopt},    {"I64", 64, std::nullopt},    {"U64", 64, std::nullopt},
    {"C64", 64, std::nullopt},    {"I32", 32, std::nullopt},    {"U32", 32, std::nullopt},
    {"I16", 16, std::nullopt},    {"U16", 16, std::nullopt},    {"I8", 8, std::nullopt},
    {"U8", 8, std::nullopt},      {"BOOL", 8, std::nullopt},    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt}, {"F8_E8M0", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt}, {"F4", 4, std::nullopt},
};

const StoredType* FindStoredType(std::string_view name) {
  for (const StoredType& type : kStoredTypes)
    if (type.name == name) return &type;
  return nullptr;
}

// A size as JSON may hold it: an integer from 0 to 2^63 - 1.
std::optional<uint64_t> SizeOf(const json::value& value) {
  if (!value.is_int64() || value.get_int64() < 0) return std::nullopt;
  return static_cast<uint64_t>(value.get_int64());
}

// One entry of the header, checked against itself but not yet against its neighbours.
struct Entry {
  std::string name;
  std::string stored_type;
  std::optional<DType> dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

Result<Entry> ReadEntry(std::string_view name, const json::value& value, uint64_t data_bytes) {
  if (!value.is_object())
    return Corruption(StrFormat("is {}, expected an object of dtype, shape and data_offsets", JsonKindName(value)));
  const json::object& fields = value.get_object();
  for (const auto& field : fields)
    if (field.key() != "dtype" && field.key() != "shape" && field.key() != "data_offsets")
      return Corruption(
          StrFormat("has the field {}, expected only dtype, shape and data_offsets", Quoted(field.key())));
  const json::value* dtype = fields.if_contains("dtype");
  const json::value* shape = fields.if_contains("shape");
  const json::value* offsets = fields.if_contains("data_offsets");
  if (!dtype || !dtype->is_string()) return Corruption("'dtype' is missing or no string");
  if (!shape || !shape->is_array()) return Corruption("'shape' is missing or no array");
  if (!offsets || !offsets->is_array() || offsets->get_array().size() != 2)
    return Corruption("'data_offsets' is missing or no array of two numbers");

  Entry entry;
  entry.name = name;
  entry.stored_type = std::string(dtype->get_string());
  const json::array& dims = shape->get_array();
  if (dims.size() > kMaxRank)
    return Corruption(StrFormat("'shape' has {} dimensions, at most {} are read", dims.size(), kMaxRank));
  uint64_t elements = 1;
  for (const json::value& dim : dims) {
    const auto size = SizeOf(dim);
    if (!size)
      return Corruption(
          StrFormat("'shape' holds {}, expected integers from 0 to 2^63 - 1", json::serialize(dim).substr(0, 40)));
    const auto product = CheckedMul(elements, *size);
    if (!product || *product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return Corruption("the product of 'shape' exceeds 2^63 - 1");
    elements = *product;
    entry.shape.push_back(static_cast<int64_t>(*size));
  }

  const auto begin = SizeOf(offsets->get_array()[0]), end = SizeOf(offsets->get_array()[1]);
  if (!begin || !end || *begin > *end || *end > data_bytes)
    return Corruption(StrFormat("'data_offsets' is {}, expected begin <= end <= {} (the bytes after the header)",
                                json::serialize(*offsets).substr(0, 60), data_bytes));
  entry.begin = *begin;
  entry.end = *end;

  if (const StoredType* type = FindStoredType(entry.stored_type)) {
    const auto bits = CheckedMul(elements, static_cast<uint64_t>(type->bits));
    if (!bits || *bits % 8 != 0 || *bits / 8 != *end - *begin)
      return Corruption(StrFormat("'data_offsets' spans {} bytes, but {} elements of {} need {}", *end - *begin,
                                  elements, type->name, bits ? StrFormat("{} bits", *bits) : "over 2^64 bits"));
    entry.dtype = type->ours;
  }
  return entry;
}

// Where the last tensor ends as the header has it, which need not be true.
uint64_t StatedDataBytes(const json::object& header) {
  uint64_t end = 0;
  for (const auto& item : header) {
    const json::object* const fields = item.value().if_object();
    const json::value* const offsets = fields ? fields->if_contains("data_offsets") : nullptr;
    if (!offsets || !offsets->is_array() || offsets->get_array().size() != 2) continue;
    end = std::max(end, SizeOf(offsets->get_array()[1]).value_or(0));
  }
  return end;
}

Status CheckMetadata(const json::value& value) {
  if (!value.is_object()) return Corruption(StrFormat("'__metadata__' is {}, expected an object", JsonKindName(value)));
  for (const auto& item : value.get_object())
    if (!item.value().is_string())
      return Corruption(StrFormat("'__metadata__' member {} is {}, expected a string", Quoted(item.key()),
                                  JsonKindName(item.value())));
  return Status::Ok();
}

// The ranges must cover the data exactly once: a hole could hide bytes, an overlap makes one tensor a part of another.
Status CheckCoverage(std::vector<const Entry*> entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry* a, const Entry* b) {
    return std::tie(a->begin, a->end, a->name) < std::tie(b->begin, b->end, b->name);
  });
  uint64_t covered = 0;
  for (const Entry* entry : entries) {
    if (entry->begin != covered)
      return Corruption(StrFormat("tensor {}: begins at data byte {}, expected {} ({})", Quoted(entry->name),
                                  entry->begin, covered,
                                  entry->begin < covered ? "it overlaps another tensor" : "there is a hole"));
    covered = entry->end;
  }
  if (covered != data_bytes)
    return Corruption(
        StrFormat("its tensors end at data byte {}, but {} bytes follow the header", covered, data_bytes));
  return Status::Ok();
}

// Shard names come from the index file: only a plain name may leave it, so that no path reaches outside the folder.
Status CheckShardName(std::string_view name) {
  const bool plain = !name.empty() && name.size() <= 255 && name.front() != '.' &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
                     name.ends_with(".safetensors");
  if (plain) return Status::Ok();
  return Corruption(
      StrFormat("'weight_map' names the shard {}, expected a plain file name ending in .safetensors", Quoted(name)));
}

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

Result<WeightMap> ReadIndex(const std::string& path) {
  SW_ASSIGN_OR_RETURN(const std::string text, ReadModelText(path, kMaxIndexBytes));
  const auto parsed = ParseJson(text, path);
  if (!parsed.ok()) return Corruption(parsed.status().message());
  if (const auto twice = FindDuplicateKey(text))
    return Corruption(StrFormat("{}: {} occurs twice", path, Quoted(*twice)));
  const json::object* root = parsed->if_object();
  const json::value* map = root ? root->if_contains("weight_map") : nullptr;
  if (!map || !map->is_object()) return Corruption(path + ": 'weight_map' is missing or no object");
  WeightMap weights;
  for (const auto& item : map->get_object()) {
    if (!item.value().is_string())
      return Corruption(StrFormat("{}: 'weight_map' member {} is {}, expected a file name", path, Quoted(item.key()),
                                  JsonKindName(item.value())));
    const std::string_view shard = item.value().get_string();
    SW_RETURN_IF_ERROR(CheckShardName(shard).WithContext(path));
    weights.emplace(item.key(), shard);
  }
  return weights;
}

}  // namespace

Result<std::map<std::string, TensorView>> SafetensorsModel::ParseHeader(std::span<const std::byte> file,
                                                                        std::string_view name,
                                                                        std::map<std::string, OtherTensor>* others) {
  // No header can be mistaken for another kind of file, so that is looked for where there is none.
  const auto no_header = [&](const std::string& why) {
    return Corruption(StrFormat("{}: {}", name, ForeignContent(file).value_or(why)));
  };
  if (file.size() < 8) return no_header(StrFormat("{} bytes, too short for a safetensors header", file.size()));
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(file[static_cast<size_t>(i)]);
  if (header_bytes > kMaxHeaderBytes)
    return no_header(StrFormat("header length is {}, expected at most {}", header_bytes, kMaxHeaderBytes));
  if (header_bytes > file.size() - 8)
    return no_header(
        StrFormat("header length is {}, but only {} bytes follow: the file is cut short or damaged; "
                  "download it again",
                  header_bytes, file.size() - 8));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  if (!text.starts_with('{')) return no_header(StrFormat("header begins with {}, expected '{{'", Quoted(text, 8)));
  const auto parsed = ParseJson(text, StrFormat("{}: header", name), 8);
  if (!parsed.ok()) return Corruption(parsed.status().message());
  if (const auto twice = FindDuplicateKey(text))
    return Corruption(StrFormat("{}: {} occurs twice in one object of the header", name, Quoted(*twice)));

  const std::span<const std::byte> data = file.subspan(8 + header_bytes);
  if (const uint64_t stated = StatedDataBytes(parsed->get_object()); stated > data.size())
    return Corruption(
        StrFormat("{}: its header places tensors in {} bytes, but only {} follow it: the file is cut short or damaged; "
                  "download it again",
                  name, stated, data.size()));
  std::vector<Entry> entries;
  for (const auto& item : parsed->get_object()) {
    if (item.key() == "__metadata__") {
      SW_RETURN_IF_ERROR(CheckMetadata(item.value()).WithContext(name));
      continue;
    }
    auto entry = ReadEntry(item.key(), item.value(), data.size());
    if (!entry.ok()) return entry.status().WithContext(StrFormat("{}: tensor {}", name, Quoted(item.key())));
    entries.push_back(std::move(*entry));
  }
  std::vector<const Entry*> pointers;
  for (const Entry& entry : entries) pointers.push_back(&entry);
  SW_RETURN_IF_ERROR(CheckCoverage(std::move(pointers), data.size()).WithContext(name));

  std::map<std::string, TensorView> tensors;
  for (Entry& entry : entries) {
    if (entry.dtype) {
      tensors.emplace(std::move(entry.name),
                      TensorView{data.data() + entry.begin, *entry.dtype, std::move(entry.shape)});
    } else if (others) {
      others->emplace(std::move(entry.name), OtherTensor{std::move(entry.stored_type), std::move(entry.shape),
                                                         data.subspan(entry.begin, entry.end - entry.begin)});
    }
  }
  return tensors;
}

Result<std::shared_ptr<const SafetensorsModel>> SafetensorsModel::Open(const std::string& folder) {
  const std::string single = StrFormat("{}/{}", folder, kSingleFile), index = StrFormat("{}/{}", folder, kIndexFile);
  std::vector<std::string> names;
  std::optional<WeightMap> weights;
  if (FileExists(single)) {
    names.emplace_back(kSingleFile);
  } else if (FileExists(index)) {
    SW_ASSIGN_OR_RETURN(weights, ReadIndex(index));
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : *weights) shards.insert(shard);
    if (shards.size() > kMaxShards)
      return Corruption(StrFormat("{}: {} shards, at most {} are read", index, shards.size(), kMaxShards));
    names.assign(shards.begin(), shards.end());
  } else {
    return NotFound(StrFormat("{}: {}", folder, WhyNoWeights(folder)));
  }

  std::shared_ptr<SafetensorsModel> model(new SafetensorsModel);
  std::map<std::string, std::string> home;  // tensor -> shard where it was found
  for (const std::string& name : names) {
    const std::string path = StrFormat("{}/{}", folder, name);
    if (weights && !FileExists(path))
      return NotFound(StrFormat("{}: is missing, though {} names it; download it too", path, kIndexFile));
    SW_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
    std::map<std::string, OtherTensor> others;
    SW_ASSIGN_OR_RETURN(auto tensors, ParseHeader(file->bytes(), path, &others));
    std::vector<std::string> found;
    for (const auto& item : tensors) found.push_back(item.first);
    for (const auto& item : others) found.push_back(item.first);
    for (const std::string& tensor : found) {
      if (const auto [at, fresh] = home.emplace(tensor, name); !fresh)
        return Corruption(StrFormat("{}: tensor {} is also in {}", path, Quoted(tensor), at->second));
      if (!weights) continue;
      const auto listed = weights->find(tensor);
      if (listed == weights->end() || listed->second != name)
        return Corruption(StrFormat("{}: tensor {} is here, but {} places it in {}", path, Quoted(tensor), kIndexFile,
                                    listed == weights->end() ? "no shard" : listed->second));
    }
    model->tensors_.merge(tensors);
    model->others_.merge(others);
    model->files_.push_back(std::move(file));
  }
  if (weights)
    for (const auto& [tensor, shard] : *weights)
      if (!home.contains(tensor))
        return Corruption(
            StrFormat("{}: places tensor {} in {}, which does not hold it", index, Quoted(tensor), shard));
  return std::shared_ptr<const SafetensorsModel>(std::move(model));
}

Result<TensorView> SafetensorsModel::Find(const std::string& name) const {
  if (const auto found = tensors_.find(name); found != tensors_.end()) return found->second;
  if (const auto other = others_.find(name); other != others_.end())
    return Unimplemented(
        StrFormat("tensor {} is stored as {}, expected F32, F16 or BF16", Quoted(name), Quoted(other->second.dtype)));
  return NotFound(StrFormat("there is no tensor {}", Quoted(name)));
}

}  // namespace spanwise
