// A walk over an arranged tree in its order: text joins the open run; a set closes it and is placed as the mode has it;
// text after the set opens the next run.
#pragma once

#include <vector>

#include "prompt/compose/composer.h"

namespace spanwise {

class TreeWalk {
 public:
  TreeWalk(const PlanKeys& keys, Plan* plan) : keys_(keys), plan_(*plan) {}
  virtual ~TreeWalk() = default;

  Status Visit(const PromptNode& node);

 protected:
  // Adds runs for the members, moves position_ behind them, and makes them visible to what follows. All members are
  // texts; no run is open.
  virtual Status PlaceSet(const PromptNode& set) = 0;

  // A run at the position reached, seeing all that is closed so far.
  int AddRun();
  PlannedRun& run(int i) { return plan_.runs[static_cast<size_t>(i)]; }
  // All of a run's tokens are what a node says.
  void AddPiece(const PromptNode& node, int run);

  const PlanKeys& keys_;
  Plan& plan_;
  int position_ = 0;          // where the next run starts
  std::vector<int> visible_;  // closed runs

 private:
  void VisitText(const PromptNode& node);
  void CloseRun();

  int open_ = -1;  // the run that text is being added to
};

}  // namespace spanwise
