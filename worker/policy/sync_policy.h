// When an update of the parameters sees whose gradients: strict supersteps, bounded staleness,
// asynchrony, averages of local models, backup workers. One object says so for every superstep,
// before it begins:
//
//   std::unique_ptr<SyncPolicy> policy = make_policy(options, batches, model_bytes);
//   StepPlan plan = policy->next();       // whose gradients, of which version of the parameters
//
// The cluster whose workers a policy orders is simulated: `workers` logical workers take the times
// of worker_delays.h on a virtual clock. How long a worker takes does not depend on what it
// computes, so the clock runs ahead of the training, and a plan is a pure function of (options,
// batches, number of the superstep): every rank knows it alone, a run is repeated bit for bit, on
// any number of real ranks, and a resumed run replays the clock (about 1 us per worker and
// superstep).
//
//   bsp     the workers share a batch, and all gradients are of the newest parameters
//   ssp     they share a batch, and a worker may be `staleness` clocks ahead of the slowest: it
//           reads the newest parameters that are there, at most `staleness` updates old. The
//           pushes of a clock are one update, made when all are there, so staleness 0 is bsp
//           (Ho et al. 2013, with their best-effort and own updates visible by whole clocks)
//   async   Downpour SGD: a superstep is one worker's batch. The worker fetches parameters every
//           `n_fetch` of its steps and takes steps of SGD on them in between; it adds its gradients
//           up and pushes them every `n_push` steps, which is an update. The first `warm_start`
//           supersteps are of one worker alone (Dean et al. 2012, section 4.1)
//   local   local SGD: every worker takes `local_steps` steps on a model of its own, from the
//           average of all; the first `local_after` supersteps average every step (post-local SGD)
//           (Stich 2019; Lin et al. 2020; outer optimizer: Douillard et al. 2023)
//   backup  they share a batch, and the `backup` workers that come last are not waited for; what
//           they computed is dropped (Chen et al. 2016)
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "worker/data/batches.h"
#include "worker/federated/virtual_time.h"
#include "worker/policy/worker_delays.h"

namespace superstep::worker {

enum class PolicyKind : std::uint8_t { kBsp, kSsp, kAsync, kLocal, kBackup };
std::string_view name_of(PolicyKind kind);

struct PolicyOptions {
  PolicyKind kind = PolicyKind::kBsp;
  int workers = 0;              // logical ones; bsp: 0 simulates none
  std::int64_t staleness = 0;   // ssp: clocks
  std::int64_t warm_start = 0;  // async: supersteps of one worker alone
  std::int64_t n_push = 1;      // async: steps of a worker
  std::int64_t n_fetch = 1;
  int backup = 1;                // backup: workers that are not waited for
  std::int64_t local_steps = 8;  // local: between two averages
  std::int64_t local_after = 0;  // local: supersteps that average every step
  DelayOptions delay = {};
};

// Throws InvalidArgument that names the field. Workers share the slots of a batch, except in async.
void validate(const PolicyOptions& options, int num_slots);
// Whether there are logical workers at all.
bool is_simulated(const PolicyOptions& options);

// The part of a superstep's batch that one logical worker computes.
struct Share {
  int worker = 0;
  std::int64_t version = 0;  // of the parameters it reads: supersteps done before
  bool counts = true;        // false: comes too late to be used, and is not computed
  // async: steps that the worker took since it fetched; from 1 on it reads a model of its own.
  std::int64_t own_steps = 0;
};

struct StepPlan {
  std::vector<Share> shares = {};  // share i of k: slots [iM/k, (i+1)M/k)
  bool exchanges = true;  // false: no update. local: between averages; async: between pushes
  bool goes_on = false;   // async: the worker's next step is on its own model
  VirtualTime begin{};    // of the first worker's work; end: when the update is made
  VirtualTime end{};
  std::int64_t pushes = 0;  // of the size of the model, by workers
  std::int64_t fetches = 0;
};

// What happened on the virtual clock so far.
struct PolicyTotals {
  VirtualTime end{};
  std::int64_t shares = 0;
  std::int64_t dropped = 0;
  std::int64_t pushes = 0;
  std::int64_t fetches = 0;
  std::vector<std::int64_t> by_staleness;  // shares whose version was so many supersteps old

  void add(const StepPlan& plan, std::int64_t superstep);
  double staleness_mean() const;
};

class SyncPolicy {
 public:
  virtual ~SyncPolicy() = default;

  // Of the next superstep; the first is number 0.
  virtual StepPlan next() = 0;
  // Which versions, older than the parameters after the supersteps planned so far, supersteps to
  // come will read. Ascending.
  virtual std::vector<std::int64_t> versions_needed() const { return {}; }
};

// `options` must be valid and simulated. model_bytes: of the parameters, as they travel.
std::unique_ptr<SyncPolicy> make_policy(const PolicyOptions& options, const BatchPlan& batches,
                                        std::int64_t model_bytes);

// The share of each of M slots.
std::vector<int> shares_of_slots(int num_slots, int num_shares);

// How many samples share i of k has in a superstep.
std::int64_t samples_of_share(const BatchPlan& batches, std::int64_t superstep, int share,
                              int num_shares);

}  // namespace superstep::worker
