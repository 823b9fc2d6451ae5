#include "kv/tiers/remote.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/str.h"
#include "kv/tiers/record.h"

namespace spanwise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kBatchBytes = uint64_t{8} << 20;
constexpr uint64_t kWindowBytes = uint64_t{16} << 20;  // asked for and not here yet
constexpr size_t kMostQueued = 1 << 16;
// Ends of runs wait so long before they are sent: most are continued soon, and then only the longer one is sent.
constexpr std::chrono::milliseconds kEndsWait(300);
constexpr std::chrono::seconds kLastChance(10);  // for what is queued when the program ends

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// A write to a connection that TLS finds closed would end the program.
void IgnoreBrokenPipes() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace

Result<std::unique_ptr<RemoteTier>> RemoteTier::Open(const SpanFormat& format, const RemoteTierOptions& options) {
  RespOptions server_options = options.server;
  server_options.most_reply_bytes = RecordBytes(format, kKvBlockTokens) + 1;
  SW_ASSIGN_OR_RETURN(auto to_load, RespServer::Create(server_options));
  SW_ASSIGN_OR_RETURN(auto to_send, RespServer::Create(server_options));
  return std::unique_ptr<RemoteTier>(new RemoteTier(format, options, std::move(to_load), std::move(to_send)));
}

RemoteTier::RemoteTier(const SpanFormat& format, const RemoteTierOptions& options,
                       std::shared_ptr<const RespServer> to_load, std::shared_ptr<const RespServer> to_send)
    : format_(format),
      options_(options),
      prefix_(StrFormat("spanwise:{}:{}:", kRecordVersion, format.model.Hex().substr(0, 16))),
      load_{.server = std::move(to_load)},
      send_{.server = std::move(to_send)},
      loader_([this] { LoadLoop(); }),
      sender_([this] { SendLoop(); }) {}

RemoteTier::~RemoteTier() {
  load_.stop = true;
  fetches_.Stop();
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    work_.notify_all();
    idle_.wait_for(lock, kLastChance, [&] { return queue_.empty() && !sending_; });
  }
  send_.stop = true;
  work_.notify_all();
  loader_.join();
  sender_.join();
}

std::string RemoteTier::KeyOf(const SpanKey& span) const { return prefix_ + span.Hex(); }

void RemoteTier::Warn(const Status& status) {
  if (!warned_.exchange(true) && options_.warn)
    options_.warn(StrFormat("kept KV: {}; what cannot be had from there is computed", status.message()));
}

// Whether there is a connection.
bool RemoteTier::Connect(Link& link) {
  if (link.connection) return true;
  if (Clock::now() < link.next.load()) return false;
  auto connection = link.server->Connect(link.stop);
  if (!connection.ok()) {
    Failed(link, connection.status());
    return false;
  }
  link.connection = std::move(*connection);
  link.pause = {};
  link.down = false;
  return true;
}

void RemoteTier::Failed(Link& link, const Status& status) {
  link.connection.reset();
  link.down = true;
  link.pause = std::clamp(2 * link.pause, options_.first_pause, options_.longest_pause);
  link.next = Clock::now() + link.pause;
  if (status.code() != StatusCode::kCancelled) Warn(status);
}

std::shared_ptr<Fetch> RemoteTier::Prefetch(std::span<const Wanted> spans, bool urgent) {
  if (load_.down) return nullptr;
  const auto bytes_of = [&](size_t n) { return RecordBytes(format_, static_cast<int>(n)); };
  // Half of the room is for those whose turn it is.
  return fetches_.Ask(spans, urgent, bytes_of, options_.arrived_bytes / (urgent ? 1 : 2));
}

void RemoteTier::LoadLoop() {
  IgnoreBrokenPipes();
  while (!fetches_.stopped()) {
    // Connects by itself, so that no request waits for that.
    if (!Connect(load_)) {
      fetches_.EndAll();
      fetches_.Wait(load_.next.load());
      continue;
    }
    const std::shared_ptr<FetchQueue::Order> order = fetches_.Next();
    if (!order) {
      fetches_.Wait();
      continue;
    }
    order->Begin();
    Status status = Load(*load_.connection, order);
    if (!status.ok() && !load_.stop && order->progress().bytes == 0) {
      // A server that was started anew meanwhile.
      load_.connection.reset();
      if (Connect(load_)) status = Load(*load_.connection, order);
    }
    if (!status.ok() && load_.connection) Failed(load_, status);
    fetches_.End(*order);
  }
  fetches_.EndAll();
}

