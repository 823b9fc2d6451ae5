#include "retrieval/document.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

namespace spanwise::retrieval {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string LowerExtension(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return extension;
}

struct FileFacts {
  bool directory = false, regular = false;
  uint64_t size_bytes = 0;
  int64_t mtime_ns = 0;
};

// NotFound where nothing is there, or only a link to nothing or to itself.
Result<FileFacts> Examine(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const std::string message = StrFormat("{}: {}", path, std::strerror(errno));
    return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? NotFound(message) : InvalidArgument(message);
  }
  return FileFacts{S_ISDIR(info.st_mode), S_ISREG(info.st_mode), static_cast<uint64_t>(info.st_size),
                   int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec};
}

// Collects the files of the arguments, each once.
class Lister {
 public:
  Status Add(const std::string& argument) {
    SW_ASSIGN_OR_RETURN(const FileFacts facts, Examine(argument));
    SW_ASSIGN_OR_RETURN(const std::string absolute, AbsolutePath(argument));
    parent_ = fs::path(absolute).parent_path();
    if (facts.directory) {
      root_ = absolute;
      listing_.roots.push_back({argument, root_});
      return AddFolder(fs::path(argument).lexically_normal());
    }
    root_.clear();
    return AddFile(argument, facts);
  }

  SourceListing Take() { return std::move(listing_); }

 private:
  Status AddFile(const std::string& path, const FileFacts& facts) {
    if (!facts.regular) return InvalidArgument(path + ": is not a regular file");
    SW_ASSIGN_OR_RETURN(const SourceKind kind, KindOf(path));
    SW_ASSIGN_OR_RETURN(std::string absolute, AbsolutePath(path));
    std::string id = fs::path(absolute).lexically_relative(parent_).generic_string();
    if (!IsValidUtf8(id)) return InvalidArgument(path + ": the name is not UTF-8");
    if (std::any_of(id.begin(), id.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      return InvalidArgument(path + ": the name holds a control character");
    if (seen_.insert(absolute).second)
      listing_.files.push_back(
          {path, std::move(absolute), root_, std::move(id), kind, facts.size_bytes, facts.mtime_ns});
    return Status::Ok();
  }

  // Folders are listed one after another, each to its end, so that no depth exhausts anything.
  Status AddFolder(const fs::path& root) {
    std::vector<std::string> files;
    std::vector<fs::path> folders = {root};
    const size_t n_skipped = listing_.skipped.size();
    while (!folders.empty()) {
      const fs::path folder = std::move(folders.back());
      folders.pop_back();
      std::error_code error;
      fs::directory_iterator entry(folder, error);
      for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;  // what cannot be looked at is met again in Examine
        const fs::path& path = entry->path();
        if (path.filename().string().starts_with('.')) continue;
        if (!entry->is_directory(ignored)) {
          files.push_back(path.string());
        } else if (entry->is_symlink(ignored)) {
          SW_RETURN_IF_ERROR(Skip(path.string(), "a symbolic link to a folder is not followed", false));
        } else {
          folders.push_back(path);
        }
      }
      if (!error) continue;
      if (folder == root)
        return InvalidArgument(StrFormat("{}: cannot list the folder: {}", folder.string(), error.message()));
      SW_RETURN_IF_ERROR(Skip(folder.string(), error.message(), error != std::errc::no_such_file_or_directory));
    }
    std::sort(files.begin(), files.end());
    for (const std::string& path : files) {
      const auto facts = Examine(path);
      const Status status = facts.ok() ? AddFile(path, *facts) : facts.status();
      if (status.ok()) continue;
      const bool unread = !facts.ok() && status.code() != StatusCode::kNotFound && KindOf(path).ok();
      SW_RETURN_IF_ERROR(Skip(path, status.message().substr(path.size() + 2), unread));
    }
    std::sort(listing_.skipped.begin() + static_cast<std::ptrdiff_t>(n_skipped), listing_.skipped.end(),
              [](const SkippedFile& a, const SkippedFile& b) { return a.path < b.path; });
    return Status::Ok();
  }

  Status Skip(const std::string& path, std::string reason, bool unread) {
    SW_ASSIGN_OR_RETURN(std::string absolute, AbsolutePath(path));
    listing_.skipped.push_back({path, std::move(reason), std::move(absolute), unread});
    return Status::Ok();
  }

  SourceListing listing_;
  std::unordered_set<std::string> seen_;
  fs::path parent_;
  std::string root_;
};

// "UTF-16" or "UTF-32" where the first bytes are those of such a file, with a byte order mark or (ASCII text) without.
std::string_view OtherEncoding(std::string_view text) {
  if (text.starts_with(std::string_view("\xFF\xFE\0\0", 4)) || text.starts_with(std::string_view("\0\0\xFE\xFF", 4)))
    return "UTF-32";
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) return "UTF-16";
  const auto zero = [&](size_t i) { return text[i] == '\0'; };
  return text.size() >= 4 && zero(0) != zero(1) && zero(0) == zero(2) && zero(1) == zero(3) ? "UTF-16" : "";
}

