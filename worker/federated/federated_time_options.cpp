// What is impossible about virtual time and asynchrony, found before anything is computed.
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/federated/federated_clock.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

[[noreturn]] void refuse_time(const std::string& what) {
  throw InvalidArgument("FederatedOptions", what);
}

// Without virtual time nothing is late, and nobody is there first.
void check_needs_clock(const FederatedOptions& options) {
  if (has_clock(options)) {
    return;
  }
  const TimingOptions& timing = options.timing;
  const bool is_asynchronous = options.asynchrony.kind != Asynchrony::kNone;
  if (timing.over_selection > 1.0 || timing.deadline_seconds > 0.0 || timing.min_reports > 0 ||
      is_asynchronous) {
    refuse_time(fmt::format(
        "over-selection, deadlines, a least number of reports and asynchrony need virtual time: "
        "got over_selection {}, deadline_seconds {}, min_reports {}, asynchrony \"{}\" with device "
        "speed \"none\", expected \"log_normal\" or \"file\"",
        timing.over_selection, timing.deadline_seconds, timing.min_reports,
        name_of(options.asynchrony.kind)));
  }
}

// Who takes part must not depend on the others, or the accountants' sampling is not the one that
// happens. A deadline and dropouts only ever lower a client's own probability.
void check_private_time(const FederatedOptions& options) {
  if (options.privacy.kind == PrivacyKind::kNone) {
    return;
  }
  const auto refuse = [](const std::string& got) {
    refuse_time(fmt::format(
        "no differential privacy: with {} a client's part in a round depends on other clients, "
        "which no accountant here accounts for",
        got));
  };
  if (options.asynchrony.kind != Asynchrony::kNone) {
    refuse(fmt::format("asynchrony \"{}\"", name_of(options.asynchrony.kind)));
  }
  if (options.device.availability.kind != AvailabilityKind::kAlways) {
    refuse(fmt::format("availability \"{}\"", name_of(options.device.availability.kind)));
  }
  if (options.timing.min_reports > 0) {
    refuse(fmt::format("min_reports {}", options.timing.min_reports));
  }
}

void check_rounds_in_time(const FederatedOptions& options, const ClientData& clients) {
  if (options.timing.over_selection > 1.0 && options.cohort.sampling == Sampling::kPoisson) {
    refuse_time(
        fmt::format("over-selection keeps the first of a wanted number of reports, and a Poisson "
                    "cohort wants none: got over_selection {} with sampling \"poisson\", expected "
                    "1, or sampling \"fixed\" or \"weighted\"",
                    options.timing.over_selection));
  }
  const std::int64_t most =
      options.cohort.sampling == Sampling::kPoisson ? clients.num_clients() : options.cohort.size;
  if (options.timing.min_reports > most) {
    refuse_time(fmt::format("min_reports: got {}, expected at most {}: no round has more reports",
                            options.timing.min_reports, most));
  }
}

void check_asynchronous(const FederatedOptions& options) {
  const auto refuse = [&](const std::string& why) {
    refuse_time(fmt::format("asynchrony ({}): {}", name_of(options.asynchrony.kind), why));
  };
  if (sends_more_than_its_update(options.algorithm.kind)) {
    refuse(fmt::format("not with {}, whose clients' state or second update belongs to one round",
                       name_of(options.algorithm.kind)));
  }
  if (has_personal_state(options.personalization.kind)) {
    refuse(fmt::format("not with personalization \"{}\", whose clients' state belongs to one round",
                       name_of(options.personalization.kind)));
  }
  if (options.robust.kind != RobustKind::kNone) {
    refuse("not with rules that compare the updates of one round");
  }
  if (options.compression.error_feedback == ErrorFeedback::kOn) {
    refuse("not with error feedback: a client may report twice for one update");
  }
  if (options.cohort.sampling != Sampling::kFixed) {
    refuse(
        fmt::format("clients start when a place is free: got sampling \"{}\", expected "
                    "\"fixed\"",
                    name_of(options.cohort.sampling)));
  }
  const TimingOptions& timing = options.timing;
  if (timing.over_selection > 1.0 || timing.deadline_seconds > 0.0 || timing.min_reports > 0) {
    refuse("there are no rounds: over_selection, deadline_seconds and min_reports say nothing");
  }
  if (options.asynchrony.kind != Asynchrony::kFedAsync) {
    return;
  }
  const paramserver::ServerRule rule = server_options(options.algorithm).rule;
  if (rule.kind != paramserver::ServerRuleKind::kSgd || rule.learning_rate != 1.0) {
    refuse(
        fmt::format("mixing is the server's step: got {} with server learning rate {}, expected "
                    "fedsgd, fedavg or fedprox with 1",
                    name_of(options.algorithm.kind), rule.learning_rate));
  }
  if (options.compression.kind != CompressionKind::kNone) {
    refuse("models are mixed, not updates: expected compression \"none\"");
  }
}

}  // namespace

void check_time(const FederatedOptions& options, const ClientData& clients) {
  validate(options.device, clients.num_clients());
  validate(options.timing);
  validate(options.asynchrony, clients.num_clients());
  check_needs_clock(options);
  check_private_time(options);
  if (options.asynchrony.kind == Asynchrony::kNone) {
    check_rounds_in_time(options, clients);
  } else {
    check_asynchronous(options);
  }
}

}  // namespace superstep::worker
