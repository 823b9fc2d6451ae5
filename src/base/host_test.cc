// Limits of control groups, read from the files of machines that are not this one.
#include "base/host.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "base/thread_pool.h"

namespace spanwise {
namespace {

constexpr char kV2[] = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kDisk[] = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";

class Machine {
 public:
  explicit Machine(const std::map<std::string, std::string>& files) {
    std::string name = (std::filesystem::temp_directory_path() / "spanwise-host.XXXXXX").string();
    root_ = mkdtemp(name.data());
    for (const auto& [path, text] : files) {
      const std::filesystem::path file = root_ + path;
      std::filesystem::create_directories(file.parent_path());
      std::ofstream(file) << text;
    }
  }
  ~Machine() { std::filesystem::remove_all(root_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

struct Row {
  const char* name;
  std::map<std::string, std::string> files;
  uint64_t memory, cpus;    // 0: no limit
  std::string source = {};  // of the memory
};

class Machines : public testing::TestWithParam<Row> {};

TEST_P(Machines, LimitWhatTheirGroupsSay) {
  const Machine machine(GetParam().files);
  const auto memory = GroupMemory(machine.root()), cpus = GroupCpus(machine.root());
  EXPECT_EQ(memory ? memory->amount : 0, GetParam().memory);
  EXPECT_EQ(cpus ? cpus->amount : 0, GetParam().cpus);
  if (memory && !GetParam().source.empty()) {
    EXPECT_EQ(memory->source, GetParam().source);
  }
}

const Row kMachines[] = {
    {"NoGroups", {{"/proc/self/mountinfo", kDisk}}, 0, 0},
    {"NoFilesAtAll", {}, 0, 0},
    {"Version2ContainerSeesItsGroupAsTheRoot",
     {{"/proc/self/cgroup", "0::/\n"},
      {"/proc/self/mountinfo", std::string(kDisk) + kV2},
      {"/sys/fs/cgroup/memory.max", "314572800\n"},
      {"/sys/fs/cgroup/cpu.max", "100000 100000\n"}},
     314572800,
     1,
     "/sys/fs/cgroup/memory.max"},
    {"Version2WithoutLimits",
     {{"/proc/self/cgroup", "0::/a\n"},
      {"/proc/self/mountinfo", kV2},
      {"/sys/fs/cgroup/a/memory.max", "max\n"},
      {"/sys/fs/cgroup/a/memory.high", "max\n"},
      {"/sys/fs/cgroup/a/cpu.max", "max 100000\n"}},
     0,
     0},
    {"Version2TheLeastOfAllGroupsAbove",
     {{"/proc/self/cgroup", "0::/user.slice/run-1.scope\n"},
      {"/proc/self/mountinfo", kV2},
      {"/sys/fs/cgroup/user.slice/run-1.scope/memory.max", "max\n"},
      {"/sys/fs/cgroup/user.slice/run-1.scope/cpu.max", "400000 100000\n"},
      {"/sys/fs/cgroup/user.slice/memory.max", "2000000\n"},
      {"/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"}},
     2000000,
     2,
     "/sys/fs/cgroup/user.slice/memory.max"},
    {"Version2Throttled",
     {{"/proc/self/cgroup", "0::/a\n"},
      {"/proc/self/mountinfo", kV2},
      {"/sys/fs/cgroup/a/memory.max", "2000000\n"},
      {"/sys/fs/cgroup/a/memory.high", "1000000\n"}},
     1000000,
     0,
     "/sys/fs/cgroup/a/memory.high"},
    {"Version2LessThanOneProcessor",
     {{"/proc/self/cgroup", "0::/a\n"}, {"/proc/self/mountinfo", kV2}, {"/sys/fs/cgroup/a/cpu.max", "5000 100000\n"}},
     0,
     1},
    {"Version1ContainerUnderItsNameOutside",
     {{"/proc/self/cgroup", "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"},
      {"/proc/self/mountinfo",
       "31 25 0:27 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
       "32 25 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n"},
      {"/sys/fs/cgroup/memory/memory.stat", "cache 0\nhierarchical_memory_limit 209715200\ntotal_cache 0\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}},
     209715200,
     3,
     "/sys/fs/cgroup/memory/memory.stat"},
    {"Version1BesideVersion2",
     {{"/proc/self/cgroup", "4:memory:/job/one\n1:cpu:/\n0::/\n"},
      {"/proc/self/mountinfo",
       "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
       "32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
       "33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"},
      {"/sys/fs/cgroup/unified/cgroup.procs", ""},
      {"/sys/fs/cgroup/memory/job/one/memory.limit_in_bytes", "104857600\n"},
      {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
      {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
     104857600,
     0,
     "/sys/fs/cgroup/memory/job/one/memory.limit_in_bytes"},
    {"Version1QuotaOfAGroupAbove",
     {{"/proc/self/cgroup", "1:cpu:/job/one\n"},
      {"/proc/self/mountinfo", "32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"},
      {"/sys/fs/cgroup/cpu/job/one/cpu.cfs_quota_us", "-1\n"},
      {"/sys/fs/cgroup/cpu/job/one/cpu.cfs_period_us", "100000\n"},
      {"/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n"},
      {"/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"}},
     0,
     1},
    {"GroupThatIsNotWhereItSays",  // the mount is the process's own, under another name
     {{"/proc/self/cgroup", "0::/../outside\n"},
      {"/proc/self/mountinfo", kV2},
      {"/sys/fs/cgroup/memory.max", "1000000\n"},
      {"/sys/fs/outside/memory.max", "5\n"}},
     1000000,
     0},
    {"MountOfAnotherGroupBesideTheRightOne",
     {{"/proc/self/cgroup", "0::/mine\n"},
      {"/proc/self/mountinfo", "29 25 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw\n" + std::string(kV2)},
      {"/mnt/other/memory.max", "5\n"},
      {"/sys/fs/cgroup/mine/memory.max", "1000000\n"}},
     1000000,
     0},
    {"MountWithASpaceInItsName",
     {{"/proc/self/cgroup", "0::/a\n"},
      {"/proc/self/mountinfo", "30 25 0:26 / /sys/fs/my\\040groups rw - cgroup2 none rw\n"},
      {"/sys/fs/my groups/a/memory.max", "1000000\n"}},
     1000000,
     0,
     "/sys/fs/my groups/a/memory.max"},
    {"FilesThatMakeNoSense",
     {{"/proc/self/cgroup", "0::/a\nnonsense\n:\n"},
      {"/proc/self/mountinfo", std::string("nonsense\n - \n1 2 3 - cgroup2\n") + kV2},
      {"/sys/fs/cgroup/a/memory.max", "12 34\n"},
      {"/sys/fs/cgroup/a/memory.high", "99999999999999999999999\n"},
      {"/sys/fs/cgroup/a/cpu.max", "100 0\n"},
      {"/sys/fs/cgroup/cpu.max", "100\n"}},
     0,
     0},
};
INSTANTIATE_TEST_SUITE_P(All, Machines, testing::ValuesIn(kMachines),
                         [](const auto& row) { return std::string(row.param.name); });

// In a process of its own, which may be limited.
template <typename Check>
bool HoldsInAChild(const Check& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = -1;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Host, ThreadsFollowTheProcessorsThatAreAllowed) {
  EXPECT_TRUE(HoldsInAChild([] {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &cpus);
    return sched_setaffinity(0, sizeof cpus, &cpus) == 0 && UsableCpus().amount == 1 && ThreadPool().n_threads() == 1;
  }));
}

TEST(Host, APoolDoesWithFewerThreads) {
  EXPECT_TRUE(HoldsInAChild([] {
    const rlimit limit{0, 0};
    if ((geteuid() == 0 && setuid(65534) != 0) || setrlimit(RLIMIT_NPROC, &limit) != 0) return false;
    ThreadPool pool(4);
    int n = 0;
    pool.ParallelFor(10, [&](size_t) { ++n; });
    return pool.n_threads() == 1 && n == 10;
  }));
}

TEST(Host, OpenFilesGrowToTheHardLimit) {
  EXPECT_TRUE(HoldsInAChild([] {
    const rlimit limit{32, 100};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 && AllowOpenFiles(20) == 32 && AllowOpenFiles(80) == 80 &&
           AllowOpenFiles(1000) == 100;
  }));
}

TEST(Host, MemoryFollowsTheLimitsOfTheProcess) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map more than any machine has";
#endif
  const uint64_t before = UsableMemory().amount;
  EXPECT_GT(before, uint64_t{1} << 20);
  for (const auto& [which, name] : {std::pair(RLIMIT_AS, "ulimit -v"), {RLIMIT_DATA, "ulimit -d"}})
    EXPECT_TRUE(HoldsInAChild([&, which = which, name = std::string(name)] {
      const rlimit limit{before - 4096, before - 4096};
      if (setrlimit(which, &limit) != 0) return false;
      const HostShare memory = UsableMemory();
      return memory.amount == before - 4096 && memory.source == name;
    })) << name;
}

}  // namespace
}  // namespace spanwise
