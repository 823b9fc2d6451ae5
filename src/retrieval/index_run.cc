#include "retrieval/index_run.h"

#include <chrono>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/str.h"

namespace spanwise::retrieval {
namespace {

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// The files in order; what must go before and after them.
class IndexRun {
 public:
  IndexRun(const SourceListing& listing, const IndexOptions& options, const ProgressCallback& progress,
           CorpusWriter* writer, IndexReport* report)
      : listing_(listing),
        options_(options),
        progress_(progress),
        writer_(writer),
        report_(report),
        chunker_(options.chunk.Describe()) {
    progress_state_.files_total = listing.files.size();
    for (const SourceFile& file : listing.files) {
      progress_state_.bytes_total += file.size_bytes;
      present_.insert(file.absolute);
    }
  }

  Status Run() {
    for (const std::string& path : options_.remove) SW_RETURN_IF_ERROR(Remove(path));
    for (const SkippedFile& skipped : listing_.skipped) SW_RETURN_IF_ERROR(TakeSkipped(skipped));
    for (const SourceFile& file : listing_.files) {
      progress_state_.path = file.path;
      SW_RETURN_IF_ERROR(Progress());
      SW_RETURN_IF_ERROR(TakeFile(file));
      ++progress_state_.files_done;
      progress_state_.bytes_done += file.size_bytes;
    }
    for (const SourceFolder& root : listing_.roots) SW_RETURN_IF_ERROR(RemoveVanished(root.absolute));
    if (options_.prune) SW_RETURN_IF_ERROR(Prune());
    SW_RETURN_IF_ERROR(FindGone());
    progress_state_.path = {};
    return Progress();
  }

 private:
  // A document's id in this run, and where it is.
  struct Place {
    const SourceFile* file;
    size_t line;  // of a .jsonl file; 0: see Locate
  };

  Status Progress() {
    if (progress_ && !progress_(progress_state_)) return CancelledRun();
    return Status::Ok();
  }

  Status Remove(const std::string& path) {
    SW_ASSIGN_OR_RETURN(const std::string absolute, AbsolutePath(path));
    SW_ASSIGN_OR_RETURN(const std::vector<FileRow> rows, writer_->FilesAt(absolute));
    if (rows.empty()) return NotFound(path + ": no document of the corpus comes from there");
    for (const FileRow& row : rows) SW_RETURN_IF_ERROR(writer_->RemoveFile(row));
    return Status::Ok();
  }

  // What could not be looked at keeps what the corpus has of it.
  Status TakeSkipped(SkippedFile skipped) {
    if (skipped.unread) {
      unread_.insert(skipped.absolute);
      SW_ASSIGN_OR_RETURN(const std::vector<FileRow> rows, writer_->FilesAt(skipped.absolute));
      if (!rows.empty()) skipped.reason += kStays;
    }
    report_->skipped.push_back(std::move(skipped));
    return Status::Ok();
  }

