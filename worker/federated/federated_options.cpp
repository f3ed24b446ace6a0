// What is impossible about a federated run, found before anything is computed.
#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

[[noreturn]] void refuse_privacy(const std::string& what) {
  throw InvalidArgument("FederatedOptions", "no differential privacy: " + what);
}

// Set-ups whose guarantee would not be what the ledger says.
void check_privacy(const FederatedOptions& options, const ClientData& clients) {
  const PrivacyOptions& privacy = options.privacy;
  validate(privacy);
  if (privacy.kind == PrivacyKind::kNone) {
    return;
  }
  if (options.cohort.sampling != Sampling::kPoisson) {
    refuse_privacy(
        fmt::format("the accountants account for Poisson sampling with add/remove "
                    "adjacency: got sampling \"{}\", expected \"poisson\"",
                    name_of(options.cohort.sampling)));
  }
  if (sends_more_than_its_update(options.algorithm.kind)) {
    refuse_privacy(fmt::format("{} sends more than one clipped update per client",
                               name_of(options.algorithm.kind)));
  }
  if (options.algorithm.weighting == Weighting::kSamples && privacy.weight_cap == 0.0) {
    refuse_privacy(
        "an average weighted by samples has no bounded sensitivity: got weighting "
        "\"samples\" without a weight cap, expected \"uniform\" or a cap");
  }
  if (privacy.delta * static_cast<double>(clients.num_clients()) >= 1.0) {
    refuse_privacy(
        fmt::format("delta says nothing unless it is below 1 / clients: got {}, "
                    "expected less than {}",
                    privacy.delta, 1.0 / static_cast<double>(clients.num_clients())));
  }
}

void check_robust(const FederatedOptions& options) {
  validate(options.robust, options.cohort.size);
  validate(options.attack);
  const auto refuse = [&](std::string_view why) {
    throw InvalidArgument(
        "FederatedOptions",
        fmt::format("robust aggregation ({}) and attacks ({}): {}", name_of(options.robust.kind),
                    name_of(options.attack.kind), why));
  };
  if (options.robust.kind == RobustKind::kNone) {
    if (needs_all_updates(options.attack.kind)) {
      refuse(
          "attackers that collude need a rule that sees all updates, expected \"mean\" or a "
          "robust one");
    }
    return;
  }
  if (options.privacy.kind != PrivacyKind::kNone) {
    refuse("rules that see single updates exclude privacy in the ring");
  }
  if (options.cohort.sampling == Sampling::kPoisson) {
    refuse("a Poisson cohort may be too small, expected sampling \"fixed\" or \"weighted\"");
  }
  if (options.algorithm.weighting == Weighting::kSamples) {
    refuse("clients weigh the same: got weighting \"samples\", expected \"uniform\"");
  }
  if (sends_more_than_its_update(options.algorithm.kind)) {
    refuse("not with an algorithm whose clients send more than one update");
  }
}

void check_compression(const FederatedOptions& options) {
  const CompressionOptions& compression = options.compression;
  validate(compression);
  const auto refuse = [&](std::string_view why) {
    throw InvalidArgument("FederatedOptions",
                          fmt::format("compression ({}): {}", name_of(compression.kind), why));
  };
  if (compression.kind == CompressionKind::kNone) {
    return;
  }
  if (options.privacy.kind != PrivacyKind::kNone) {
    refuse("not with privacy: a clipped update may grow when it is decoded");
  }
  if (options.algorithm.kind == Algorithm::kQFedAvg) {
    refuse("not with qfedavg, whose step follows from the norm of the exact update");
  }
  if (compression.error_feedback == ErrorFeedback::kOn && options.client_store.empty()) {
    refuse("error feedback keeps state per client: expected a directory in client_store");
  }
}

std::int64_t most_samples(const ClientData& clients) {
  std::int64_t most = 0;
  for (std::int64_t client = 0; client < clients.num_clients(); ++client) {
    most = std::max(most, clients.num_samples(client));
  }
  return most;
}

