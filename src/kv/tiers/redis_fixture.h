// A real Valkey or Redis server of a test's own, on a free port of this machine.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kv/tiers/resp.h"

namespace spanwise {

inline std::string FindProgram(const std::vector<std::string>& names) {
  const char* path = std::getenv("PATH");
  std::string folders = path ? path : "";
  for (size_t begin = 0; begin <= folders.size();) {
    const size_t end = std::min(folders.find(':', begin), folders.size());
    for (const std::string& name : names)
      if (std::string file = folders.substr(begin, end - begin) + "/" + name; access(file.c_str(), X_OK) == 0)
        return file;
    begin = end + 1;
  }
  return "";
}

// Waits for something that happens on other threads.
inline bool Eventually(const std::function<bool()>& happens, int seconds = 20) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (!happens()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class RedisServer {
 public:
  static bool Installed() { return !Program().empty(); }

  // `options` as on its command line. With a folder that holds cert.pem and key.pem it speaks TLS only.
  explicit RedisServer(std::vector<std::string> options = {}, std::string tls_folder = "")
      : options_(std::move(options)), tls_folder_(std::move(tls_folder)), port_(FreePort()) {
    Start();
  }
  ~RedisServer() { Kill(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Again, on the same port, with nothing in it.
  void Start() {
    const std::string port = std::to_string(port_);
    std::vector<std::string> words = {Program(), "--bind", "127.0.0.1",
                                      "--save",  "",       "--appendonly",
                                      "no",      "--dir",  std::filesystem::temp_directory_path().string()};
    if (tls_folder_.empty()) {
      words.insert(words.end(), {"--port", port});
    } else {
      words.insert(words.end(), {"--port", "0", "--tls-port", port, "--tls-cert-file", tls_folder_ + "/cert.pem",
                                 "--tls-key-file", tls_folder_ + "/key.pem", "--tls-ca-cert-file",
                                 tls_folder_ + "/cert.pem", "--tls-auth-clients", "no"});
    }
    words.insert(words.end(), options_.begin(), options_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    process_ = fork();
    if (process_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!freopen("/dev/null", "w", stdout)) _exit(127);
      execv(argv[0], argv.data());
      _exit(127);
    }
    EXPECT_TRUE(Eventually([&] { return Listens(); })) << words[0] << " does not start";
  }

  void Kill() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  void Stop(bool stopped) const { kill(process_, stopped ? SIGSTOP : SIGCONT); }

  // What the server says to a command of its administrator's.
  RespReply Ask(std::initializer_list<std::string_view> command, const std::string& password = "") const {
    const std::atomic<bool> never = false;
    const auto server = RespServer::Create({.address = address(), .password = password}).value();
    auto connection = server->Connect(never);
    if (!connection.ok()) {
      ADD_FAILURE() << connection.status().message();
      return {};
    }
    (*connection)->Append(command);
    EXPECT_TRUE((*connection)->Send().ok());
    return (*connection)->Receive().value();
  }

  static int FreePort() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(fd, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      std::abort();
    close(fd);
    return ntohs(at.sin_port);
  }

 private:
  static const std::string& Program() {
    static const std::string program = FindProgram({"valkey-server", "redis-server"});
    return program;
  }
  bool Listens() const {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<uint16_t>(port_));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool listens = connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
    close(fd);
    return listens;
  }

  const std::vector<std::string> options_;
  const std::string tls_folder_;
  const int port_;
  pid_t process_ = 0;
};

#define SW_NEEDS_REDIS() \
  if (!RedisServer::Installed()) GTEST_SKIP() << "neither valkey-server nor redis-server is installed"

}  // namespace spanwise