  Status TakeFile(const SourceFile& listed) {
    SourceFile file = listed;
    SW_ASSIGN_OR_RETURN(const std::optional<FileRow> before, writer_->FindFile(file.absolute));
    if (before) {
      file.id = before->id;
      if (file.root.empty()) file.root = before->root;
    }
    if (before && !options_.rechunk && before->mtime_ns == file.mtime_ns && before->chunker == chunker_ &&
        before->size_bytes == static_cast<int64_t>(file.size_bytes))
      return TakeUnread(listed, file, *before);

    // What cannot be opened is no fault of the documents in a folder, and is passed over as its unlisted folders are.
    if (!listed.root.empty())
      if (const auto opened = FileReader::Open(file.absolute); !opened.ok())
        return Skip(listed, before, AsNamed(file, opened.status()));
    // Documents are put as they are read, so a file that fails halfway must not leave half of itself: it is read into
    // memory first only when its failure would not end the run.
    std::vector<SourceDocument> documents;
    if (options_.keep_going) {
      const Status status = ReadSource(file, options_.limits, [&](SourceDocument document) {
        documents.push_back(std::move(document));
        return Status::Ok();
      });
      if (!status.ok()) return Skip(listed, before, status);
    }
    ++report_->files_read;
    FileRow row{before ? before->file_id : 0, file.absolute, file.root, file.id, static_cast<int64_t>(file.size_bytes),
                // A file changed this recently may change again without a new time.
                NowNs() - file.mtime_ns < kTrustAfterNs ? kUnknownTime : file.mtime_ns, chunker_};
    SW_RETURN_IF_ERROR(writer_->PutFile(&row));
    std::unordered_set<std::string> now;
    bool complete = true;
    const DocumentSink take = [&](SourceDocument document) -> Status {
      SW_ASSIGN_OR_RETURN(const std::optional<std::string> taken, Claim(document, listed, row));
      if (taken) {
        const std::string place = PlaceOf(document.path, document.line);
        if (!options_.keep_going) return InvalidArgument(StrFormat("{}: {}", place, *taken));
        report_->skipped.push_back({place, *taken, file.absolute, true});
        complete = false;
        return Status::Ok();
      }
      SW_RETURN_IF_ERROR(writer_->PutDocument(document, row.file_id, options_.rechunk));
      now.insert(std::move(document.id));
      if (++progress_state_.documents % kDocumentsPerReport == 0) return Progress();
      return Status::Ok();
    };
    for (SourceDocument& document : documents) SW_RETURN_IF_ERROR(take(std::move(document)));
    if (!options_.keep_going) SW_RETURN_IF_ERROR(ReadSource(file, options_.limits, take));

    SW_ASSIGN_OR_RETURN(const std::vector<std::string> held, writer_->DocumentsOf(row.file_id));
    for (const std::string& id : held)
      if (!now.contains(id)) SW_RETURN_IF_ERROR(writer_->RemoveDocument(id));
    // The next run looks whether the id has become free, and says it again if not.
    return complete ? Status::Ok() : writer_->Distrust(row.file_id);
  }

  Status TakeUnread(const SourceFile& listed, const SourceFile& file, FileRow row) {
    SW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, writer_->DocumentsOf(row.file_id));
    for (const std::string& id : ids) claimed_.emplace(id, Place{&listed, 0});
    report_->unchanged += ids.size();
    progress_state_.documents += ids.size();
    if (row.root == file.root) return Status::Ok();
    row.root = file.root;
    return writer_->PutFile(&row);
  }

  // A file that cannot be read. What the corpus has of it stays, unless it vanished after it was listed.
  Status Skip(const SourceFile& listed, const std::optional<FileRow>& before, const Status& failure) {
    SkippedFile skipped = SkippedFor(listed, failure);
    if (!skipped.unread) present_.erase(listed.absolute);
    if (skipped.unread && before) {
      SW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, writer_->DocumentsOf(before->file_id));
      for (const std::string& id : ids) claimed_.emplace(id, Place{&listed, 0});
      if (!ids.empty()) skipped.reason += kStays;
    }
    report_->skipped.push_back(std::move(skipped));
    return Status::Ok();
  }

  // Takes a document's id for a file: once in a run, and not from another file that still has it. What to say if that
  // cannot be.
  Result<std::optional<std::string>> Claim(const SourceDocument& document, const SourceFile& listed,
                                           const FileRow& row) {
    const bool from_path = document.id == row.id || document.id == StrFormat("{}#{}", row.id, document.line);
    const auto [it, added] = claimed_.emplace(document.id, Place{&listed, document.line});
    if (!added) {
      const Place& other = it->second;
      const size_t line = other.line ? other.line : Locate(other.file->absolute, document.id).value_or(0);
      return std::optional(EqualIds(document, other.file->path, line, from_path));
    }
    SW_ASSIGN_OR_RETURN(const CorpusWriter::Owner owner, writer_->OwnerOf(document.id));
    if (!owner.file_id || *owner.file_id == row.file_id) return std::optional<std::string>();
    if (!present_.contains(owner.path) && !FileIsGone(owner.path)) {
      if (const std::optional<size_t> line = Locate(owner.path, document.id)) {
        claimed_.erase(it);
        return std::optional(EqualIds(document, owner.path, *line, from_path));
      }
    }
    // If it still has the document, reading it will say so.
    SW_RETURN_IF_ERROR(writer_->Distrust(*owner.file_id));
    return std::optional<std::string>();
  }

