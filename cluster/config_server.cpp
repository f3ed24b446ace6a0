#include <string>

#include <fmt/format.h>

#include "cluster/config_contradictions.h"

namespace superstep::cluster {

namespace {

// Keys of one policy beside another: they exclude each other.
void check_policy_keys(const ServerSection& server, UnusedKeys& unused) {
  const std::string policy = fmt::format("server.policy = \"{}\"", server.policy);
  check_used(unused, used_if(server.policy == "ssp"), policy, {"server.staleness"});
  check_used(unused, used_if(server.policy == "async"), policy,
             {"server.n_push", "server.n_fetch", "server.warm_start_supersteps"});
  check_used(unused, used_if(server.policy == "backup"), policy, {"server.backup_workers"});
  check_used(unused, used_if(server.policy == "local"), policy,
             {"server.local_steps", "server.local_after_supersteps", "server.outer_kind",
              "server.outer_learning_rate", "server.outer_momentum"});
  if (server.policy == "local" && server.outer_kind == "sgd") {
    unused.require_default("server.outer_momentum", "server.outer_kind = \"sgd\"");
  }
  check_used(
      unused, used_if(server.policy != "bsp" || server.workers > 0),
      "server.policy = \"bsp\" without 'server.workers': nothing is simulated",
      {"server.delay.seconds_per_sample", "server.delay.speed_deviation",
       "server.delay.jitter_deviation", "server.delay.bytes_per_second", "server.delay.seed"});
}

void check_workers(const RunConfig& config, Complaints& complaints) {
  const ServerSection& server = config.server;
  const std::int64_t slots = config.train.microbatches;
  if (server.policy != "async" && server.workers > slots) {
    complaints.emplace_back(
        "server.workers",
        fmt::format("'server.workers' = {} exceeds 'train.microbatches' = {}: workers share the "
                    "slots of a batch (server.policy = \"{}\")",
                    server.workers, slots, server.policy));
  }
  const std::int64_t workers = server.workers > 0 ? server.workers : slots;
  if (server.policy == "backup" && server.backup_workers >= workers) {
    complaints.emplace_back(
        "server.backup_workers",
        fmt::format("'server.backup_workers' = {} of {} workers leaves none whose gradients count: "
                    "expected at most {}",
                    server.backup_workers, workers, workers - 1));
  }
}

// What a policy, or dedicated servers, cannot go with.
void check_companions(const RunConfig& config, Complaints& complaints) {
  const ServerSection& server = config.server;
  const auto refuse = [&](bool wrong, std::string_view key, std::string_view reason) {
    if (wrong) {
      complaints.emplace_back(key, fmt::format("'{}': {}", key, reason));
    }
  };
  const bool is_placed = config.train.slot_placement != "contiguous";
  refuse(server.servers > 0 && is_placed, "train.slot_placement",
         "dedicated servers ('server.servers') compute no slots: expected \"contiguous\"");
  refuse(server.policy != "bsp" && config.check.recompute_gradients > 0.0,
         "check.recompute_gradients",
         "another rank does not have the parameters that a worker reads: expected 0 unless "
         "server.policy is \"bsp\"");
  if (server.policy != "local") {
    return;
  }
  refuse(is_placed, "train.slot_placement",
         "a local worker stays with its rank: expected \"contiguous\" with server.policy = "
         "\"local\"");
  refuse(config.optimizer.clip_global_norm > 0.0, "optimizer.clip_global_norm",
         "local workers do not see each other's gradients between averages: expected 0 with "
         "server.policy = \"local\"; 'optimizer.clip_value' is of each worker");
  refuse(config.check.bad_numbers == "skip", "check.bad_numbers",
         "a local worker has used its gradient before the others know of it: expected \"stop\" "
         "with server.policy = \"local\"");
}

}  // namespace

void check_server(const RunConfig& config, UnusedKeys& unused, Complaints& complaints) {
  check_policy_keys(config.server, unused);
  check_workers(config, complaints);
  check_companions(config, complaints);
}

}  // namespace superstep::cluster
