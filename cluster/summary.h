// summary.json: the outcome of a run as one JSON object. docs/summary.md is its schema.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bsp/superstep_record.h"
#include "bsp/world.h"
#include "cluster/config.h"
#include "cluster/world_shape.h"
#include "paramserver/server.h"
#include "worker/federated/client_metrics.h"
#include "worker/federated/privacy/privacy.h"
#include "worker/federated/round_timing.h"
#include "worker/trainer.h"

namespace superstep::cluster {

inline constexpr int kSummarySchema = 1;

// What one rank spent on its supersteps since this start of the program.
struct RankTotals {
  std::int64_t supersteps = 0;
  double total_seconds = 0.0;
  double compute_seconds = 0.0;
  double input_wait_seconds = 0.0;
  double exchange_seconds = 0.0;
  double sync_wait_seconds = 0.0;
  double bytes_sent = 0.0;
  double bytes_received = 0.0;

  void add(const bsp::SuperstepRecord& record);
};

// Collective: the totals of every rank, in rank order.
std::vector<RankTotals> gather_totals(bsp::World& world, const RankTotals& mine);

// Bytes of what a checkpoint is written from while training goes on: parameters and optimizer state
// once more in the world, and on rank 0 the parameters of the others.
std::int64_t checkpoint_copy_bytes(const CheckpointSection& checkpoint,
                                   const paramserver::MemoryUse& memory, int num_ranks);

// Collective: the largest node's parameters and gradients, the world's optimizer state.
paramserver::MemoryUse gather_memory(bsp::World& world, const paramserver::MemoryUse& mine);

// What a federated run adds.
struct FederatedSummary {
  std::string algorithm;
  std::int64_t clients = 0;
  std::int64_t cohort = 0;
  std::string sampling;
  std::int64_t client_rounds = 0;
  std::int64_t client_rounds_of_start = 0;
  std::int64_t rejected = 0;
  std::int64_t rounds_without_effect = 0;
  std::int64_t upload_bytes = 0;
  std::int64_t download_bytes = 0;
  double best_accuracy = 0.0;
  std::int64_t best_round = -1;
  std::string personalization = "none";
  std::optional<worker::ClientMetrics> clients_judged;  // in the last evaluation of clients
  std::optional<worker::PrivacyRound> privacy;
  std::string asynchrony = "none";
  std::optional<worker::ClockTotals> time;
  std::string initial_model;
  int ring_bits = 0;
  int fraction_bits = 0;
};

struct RunSummary {
  std::string run_id;
  std::string model;  // preset, or "layers"
  std::int64_t num_parameters = 0;
  std::string data_fingerprint;
  std::int64_t train_samples = 0;
  std::int64_t validation_samples = 0;
  std::int64_t test_samples = 0;
  WorldShape world;
  std::int64_t resumed_from_superstep = -1;  // -1: not resumed
  worker::TrainResult result;
  int exit_code = 0;
  paramserver::MemoryUse memory;
  std::int64_t checkpoint_copy_bytes = 0;  // of the world
  double wall_seconds = 0.0;               // this start of the program, reading data included
  double checkpoint_seconds = 0.0;
  std::int64_t checkpoints_written = 0;
  std::vector<RankTotals> rank_totals;
  std::string policy = "bsp";
  std::int64_t policy_workers = 0;            // logical ones
  std::optional<FederatedSummary> federated;  // absent: a centralised run
};

std::string summary_json(const RunSummary& summary);

// `final: test_accuracy=0.9153 test_loss=0.2391 parameters_hash=xxh3:...`
std::string final_line(const worker::TrainResult& result);

}  // namespace superstep::cluster
