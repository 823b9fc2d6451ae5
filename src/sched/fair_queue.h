// Whose turn it is: requests that wait, by priority, and fairly between the clients of one priority.
//
// Requests of one priority form a band. Within it every client has an account of the tokens it was served, and the
// client with the smallest account comes next (start-time fair queueing: an account that was idle is lifted to the
// start of the turn given last, so that nobody saves up turns). A client's own requests come in the order of their ids.
// Those that have run before and were suspended come before all others of their band.
//
// The highest band comes first, except that a band without a turn for kPatience_s gets one: nobody starves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

namespace spanwise::sched {

// Deterministic; every call costs O(log n) and the number of bands. Thread-compatible. Times are seconds of any one
// clock.
class FairQueue {
 public:
  static constexpr double kPatience_s = 30;

  struct Entry {
    uint64_t id = 0;  // ascending with arrival; a suspended request keeps its own
    int priority = 0;
    std::string client;
    bool suspended = false;
  };
  struct Turn {
    uint64_t id = 0;
    int rank = 0;  // the priority it is to run with: its own, or that of those it was let past
  };

  // REQUIRES: the id is not in the queue.
  void Push(Entry entry, double now_s);
  // Who comes next; the same until something changes or time passes. nullopt: nobody waits.
  std::optional<Turn> Next(double now_s) const;
  // Takes out whom Next named: its band has had its turn. REQUIRES: the id is in the queue.
  void Take(uint64_t id, double now_s);
  // Takes out one that will not have its turn. REQUIRES: the id is in the queue.
  void Remove(uint64_t id);

  // Puts tokens on a client's account; a negative number takes them back.
  void Charge(int priority, const std::string& client, int64_t tokens);

  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }

 private:
  static constexpr size_t kMostIdle = 1024;  // accounts without waiting requests that a band remembers

  struct Account {
    int64_t served = 0;
    std::set<uint64_t> waiting;
  };
  using Place = std::pair<int64_t, uint64_t>;  // served, oldest waiting id
  struct Band {
    std::unordered_map<std::string, Account> accounts;
    std::set<Place> order;                           // of accounts with waiting requests
    std::set<std::pair<int64_t, std::string>> idle;  // accounts without, that were served more than `start`
    std::set<uint64_t> suspended;
    int64_t start = 0;  // account of the client that had the last turn, before it
    double turn_s = 0;  // time of the last turn, or when the band ceased to be empty
    bool empty() const { return order.empty() && suspended.empty(); }
    uint64_t first() const { return suspended.empty() ? order.begin()->second : *suspended.begin(); }
  };
  // Takes an account out of the band's order, for a change, and puts it back.
  static void Unlink(Band& band, const std::string& client, const Account& account);
  static void Link(Band& band, const std::string& client, const Account& account);
  void Erase(uint64_t id, Band& band);

  std::map<int, Band, std::greater<>> bands_;
  std::unordered_map<uint64_t, Entry> entries_;
};

}  // namespace spanwise::sched
