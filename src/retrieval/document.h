// Files to documents: .txt, .md and .jsonl, one at a time or a folder of them.
//
// A document's id is stable and readable. A line of a .jsonl file brings its own ("id"); without one it is the file's
// id, '#' and the line number. A file's id is its path relative to the *parent* of the argument that led to it, so that
//   examples/documents                       gives documents/harlow-instruments.md
//   examples/documents/harlow-instruments.md gives harlow-instruments.md
// and the ids do not depend on where the folder lies. (A Corpus keeps the id under which it first saw a file.) Folders
// and files that are read together, without a corpus, are told apart by as much more of their paths as it takes.
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
  size_t line = 0;  // of a .jsonl file, from 1; 0 where the document is a file
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

// What was found in a folder and not taken.
struct SkippedFile {
  std::string path;  // as named by the user, in any bytes; of a line "path:line"
  std::string reason;
  std::string absolute = {};  // as in SourceFile; of a folder too
  // A document by its name, or a folder, that could not be read, so that nobody can say what it holds. False for what
  // is no document and for what is gone.
  bool unread = false;
};

// An argument that is a folder.
struct SourceFolder {
  std::string path, absolute;  // as in SourceFile
};

struct SourceListing {
  std::vector<SourceFile> files;  // arguments in their order, a folder's files sorted by path
  std::vector<SourceFolder> roots;
  std::vector<SkippedFile> skipped;
};

// What the arguments name, without reading any file. A folder is walked recursively; hidden files and folders (".git")
// are passed over, everything else that is no document or cannot be looked at is in `skipped`, sorted by path, with the
// reason: files of other types, links to folders or to nothing, pipes and devices, folders that may not be listed or
// that vanish meanwhile. A file named twice is listed once. NotFound for an argument that is not there. An argument
// that itself cannot be listed or is a file of another type is InvalidArgument or Unimplemented (.html, .pdf: not yet).
Result<SourceListing> ListSources(const std::vector<std::string>& arguments);

// What a name's ending says. Unimplemented or InvalidArgument: no document.
Result<SourceKind> KindOf(const std::string& path);

// The path as ListSources gives it in `absolute`; nothing needs to be there.
Result<std::string> AbsolutePath(const std::string& path);

// A failure whose message begins with a file's absolute path, with the path as the user named it instead.
Status AsNamed(const SourceFile& file, const Status& status);

// Why a file was not taken, from the message that a failure to read it gave.
SkippedFile SkippedFor(const SourceFile& file, const Status& failure);

using DocumentSink = std::function<Status(SourceDocument)>;

// Reads one file and hands each of its documents to `sink`, whose failure ends the reading and is returned. Every
// message begins with the path, and for .jsonl with "path:line". InvalidArgument: not UTF-8 (with the byte offset), a
// line that is no such object; ResourceExhausted: past a limit. Holds one document (or line) in memory at a time.
Status ReadSource(const SourceFile& file, const DocumentLimits& limits, const DocumentSink& sink);

// The same over bytes already in memory; of `file`, only path, id and kind are used.
Status ParseSource(const SourceFile& file, std::string bytes, const DocumentLimits& limits, const DocumentSink& sink);

struct DocumentSet {
  std::vector<SourceDocument> documents;
  std::vector<SkippedFile> skipped;
};

// Lists and reads everything at once, for small sets. A file named itself that cannot be read is an error; one that was
// found in a folder is skipped. Also fails for a folder that gives no document and for two documents with one id (the
// message names both). Files whose ids would be the same are named by longer ends of their paths.
Result<DocumentSet> ReadDocuments(const std::vector<std::string>& arguments, const DocumentLimits& limits = {});

// Where a document stands: its path, for a line of a .jsonl file "path:line".
std::string PlaceOf(const std::string& path, size_t line);

// What to say of a document whose id is that of another one; its place goes in front. `from_path`: its id was made of
// its path.
std::string EqualIds(const SourceDocument& document, const std::string& other_path, size_t other_line, bool from_path);

// Checks a document that did not come from ReadSource (an upload): id, text, title and metadata within the limits and
// well formed. `where` begins every message. Fills in an empty title.
Status CheckDocument(const DocumentLimits& limits, std::string_view where, SourceDocument* document);

// The first Markdown heading; else a first line that looks like one (at most 80 bytes, no stop at its end, a blank line
// or nothing after it); else "".
std::string TitleOf(std::string_view text, DocumentFormat format);

}  // namespace spanwise::retrieval