Status RemoteTier::Load(RespConnection& connection, const std::shared_ptr<FetchQueue::Order>& order) {
  using Part = FetchQueue::Order::Part;
  if (std::ranges::none_of(order->parts, &Part::waits)) return Status::Ok();
  std::deque<const Part*> asked;
  uint64_t asked_bytes = 0;
  size_t next = 0;
  std::optional<size_t> broken;  // the run of which something was missing: what follows is of no use
  connection.Append({"PING"});   // is answered before anything is read, and so tells how far away the server is
  bool answered = false;
  while (true) {
    if (order.use_count() == 1) next = order->parts.size();  // nobody waits any more
    bool added = false;
    for (; next < order->parts.size() && (asked.empty() || asked_bytes < kWindowBytes); ++next) {
      const Part& part = order->parts[next];
      if (part.run == broken || !part.waits()) continue;
      // One byte more than it must have, to see that there are no more.
      connection.Append({"GETRANGE", KeyOf(part.item->key), "0", std::to_string(part.item->bytes)});
      asked.push_back(&part);
      asked_bytes += part.item->bytes;
      added = true;
    }
    if (added || !answered) SW_RETURN_IF_ERROR(connection.Send());
    if (!std::exchange(answered, true)) {
      SW_ASSIGN_OR_RETURN(const RespReply pong, connection.Receive());
      if (pong.kind != RespReply::Kind::kText)
        return Unavailable(StrFormat("{}: {}", load_.server->address(), Quoted(pong.text())));
      order->Answered();
    }
    if (asked.empty()) return Status::Ok();
    const Part& part = *asked.front();
    SW_RETURN_IF_ERROR(Take(connection, *order, *part.item));
    if (part.item->state == FetchQueue::Item::State::kMissing) broken = part.run;
    asked.pop_front();
    asked_bytes -= part.item->bytes;
  }
}

Status RemoteTier::Take(RespConnection& connection, FetchQueue::Order& order, FetchQueue::Item& item) {
  using State = FetchQueue::Item::State;
  SW_ASSIGN_OR_RETURN(RespReply reply, connection.Receive());
  order.Came(reply.bytes.size());
  const bool wrong_type = reply.kind == RespReply::Kind::kError && reply.text().starts_with("WRONGTYPE");
  if (reply.kind == RespReply::Kind::kError && !wrong_type)
    return Unavailable(StrFormat("{}: {}", load_.server->address(), Quoted(reply.text())));
  if (!wrong_type && reply.kind != RespReply::Kind::kBytes)
    return Corruption(load_.server->address() + ": the reply is none to what was asked");
  if (!wrong_type && reply.bytes.empty()) {
    ++misses_;
    item.state = State::kMissing;
    return Status::Ok();
  }
  const auto rows = wrong_type ? Result<std::span<const std::byte>>(Corruption("is no record"))
                               : ReadRecord(format_, item.parent, item.tokens, reply.bytes);
  if (!rows.ok()) {
    ++damaged_;
    ++misses_;
    item.state = State::kMissing;
    Add({.kind = Work::Kind::kRemove, .key = item.key, .parent = {}, .tokens = {}, .record = {}});
    return Status::Ok();
  }
  ++hits_;
  item.found = {.tokens = item.tokens, .rows = *rows, .hold = std::move(reply.hold)};
  item.state = State::kHere;
  return Status::Ok();
}

bool RemoteTier::Keep(const Span& span, std::span<const std::byte> rows) {
  const uint64_t bytes = RecordBytes(format_, span.n_tokens());
  {
    const std::lock_guard lock(mutex_);
    if (Clock::now() < send_.next.load() || queue_.size() >= kMostQueued ||
        (!queue_.empty() && queued_bytes_ + bytes > options_.queue_bytes)) {
      ++lost_;
      return false;
    }
  }
  Work work{.kind = Work::Kind::kPut, .key = span.key, .parent = span.parent, .tokens = span.tokens, .record = {}};
  work.record.resize(bytes);
  WriteRecord(format_, span, rows, work.record);
  Add(std::move(work));
  return true;
}

void RemoteTier::Touch(const SpanKey& parent, std::span<const int32_t> tokens) {
  if (options_.ttl_s == 0) return;
  if (const auto now = Clock::now(); Seconds(now - touched_since_) > static_cast<double>(options_.ttl_s) / 8) {
    touched_.clear();
    touched_since_ = now;
  }
  const SpanKey key = ChildKey(parent, tokens);
  if (touched_.insert(key).second)
    Add({.kind = Work::Kind::kTouch, .key = key, .parent = {}, .tokens = {}, .record = {}});
}

