// Files to documents: .txt, .md and .jsonl, one at a time or a folder of them.
//
// A document's id is stable and readable. A line of a .jsonl file brings its own ("id"); without one it is the file's
// id,
// '#' and the line number. A file's id is its path relative to the *parent* of the argument that led to it, so that
//   examples/documents                       gives documents/harlow-instruments.md
//   examples/documents/harlow-instruments.md gives harlow-instruments.md
// and the ids do not depend on where the folder lies. (A Corpus keeps the id under which it first saw a file.)
//
// Text is kept as it is, without a leading byte order mark: byte offsets into a document are offsets into its file
// (less the mark) or into its "text" member. It must be UTF-8 without NUL bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/blocks.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

struct SourceDocument {
  std::string id;
  std::string title;  // empty: see TitleOf
  std::string text;
  std::string metadata_json = "{}";  // a JSON object
  // Its "cache_salt" (Document::cache_salt): filled in by CheckDocument.
  std::optional<std::string> cache_salt = {};
  std::string path;  // the file it was read from, as named by the user; empty when there is none
  DocumentFormat format = DocumentFormat::kText;
};

struct DocumentLimits {
  size_t max_text_bytes = size_t{64} << 20;
  size_t max_line_bytes = size_t{128} << 20;  // of a .jsonl file; escapes make lines longer than their text
  size_t max_id_bytes = 1024;
  size_t max_title_bytes = 4096;
  size_t max_metadata_bytes = size_t{1} << 20;
  size_t max_salt_bytes = Document::kMostSaltBytes;
};

enum class SourceKind : uint8_t { kText, kMarkdown, kJsonLines };

// A file that can be read, as found; its contents have not been looked at.
struct SourceFile {
  std::string path;      // as named by the user
  std::string absolute;  // absolute, without "." and ".."; symbolic links are kept
  std::string root;      // the absolute path of the folder argument it was found under; empty for a file argument
  std::string id;
  SourceKind kind = SourceKind::kText;
  uint64_t size_bytes = 0;
  int64_t mtime_ns = 0;
};

struct SkippedFile {
  std::string path;
  std::string reason;
};

struct SourceListing {
  std::vector<SourceFile> files;   // arguments in their order, a folder's files sorted by path
  std::vector<std::string> roots;  // absolute paths of the arguments that are folders
  std::vector<SkippedFile> skipped;
};

// What the arguments name, without reading any file. A folder is walked recursively; hidden files and folders (".git")
// are passed over, every other file that is no document is in `skipped` with the reason. A file named twice is listed
// once. NotFound for an argument that is not there. An argument that itself is a file of another type is Unimplemented
// (.html, .pdf: not yet) or InvalidArgument.
Result<SourceListing> ListSources(const std::vector<std::string>& arguments);

using DocumentSink = std::function<Status(SourceDocument)>;

// Reads one file and hands each of its documents to `sink`, whose failure ends the reading and is returned. Every
// message begins with the path, and for .jsonl with "path:line". InvalidArgument: not UTF-8 (with the byte offset), a
// line that is no such object; ResourceExhausted: past a limit. Holds one document (or line) in memory at a time.
Status ReadSource(const SourceFile& file, const DocumentLimits& limits, const DocumentSink& sink);

// The same over bytes already in memory; of `file`, only path, id and kind are used.
Status ParseSource(const SourceFile& file, std::string bytes, const DocumentLimits& limits, const DocumentSink& sink);

// Lists and reads everything at once, for small sets. Also fails where ListSources would skip a file, and when two
// documents have the same id (the message names both).
Result<std::vector<SourceDocument>> ReadDocuments(const std::vector<std::string>& arguments,
                                                  const DocumentLimits& limits = {});

// Checks a document that did not come from ReadSource (an upload): id, text, title and metadata within the limits and
// well formed. `where` begins every message. Fills in an empty title.
Status CheckDocument(const DocumentLimits& limits, std::string_view where, SourceDocument* document);

// The first Markdown heading; else a first line that looks like one (at most 80 bytes, no stop at its end, a blank line
// or nothing after it); else "".
std::string TitleOf(std::string_view text, DocumentFormat format);

}  // namespace spanwise::retrieval
