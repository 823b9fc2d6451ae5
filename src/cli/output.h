// Where a verb prints: results on standard output, all else on standard error.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "spanwise/status.h"

namespace spanwise::cli {

// Results are gathered, and handed to the system when there are many, by WriteOut and by Flush; on a terminal at once.
// Nothing here throws. Thread-safe.
void PrintText(std::string_view text);

template <typename... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  PrintText(fmt::format(format, std::forward<Args>(args)...));
}

// Hands over what was printed so far. Unavailable or ResourceExhausted: something could not be written, now or before,
// and nothing is printed any more. main does it at the end; work that takes long stops by it.
Status Flush();
inline bool WriteOut() { return Flush().ok(); }

// Prints at once what the program can do without.
Status TryPrint(std::string_view text);

// What cannot be written to standard error is lost.
void NoteText(std::string_view text);

template <typename... Args>
void Note(fmt::format_string<Args...> format, Args&&... args) {
  NoteText(fmt::format(format, std::forward<Args>(args)...));
}

// At the start of a program. A standard stream that is closed stays so for reading and writing, and no file that is
// opened later takes its place; a limit on the size of files is an error and not a signal.
void PrepareStandardStreams();

}  // namespace spanwise::cli
