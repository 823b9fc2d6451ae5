#include "formats/convert.h"

#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "formats/model_config.h"
#include "formats/model_file.h"
#include "formats/safetensors.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxCopiedBytes = size_t{256} << 20;
constexpr size_t kChunkBytes = size_t{8} << 20;
constexpr std::string_view kMethod = "spanwise";

// One tensor and what becomes of it.
struct Job {
  std::string name;
  TensorView from;
  WeightType type;

  size_t row_elements() const { return from.shape.empty() ? 1 : static_cast<size_t>(from.shape.back()); }
  size_t n_rows() const {
    const auto n = static_cast<size_t>(from.n_elements());
    return n == 0 ? 0 : n / row_elements();
  }
  size_t row_bytes() const { return WeightBytes(type, row_elements()); }
};

WeightType TypeFor(const std::string& name, const TensorView& tensor, const ModelConfig& config, WeightType wanted) {
  const WeightType kept = StoredAs(tensor.dtype);
  if (tensor.shape.size() != 2) return kept;
  return QuantisedType(name, config, kept, static_cast<size_t>(tensor.shape[1]), wanted);
}

std::string_view SafetensorsName(WeightType type) {
  const auto plain = PlainDType(type);
  return !plain ? "U8" : *plain == DType::kF32 ? "F32" : *plain == DType::kBf16 ? "BF16" : "F16";
}

std::string Header(const std::vector<Job>& jobs) {
  json::object header{{"__metadata__", json::object{{"format", "pt"}}}};
  size_t at = 0;
  for (const Job& job : jobs) {
    json::array shape(job.from.shape.begin(), job.from.shape.end());
    if (!PlainDType(job.type)) shape.back() = job.row_bytes();
    const size_t bytes = job.n_rows() * job.row_bytes();
    header[job.name] = json::object{{"dtype", json::string(SafetensorsName(job.type))},
                                    {"shape", std::move(shape)},
                                    {"data_offsets", json::array{at, at + bytes}}};
    at += bytes;
  }
  std::string text = json::serialize(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(text.size() >> (8 * i) & 255);
  return out + text;
}

Status WriteTensor(const Job& job, FileWriter& file, ThreadPool& pool, const std::function<void(size_t)>& advance) {
  const size_t n = job.row_elements(), from_bytes = n * DTypeBytes(job.from.dtype), to_bytes = job.row_bytes();
  const size_t step = std::max<size_t>(1, kChunkBytes / std::max<size_t>(1, from_bytes));
  for (size_t first = 0; first < job.n_rows(); first += step) {
    const size_t rows = std::min(step, job.n_rows() - first);
    std::vector<std::byte> out(rows * to_bytes);
    std::atomic<bool> finite = true;
    pool.ParallelFor(rows, [&](size_t row) {
      std::vector<float> wide(n);
      const std::byte* from = job.from.data + (first + row) * from_bytes;
      if (StoredAs(job.from.dtype) == job.type) {
        std::memcpy(out.data() + row * to_bytes, from, to_bytes);
        return;
      }
      Widen(StoredAs(job.from.dtype), from, n, wide.data());
      if (!std::ranges::all_of(wide, [](float value) { return std::isfinite(value); })) finite = false;
      if (finite) Narrow(job.type, wide.data(), n, out.data() + row * to_bytes);
    });
    if (!finite) return Corruption(StrFormat("tensor {}: holds a value that is not finite", Quoted(job.name)));
    SW_RETURN_IF_ERROR(file.Append(out));
    advance(rows * from_bytes);
  }
  return Status::Ok();
}

Result<std::string> ConvertedConfig(const std::string& text, const std::string& where, const std::vector<Job>& jobs,
                                    WeightType type) {
  SW_ASSIGN_OR_RETURN(json::value root, ParsePythonJson(text, where));
  json::object& config = root.get_object();  // ParseModelConfig has seen it
  if (type == WeightType::kBf16) {
    config.erase("torch_dtype");
    config["dtype"] = "bfloat16";
  } else {
    json::object tensors;
    for (const Job& job : jobs)
      if (!PlainDType(job.type)) tensors[job.name] = json::string(WeightTypeName(job.type));
    config["quantization_config"] =
        json::object{{"quant_method", json::string(kMethod)}, {"version", 1}, {"tensors", std::move(tensors)}};
  }
  return json::serialize(root) + "\n";
}

// Whether a file of the folder belongs to the weights that are written anew: it holds them, or what was measured of
// them.
bool IsWeights(const std::string& name) {
  for (const std::string_view end : {".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5"})
    if (name.ends_with(end)) return true;
  return name == "config.json" || name == "spanwise.json";
}

Status WriteWhole(const std::string& path, std::string_view bytes) {
  SW_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(path));
  SW_RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(bytes))));
  return file.Finish();
}

Status CopyOthers(const std::string& folder, const std::string& out) {
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!at->is_regular_file(error) || name.starts_with(".") || IsWeights(name)) continue;
    SW_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(at->path().string(), kMaxCopiedBytes));
    SW_RETURN_IF_ERROR(WriteWhole(StrFormat("{}/{}", out, name), bytes));
  }
  if (error) return InvalidArgument(StrFormat("{}: cannot list the folder: {}", folder, error.message()));
  return Status::Ok();
}

// A folder that is removed with all it holds unless Keep was called.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  void Keep() { path_.clear(); }

 private:
  std::string path_;
};

}  // namespace