// The most updates that can enter one sum.
std::int64_t most_updates(const FederatedOptions& options, const ClientData& clients) {
  if (options.asynchrony.kind != Asynchrony::kNone) {
    return reports_per_update(options.asynchrony);
  }
  return options.cohort.sampling == Sampling::kPoisson ? clients.num_clients()
                                                       : options.cohort.size;
}

// The most that the weights of a cohort can add up to.
double most_weight(const FederatedOptions& options, const ClientData& clients) {
  const std::int64_t size = options.cohort.size;
  if (options.privacy.kind != PrivacyKind::kNone) {
    // Twelve deviations of noise beside the clients.
    constexpr double kDeviations = 12.0;
    const double clip = std::max(1.0, options.privacy.clip / options.update_bound);
    const double noise = options.privacy.noise_multiplier * clip;
    return static_cast<double>(clients.num_clients()) + kDeviations * noise;
  }
  if (options.algorithm.kind == Algorithm::kQFedAvg) {
    return kMostLossWeight * static_cast<double>(options.cohort.sampling == Sampling::kPoisson
                                                     ? clients.num_clients()
                                                     : size);
  }
  const bool by_samples = effective_weighting(options.algorithm) == Weighting::kSamples;
  if (options.asynchrony.kind == Asynchrony::kFedAsync) {
    return 1.0;
  }
  if (options.asynchrony.kind == Asynchrony::kFedBuff) {
    // A client may be in the buffer several times.
    const double buffer = static_cast<double>(options.asynchrony.buffer);
    return by_samples ? buffer * static_cast<double>(most_samples(clients)) : buffer;
  }
  std::priority_queue<std::int64_t, std::vector<std::int64_t>, std::greater<>> largest;
  double sum = 0.0;
  std::int64_t fewest_steps = std::numeric_limits<std::int64_t>::max();
  std::int64_t most_steps = 1;
  for (std::int64_t client = 0; client < clients.num_clients(); ++client) {
    const std::int64_t samples = clients.num_samples(client);
    const std::int64_t steps = LocalTrainer::num_steps(options.local, samples);
    fewest_steps = std::min(fewest_steps, steps);
    most_steps = std::max(most_steps, steps);
    if (options.cohort.sampling == Sampling::kPoisson) {
      sum += by_samples ? static_cast<double>(samples) : 1.0;  // everybody may take part
      continue;
    }
    largest.push(by_samples ? samples : 1);
    if (static_cast<std::int64_t>(largest.size()) > size) {
      largest.pop();
    }
  }
  for (; !largest.empty(); largest.pop()) {
    sum += static_cast<double>(largest.top());
  }
  const bool nova = options.algorithm.kind == Algorithm::kFedNova;
  return nova ? sum * static_cast<double>(most_steps) / static_cast<double>(fewest_steps) : sum;
}

}  // namespace

FederatedOptions completed(FederatedOptions options) {
  if (options.algorithm.kind == Algorithm::kFedSgd) {
    options.local.epochs = 1;
    options.local.batch = 0;
  }
  return options;
}

paramserver::RingFormat check_federated(const FederatedOptions& given, const ClientData& clients) {
  const FederatedOptions options = completed(given);
  if (options.asynchrony.kind == Asynchrony::kNone) {
    validate(options.cohort, clients.num_clients());
  }
  validate(options.local);
  validate(options.algorithm);
  check_privacy(options, clients);
  check_robust(options);
  check_compression(options);
  check_time(options, clients);
  if (options.rounds < 1) {
    throw InvalidArgument("FederatedOptions",
                          fmt::format("rounds: got {}, expected at least 1", options.rounds));
  }
  if (has_client_state(options.algorithm.kind) && options.client_store.empty()) {
    throw InvalidArgument("FederatedOptions",
                          fmt::format("{} keeps state per client: expected a directory in "
                                      "client_store",
                                      name_of(options.algorithm.kind)));
  }
  return paramserver::choose_ring({.sum_of_weights = most_weight(options, clients),
                                   .num_clients = most_updates(options, clients),
                                   .value_bound = options.update_bound,
                                   .bits = options.ring_bits});
}

}  // namespace superstep::worker
