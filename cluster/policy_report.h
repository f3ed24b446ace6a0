// What is told of a policy on the virtual clock: in metrics.jsonl, in summary.json, by --dry-run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "cluster/setup.h"
#include "worker/trainer.h"

namespace superstep::cluster {

// `,"virtual_seconds":...` of a superstep; empty without a plan.
std::string plan_fields(const worker::StepReport& report);

// Of a whole run; the bytes are those of the simulated workers.
nlohmann::ordered_json policy_json(const worker::PolicyTotals& totals, std::string_view policy,
                                   std::int64_t workers, std::int64_t num_parameters);

// Nothing of the clock depends on what is trained: what a run will be like, for --dry-run. Empty
// where nothing is simulated.
std::string policy_forecast(const RunSetup& setup);

}  // namespace superstep::cluster
