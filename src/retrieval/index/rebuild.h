// An index of another version, made anew from the chunks.
#pragma once

#include "retrieval/corpus.h"
#include "retrieval/sqlite.h"
#include "spanwise/status.h"

namespace spanwise::retrieval {

// Whether the index of a corpus holds the tokens that this program makes of its text.
Result<bool> IndexIsCurrent(Database* database);

// Makes the index anew where it is not current, as one transaction: a crash, a failure or a cancelled run leaves the
// old one. Waits its turn as the connection does (Database::WaitForOthers), and has nothing to do when another process
// did it meanwhile. The tokenizer is registered on the connection.
Status RebuildIndex(Database* database, const ProgressCallback& progress);

// Makes a temporary index of this connection alone, under the name of the stored one, for a corpus that cannot be
// written. It knows the corpus as it is now.
Status IndexApart(Database* database, const ProgressCallback& progress);

}  // namespace spanwise::retrieval
