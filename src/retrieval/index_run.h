// One run of Corpus::Index within its transaction: files in, changed and out.
#pragma once

#include <string>

#include "retrieval/corpus.h"
#include "retrieval/corpus_writer.h"
#include "retrieval/document.h"
#include "retrieval/sqlite.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

// Brings the corpus up to date with a listing, as Corpus::Index says, and fills in the report.
Status IndexSources(const SourceListing& listing, const IndexOptions& options, const ProgressCallback& progress,
                    CorpusWriter* writer, IndexReport* report);

// NotFound when there is nothing at a path that is to be indexed; says so where the corpus has documents from there.
// `corpus` is the corpus's folder.
Status CheckIsThere(CorpusWriter* writer, const std::string& path, const std::string& corpus);

// What a run ends with when its progress callback returns false.
Status CancelledRun();

}  // namespace spanwise::retrieval