  // The line of a file of the corpus that a document stands in, 0 where it is the file or the file cannot be read.
  // Absent when the file has it no more.
  std::optional<size_t> Locate(const std::string& path, const std::string& id) {
    const auto row = writer_->FindFile(path);
    const auto kind = KindOf(path);
    if (!row.ok() || !*row || !kind.ok() || *kind != SourceKind::kJsonLines) return 0;
    std::optional<size_t> line;
    const SourceFile file{.path = path, .absolute = path, .root = {}, .id = (*row)->id, .kind = *kind};
    const Status status = ReadSource(file, options_.limits, [&](const SourceDocument& document) {
      if (document.id != id) return Status::Ok();
      line = document.line;
      return Cancelled("found");
    });
    return status.ok() || line ? line : 0;
  }

  Status RemoveVanished(const std::string& root) {
    SW_ASSIGN_OR_RETURN(const std::vector<FileRow> rows, writer_->FilesAt(root));
    for (const FileRow& row : rows) {
      // A file that was named itself (a hidden one, say) is not the folder's to remove while it exists.
      if (present_.contains(row.path) || IsUnread(row.path) || (row.root.empty() && !FileIsGone(row.path))) continue;
      SW_RETURN_IF_ERROR(writer_->RemoveFile(row));
    }
    return Status::Ok();
  }

  Status Prune() {
    SW_ASSIGN_OR_RETURN(const std::vector<FileRow> rows, writer_->FilesAt("/"));
    for (const FileRow& row : rows)
      if (FileIsGone(row.path)) SW_RETURN_IF_ERROR(writer_->RemoveFile(row));
    return Status::Ok();
  }

  Status FindGone() {
    SW_ASSIGN_OR_RETURN(const std::vector<IndexedSource> sources, writer_->Sources());
    for (const IndexedSource& source : sources)
      if (source.documents > 0 && FileIsGone(source.path)) report_->gone.push_back(source);
    return Status::Ok();
  }

  // Whether a path is one that could not be looked at, or below one.
  bool IsUnread(const std::string& path) const {
    for (size_t end = path.size(); !unread_.empty() && end != std::string::npos && end > 0;
         end = path.rfind('/', end - 1))
      if (unread_.contains(path.substr(0, end))) return true;
    return false;
  }

  static constexpr const char* kStays = "; its earlier text stays";
  static constexpr size_t kDocumentsPerReport = 64;
  static constexpr int64_t kTrustAfterNs = 2'000'000'000;  // the coarsest time stamps in use (FAT) have two seconds

  const SourceListing& listing_;
  const IndexOptions& options_;
  const ProgressCallback& progress_;
  CorpusWriter* writer_;
  IndexReport* report_;
  std::string chunker_;
  IndexProgress progress_state_;
  std::unordered_set<std::string> present_;         // absolute paths of this run's files
  std::unordered_set<std::string> unread_;          // ... of files and folders that could not be looked at
  std::unordered_map<std::string, Place> claimed_;  // by document id
};

}  // namespace

Status IndexSources(const SourceListing& listing, const IndexOptions& options, const ProgressCallback& progress,
                    CorpusWriter* writer, IndexReport* report) {
  return IndexRun(listing, options, progress, writer, report).Run();
}

Status CheckIsThere(CorpusWriter* writer, const std::string& path, const std::string& corpus) {
  if (!FileIsGone(path)) return Status::Ok();
  SW_ASSIGN_OR_RETURN(const std::string absolute, AbsolutePath(path));
  SW_ASSIGN_OR_RETURN(const std::vector<FileRow> rows, writer->FilesAt(absolute));
  size_t documents = 0;
  for (const FileRow& row : rows) {
    SW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, writer->DocumentsOf(row.file_id));
    documents += ids.size();
  }
  if (documents == 0) return Status::Ok();  // listing it says what is wrong
  return NotFound(
      StrFormat("{}: is gone, and the corpus still has documents from there ({}); remove them with: "
                "spanwise index --remove {} --corpus {}",
                path, documents, path, corpus));
}

Status CancelledRun() { return Cancelled("indexing was cancelled; the corpus is as it was before"); }

}  // namespace spanwise::retrieval