WeightType QuantisedType(const std::string& name, const ModelConfig& config, WeightType stored, size_t n_in,
                         WeightType wanted) {
  if (!config.names.router.empty() && name.ends_with(config.names.router + ".weight")) return stored;
  const bool ends = name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight");
  const WeightType type = wanted == WeightType::kQ4_0 && ends ? WeightType::kQ8_0 : wanted;
  return n_in % BlockOf(type).elements == 0 ? type : stored;
}

Result<std::map<std::string, WeightType>> ReadBlockTypes(std::string_view config_json, std::string_view where) {
  SW_ASSIGN_OR_RETURN(const json::value root, ParsePythonJson(config_json, where));
  std::map<std::string, WeightType> types;
  const json::object* config = root.if_object();
  if (!config) return types;
  SW_ASSIGN_OR_RETURN(const json::object* const stated, GetObject(*config, "quantization_config"));
  if (!stated) return types;
  SW_ASSIGN_OR_RETURN(const auto method, GetString(*stated, "quant_method"));
  if (method.value_or("") != kMethod)
    return Unimplemented(StrFormat("{}: 'quantization_config' has the quant_method {}, expected none or \"{}\"", where,
                                   Quoted(method.value_or("")), kMethod));
  SW_ASSIGN_OR_RETURN(const auto version, GetInt(*stated, "version"));
  if (version.value_or(0) != 1)
    return Unimplemented(StrFormat("{}: 'quantization_config' has version {}, expected 1", where, version.value_or(0)));
  SW_ASSIGN_OR_RETURN(const json::object* const tensors, GetObject(*stated, "tensors"));
  if (!tensors) return InvalidArgument(StrFormat("{}: 'quantization_config' has no object 'tensors'", where));
  for (const auto& item : *tensors) {
    std::optional<WeightType> type;
    for (const WeightType known : {WeightType::kQ8_0, WeightType::kQ4_0})
      if (item.value().is_string() && item.value().get_string() == WeightTypeName(known)) type = known;
    if (!type)
      return Unimplemented(StrFormat("{}: 'quantization_config' gives tensor {} the type {}, expected q8_0 or q4_0",
                                     where, Quoted(item.key()), Quoted(json::serialize(item.value()), 40)));
    types.emplace(item.key(), *type);
  }
  return types;
}

Status ConvertModel(const std::string& folder, const std::string& out, WeightType type, ThreadPool& pool,
                    const ConvertProgress& progress) {
  std::error_code error;
  SW_ASSIGN_OR_RETURN(const std::string model_path, FindModel(folder));
  if (IsGgufPath(model_path))
    return InvalidArgument(
        StrFormat("{}: is no folder, expected one with config.json and safetensors; GGUF files are used as they are",
                  model_path));
  if (FileExists(out)) return InvalidArgument(StrFormat("{}: exists already", out));
  const std::string config_path = folder + "/config.json";
  SW_ASSIGN_OR_RETURN(const std::string config_text, ReadModelText(config_path, kMaxConfigBytes));
  SW_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(config_text, config_path));
  SW_ASSIGN_OR_RETURN(const auto block_types, ReadBlockTypes(config_text, config_path));
  if (!block_types.empty()) return InvalidArgument(StrFormat("{}: is quantised already", folder));
  SW_ASSIGN_OR_RETURN(const auto model, SafetensorsModel::Open(folder));
  if (!model->others().empty()) {
    const auto& [name, tensor] = *model->others().begin();
    return Unimplemented(StrFormat("{}: tensor {} is stored as {}, expected F32, F16 or BF16", folder, Quoted(name),
                                   Quoted(tensor.dtype)));
  }

  std::vector<Job> jobs;
  size_t total = 0, done = 0;
  for (const auto& [name, tensor] : model->tensors()) {
    jobs.push_back({name, tensor, TypeFor(name, tensor, config, type)});
    total += tensor.n_bytes();
  }

  std::string pattern = out;
  while (pattern.size() > 1 && pattern.ends_with('/')) pattern.pop_back();
  pattern += ".partial-XXXXXX";
  if (!mkdtemp(pattern.data()))
    return InvalidArgument(StrFormat("{}: cannot create a folder beside it: {}", out, std::strerror(errno)));
  TemporaryFolder temporary(pattern);
  fs::permissions(temporary.path(), fs::perms(0755), error);
  SW_ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(temporary.path() + "/model.safetensors"));
  const std::string header = Header(jobs);
  SW_RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(header))));
  for (const Job& job : jobs)
    SW_RETURN_IF_ERROR(WriteTensor(job, file, pool, [&](size_t bytes) {
                         done += bytes;
                         if (progress) progress(done, total);
                       }).WithContext(folder));
  SW_RETURN_IF_ERROR(file.Finish());
  SW_ASSIGN_OR_RETURN(const std::string converted, ConvertedConfig(config_text, config_path, jobs, type));
  SW_RETURN_IF_ERROR(WriteWhole(temporary.path() + "/config.json", converted));
  SW_RETURN_IF_ERROR(CopyOthers(folder, temporary.path()));

  fs::rename(temporary.path(), out, error);
  if (error) return InvalidArgument(StrFormat("{}: cannot rename into place: {}", out, error.message()));
  temporary.Keep();
  return Status::Ok();
}

}  // namespace spanwise
