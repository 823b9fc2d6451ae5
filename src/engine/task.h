// A request on its way through the engine.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/arrangement.h"
#include "engine/course.h"
#include "engine/executor.h"
#include "engine/fork.h"
#include "engine/generation.h"
#include "engine/lane.h"
#include "kv/compress/codec.h"
#include "prompt/branches.h"
#include "prompt/order/search.h"
#include "prompt/plan.h"
#include "spanwise/engine.h"
#include "tokenizer/piece.h"
#include "tokenizer/tokenizer.h"

namespace spanwise {

using Clock = std::chrono::steady_clock;

inline double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Everything about a request that is settled before it is queued.
struct Job {
  Plan plan;                     // of the context before the answer, or before the branches
  Generation::Setup setup;       // of the answer
  std::optional<Fork> fork;      // of a request with branches
  std::optional<Course> course;  // of one with steps, or with subtasks to cut
  std::optional<Arrangement>
      arrangement;  // of one whose order is settled at its turn; `plan` has another one till then
  std::optional<std::vector<PointedDocument>> pointed;  // of one that asks for its attention
  // Of each document what it was made of, where the model reads another form of it than was given (NormalText).
  std::vector<std::shared_ptr<const RewrittenText>> rewritten;
  std::vector<std::string> document_ids;
  bool echo = false;
  bool documents_only = false;
  bool use_cache = true;
  bool calibrated = false;                 // ComposeReport::calibrated
  const SpanCodec* codec = &ExactCodec();  // of KV that it may find
  std::vector<std::string> labels;
  RequestObserver observer;
  int priority = 0;
  std::string client;
  std::shared_ptr<CancelFlag> cancel;  // not null
  std::function<void(Result<Answer>)> done;
  Clock::time_point submitted = Clock::now();
};

// A job and how far it has come. A plain one has a single lane, which reads the prompt and answers. One that forks
// reads its context in a lane of its own; then its branches go on from there, as many at once as there is room for;
// then the answer's lane takes their runs over. While it runs, the engine's thread alone uses it.
class Task {
 public:
  struct Limits {
    int max_running = 1;  // sequences in a step
    size_t n_blocks = 0;  // of all memory
  };
  Task(Job j, const Limits& limits);

  // Begins to bring what is kept elsewhere of what it will read: when it comes, and, `urgent`, when its turn has come.
  void Prefetch(Executor& executor, bool urgent);
  // Says what it will read, until its turn comes.
  void Expect(Executor& executor);
  // Whether that is under way, and worth waiting for.
  bool waits_for_fetch() const { return fetch_.waits(); }

  // Begins and takes up the lanes whose time has come. Afterwards there is one to step, unless all are done or it waits
  // for a fetch. REQUIRES: it waits for none.
  Status TakeUp(Executor& executor, const Tokenizer& tokenizer);
  // Those that take part in the next step.
  std::vector<Lane*> ActiveLanes();
  // Takes what a step made for a lane.
  Status Advance(Executor& executor, Lane& lane, const Executor::Turn& turn);
  bool done() const;
  // Lets go of all its memory.
  void Suspend(Executor& executor);
  // Offers what it has written to the store.
  void Seal(Executor& executor);
  void Release();
  // REQUIRES: done.
  Answer Finish();

  Job job;
  const size_t n_blocks;  // KV memory that it may come to need
  const int n_sequences;  // that it has in a step at most
  const int n_prompt_tokens;
  uint64_t id = 0;  // ascending with arrival
  int rank = 0;     // while it runs: the priority against which others are measured
  int n_suspensions = 0;
  bool taken = false;            // has had a turn before
  bool running = false;          // neither waits nor is suspended
  Clock::time_point progressed;  // when it was taken up or a step last did something for it

 private:
  bool forks() const { return job.fork.has_value(); }
  std::vector<SpanStore::Wish> Wishes() const;
  Status TakeUpLanes(Executor& executor, const Tokenizer& tokenizer);
  // Settles the order of the documents. False: a trial is to be read first, or there is something to wait for.
  Result<bool> Arrange(Executor& executor, const Tokenizer& tokenizer);
  bool Asks(Executor& executor, const Plan& plan);
  void EndFetch(Executor& executor);
  Status BeginFirst(Executor& executor, const Tokenizer& tokenizer);
  Status TakeUpBranches(Executor& executor, const Tokenizer& tokenizer);
  bool HasRoomFor(size_t branch) const;
  Status Join(Executor& executor, const Tokenizer& tokenizer);
  void ReportCourse();
  void ReportFork();
  // From the text that was read to the text that was given.
  void LocateInOriginals();

  // How the order of the documents is looked for.
  struct Search {
    explicit Search(const Arrangement& a) : orders(a.documents().size(), a.options.search_trials) {}
    OrderSearch orders;
    RequestObserver observer;  // adds to value
    Lane trial;                // reads a prompt
    bool asked = false;        // for what is kept of the next one
    double value = 0;          // of it, so far
    int n_tokens = 0;          // computed for all of them
  };

  const Limits limits_;
  // When it came, and at its turn; until the lanes they are for have begun.
  SpanStore::Prefetched ahead_, fetch_;
  SpanStore::Hint hint_;  // while it waits
  std::unique_ptr<Search> search_;
  Plan context_plan_;  // of one that forks
  Lane context_;       // reads it
  std::vector<Lane> branches_;
  Lane answer_lane_;
  std::vector<int> n_recomputed_;  // of each branch, for the join
  Answer answer_;
  int n_decoded_ = 0;  // tokens that were fed back
  std::optional<Clock::time_point> begun_, first_token_;
};

}  // namespace spanwise