Status CheckEncoding(std::string_view text, std::string_view where) {
  const std::string_view other = OtherEncoding(text);
  if (other.empty()) return Status::Ok();
  return InvalidArgument(
      StrFormat("{}: is {}, expected UTF-8; convert it (iconv -f {} -t UTF-8)", where, other, other));
}

Status CheckText(std::string_view text, size_t max_bytes, std::string_view where) {
  if (text.size() > max_bytes)
    return ResourceExhausted(StrFormat("{}: {} bytes of text, at most {} are read", where, text.size(), max_bytes));
  size_t bad = 0;
  if (!IsValidUtf8(text, &bad))
    return InvalidArgument(StrFormat("{}: not UTF-8 at byte {}; convert it to UTF-8", where, bad));
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    return InvalidArgument(StrFormat("{}: a NUL byte at byte {}: this is not text", where, nul));
  return Status::Ok();
}

// The document of one line of a .jsonl file; its path and fallback id are filled in by the caller.
Result<SourceDocument> ParseLine(std::string_view line, const std::string& where) {
  size_t bad = 0;
  if (!IsValidUtf8(line, &bad)) return InvalidArgument(StrFormat("{}: not UTF-8 at byte {} of the line", where, bad));
  SW_ASSIGN_OR_RETURN(const json::value value, ParseJson(line, where));
  if (!value.is_object())
    return InvalidArgument(StrFormat("{}: the line is {}, expected an object", where, JsonKindName(value)));
  const json::object& object = value.get_object();
  const auto string = [&](std::string_view key) -> Result<std::optional<std::string>> {
    auto member = GetString(object, key);
    if (!member.ok()) return member.status().WithContext(where);
    return member;
  };
  SourceDocument document;
  SW_ASSIGN_OR_RETURN(auto text, string("text"));
  for (const char* other : {"content", "page_content"}) {  // as other programs name it
    SW_ASSIGN_OR_RETURN(auto same, string(other));
    if (!same) continue;
    if (text) return InvalidArgument(StrFormat("{}: 'text' and '{}' are both given", where, other));
    text = std::move(same);
  }
  if (!text) return InvalidArgument(StrFormat("{}: 'text' is missing", where));
  document.text = *text;
  SW_ASSIGN_OR_RETURN(const auto title, string("title"));
  document.title = title.value_or("");
  if (const json::value* id = object.if_contains("id"); id && (id->is_int64() || id->is_uint64())) {
    document.id = json::serialize(*id);
  } else {
    SW_ASSIGN_OR_RETURN(const auto name, string("id"));
    document.id = name.value_or("");
    if (name && name->empty()) return InvalidArgument(StrFormat("{}: 'id' is empty", where));
  }
  const auto metadata = GetObject(object, "metadata");
  if (!metadata.ok()) return metadata.status().WithContext(where);
  if (*metadata) document.metadata_json = json::serialize(**metadata);
  return document;
}

// One .jsonl file, fed line by line.
class JsonLines {
 public:
  JsonLines(const SourceFile& file, const DocumentLimits& limits, const DocumentSink& sink)
      : file_(file), limits_(limits), sink_(sink) {}

  Status Line(std::string_view line) {
    if (++number_ == 1) {
      SW_RETURN_IF_ERROR(CheckEncoding(line, file_.path));
      if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    }
    if (Trim(line).empty()) return Status::Ok();
    if (line.size() > limits_.max_line_bytes) return TooLong(line.size());
    const std::string where = PlaceOf(file_.path, number_);
    SW_ASSIGN_OR_RETURN(SourceDocument document, ParseLine(line, where));
    if (document.id.empty()) document.id = StrFormat("{}#{}", file_.id, number_);
    document.path = file_.path;
    document.line = number_;
    SW_RETURN_IF_ERROR(CheckDocument(limits_, where, &document));
    return sink_(std::move(document));
  }

