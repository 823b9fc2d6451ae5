#include "sched/fair_queue.h"

#include <algorithm>

#include "base/check.h"

namespace spanwise::sched {

void FairQueue::Unlink(Band& band, const std::string& client, const Account& account) {
  if (account.waiting.empty()) {
    band.idle.erase({account.served, client});
  } else {
    band.order.erase({account.served, *account.waiting.begin()});
  }
}

void FairQueue::Link(Band& band, const std::string& client, const Account& account) {
  if (!account.waiting.empty()) {
    band.order.insert({account.served, *account.waiting.begin()});
    return;
  }
  band.idle.insert({account.served, client});
  // An account that is not ahead of a new one need not be remembered.
  while (!band.idle.empty() && (band.idle.size() > kMostIdle || band.idle.begin()->first <= band.start)) {
    band.accounts.erase(band.idle.begin()->second);
    band.idle.erase(band.idle.begin());
  }
}

void FairQueue::Push(Entry entry, double now_s) {
  const uint64_t id = entry.id;
  const auto [it, is_new] = entries_.emplace(id, std::move(entry));
  SW_CHECK(is_new);
  const Entry& e = it->second;
  Band& band = bands_[e.priority];
  if (band.empty()) band.turn_s = now_s;
  if (e.suspended) {
    band.suspended.insert(id);
    return;
  }
  Account& account = band.accounts[e.client];
  Unlink(band, e.client, account);
  if (account.waiting.empty()) account.served = std::max(account.served, band.start);
  account.waiting.insert(id);
  Link(band, e.client, account);
}

std::optional<FairQueue::Turn> FairQueue::Next(double now_s) const {
  const Band *top = nullptr, *next = nullptr;
  int rank = 0;
  for (const auto& [priority, band] : bands_) {
    if (band.empty()) continue;
    if (!top) {
      top = next = &band;
      rank = priority;
    } else if (now_s - band.turn_s >= kPatience_s && (next == top || band.turn_s < next->turn_s)) {
      next = &band;
    }
  }
  if (!next) return {};
  return Turn{next->first(), rank};
}

void FairQueue::Take(uint64_t id, double now_s) {
  const Entry& entry = entries_.at(id);
  Band& band = bands_.at(entry.priority);
  band.turn_s = now_s;
  if (!entry.suspended) band.start = std::max(band.start, band.accounts.at(entry.client).served);
  Erase(id, band);
}

void FairQueue::Remove(uint64_t id) { Erase(id, bands_.at(entries_.at(id).priority)); }

void FairQueue::Erase(uint64_t id, Band& band) {
  const auto it = entries_.find(id);
  if (it->second.suspended) {
    band.suspended.erase(id);
  } else {
    Account& account = band.accounts.at(it->second.client);
    Unlink(band, it->second.client, account);
    account.waiting.erase(id);
    Link(band, it->second.client, account);
  }
  entries_.erase(it);
}

void FairQueue::Charge(int priority, const std::string& client, int64_t tokens) {
  Band& band = bands_[priority];
  const auto known = band.accounts.find(client);
  if (known == band.accounts.end() && tokens <= 0) return;
  Account& account = band.accounts[client];
  if (known == band.accounts.end()) {
    account.served = band.start;
  } else {
    Unlink(band, client, account);
  }
  account.served += tokens;
  Link(band, client, account);
}

}  // namespace spanwise::sched
