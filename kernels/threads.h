// How many threads a kernel may use: the team of the calling lane.
//
//   set_team_size(1);   // first thing every lane thread does
//
// Results of oneDNN depend on its thread count, and what OpenMP would choose depends on the
// environment, on binding and on which thread asks. So the count is a property of the calling
// thread, set here and 1 until set; kernels never look at OMP_NUM_THREADS. A prepared kernel keeps
// the team size of the thread that made it, whichever thread runs it. Eigen kernels always use one
// thread, and the cache sizes Eigen blocks by are pinned, since they too decide the order of
// additions.
#pragma once

namespace superstep::kernels {

// For the calling thread, from now on; signal handlers that run in it get a stack of their own
// (base/signal_stack.h). Throws InvalidArgument unless 1 <= threads <= 1024.
void set_team_size(int threads);

// Of the calling thread.
int team_size();

// Fixes the cache sizes that Eigen's matrix product blocks by, once for the process. Kernels that
// use Eigen call it themselves; it is cheap.
void pin_eigen_blocking();

// What a thread needs before it enters oneDNN: the OpenMP runtime of the calling thread uses
// exactly `threads` threads within the scope, and signal handlers have a stack of their own from
// now on (base/signal_stack.h). Nothing to do where oneDNN is not linked in.
class TeamScope {
 public:
  explicit TeamScope(int threads);
  TeamScope(const TeamScope&) = delete;
  TeamScope& operator=(const TeamScope&) = delete;
  ~TeamScope();

 private:
  int previous_ = 0;  // 0: nothing to restore
};

}  // namespace superstep::kernels
