#include "cluster/policy_report.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace superstep::cluster {

namespace {

constexpr std::int64_t kMostForecast = 1'000'000;  // supersteps: about ten seconds for 8 workers

std::int64_t model_bytes(std::int64_t num_parameters) {
  return num_parameters * std::int64_t{sizeof(float)};
}

// Beside the parameters and the optimizer state of the server.
std::string memory_text(const RunSetup& setup, std::size_t versions) {
  const worker::PolicyOptions options = policy_options(setup.config);
  const std::int64_t array_bytes = model_bytes(setup.model.layout().size());
  if (options.kind == worker::PolicyKind::kLocal) {
    const auto states = paramserver::state_arrays(train_options(setup).inner.optimizer).size();
    return fmt::format(
        "  models of local workers and their optimizer state, world: {}\n",
        human_bytes(options.workers * array_bytes * (1 + static_cast<std::int64_t>(states))));
  }
  if (options.n_push > 1 || options.n_fetch > 1) {
    return fmt::format("  models of workers, per node: {}; gradients not pushed yet, world: {}\n",
                       human_bytes(options.n_fetch > 1 ? options.workers * array_bytes : 0),
                       human_bytes(options.n_push > 1 ? options.workers * array_bytes : 0));
  }
  return versions == 0
             ? std::string()
             : fmt::format("  older parameters, up to {} versions, per node: {}\n", versions + 1,
                           human_bytes(static_cast<std::int64_t>(versions + 1) * array_bytes));
}

}  // namespace

std::string plan_fields(const worker::StepReport& report) {
  if (report.plan == nullptr) {
    return {};
  }
  std::int64_t staleness = 0;
  std::int64_t dropped = 0;
  for (const worker::Share& share : report.plan->shares) {
    staleness = std::max(staleness, report.superstep - 1 - share.version);
    dropped += share.counts ? 0 : 1;
  }
  return fmt::format(
      R"(,"virtual_seconds":{},"staleness_max":{},"shares_dropped":{},"pushes":{},"fetches":{})",
      worker::virtual_seconds(report.plan->end), staleness, dropped, report.plan->pushes,
      report.plan->fetches);
}

nlohmann::ordered_json policy_json(const worker::PolicyTotals& totals, std::string_view policy,
                                   std::int64_t workers, std::int64_t num_parameters) {
  return {{"name", policy},
          {"workers", workers},
          {"virtual_seconds", worker::virtual_seconds(totals.end)},
          {"staleness_mean", totals.staleness_mean()},
          {"by_staleness", totals.by_staleness},
          {"shares", totals.shares},
          {"shares_dropped", totals.dropped},
          {"pushed_bytes", totals.pushes * model_bytes(num_parameters)},
          {"fetched_bytes", totals.fetches * model_bytes(num_parameters)}};
}

std::string policy_forecast(const RunSetup& setup) {
  const worker::PolicyOptions options = policy_options(setup.config);
  if (!worker::is_simulated(options)) {
    return {};
  }
  const std::int64_t num_parameters = setup.model.layout().num_parameters();
  const worker::BatchPlan batches(setup.data.parts.train->size(), batch_options(setup.config));
  const std::unique_ptr<worker::SyncPolicy> policy =
      worker::make_policy(options, batches, model_bytes(num_parameters));
  worker::PolicyTotals totals;
  std::size_t versions = 0;
  const std::int64_t supersteps = std::min(total_supersteps(setup), kMostForecast);
  for (std::int64_t superstep = 0; superstep < supersteps; ++superstep) {
    totals.add(policy->next(), superstep);
    versions = std::max(versions, policy->versions_needed().size());
  }
  const auto most =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(totals.by_staleness.size()));
  return fmt::format(
             "policy: {}, {} workers on the virtual clock: {} supersteps in {:.6g} virtual "
             "seconds; "
             "staleness {:.3g} in the mean, {} at most; {} of {} shares dropped; {} pushed, {} "
             "fetched\n",
             worker::name_of(options.kind), options.workers, grouped(supersteps),
             worker::virtual_seconds(totals.end), totals.staleness_mean(), most - 1,
             grouped(totals.dropped), grouped(totals.shares),
             human_bytes(totals.pushes * model_bytes(num_parameters)),
             human_bytes(totals.fetches * model_bytes(num_parameters))) +
         memory_text(setup, versions);
}

}  // namespace superstep::cluster
