#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <random>

#include "base/str.h"
#include "bench/trace.h"

namespace spanwise::bench {
namespace {

constexpr uint32_t kBlockTokens = 64;

// The standard library's distributions differ from one to the next; these do not.
class Random {
 public:
  explicit Random(uint64_t seed) : random_(seed) {}
  double Unit() { return std::ldexp(static_cast<double>(random_() >> 11), -53); }  // [0, 1)
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(Unit() * n); }
  uint32_t Between(uint32_t low, uint32_t high) { return low + Below(high - low + 1); }
  double Exponential(double mean) { return -mean * std::log1p(-Unit()); }

 private:
  std::mt19937_64 random_;
};

// Places 0, 1, ... with weights 1 / (place + 1)^s.
class Zipf {
 public:
  explicit Zipf(double s) : s_(s) {}
  uint32_t Draw(Random& random, uint32_t n) {
    while (upto_.size() < n)
      upto_.push_back((upto_.empty() ? 0 : upto_.back()) + std::pow(static_cast<double>(upto_.size() + 1), -s_));
    const auto end = upto_.begin() + n;
    const auto at = std::upper_bound(upto_.begin(), end, random.Unit() * *(end - 1));
    return static_cast<uint32_t>(std::min(at, end - 1) - upto_.begin());
  }

 private:
  double s_;
  std::vector<double> upto_;
};

// Documents by popularity.
class Ranks {
 public:
  Ranks(uint32_t n, double s) : zipf_(s), by_rank_(n) { std::iota(by_rank_.begin(), by_rank_.end(), 0u); }
  uint32_t Draw(Random& random) { return by_rank_[zipf_.Draw(random, static_cast<uint32_t>(by_rank_.size()))]; }
  // One that is asked for often changes places with any other.
  void Move(Random& random) {
    const auto n = static_cast<uint32_t>(by_rank_.size());
    const uint32_t popular = zipf_.Draw(random, n);
    std::swap(by_rank_[popular], by_rank_[random.Below(n)]);
  }
  void Add(uint32_t document) { by_rank_.push_back(document); }

 private:
  Zipf zipf_;
  std::vector<uint32_t> by_rank_;
};

// A run of n_tokens after `parent`, cut into blocks.
std::vector<uint32_t> AddRun(Trace& trace, uint32_t n_tokens, uint32_t parent = TraceBlock::kNone,
                             uint32_t position = 0) {
  std::vector<uint32_t> run;
  for (uint32_t at = 0; at < n_tokens; at += kBlockTokens) {
    const auto id = static_cast<uint32_t>(trace.blocks.size());
    trace.blocks.push_back({parent, std::min(kBlockTokens, n_tokens - at), position + at});
    run.push_back(parent = id);
  }
  return run;
}

TraceRequest OneBlock(uint32_t id) {
  TraceRequest request;
  request.blocks = {id};
  request.n_shared = 1;
  return request;
}

Trace Single(std::string_view kind, const GenerateOptions& o) {
  Trace trace{.name = std::string(kind), .block_tokens = kBlockTokens, .blocks = {}, .requests = {}};
  Random random(o.seed);
  const uint32_t n = kind == "adversarial" ? 257 : 256;
  Ranks ranks(n, o.zipf);
  for (uint32_t i = 0; i < n; ++i) AddRun(trace, kBlockTokens);
  while (trace.requests.size() < o.requests) {
    if (kind == "adversarial") {
      trace.requests.push_back(OneBlock(static_cast<uint32_t>(trace.requests.size()) % n));
      continue;
    }
    if (kind == "scan" && random.Unit() < 0.02) {
      for (int i = 0; i < 80 && trace.requests.size() < o.requests; ++i)
        trace.requests.push_back(OneBlock(AddRun(trace, kBlockTokens)[0]));
      continue;
    }
    if (kind == "drift" && random.Unit() < o.drift) ranks.Move(random);
    trace.requests.push_back(OneBlock(ranks.Draw(random)));
  }
  return trace;
}

class RagTrace {
 public:
  explicit RagTrace(const GenerateOptions& o)
      : o_(o), random_(o.seed), ranks_(o.documents, o.zipf), trace_{"rag", kBlockTokens, {}, {}} {}

  Trace Make() && {
    const std::vector<uint32_t> system = AddRun(trace_, kSystemTokens);
    for (uint32_t i = 0; i < o_.documents; ++i) AddDocument();
    double next_start = 0;
    for (size_t n_asked = 0; n_asked < o_.requests; ++n_asked) {
      if (random_.Unit() < o_.drift) ranks_.Move(random_);
      if (random_.Unit() < o_.ingest) Ingest();
      if (turns_.empty() || turns_.top().time > next_start) {
        next_start += random_.Exponential(1);
        Session session;
        session.documents = Retrieve(kCandidates);
        sessions_.push_back(std::move(session));
        turns_.push({next_start, sessions_.size() - 1});
      }
      const Turn turn = turns_.top();
      turns_.pop();
      Ask(turn.session, system);
      if (random_.Unit() < 1 - 1 / o_.turns)
        turns_.push({turn.time + random_.Exponential(kThinkTime), turn.session});
      else
        sessions_[turn.session] = {};
    }
    return std::move(trace_);
  }

 private:
  static constexpr uint32_t kSystemTokens = 256, kTopic = 20, kCandidates = 40;
  static constexpr double kThinkTime = 30;  // in mean times between two sessions' beginnings

