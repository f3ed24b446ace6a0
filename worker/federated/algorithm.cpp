#include "worker/federated/algorithm.h"

#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

using paramserver::ControlKind;
using paramserver::ServerRuleKind;

// In the order of the enumeration.
constexpr std::array<std::string_view, 12> kNames = {
    "fedsgd",  "fedavg",   "fedprox", "fedavgm", "fedadagrad", "fedadam",
    "fedyogi", "scaffold", "fednova", "feddyn",  "qfedavg",    "mimelite"};

ServerRuleKind rule_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kFedAvgM:
      return ServerRuleKind::kMomentum;
    case Algorithm::kFedAdagrad:
      return ServerRuleKind::kAdagrad;
    case Algorithm::kFedAdam:
      return ServerRuleKind::kAdam;
    case Algorithm::kFedYogi:
      return ServerRuleKind::kYogi;
    default:
      return ServerRuleKind::kSgd;
  }
}

}  // namespace

std::span<const std::string_view> algorithm_names() {
  return kNames;
}

std::string_view name_of(Algorithm algorithm) {
  return kNames[static_cast<std::size_t>(algorithm)];
}

std::string_view name_of(Weighting weighting) {
  return weighting == Weighting::kSamples ? "samples" : "uniform";
}

Algorithm algorithm_of(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) {
      return static_cast<Algorithm>(i);
    }
  }
  const std::vector<std::string> names(kNames.begin(), kNames.end());
  throw InvalidArgument("algorithm", fmt::format("unknown algorithm \"{}\"{} (known: {})", name,
                                                 did_you_mean(name, names), join(names)));
}

void validate(const AlgorithmOptions& options) {
  require_field("AlgorithmOptions", options.mu >= 0.0, "mu", options.mu, "a number of at least 0");
  require_field("AlgorithmOptions", options.alpha > 0.0, "alpha", options.alpha,
                "a number above 0");
  require_field("AlgorithmOptions", options.q >= 0.0, "q", options.q, "a number of at least 0");
  require_field("AlgorithmOptions", options.beta >= 0.0 && options.beta < 1.0, "beta", options.beta,
                "a number in [0, 1)");
  paramserver::validate(options.server);
}

paramserver::FederatedServerOptions server_options(const AlgorithmOptions& options) {
  paramserver::FederatedServerOptions server;
  server.rule = options.server;
  server.rule.kind = rule_of(options.kind);
  switch (options.kind) {
    case Algorithm::kScaffold:
      server.control = ControlKind::kScaffold;
      break;
    case Algorithm::kFedDyn:
      server.control = ControlKind::kFedDyn;
      server.control_rate = options.alpha;
      break;
    case Algorithm::kMimeLite:
      server.control = ControlKind::kMimeLite;
      server.control_rate = options.beta;
      break;
    default:
      break;
  }
  return server;
}

Weighting effective_weighting(const AlgorithmOptions& options) {
  switch (options.kind) {
    case Algorithm::kScaffold:
    case Algorithm::kFedDyn:
    case Algorithm::kQFedAvg:
      return Weighting::kUniform;
    default:
      return options.weighting;
  }
}

bool has_client_state(Algorithm algorithm) {
  return algorithm == Algorithm::kScaffold || algorithm == Algorithm::kFedDyn;
}

bool sends_more_than_its_update(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kScaffold:
    case Algorithm::kFedNova:
    case Algorithm::kFedDyn:
    case Algorithm::kQFedAvg:
    case Algorithm::kMimeLite:
      return true;
    default:
      return false;
  }
}

}  // namespace superstep::worker