void RemoteTier::Add(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= kMostQueued) return;
    if (work.kind == Work::Kind::kPut) {
      std::erase_if(queue_, [&](const Work& other) {  // ends that this one continues
        if (other.kind != Work::Kind::kPut || other.parent != work.parent || other.tokens.size() > work.tokens.size() ||
            !std::ranges::equal(other.tokens, std::span(work.tokens).first(other.tokens.size())))
          return false;
        queued_bytes_ -= other.record.size();
        return true;
      });
      queued_bytes_ += work.record.size();
    }
    queue_.push_back(std::move(work));
  }
  work_.notify_one();
}

void RemoteTier::Flush() {
  std::unique_lock lock(mutex_);
  ++n_flushing_;
  work_.notify_all();
  idle_.wait(lock, [&] { return queue_.empty() && !sending_; });
  --n_flushing_;
}

TierStats RemoteTier::stats() const {
  return {.hits = hits_,
          .misses = misses_,
          .written_spans = written_,
          .written_bytes = written_bytes_,
          .damaged_spans = damaged_,
          .lost_spans = lost_};
}

std::vector<RemoteTier::Work> RemoteTier::NextBatch() {
  const bool all = stopping_ || n_flushing_ > 0;
  const auto now = Clock::now();
  std::vector<Work> batch;
  uint64_t bytes = 0;
  for (auto at = queue_.begin(); at != queue_.end() && bytes < kBatchBytes;) {
    const bool end = at->kind == Work::Kind::kPut && at->tokens.size() < kKvBlockTokens;
    if (end && !all && now - at->added < kEndsWait) {
      ++at;
      continue;
    }
    bytes += at->record.size();
    batch.push_back(std::move(*at));
    at = queue_.erase(at);
  }
  queued_bytes_ -= bytes;
  return batch;
}

void RemoteTier::SendLoop() {
  IgnoreBrokenPipes();
  const auto n_puts = [](const std::vector<Work>& batch) {
    return static_cast<uint64_t>(std::ranges::count(batch, Work::Kind::kPut, &Work::kind));
  };
  std::unique_lock lock(mutex_);
  while (true) {
    const std::vector<Work> batch = NextBatch();
    if (batch.empty()) {
      if (queue_.empty()) idle_.notify_all();
      if (queue_.empty() && stopping_) return;
      if (queue_.empty()) {
        work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      } else {
        work_.wait_for(lock, kEndsWait);
      }
      continue;
    }
    sending_ = true;
    lock.unlock();
    uint64_t n_kept = 0;
    const bool was_idle = send_.connection != nullptr;
    Status status = Cancelled("");
    if (!send_.stop && Connect(send_)) status = Send(*send_.connection, batch, &n_kept);
    if (!status.ok() && was_idle && !send_.stop) {  // the server may be another one by now
      send_.connection.reset();
      if (Connect(send_)) status = Send(*send_.connection, batch, &n_kept);
    }
    if (!status.ok() && send_.connection) Failed(send_, status);
    lost_ += n_puts(batch) - n_kept;
    lock.lock();
    sending_ = false;
  }
}

Status RemoteTier::Send(RespConnection& connection, const std::vector<Work>& batch, uint64_t* n_kept) {
  *n_kept = 0;
  const auto receive = [&]() -> Result<int64_t> {
    SW_ASSIGN_OR_RETURN(const RespReply reply, connection.Receive());
    if (reply.kind == RespReply::Kind::kError)
      return Unavailable(StrFormat("{}: {}", send_.server->address(), Quoted(reply.text())));
    return reply.integer;
  };
  const std::string ttl = std::to_string(options_.ttl_s);
  for (const Work& work : batch) {
    const std::string key = KeyOf(work.key);
    if (work.kind == Work::Kind::kRemove) {
      connection.Append({"DEL", key});
    } else if (options_.ttl_s > 0) {
      connection.Append({"EXPIRE", key, ttl});  // 1 where it is there
    } else {
      connection.Append({"EXISTS", key});
    }
  }
  SW_RETURN_IF_ERROR(connection.Send());
  std::vector<const Work*> missing;  // others may have sent the same
  for (const Work& work : batch) {
    SW_ASSIGN_OR_RETURN(const int64_t there, receive());
    if (work.kind != Work::Kind::kPut) continue;
    if (there == 0) missing.push_back(&work);
    *n_kept += there != 0;
  }
  for (const Work* work : missing) {
    const std::string key = KeyOf(work->key);
    const std::string_view record(reinterpret_cast<const char*>(work->record.data()), work->record.size());
    if (options_.ttl_s > 0) {
      connection.Append({"SET", key, record, "EX", ttl});
    } else {
      connection.Append({"SET", key, record});
    }
  }
  SW_RETURN_IF_ERROR(connection.Send());
  for (const Work* work : missing) {
    SW_RETURN_IF_ERROR(receive().status());
    ++*n_kept;
    ++written_;
    written_bytes_ += work->record.size();
  }
  return Status::Ok();
}

}  // namespace spanwise
