// What a process may use of its machine: the least of what the machine has, what its control groups give (versions 1
// and 2; containers are made of them), and what the process itself is limited to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace spanwise {

struct HostShare {
  uint64_t amount = 0;
  std::string source = {};  // what sets it: "the machine", a limit of the process, or the file of a control group
};

// Bytes of memory.
HostShare UsableMemory();

// Processors, at least 1: those that this thread may run on, and no more than the quota of processor time, rounded up.
HostShare UsableCpus();

// Lets the process open so many files at a time, as far as its hard limit allows. Returns how many it may open now.
uint64_t AllowOpenFiles(uint64_t wanted);

// What control groups alone say, as the files below `root` tell (proc and sys of a machine; "/" is this one). The
// groups above the process's own count as far as they can be seen. nullopt: no limit.
std::optional<HostShare> GroupMemory(const std::string& root);
std::optional<HostShare> GroupCpus(const std::string& root);

}  // namespace spanwise
