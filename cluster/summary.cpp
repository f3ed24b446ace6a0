#include "cluster/summary.h"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "cluster/client_reports.h"
#include "cluster/metrics_log.h"
#include "cluster/policy_report.h"

namespace superstep::cluster {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kNumTotals = 8;

std::array<double, kNumTotals> to_array(const RankTotals& totals) {
  return {static_cast<double>(totals.supersteps),
          totals.total_seconds,
          totals.compute_seconds,
          totals.input_wait_seconds,
          totals.exchange_seconds,
          totals.sync_wait_seconds,
          totals.bytes_sent,
          totals.bytes_received};
}

RankTotals from_array(std::span<const double> values) {
  return {.supersteps = static_cast<std::int64_t>(values[0]),
          .total_seconds = values[1],
          .compute_seconds = values[2],
          .input_wait_seconds = values[3],
          .exchange_seconds = values[4],
          .sync_wait_seconds = values[5],
          .bytes_sent = values[6],
          .bytes_received = values[7]};
}

Json evaluation_json(const std::optional<worker::Evaluation>& evaluation) {
  if (!evaluation) {
    return nullptr;
  }
  return {{"loss", evaluation->loss},
          {"accuracy", evaluation->accuracy},
          {"samples", evaluation->num_samples}};
}

Json spread(const std::vector<RankTotals>& ranks, double RankTotals::*part) {
  double least = ranks.empty() ? 0.0 : ranks.front().*part;
  double most = least;
  double sum = 0.0;
  for (const RankTotals& rank : ranks) {
    least = std::min(least, rank.*part);
    most = std::max(most, rank.*part);
    sum += rank.*part;
  }
  const double count = std::max<double>(1.0, static_cast<double>(ranks.size()));
  return {{"min", least}, {"mean", sum / count}, {"max", most}};
}

Json time_json(const RunSummary& summary) {
  const std::vector<RankTotals>& ranks = summary.rank_totals;
  return {{"wall", summary.wall_seconds},
          {"training", summary.result.train_seconds},
          {"checkpoints", summary.checkpoint_seconds},
          {"supersteps_by_rank",
           {{"total", spread(ranks, &RankTotals::total_seconds)},
            {"compute", spread(ranks, &RankTotals::compute_seconds)},
            {"input_wait", spread(ranks, &RankTotals::input_wait_seconds)},
            {"exchange", spread(ranks, &RankTotals::exchange_seconds)},
            {"sync_wait", spread(ranks, &RankTotals::sync_wait_seconds)}}}};
}

Json world_json(const RunSummary& summary) {
  return {{"ranks", summary.world.ranks},
          {"processes", summary.world.processes},
          {"lanes", summary.world.lanes},
          {"nodes", summary.world.nodes}};
}

Json progress_json(const RunSummary& summary) {
  const std::int64_t resumed = summary.resumed_from_superstep;
  return {{"supersteps", summary.result.supersteps},
          {"epochs", summary.result.epochs},
          {"best_epoch", summary.result.best_epoch < 0 ? Json() : Json(summary.result.best_epoch)},
          {"resumed_from_superstep", resumed < 0 ? Json() : Json(resumed)},
          {"last_checkpoint", summary.result.last_checkpoint.filename().string()},
          {"checkpoints_written", summary.checkpoints_written}};
}

Json privacy_json(const FederatedSummary& federated) {
  if (!federated.privacy) {
    return nullptr;
  }
  const worker::PrivacyRound& privacy = *federated.privacy;
  return {{"unit", "client"},
          {"adjacency", "add_or_remove_one_client"},
          {"sampling", "poisson"},
          {"cohort", privacy.cohort},
          {"noise_cohort", privacy.noise_cohort},
          {"sampling_probability", privacy.sampling},
          {"noise_multiplier", privacy.noise_multiplier},
          {"update_noise_multiplier", privacy.update_noise_multiplier},
          {"noise_source", noise_label(privacy.noise_source)},
          {"initial_model", federated.initial_model},
          {"executed_rounds", privacy.executed_rounds},
          {"clip", privacy.clip},
          {"delta", privacy.delta},
          {"epsilon_rdp", privacy.rdp.epsilon},
          {"epsilon_rdp_classic", privacy.rdp_classic},
          {"epsilon_pld", privacy.pld ? Json(*privacy.pld) : Json()}};
}

Json time_json(const FederatedSummary& federated) {
  if (!federated.time) {
    return nullptr;
  }
  const worker::ClockTotals& time = *federated.time;
  return {{"virtual_seconds", worker::virtual_seconds(time.end)},
          {"used", time.used},
          {"late", time.late},
          {"dropped", time.dropped},
          {"gone", time.gone},
          {"stale", time.stale},
          {"staleness_mean", time.staleness_mean()},
          {"staleness_max", time.staleness_max},
          {"versions_max", time.versions}};
}

Json federated_json(const RunSummary& summary) {
  const FederatedSummary& federated = *summary.federated;
  const double seconds = summary.result.train_seconds;
  Json json = {
      {"algorithm", federated.algorithm},
      {"personalization", federated.personalization},
      {"clients", federated.clients},
      {"cohort", federated.cohort},
      {"sampling", federated.sampling},
      {"rounds", summary.result.supersteps},
      {"client_rounds", federated.client_rounds},
      {"client_rounds_per_second",
       seconds > 0.0 ? Json(static_cast<double>(federated.client_rounds_of_start) / seconds)
                     : Json()},
      {"rejected_updates", federated.rejected},
      {"rounds_without_effect", federated.rounds_without_effect},
      {"upload_bytes", federated.upload_bytes},
      {"download_bytes", federated.download_bytes},
      {"best_test_accuracy", federated.best_round < 0 ? Json() : Json(federated.best_accuracy)},
      {"best_round", federated.best_round < 0 ? Json() : Json(federated.best_round)},
      {"privacy", privacy_json(federated)},
      {"asynchrony", federated.asynchrony},
      {"time", time_json(federated)},
      {"ring", {{"bits", federated.ring_bits}, {"fraction_bits", federated.fraction_bits}}}};
  json.update(client_metrics_json(federated.clients_judged));
  return json;
}

}  // namespace

