#include "formats/model_file.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "base/str.h"

namespace spanwise {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLfsBegin = "version https://git-lfs";
constexpr std::string_view kAgain = "download it again";

bool StartsWithIgnoringCase(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

// The names of the folder's files, ascending; none where it cannot be listed.
std::vector<std::string> FilesOf(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (std::error_code ignored; at->is_regular_file(ignored)) names.push_back(at->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Whether a file is a part other than the first: "NAME-00002-of-00003.gguf".
bool IsLaterPart(std::string_view name) {
  const size_t of = name.rfind("-of-");
  return of != std::string_view::npos && of >= 6 && name[of - 6] == '-' && name.substr(of - 5, 5) != "00001" &&
         name.substr(of - 5, 5).find_first_not_of("0123456789") == std::string_view::npos;
}

// The models among the GGUF files of a folder: of one in parts the first part, and no vision towers.
std::vector<std::string> GgufModels(const std::vector<std::string>& names) {
  std::vector<std::string> models;
  for (const std::string& name : names)
    if (name.ends_with(".gguf") && !IsLaterPart(name) && !name.starts_with("mmproj")) models.push_back(name);
  return models;
}

}  // namespace

std::optional<std::string> ForeignContent(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto is = [](std::string_view what, std::string_view remedy) { return StrFormat("is {}; {}", what, remedy); };
  if (text.empty()) return is("empty", kAgain);
  if (text.starts_with(kLfsBegin))
    return is("a Git LFS pointer, not the file itself", "run `git lfs pull` in its folder, or download the file");
  if (text.starts_with(std::string_view("PK\3\4", 4)))
    return is("a zip archive or a PyTorch file",
              "unpack the archive, or use the model's safetensors (save_pretrained of transformers writes them)");
  if (text.starts_with("\x1F\x8B")) return is("compressed with gzip", "unpack it");
  if (text.starts_with("\x80\x02") && text.size() > 2 && (text[2] == '\x8a' || text[2] == '}' || text[2] == 'c'))
    return is("a PyTorch file", "use the model's safetensors (save_pretrained of transformers writes them)");
  const std::string_view begin = text.substr(std::min(text.size(), text.find_first_not_of(" \t\r\n\xEF\xBB\xBF")));
  if (StartsWithIgnoringCase(begin, "<!doctype") || StartsWithIgnoringCase(begin, "<html"))
    return is("a web page, not the file itself", "download the file, not the page that shows it");
  return std::nullopt;
}

Result<std::string> ReadModelText(const std::string& path, size_t max_bytes) {
  SW_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, max_bytes));
  if (const auto foreign = ForeignContent(std::as_bytes(std::span(text))))
    return Corruption(StrFormat("{}: {}", path, *foreign));
  return text;
}

Result<json::object> ReadModelJson(const std::string& path, size_t max_bytes) {
  SW_ASSIGN_OR_RETURN(const std::string text, ReadModelText(path, max_bytes));
  SW_ASSIGN_OR_RETURN(json::value value, ParsePythonJson(text, path));
  if (!value.is_object())
    return InvalidArgument(StrFormat("{}: holds {}, expected an object", path, JsonKindName(value)));
  return std::move(value.get_object());
}

bool IsGgufPath(const std::string& path) {
  std::error_code ignored;
  return !fs::is_directory(path, ignored);
}

Result<std::string> FindModel(const std::string& path) {
  std::error_code error;
  const fs::file_type kind = fs::status(path, error).type();
  if (kind == fs::file_type::not_found) return NotFound(path + ": no such model folder or GGUF file");
  if (error) return InvalidArgument(StrFormat("{}: {}", path, error.message()));
  if (IsGgufPath(path)) {
    for (const std::string_view end : {".safetensors", ".json", ".bin", ".pth", ".pt", ".model"})
      if (path.ends_with(end))
        return InvalidArgument(path + ": is neither a model folder nor a GGUF file; name the folder that holds it");
    return path;
  }
  const std::vector<std::string> names = FilesOf(path), models = GgufModels(names);
  const bool safetensors = std::ranges::any_of(names, [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  });
  if (safetensors || models.empty()) return path;
  if (models.size() == 1) return (fs::path(path) / models.front()).string();
  constexpr size_t kNamed = 8;
  const size_t shown = std::min(models.size(), kNamed);
  return InvalidArgument(StrFormat("{}: holds {} GGUF files, name one of them: {}{}", path, models.size(),
                                   fmt::join(models.begin(), models.begin() + static_cast<ptrdiff_t>(shown), ", "),
                                   shown < models.size() ? ", ..." : ""));
}

std::string WhyNoWeights(const std::string& folder) {
  const std::vector<std::string> names = FilesOf(folder);
  const auto find = [&](const auto& matches) -> std::string_view {
    const auto found = std::ranges::find_if(names, matches);
    return found == names.end() ? std::string_view() : std::string_view(*found);
  };
  constexpr std::string_view kMissing =
      "neither model.safetensors nor model.safetensors.index.json is there, nor a GGUF file";
  if (const auto name = find([](const std::string& n) { return n == "adapter_config.json"; }); !name.empty())
    return "holds an adapter (adapter_config.json), not a whole model; merge it into its base model first";
  if (const auto name =
          find([](const std::string& n) { return n.starts_with("model-") && n.ends_with(".safetensors"); });
      !name.empty())
    return StrFormat("holds {}, but no model.safetensors.index.json, which says what is in which file; download it too",
                     name);
  if (const auto name = find([](const std::string& n) { return n.ends_with(".safetensors"); }); !name.empty())
    return StrFormat("{}; it holds {}, which is in no layout that is read: use the files in the Hugging Face layout",
                     kMissing, name);
  if (const auto name = find([](const std::string& n) {
        return (n.ends_with(".bin") && n != "training_args.bin") || n.ends_with(".pth") || n.ends_with(".pt") ||
               n.ends_with(".bin.index.json");
      });
      !name.empty())
    return StrFormat(
        "holds PyTorch weights ({}), which are not read; convert them to safetensors (save_pretrained of transformers "
        "writes them)",
        name);
  return std::string(kMissing);
}

}  // namespace spanwise
