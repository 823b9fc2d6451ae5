// Whether an LMDB file may end where it ends.
#pragma once

#include <lmdb.h>

#include <cstddef>

namespace spanwise::lmdb {

// How many of the pages [begin, end) the list of free pages holds, as transaction `txn` sees it; 0 where that cannot be
// read. Reads the file and not its map, in which pages behind the file's end would be signals. (The layout is that of
// LMDB 0.9's data version 1 on 64-bit machines, mdb.c.)
size_t CountFreePages(MDB_env* env, MDB_txn* txn, size_t begin, size_t end);

}  // namespace spanwise::lmdb