  // A line that is not read to its end: it has at least `bytes`.
  Status TooLong(size_t bytes) const {
    return ResourceExhausted(StrFormat("{}:{}: a line of {} bytes or more, at most {} are read", file_.path,
                                       std::max<size_t>(number_, 1), bytes, limits_.max_line_bytes));
  }
  void CountLine() { ++number_; }

 private:
  const SourceFile& file_;
  const DocumentLimits& limits_;
  const DocumentSink& sink_;
  size_t number_ = 0;
};

Status ReadJsonLines(const SourceFile& file, const DocumentLimits& limits, const DocumentSink& sink) {
  SW_ASSIGN_OR_RETURN(FileReader reader, FileReader::Open(file.absolute));
  JsonLines lines(file, limits, sink);
  std::string pending, buffer(size_t{1} << 18, '\0');
  while (true) {
    SW_ASSIGN_OR_RETURN(const size_t n, reader.Read(buffer));
    if (n == 0) break;
    std::string_view bytes(buffer.data(), n);
    for (size_t end; (end = bytes.find('\n')) != std::string_view::npos; bytes.remove_prefix(end + 1)) {
      pending += bytes.substr(0, end);
      SW_RETURN_IF_ERROR(lines.Line(pending));
      pending.clear();
    }
    pending += bytes;
    if (pending.size() > limits.max_line_bytes) {
      lines.CountLine();
      return lines.TooLong(pending.size());
    }
  }
  return pending.empty() ? Status::Ok() : lines.Line(pending);
}

// Gives files with the same id one more folder of their paths, until no two are the same.
void TellApart(std::vector<SourceFile>* files) {
  while (true) {
    std::map<std::string_view, std::vector<SourceFile*>> by_id;
    for (SourceFile& file : *files) by_id[file.id].push_back(&file);
    std::vector<SourceFile*> alike;
    for (const auto& [id, same] : by_id)
      if (same.size() > 1) alike.insert(alike.end(), same.begin(), same.end());
    bool longer = false;
    for (SourceFile* file : alike) {
      const size_t begin = file->absolute.size() - file->id.size();  // of the id, behind a '/'
      if (begin < 2) continue;
      std::string id = file->absolute.substr(file->absolute.rfind('/', begin - 2) + 1);
      if (!IsValidUtf8(id)) continue;
      file->id = std::move(id);
      longer = true;
    }
    if (!longer) return;
  }
}

bool IsUnder(const std::string& path, const std::string& folder) {
  return path.starts_with(folder.ends_with('/') ? folder : folder + '/');
}

}  // namespace

Result<SourceKind> KindOf(const std::string& path) {
  const std::string extension = LowerExtension(path);
  if (extension == ".txt" || extension == ".text") return SourceKind::kText;
  if (extension == ".md" || extension == ".markdown") return SourceKind::kMarkdown;
  if (extension == ".jsonl" || extension == ".ndjson") return SourceKind::kJsonLines;
  if (extension == ".html" || extension == ".htm" || extension == ".pdf")
    return Unimplemented(StrFormat("{}: {} files are not supported yet; convert it to .md or .txt", path, extension));
  return InvalidArgument(StrFormat("{}: {} is no document type; .txt, .md and .jsonl are read", path,
                                   extension.empty() ? "a name without an ending" : Quoted(extension, 20)));
}

Result<std::string> AbsolutePath(const std::string& path) {
  std::error_code error;
  fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (error) return InvalidArgument(StrFormat("{}: {}", path, error.message()));
  if (!absolute.has_filename() && absolute.has_parent_path() && absolute != absolute.root_path())
    absolute = absolute.parent_path();  // "docs/" is "docs"
  return absolute.string();
}

Status AsNamed(const SourceFile& file, const Status& status) {
  if (status.ok() || !status.message().starts_with(file.absolute)) return status;
  return {status.code(), file.path + status.message().substr(file.absolute.size())};
}

