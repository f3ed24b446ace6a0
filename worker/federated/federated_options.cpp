// What is impossible about a federated run, found before anything is computed.
#include <algorithm>
#include <cmath>
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
  if (options.algorithm.weighting == Weighting::kUniform && privacy.weight_cap > 0.0) {
    refuse_privacy(
        fmt::format("a cap of weights has no effect: got weighting \"uniform\" with a "
                    "weight cap of {}, expected \"samples\" or no cap",
                    privacy.weight_cap));
  }
  if (privacy.noise_cohort > 0 && (privacy.noise_cohort < options.cohort.size ||
                                   privacy.noise_cohort > clients.num_clients())) {
    refuse_privacy(
        fmt::format("the noise of a larger cohort: got noise_cohort {}, expected {} (the "
                    "cohort) to {} (all clients)",
                    privacy.noise_cohort, options.cohort.size, clients.num_clients()));
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

void check_norms(const FederatedOptions& options) {
  validate(options.norms);
  if (!is_bounded(options.norms)) {
    return;
  }
  const auto refuse = [&](std::string_view why) {
    throw InvalidArgument("FederatedOptions",
                          fmt::format("bounds of norms (zeroing {}, clipping {}): {}",
                                      name_of(options.norms.zeroing.kind),
                                      name_of(options.norms.clipping.kind), why));
  };
  if (options.privacy.kind != PrivacyKind::kNone) {
    refuse("privacy has a bound of its own, which its account depends on");
  }
  if (options.robust.kind != RobustKind::kNone) {
    refuse("rules that see all updates bound them themselves, expected robust \"none\"");
  }
  if (sends_more_than_its_update(options.algorithm.kind)) {
    refuse(fmt::format("{} sends more than one bounded update per client",
                       name_of(options.algorithm.kind)));
  }
  if (options.compression.error_feedback == ErrorFeedback::kOn) {
    refuse("error feedback would send later what a bound took away");
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
  const bool contracts = compression.kind == CompressionKind::kTopK ||
                         compression.kind == CompressionKind::kRandomK ||
                         compression.kind == CompressionKind::kSign;
  if (compression.error_feedback == ErrorFeedback::kOn && !contracts) {
    refuse(
        "error feedback needs a compression that loses less than all of an update; what unbiased "
        "rounding leaves out may be longer than it, and grows: expected \"top_k\", \"random_k\" or "
        "\"sign\"");
  }
  if (compression.error_feedback == ErrorFeedback::kOn && options.client_store.empty()) {
    refuse("error feedback keeps state per client: expected a directory in client_store");
  }
}

// Running means and variances are averaged as they are: what scales, rounds or adds to an update
// makes variances negative. Personal ones are not averaged.
void check_statistics(const FederatedOptions& options, const paramserver::ParameterLayout& layout) {
  const std::vector<paramserver::LayoutEntry> sent =
      shared_entries(layout, options.personalization);
  const auto statistic =
      std::find_if(sent.begin(), sent.end(), [](const paramserver::LayoutEntry& entry) {
        return entry.role == paramserver::EntryRole::kStatistic;
      });
  if (statistic == sent.end()) {
    return;
  }
  const auto refuse = [&](std::string_view what) {
    throw InvalidArgument("FederatedOptions",
                          fmt::format("{} does not go with a model that has running statistics "
                                      "(batch normalisation): got {}, expected none",
                                      what, statistic->name));
  };
  if (options.privacy.kind != PrivacyKind::kNone) {
    refuse("privacy");
  }
  if (is_bounded(options.norms)) {
    refuse("a bound of norms");
  }
  if (options.compression.kind != CompressionKind::kNone) {
    refuse("compression");
  }
  if (options.algorithm.kind == Algorithm::kFedNova ||
      options.algorithm.kind == Algorithm::kQFedAvg) {
    refuse(name_of(options.algorithm.kind));
  }
}

// Elements of a clipped update are within the bound of its norm; everybody may take part. The
// deviation of the noise, z * (clip 2^f + sqrt(elements) / 2), is below a 32nd of what clients may
// fill, 2^(bits - 2): in 64 bits the 2^57 that can be drawn, and 16 deviations fit beside them.
paramserver::RingDemand private_demand(const FederatedOptions& options, const ClientData& clients,
                                       std::int64_t num_elements) {
  constexpr double kShare = 33.0;
  const double noise = kShare * update_noise_multiplier(options.privacy, options.cohort.size);
  const auto population = static_cast<double>(clients.num_clients());
  const double roundings = noise * std::sqrt(static_cast<double>(num_elements));
  constexpr double kMostRoundings = 0x1p62;  // no ring holds them, and the count stays an integer
  return {.sum_of_weights = std::max(population, noise),
          .num_clients = static_cast<std::int64_t>(
              std::min(kMostRoundings, std::ceil(std::max(population, roundings)))),
          .value_bound = most_clip(options.privacy, options.update_bound),
          .bits = options.ring_bits};
}

void check_personalization(const FederatedOptions& options) {
  const PersonalizationOptions& personalization = options.personalization;
  validate(personalization);
  const auto refuse = [&](const std::string& why) {
    throw InvalidArgument("FederatedOptions", fmt::format("personalization ({}): {}",
                                                          name_of(personalization.kind), why));
  };
  if (has_personal_state(personalization.kind) && options.client_store.empty()) {
    refuse("clients keep their own models: expected a directory in client_store");
  }
  if (personalization.kind == PersonalizationKind::kFineTune &&
      options.evaluate_clients_every_rounds == 0) {
    refuse(
        "clients train on in evaluations only: got evaluate_clients_every_rounds 0, expected "
        "at least 1");
  }
  if (personalization.kind != PersonalizationKind::kFedPer) {
    return;
  }
  if (options.privacy.kind != PrivacyKind::kNone) {
    refuse("not with privacy: noise would be added to layers that no client sends");
  }
  switch (options.algorithm.kind) {
    case Algorithm::kScaffold:
    case Algorithm::kFedDyn:
    case Algorithm::kQFedAvg:
    case Algorithm::kMimeLite:
      refuse(fmt::format("not with {}, which also looks at the published model as a whole",
                         name_of(options.algorithm.kind)));
      break;
    default:
      break;
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

// Exactly 1 without a cap.
double mean_weight(const FederatedOptions& options, const ClientData& clients) {
  if (options.privacy.weight_cap == 0.0) {
    return 1.0;
  }
  double sum = 0.0;
  for (std::int64_t client = 0; client < clients.num_clients(); ++client) {
    sum += private_weight(options.privacy, clients.num_samples(client));
  }
  return sum / static_cast<double>(clients.num_clients());
}

}  // namespace

std::int64_t elements_on_the_wire(std::span<const paramserver::LayoutEntry> sent) {
  std::int64_t sum = 0;
  for (const paramserver::LayoutEntry& entry : sent) {
    sum += entry.num_elements();
  }
  return sum;
}

FederatedOptions completed(FederatedOptions options) {
  if (options.algorithm.kind == Algorithm::kFedSgd) {
    options.local.epochs = 1;
    options.local.batch = 0;
  }
  return options;
}

PrivacyEngine privacy_engine(const FederatedOptions& options, const ClientData& clients,
                             std::int64_t num_elements, const paramserver::RingFormat& ring) {
  return {options.privacy,
          {.cohort = options.cohort.size,
           .population = clients.num_clients(),
           .num_elements = num_elements,
           .most_clip = most_clip(options.privacy, options.update_bound),
           .mean_weight = mean_weight(options, clients)},
          ring,
          options.cohort.seed};
}

paramserver::RingFormat check_federated(const FederatedOptions& given, const ClientData& clients,
                                        const paramserver::ParameterLayout& layout) {
  const FederatedOptions options = completed(given);
  if (options.asynchrony.kind == Asynchrony::kNone) {
    validate(options.cohort, clients.num_clients());
  }
  validate(options.local);
  validate(options.algorithm);
  check_privacy(options, clients);
  check_robust(options);
  check_norms(options);
  check_compression(options);
  check_personalization(options);
  check_statistics(options, layout);
  if (options.cohort.sampling == Sampling::kWeighted &&
      effective_weighting(options.algorithm) == Weighting::kSamples) {
    throw InvalidArgument("FederatedOptions",
                          "sampling \"weighted\" with weighting \"samples\" counts the size of a "
                          "client twice: expected weighting \"uniform\"");
  }
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
  if (options.privacy.kind != PrivacyKind::kNone) {
    const paramserver::RingFormat ring =
        paramserver::choose_ring(private_demand(options, clients, layout.size()));
    privacy_engine(options, clients, layout.size(), ring);  // refuses what it cannot account for
    return ring;
  }
  return paramserver::choose_ring(
      {.sum_of_weights = most_weight(options, clients),
       .num_clients = most_updates(options, clients),
       .value_bound = options.update_bound *
                      scale_of_decoding(options.compression, elements_on_the_wire(shared_entries(
                                                                 layout, options.personalization))),
       .bits = options.ring_bits});
}

std::optional<PrivacyRound> projected_privacy(const FederatedOptions& options,
                                              const ClientData& clients,
                                              const paramserver::ParameterLayout& layout) {
  if (options.privacy.kind == PrivacyKind::kNone) {
    return std::nullopt;
  }
  PrivacyEngine engine =
      privacy_engine(options, clients, layout.size(), check_federated(options, clients, layout));
  engine.account(options.rounds);
  PrivacyRound spent = engine.spent(engine.clip());
  spent.pld = engine.pld();
  return spent;
}

}  // namespace superstep::worker
