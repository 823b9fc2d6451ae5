#include "base/host.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/str.h"

namespace spanwise {
namespace {

// Files of proc and sys do not know their sizes. Empty where it cannot be read.
std::string ReadText(const std::string& path) {
  constexpr size_t kMostBytes = size_t{4} << 20;
  std::string text;
  std::ifstream file(path, std::ios::binary);
  char part[4096];
  while (file && text.size() < kMostBytes) {
    file.read(part, sizeof part);
    text.append(part, static_cast<size_t>(file.gcount()));
  }
  return text;
}

std::optional<uint64_t> ParseNumber(std::string_view text) {
  text = Trim(text);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;  // neither "max" nor "-1", which mean no limit
}

// "a b" of a mount is written "a\040b".
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr == text.data() + i + 4) {
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool Lists(std::string_view list, std::string_view name) {
  const auto names = Split(list, ',');
  return std::ranges::find(names, name) != names.end();
}

// A mounted hierarchy of groups.
struct Mount {
  std::string group;   // which stands at ...
  std::string folder;  // ... this place
  bool v2 = false;
  std::string controllers;  // of version 1, among other options
};

std::vector<Mount> GroupMounts(const std::string& root) {
  std::vector<Mount> mounts;
  const std::string text = ReadText(root + "/proc/self/mountinfo");
  for (const std::string_view line : Split(text, '\n')) {
    // ID PARENT MAJOR:MINOR ROOT FOLDER OPTIONS [FIELD...] - TYPE DEVICE OPTIONS
    const size_t middle = line.find(" - ");
    if (middle == std::string_view::npos) continue;
    const auto of_place = Split(line.substr(0, middle), ' ');
    const auto of_type = Split(line.substr(middle + 3), ' ');
    if (of_place.size() < 5 || of_type.size() < 3 || (of_type[0] != "cgroup" && of_type[0] != "cgroup2")) continue;
    mounts.push_back({.group = Unescape(of_place[3]),
                      .folder = Unescape(of_place[4]),
                      .v2 = of_type[0] == "cgroup2",
                      .controllers = std::string(of_type[2])});
  }
  return mounts;
}

// "/a/b" below "/a" is "/b", below "/" itself. nullopt: is not below it.
std::optional<std::string> Below(const std::string& group, const std::string& top) {
  if (top == "/") return group == "/" ? "" : group;
  if (!group.starts_with(top) || (group.size() > top.size() && group[top.size()] != '/')) return std::nullopt;
  return group.substr(top.size());
}

// The folder of the process's group in the hierarchy that has this controller, then those of the groups above it.
std::vector<std::string> GroupFolders(const std::string& root, std::string_view controller, bool v2) {
  std::optional<std::string> group;
  const std::string groups = ReadText(root + "/proc/self/cgroup");
  for (const std::string_view line : Split(groups, '\n')) {
    // ID:CONTROLLERS:GROUP, of version 2 0::GROUP
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : Lists(controllers, controller)) group = line.substr(second + 1);
  }
  if (!group) return {};
  std::optional<std::string> own, top;
  for (const Mount& mount : GroupMounts(root)) {
    if (mount.v2 != v2 || (!v2 && !Lists(mount.controllers, controller))) continue;
    const auto below = Below(*group, mount.group);
    std::error_code error;
    if (below && below->find("/..") == std::string::npos &&
        std::filesystem::is_directory(root + mount.folder + *below, error)) {
      top = mount.folder;
      own = mount.folder + *below;
      break;
    }
    // A container may see a group by another name than the one it has there: what is mounted is its own.
    if (!top) own = top = mount.folder;
  }
  std::vector<std::string> folders;
  if (!own) return folders;
  for (std::string at = *own;; at.resize(at.rfind('/'))) {
    folders.push_back(at);
    if (at.size() <= top->size()) return folders;
  }
}

void Lower(std::optional<uint64_t> amount, const std::string& source, std::optional<HostShare>* least) {
  if (amount && (!*least || *amount < (*least)->amount)) *least = HostShare{*amount, source};
}

// Processors' worth of time, rounded up.
std::optional<uint64_t> Cpus(std::optional<uint64_t> quota, std::optional<uint64_t> period) {
  if (!quota || !period || *period == 0) return std::nullopt;
  return std::max<uint64_t>(1, *quota / *period + (*quota % *period != 0));
}

uint64_t AllowedCpus() {
  // The mask is as long as the kernel's, which may be made for more processors than cpu_set_t has bits.
  for (size_t n = CPU_SETSIZE; n <= size_t{1} << 20; n *= 2) {
    cpu_set_t* const set = CPU_ALLOC(n);
    if (!set) break;
    const int code = sched_getaffinity(0, CPU_ALLOC_SIZE(n), set);
    const int error = errno;
    const int count = code == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(n), set) : 0;
    CPU_FREE(set);
    if (count > 0) return static_cast<uint64_t>(count);
    if (code != 0 && error != EINVAL) break;
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

std::optional<HostShare> GroupMemory(const std::string& root) {
  std::optional<HostShare> least;
  for (const std::string& folder : GroupFolders(root, "memory", /*v2=*/true))
    for (const char* name : {"/memory.max", "/memory.high"})  // past the latter a process is slowed down to a crawl
      Lower(ParseNumber(ReadText(root + folder + name)), folder + name, &least);
  if (const auto folders = GroupFolders(root, "memory", /*v2=*/false); !folders.empty()) {
    // The own group knows the least limit of all above it, also of those that cannot be seen from here.
    const std::string stat = ReadText(root + folders[0] + "/memory.stat");
    constexpr std::string_view kKey = "hierarchical_memory_limit ";
    std::optional<uint64_t> limit;
    for (const std::string_view line : Split(stat, '\n'))
      if (line.starts_with(kKey)) limit = ParseNumber(line.substr(kKey.size()));
    Lower(limit, folders[0] + "/memory.stat", &least);
    Lower(ParseNumber(ReadText(root + folders[0] + "/memory.limit_in_bytes")), folders[0] + "/memory.limit_in_bytes",
          &least);
  }
  return least;
}

std::optional<HostShare> GroupCpus(const std::string& root) {
  std::optional<HostShare> least;
  for (const std::string& folder : GroupFolders(root, "cpu", /*v2=*/true)) {
    const std::string text = ReadText(root + folder + "/cpu.max");  // QUOTA PERIOD
    const auto parts = Split(Trim(text), ' ');
    if (parts.size() == 2) Lower(Cpus(ParseNumber(parts[0]), ParseNumber(parts[1])), folder + "/cpu.max", &least);
  }
  for (const std::string& folder : GroupFolders(root, "cpu", /*v2=*/false))
    Lower(Cpus(ParseNumber(ReadText(root + folder + "/cpu.cfs_quota_us")),
               ParseNumber(ReadText(root + folder + "/cpu.cfs_period_us"))),
          folder + "/cpu.cfs_quota_us", &least);
  return least;
}

HostShare UsableMemory() {
  HostShare memory{static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)),
                   "the machine"};
  for (const auto& [which, name] : {std::pair(RLIMIT_AS, "ulimit -v"), {RLIMIT_DATA, "ulimit -d"}}) {
    rlimit limit{};
    if (getrlimit(which, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < memory.amount)
      memory = {limit.rlim_cur, name};
  }
  if (auto group = GroupMemory("/"); group && group->amount < memory.amount) memory = *std::move(group);
  return memory;
}

uint64_t AllowOpenFiles(uint64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  if (limit.rlim_cur < wanted) {
    const rlimit raised{std::min<rlim_t>(wanted, limit.rlim_max), limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

HostShare UsableCpus() {
  HostShare cpus{AllowedCpus(), "the machine"};
  if (cpus.amount < std::thread::hardware_concurrency()) cpus.source = "taskset or cpuset";
  if (auto group = GroupCpus("/"); group && group->amount < cpus.amount) cpus = *std::move(group);
  return cpus;
}

}  // namespace spanwise
