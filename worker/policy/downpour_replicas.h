// What the workers of Downpour SGD keep between fetches and between pushes (Dean et al. 2012,
// section 4.1): models of their own and gradients that were not pushed yet.
//
// A batch is computed by all ranks, so a worker's memory is where the parameters are: its model in
// memory that the ranks of a node share, its gradients with the owners of the shards. Owners take
// the worker's step, p -= rate * g, in the same pass as the update: this is the server's gate.
//
//   replicas.begin(share, plan, source);           // before the update: who, and what it read
//   server.apply_gradients({.gate = &replicas});
//   replicas.model(worker)                         // what its next step reads
//
// Gradients are added up, not averaged, as in the paper; statistics of batch normalisation are
// averaged. Memory: per worker n elements per node with n_fetch > 1, n in the world with n_push
// > 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "bsp/shared_array.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/server.h"
#include "paramserver/shard_updater.h"
#include "worker/policy/sync_policy.h"

namespace superstep::worker {

class DownpourReplicas : public paramserver::GradientGate {
 public:
  // Collective. Both must outlive this object; `shard` is what this rank owns.
  DownpourReplicas(bsp::World& world, const paramserver::ParameterLayout& layout,
                   paramserver::ElementRange shard, const PolicyOptions& options);

  // `source`: the whole parameters that the superstep's worker read. It may be model(worker).
  void begin(const StepPlan& plan, std::span<const float> source);
  std::span<const float> model(int worker) const;

  // Collective, instead of the update: the step was left out, its worker goes on from what it read.
  void leave_out();

  Pass passes() const override;
  void on_mean(const paramserver::ShardStep& step, std::int64_t begin,
               std::span<float> mean) override;
  void publish(std::span<const std::int64_t> cuts) override;

  // For a checkpoint, and its inverse (collective).
  std::vector<paramserver::ArrayPart> parts() const;
  void restore(const paramserver::CheckpointReader& reader);

 private:
  paramserver::ElementRange part_of_node() const;  // what this rank writes of whole arrays
  void take_own_step(const paramserver::ShardStep& step, std::int64_t begin,
                     std::span<const float> mean);
  void accrue(std::int64_t begin, std::span<float> mean);

  bsp::World& world_;
  const paramserver::ParameterLayout& layout_;
  paramserver::ElementRange shard_;
  std::int64_t n_push_;
  paramserver::ShardUpdater own_rule_;           // SGD, without state
  std::vector<bsp::SharedArray<float>> models_;  // by worker; n_fetch > 1
  std::vector<AlignedBuffer<float>> accrued_;    // by worker, of the shard; n_push > 1
  StepPlan plan_;                                // of the superstep in work
  std::span<const float> source_;
};

}  // namespace superstep::worker