SkippedFile SkippedFor(const SourceFile& file, const Status& failure) {
  std::string_view place = file.path, reason = failure.message();
  if (const size_t end = reason.find(": ", place.size()); reason.starts_with(place) && end != std::string_view::npos) {
    place = reason.substr(0, end);
    reason.remove_prefix(end + 2);
  }
  return {std::string(place), std::string(reason), file.absolute, failure.code() != StatusCode::kNotFound};
}

std::string PlaceOf(const std::string& path, size_t line) { return line == 0 ? path : StrFormat("{}:{}", path, line); }

std::string EqualIds(const SourceDocument& document, const std::string& other_path, size_t other_line, bool from_path) {
  const bool same_file = document.path == other_path;
  return StrFormat("its id {} is that of {}; {}", Quoted(document.id),
                   same_file ? StrFormat("line {}", other_line) : PlaceOf(other_path, other_line),
                   from_path && !same_file ? "index a folder that holds both, so that their paths tell them apart"
                                           : "give one of them another id");
}

Result<SourceListing> ListSources(const std::vector<std::string>& arguments) {
  Lister lister;
  for (const std::string& argument : arguments) SW_RETURN_IF_ERROR(lister.Add(argument));
  return lister.Take();
}

Status ParseSource(const SourceFile& file, std::string bytes, const DocumentLimits& limits, const DocumentSink& sink) {
  if (file.kind == SourceKind::kJsonLines) {
    JsonLines lines(file, limits, sink);
    if (bytes.ends_with('\n')) bytes.pop_back();
    for (const std::string_view line : Split(bytes, '\n')) SW_RETURN_IF_ERROR(lines.Line(line));
    return Status::Ok();
  }
  SourceDocument document;
  document.id = file.id;
  document.path = file.path;
  document.format = file.kind == SourceKind::kMarkdown ? DocumentFormat::kMarkdown : DocumentFormat::kText;
  document.text = std::move(bytes);
  SW_RETURN_IF_ERROR(CheckEncoding(document.text, file.path));
  if (document.text.starts_with(kByteOrderMark)) document.text.erase(0, kByteOrderMark.size());
  SW_RETURN_IF_ERROR(CheckText(document.text, limits.max_text_bytes, file.path));
  document.title = TitleOf(document.text, document.format);
  if (document.title.empty() || document.title.size() > limits.max_title_bytes)
    document.title = fs::path(file.path).stem().string();
  SW_RETURN_IF_ERROR(CheckDocument(limits, file.path, &document));
  return sink(std::move(document));
}

Status ReadSource(const SourceFile& file, const DocumentLimits& limits, const DocumentSink& sink) {
  if (file.kind == SourceKind::kJsonLines) return AsNamed(file, ReadJsonLines(file, limits, sink));
  auto bytes = ReadFile(file.absolute, limits.max_text_bytes + kByteOrderMark.size());
  if (!bytes.ok()) return AsNamed(file, bytes.status());
  return ParseSource(file, *std::move(bytes), limits, sink);
}

Result<DocumentSet> ReadDocuments(const std::vector<std::string>& arguments, const DocumentLimits& limits) {
  SW_ASSIGN_OR_RETURN(SourceListing listing, ListSources(arguments));
  TellApart(&listing.files);
  DocumentSet set;
  set.skipped = std::move(listing.skipped);
  std::map<std::string, std::pair<std::string, size_t>> seen;  // id -> path and line
  std::vector<const SourceFile*> read;
  for (const SourceFile& file : listing.files) {
    std::vector<SourceDocument> documents;  // of a file that is skipped, none stays
    const Status status = ReadSource(file, limits, [&](SourceDocument document) {
      documents.push_back(std::move(document));
      return Status::Ok();
    });
    if (!status.ok() && file.root.empty()) return status;
    if (!status.ok()) {
      set.skipped.push_back(SkippedFor(file, status));
      continue;
    }
    read.push_back(&file);
    for (SourceDocument& document : documents) {
      const auto [it, added] = seen.try_emplace(document.id, document.path, document.line);
      if (!added)
        return InvalidArgument(PlaceOf(document.path, document.line) + ": " +
                               EqualIds(document, it->second.first, it->second.second, false));
      set.documents.push_back(std::move(document));
    }
  }
  for (const SourceFolder& root : listing.roots) {
    const auto is_under = [&](const auto& file) { return IsUnder(file.absolute, root.absolute); };
    if (std::any_of(read.begin(), read.end(), [&](const SourceFile* file) { return is_under(*file); })) continue;
    const auto first = std::find_if(set.skipped.begin(), set.skipped.end(), is_under);
    return NotFound(StrFormat("{}: the folder holds no document (.txt, .md and .jsonl are read){}", root.path,
                              first == set.skipped.end() ? ""
                                                         : StrFormat("; {} skipped, the first {}: {}",
                                                                     std::count_if(first, set.skipped.end(), is_under),
                                                                     first->path, first->reason)));
  }
  return set;
}