void RankTotals::add(const bsp::SuperstepRecord& record) {
  ++supersteps;
  total_seconds += record.total_seconds;
  compute_seconds += record.compute_seconds;
  input_wait_seconds += record.input_wait_seconds;
  exchange_seconds += record.exchange_seconds;
  sync_wait_seconds += record.sync_wait_seconds;
  bytes_sent += static_cast<double>(record.bytes_sent);
  bytes_received += static_cast<double>(record.bytes_received);
}

std::vector<RankTotals> gather_totals(bsp::World& world, const RankTotals& mine) {
  const auto num_ranks = static_cast<std::size_t>(world.size());
  const std::array<double, kNumTotals> values = to_array(mine);
  std::vector<double> all(kNumTotals * num_ranks);
  const std::vector<std::int64_t> counts(num_ranks, kNumTotals);
  world.allgather(std::span<const double>(values), std::span<double>(all), counts);
  std::vector<RankTotals> totals;
  for (std::size_t rank = 0; rank < num_ranks; ++rank) {
    totals.push_back(
        from_array(std::span<const double>(all).subspan(rank * kNumTotals, kNumTotals)));
  }
  return totals;
}

std::int64_t checkpoint_copy_bytes(const CheckpointSection& checkpoint,
                                   const paramserver::MemoryUse& memory, int num_ranks) {
  const std::int64_t copies =
      (checkpoint.asynchronous ? 1 : 0) + (checkpoint.partner_directory.empty() ? 0 : 1);
  // Rank 0 hashes the parameters, those of the other ranks, too.
  const std::int64_t foreign =
      checkpoint.asynchronous ? memory.parameters_per_node - memory.parameters_per_node / num_ranks
                              : 0;
  return copies * (memory.parameters_per_node + memory.optimizer_state_per_world) + foreign;
}

paramserver::MemoryUse gather_memory(bsp::World& world, const paramserver::MemoryUse& mine) {
  const std::array<std::int64_t, 4> values = {mine.parameters_per_node, mine.gradients_per_node,
                                              mine.exchange_per_node,
                                              mine.optimizer_state_per_world};
  std::array<std::int64_t, 4> most{};
  world.allreduce(std::span<const std::int64_t>(values), std::span<std::int64_t>(most),
                  bsp::ReduceOp::kMax);
  return {.parameters_per_node = most[0],
          .gradients_per_node = most[1],
          .exchange_per_node = most[2],
          .optimizer_state_per_world = most[3]};
}

std::string summary_json(const RunSummary& summary) {
  const worker::TrainResult& result = summary.result;
  Json json = {{"schema", kSummarySchema},
               {"run_id", summary.run_id},
               {"exit_reason", worker::name_of(result.reason)},
               {"exit_code", summary.exit_code},
               {"model", {{"name", summary.model}, {"parameters", summary.num_parameters}}},
               {"data",
                {{"fingerprint", summary.data_fingerprint},
                 {"train_samples", summary.train_samples},
                 {"validation_samples", summary.validation_samples},
                 {"test_samples", summary.test_samples}}},
               {"world", world_json(summary)},
               {"progress", progress_json(summary)},
               {"validation", evaluation_json(result.validation)},
               {"test", evaluation_json(result.test)},
               {"parameters_hash", to_text(result.parameters_hash)},
               {"state_hash", to_text(result.state_hash)},
               {"memory_bytes",
                {{"parameters_per_node", summary.memory.parameters_per_node},
                 {"gradients_per_node", summary.memory.gradients_per_node},
                 {"exchange_per_node", summary.memory.exchange_per_node},
                 {"optimizer_state_per_world", summary.memory.optimizer_state_per_world},
                 {"checkpoint_copy_per_world", summary.checkpoint_copy_bytes}}},
               {"time_seconds", time_json(summary)},
               {"traffic_bytes_by_rank",
                {{"sent", spread(summary.rank_totals, &RankTotals::bytes_sent)},
                 {"received", spread(summary.rank_totals, &RankTotals::bytes_received)}}}};
  if (result.policy) {
    json["policy"] =
        policy_json(*result.policy, summary.policy, summary.policy_workers, summary.num_parameters);
  }
  if (summary.federated) {
    json["federated"] = federated_json(summary);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string final_line(const worker::TrainResult& result) {
  const worker::Evaluation test = result.test.value_or(worker::Evaluation{});
  return fmt::format("final: test_accuracy={:.4f} test_loss={:.4f} parameters_hash={}",
                     test.accuracy, test.loss, to_text(result.parameters_hash));
}

}  // namespace superstep::cluster