  struct Session {
    std::vector<uint32_t> documents;  // the retriever's candidates, best first
    std::vector<uint32_t> placed;
    std::vector<uint32_t> tail;  // blocks of the conversation after the documents
    uint32_t tail_tokens = 0;
  };
  struct Turn {
    double time;
    size_t session;
    bool operator>(const Turn& other) const { return time > other.time; }
  };

  void AddDocument() {
    const double tokens = 128 * std::pow(16.0, random_.Unit());  // 128 to 2048, of every order of size equally many
    documents_.push_back(AddRun(trace_, static_cast<uint32_t>(tokens)));
  }

  // Different documents: one by popularity, half of the others of its topic.
  std::vector<uint32_t> Retrieve(uint32_t n) {
    const uint32_t first = ranks_.Draw(random_);
    std::vector<uint32_t> found = {first};
    const uint32_t topic = first - first % kTopic;
    const auto n_topic = std::min(kTopic, static_cast<uint32_t>(documents_.size()) - topic);
    for (int tries = 0; found.size() < n && tries < 1000; ++tries) {
      const uint32_t document = random_.Unit() < 0.5 ? topic + random_.Below(n_topic) : ranks_.Draw(random_);
      if (std::ranges::find(found, document) == found.end()) found.push_back(document);
    }
    return found;
  }

  void Ingest() {
    for (uint32_t i = random_.Between(50, 200); i > 0; --i) {
      ranks_.Add(static_cast<uint32_t>(documents_.size()));
      AddDocument();
      TraceRequest one;
      one.ingest = true;
      one.blocks = documents_.back();
      one.n_shared = static_cast<uint32_t>(one.blocks.size());
      trace_.requests.push_back(std::move(one));
    }
  }

  void Ask(size_t at, const std::vector<uint32_t>& system) {
    Session& session = sessions_[at];
    const bool first = session.placed.empty();
    if (first || random_.Unit() < 0.5) {  // else the same documents again, and the conversation goes on after them
      const uint32_t n = random_.Between(5, 20);
      std::vector<uint32_t> candidates = session.documents;
      if (!first) {  // half of what the question finds was a candidate before
        candidates.resize(n / 2);
        for (const uint32_t document : Retrieve(kCandidates))
          if (std::ranges::find(candidates, document) == candidates.end()) candidates.push_back(document);
        for (size_t i = candidates.size(); i > 1; --i)
          std::swap(candidates[i - 1], candidates[random_.Below(static_cast<uint32_t>(i))]);
      }
      session.documents = std::move(candidates);
      session.placed.assign(session.documents.begin(),
                            session.documents.begin() + std::min<size_t>(n, session.documents.size()));
      session.tail.clear();  // it sees the documents: of no use after others
    }
    const uint32_t turn_tokens = random_.Between(32, 128) + random_.Between(64, 256);  // question and answer
    session.tail_tokens += turn_tokens;
    ExtendTail(session);

    TraceRequest request;
    request.session = static_cast<uint32_t>(at);
    request.blocks = system;
    const auto add = [](std::vector<uint32_t>& to, const std::vector<uint32_t>& blocks) {
      to.insert(to.end(), blocks.begin(), blocks.end());
    };
    for (const uint32_t document : session.placed) add(request.blocks, documents_[document]);
    request.n_shared = static_cast<uint32_t>(request.blocks.size());
    add(request.blocks, session.tail);
    for (const uint32_t document : session.documents)
      if (std::ranges::find(session.placed, document) == session.placed.end())
        add(request.candidates, documents_[document]);
    trace_.requests.push_back(std::move(request));
  }

  // Full blocks stay; the one that was growing is another one when it has more tokens.
  void ExtendTail(Session& session) {
    if (!session.tail.empty() && trace_.blocks[session.tail.back()].tokens < kBlockTokens) session.tail.pop_back();
    const auto kept = static_cast<uint32_t>(session.tail.size()) * kBlockTokens;
    const uint32_t parent = session.tail.empty() ? TraceBlock::kNone : session.tail.back();
    for (const uint32_t block : AddRun(trace_, session.tail_tokens - kept, parent, kept)) session.tail.push_back(block);
  }

  const GenerateOptions o_;
  Random random_;
  Ranks ranks_;
  Trace trace_;
  std::vector<std::vector<uint32_t>> documents_;  // blocks of each
  std::vector<Session> sessions_;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns_;
};

}  // namespace

Result<Trace> GenerateTrace(std::string_view kind, const GenerateOptions& options) {
  if (options.requests < 1 || options.documents < 1)
    return InvalidArgument("a trace has at least one request and one document");
  if (!(options.zipf >= 0 && options.drift >= 0 && options.ingest >= 0 && options.turns >= 1))
    return InvalidArgument("a trace's shares are not negative, and a session has at least one turn");
  constexpr std::array<std::string_view, 4> kSingle = {"zipf", "drift", "scan", "adversarial"};
  if (std::ranges::find(kSingle, kind) != kSingle.end()) return Single(kind, options);
  if (kind == "rag") return RagTrace(options).Make();
  return InvalidArgument(StrFormat("trace {}: unknown; use zipf, drift, scan, adversarial or rag", Quoted(kind)));
}

}  // namespace spanwise::bench