Status CheckDocument(const DocumentLimits& limits, std::string_view where, SourceDocument* document) {
  SW_RETURN_IF_ERROR(CheckText(document->text, limits.max_text_bytes, where));
  const auto check_line = [&](std::string_view name, std::string_view value, size_t max_bytes) -> Status {
    if (value.size() > max_bytes)
      return ResourceExhausted(
          StrFormat("{}: the {} has {} bytes, at most {} are taken", where, name, value.size(), max_bytes));
    if (!IsValidUtf8(value)) return InvalidArgument(StrFormat("{}: the {} is not UTF-8", where, name));
    if (std::any_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      return InvalidArgument(StrFormat("{}: the {} {} holds a control character", where, name, Quoted(value)));
    return Status::Ok();
  };
  if (document->id.empty()) return InvalidArgument(StrFormat("{}: the document has no id", where));
  SW_RETURN_IF_ERROR(check_line("id", document->id, limits.max_id_bytes));
  if (document->title.empty()) {
    document->title = TitleOf(document->text, document->format);
    if (document->title.empty() || document->title.size() > limits.max_title_bytes) document->title = document->id;
  }
  SW_RETURN_IF_ERROR(check_line("title", document->title, limits.max_title_bytes));
  document->cache_salt.reset();
  if (document->metadata_json.empty()) document->metadata_json = "{}";
  if (document->metadata_json.size() > limits.max_metadata_bytes)
    return ResourceExhausted(StrFormat("{}: 'metadata' has {} bytes, at most {} are taken", where,
                                       document->metadata_json.size(), limits.max_metadata_bytes));
  if (document->metadata_json == "{}") return Status::Ok();
  SW_ASSIGN_OR_RETURN(const json::value metadata, ParseJson(document->metadata_json, StrFormat("{}: metadata", where)));
  if (!metadata.is_object())
    return InvalidArgument(StrFormat("{}: 'metadata' is {}, expected an object", where, JsonKindName(metadata)));
  const json::value* salt = metadata.get_object().if_contains("cache_salt");
  if (!salt) return Status::Ok();
  if (!salt->is_string())
    return InvalidArgument(StrFormat("{}: 'metadata.cache_salt' is {}, expected a string", where, JsonKindName(*salt)));
  document->cache_salt = std::string(salt->get_string());
  if (document->cache_salt->size() <= limits.max_salt_bytes) return Status::Ok();
  return ResourceExhausted(StrFormat("{}: 'metadata.cache_salt' has {} bytes, at most {} are taken", where,
                                     document->cache_salt->size(), limits.max_salt_bytes));
}

std::string TitleOf(std::string_view text, DocumentFormat format) {
  constexpr size_t kMaxTitleLine = 80;
  const auto clean = [](std::string title) {
    std::replace_if(
        title.begin(), title.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
    return title;
  };
  std::string_view first;
  bool first_stands_alone = true;
  for (const Block& block : ParseBlocks(text, format)) {
    const std::string_view block_text = text.substr(block.range.begin, block.range.size());
    if (block.kind == BlockKind::kHeading) {
      if (std::string title = HeadingText(block_text); !title.empty()) return clean(std::move(title));
    } else if (first.empty()) {
      first = Trim(block_text);
      first_stands_alone = block.kind == BlockKind::kParagraph && first.find('\n') == std::string_view::npos;
      if (format == DocumentFormat::kText) break;
    }
  }
  if (!first_stands_alone || first.size() > kMaxTitleLine || first.empty()) return {};
  return std::string_view(".,;:!?").find(first.back()) == std::string_view::npos ? clean(std::string(first))
                                                                                 : std::string();
}

}  // namespace spanwise::retrieval
