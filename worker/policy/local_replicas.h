// The models of the local workers that a rank hosts: local SGD between two averages.
//
//   replicas.begin_round(server.pull().buffer());            // after an average
//   SlotSummary summary = replicas.step(worker, slots, {.epoch = epoch, .step = t});
//   replicas.write_change(worker, server.pull().buffer(), scale, pushed);      // at an average
//
// A worker adds the gradients of its slots along the tree over them, divides by its samples and
// applies the update rule to its own model: the code that updates a shard, on the whole layout. Its
// optimizer state stays with it from round to round (local momentum; DiLoCo's inner AdamW). It is a
// pure function of what it is given, so it does not matter which rank hosts it.
//
// The average is the server's: what a worker pushes is the difference between the parameters it
// began with and its own, a gradient for the outer optimizer (Douillard et al. 2023, algorithm 1);
// plain averaging is SGD at rate 1. Entries that are statistics are pushed as they are.
//
// Memory per worker: n elements and the optimizer's state; per rank n elements more, and partial
// sums of slots.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "paramserver/checkpoint.h"
#include "paramserver/gradient_stack.h"
#include "paramserver/learning_rate.h"
#include "paramserver/optimizer.h"
#include "paramserver/server.h"
#include "paramserver/shard_updater.h"
#include "worker/data/batches.h"
#include "worker/model.h"
#include "worker/policy/loaded_programs.h"

namespace superstep::worker {

// The update rule of a local worker.
struct InnerOptions {
  paramserver::OptimizerSpec optimizer;
  paramserver::LearningRateSchedule schedule;  // over supersteps
  double clip_value = 0.0;
};

// Where a local step is in the training.
struct LocalStep {
  std::int64_t epoch = 0;
  std::int64_t superstep = 1;  // from 1
};

class LocalReplicas {
 public:
  // Is shown every slot's gradient before it is used.
  using Look = std::function<void(const SlotBatch&, const paramserver::SlotSummary&,
                                  std::span<const float>)>;

  // `model` must outlive this object. num_workers share num_slots slots; `hosted` are those of this
  // rank, ascending.
  LocalReplicas(const Model& model, InnerOptions options, const StepOptions& step_options,
                int num_slots, int num_workers, std::vector<int> hosted);

  std::span<const int> hosted() const { return hosted_; }
  std::vector<int> slots_of_hosted() const;  // ascending
  // Slots of worker w: [first_slot(w), first_slot(w + 1)).
  int first_slot(int worker) const;

  // Every worker of this rank starts from `parameters`.
  void begin_round(std::span<const float> parameters);
  // Whether workers' models differ from the parameters of the server.
  bool is_in_round() const { return in_round_; }
  void end_round() { in_round_ = false; }

  // `slots`: all of the worker's, ascending. A worker without samples leaves its model as it is.
  paramserver::SlotSummary step(int worker, std::span<const SlotBatch> slots,
                                const LocalStep& where, const Look& look);
  double learning_rate(std::int64_t superstep) const;

  // out = scale * (parameters - the worker's model); of statistics scale * the worker's.
  void write_change(int worker, std::span<const float> parameters, float scale,
                    std::span<float> out) const;

  // What a checkpoint holds of all workers (those of other ranks as empty parts): optimizer states,
  // and within a round their models. restore() is the inverse, for any hosts.
  std::vector<paramserver::ArrayPart> parts();
  void restore(const paramserver::CheckpointReader& reader);

 private:
  struct Replica {
    AlignedBuffer<float> parameters;
    paramserver::ShardUpdater updater;
    paramserver::GradientStack stack;
  };

  Replica& replica_of(int worker);
  const Replica* find(int worker) const;  // nullptr: hosted elsewhere
  paramserver::SlotSummary push_gradients(Replica& replica, std::span<const SlotBatch> slots,
                                          std::int64_t epoch, const Look& look);
  void update(Replica& replica, std::int64_t num_samples, std::int64_t superstep);

  const paramserver::ParameterLayout& layout_;
  InnerOptions options_;
  int num_slots_;
  int num_workers_;
  std::vector<int> hosted_;
  std::vector<paramserver::ElementRange> whole_;  // the layout as one bucket
  LoadedPrograms programs_;
  AlignedBuffer<float> gradients_;  // partial sums of the worker in work
  AlignedBuffer<float> mean_tile_;
  std::vector<std::unique_ptr<Replica>> replicas_;  // as hosted_
  bool in_round_ = false;
};

}  // namespace superstep::worker
