// What a rank does for one client of the cohort: train, check, contribute.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/philox.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

using Clock = std::chrono::steady_clock;

double squared_distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

double FederatedTrainer::State::base_weight(std::int64_t client) const {
  const bool alone = options.asynchrony.kind == Asynchrony::kFedAsync;
  return !alone && effective_weighting(options.algorithm) == Weighting::kSamples
             ? static_cast<double>(clients->num_samples(client))
             : 1.0;
}

// FedNova scales a client by mean steps over own steps, which is exactly 1 when all clients make
// equally many.
double FederatedTrainer::State::weight_of(const RoundPlan& plan, std::int64_t client) const {
  if (options.algorithm.kind != Algorithm::kFedNova) {
    return base_weight(client);
  }
  const auto steps =
      static_cast<double>(LocalTrainer::num_steps(options.local, clients->num_samples(client)));
  return base_weight(client) * (plan.mean_steps / steps);
}

// The client's rule; reads its state where it has one.
LocalRule FederatedTrainer::State::rule_for(std::int64_t client) {
  const AlgorithmOptions& algorithm = options.algorithm;
  const std::span<const float> control = server.control();
  LocalRule rule;
  switch (algorithm.kind) {
    case Algorithm::kFedProx:
      rule.proximal = static_cast<float>(algorithm.mu);
      break;
    case Algorithm::kScaffold:
      store->read(client, client_state.span());
      for (std::size_t i = 0; i < control.size(); ++i) {
        shift.data()[i] = control[i] - client_state.data()[i];
      }
      rule.shift = shift.span();
      break;
    case Algorithm::kFedDyn:
      store->read(client, client_state.span());
      for (std::size_t i = 0; i < shift.span().size(); ++i) {
        shift.data()[i] = -client_state.data()[i];
      }
      rule.proximal = static_cast<float>(algorithm.alpha);
      rule.shift = shift.span();
      break;
    case Algorithm::kMimeLite:
      rule.gradient_factor = static_cast<float>(1.0 - algorithm.beta);
      for (std::size_t i = 0; i < control.size(); ++i) {
        shift.data()[i] = static_cast<float>(algorithm.beta) * control[i];
      }
      rule.shift = shift.span();
      break;
    default:
      break;
  }
  return rule;
}

// Of the update that lies in local.parameters().
Rejection FederatedTrainer::State::rejection() const {
  if (paramserver::fits(ring, local.parameters(), origin.reference)) {
    return Rejection::kNone;
  }
  return all_finite(local.parameters()) ? Rejection::kOutOfRange : Rejection::kNotFinite;
}

// The whole update at once, all entries of the layout together.
void FederatedTrainer::State::clip_update(std::int64_t client, ClientRecord& record) const {
  const double norm = std::sqrt(squared_distance(local.parameters(), server.pull().buffer()));
  record.is_within = privacy->is_within(norm);
  record.weight = privacy->weight_of(clients->num_samples(client)) * privacy->factor(norm);
}

// q-FFL (Li et al. 2020, algorithm 2), divided by the Lipschitz estimate 1 / rate.
void FederatedTrainer::State::contribute_q(ClientRecord& record, double mean_loss) {
  const double q = options.algorithm.q;
  const std::span<const float> global = server.pull().buffer();
  record.weight = std::pow(mean_loss, q);
  if (!(record.weight <= kMostLossWeight)) {
    record.rejection = Rejection::kOutOfRange;
    return;
  }
  const double squared = squared_distance(local.parameters(), global);
  const double curvature =
      q > 0.0 ? q * std::pow(mean_loss + 1e-10, q - 1.0) * squared / local.rate_of(rounds_done)
              : 0.0;
  record.denominator = record.weight + curvature;
  paramserver::add_difference(ring, record.weight, local.parameters(), global, server.sums(0));
}

// What goes to the second channel and into the client's state. With check_only nothing is added.
bool FederatedTrainer::State::contribute_control(std::int64_t client, const ClientRecord& record,
                                                 bool check_only) {
  const std::span<const float> global = server.pull().buffer();
  const std::span<const float> own = local.parameters();
  const std::span<float> update = control_update.span();
  switch (options.algorithm.kind) {
    case Algorithm::kScaffold: {
      // Option II of the paper; `shift` is c - c_i.
      const auto factor = static_cast<float>(
          1.0 / (static_cast<double>(record.steps) * local.rate_of(rounds_done)));
      for (std::size_t i = 0; i < update.size(); ++i) {
        update[i] = (global[i] - own[i]) * factor - shift.data()[i];
      }
      if (check_only) {
        return paramserver::fits(ring, update, client_state.span());
      }
      paramserver::add_difference(ring, 1.0, update, client_state.span(), server.sums(1));
      store->write(client, rounds_done + 1, update);
      return true;
    }
    case Algorithm::kFedDyn:
      if (check_only) {
        return true;
      }
      for (std::size_t i = 0; i < update.size(); ++i) {
        update[i] = client_state.data()[i] -
                    static_cast<float>(options.algorithm.alpha) * (own[i] - global[i]);
      }
      store->write(client, rounds_done + 1, update);
      return true;
    case Algorithm::kMimeLite:
      if (check_only) {
        return paramserver::fits(ring, update);
      }
      paramserver::add_update(ring, record.weight, update, server.sums(1));
      return true;
    default:
      return true;
  }
}

// What is computed at the published model before a client trains: its mean loss for q-FedAvg, its
// full gradient for Mime-lite.
double FederatedTrainer::State::loss_before(std::int64_t client) {
  const std::span<const float> global = server.pull().buffer();
  const auto count = static_cast<float>(clients->num_samples(client));
  if (options.algorithm.kind == Algorithm::kQFedAvg) {
    return local.evaluate_at(global, client).loss_sum / static_cast<double>(count);
  }
  if (options.algorithm.kind == Algorithm::kMimeLite) {
    local.gradient_at(global, client, rounds_done, control_update.span());
    for (float& value : control_update.span()) {
      value /= count;
    }
  }
  return 0.0;
}

// Compresses the update in local.parameters(), padding left out, and keeps what was lost where
// error feedback is on. Returns the bytes on the wire.
std::int64_t FederatedTrainer::State::compress_update(std::int64_t client) {
  const std::span<const float> own = local.parameters();
  const std::span<float> update = compressed.span();
  if (errors) {
    errors->read(client, update);
  }
  elements.clear();
  for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
    for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      elements.push_back((own[at] - origin.model[at]) + (errors ? update[at] : 0.0F));
    }
  }
  std::vector<float> wanted;
  if (errors) {
    wanted = elements;
  }
  const std::int64_t bytes =
      compress(options.compression, client_stream("federated compression", client), elements);
  const auto scatter = [&](auto value) {
    std::size_t next = 0;
    for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
      for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i, ++next) {
        update[static_cast<std::size_t>(i)] = value(next);
      }
    }
  };
  if (errors) {
    scatter([&](std::size_t i) { return wanted[i] - elements[i]; });
    errors->write(client, rounds_done + 1, update);
  }
  scatter([&](std::size_t i) { return elements[i]; });
  return bytes;
}

void FederatedTrainer::State::contribute(std::int64_t client, ClientRecord& record) {
  if (!contribute_control(client, record, true)) {
    record.rejection = Rejection::kOutOfRange;
    return;
  }
  const bool compresses = options.compression.kind != CompressionKind::kNone;
  if (compresses) {
    record.bytes = compress_update(client);
    if (!paramserver::fits(ring, compressed.span())) {
      record.rejection = Rejection::kOutOfRange;
      return;
    }
  }
  std::span<std::int64_t> sums = server.sums(0);
  if (options.robust.kind != RobustKind::kNone) {
    rows.emplace_back(sums.size(), 0);
    sums = rows.back();
  }
  if (compresses) {
    paramserver::add_update(ring, record.weight, compressed.span(), sums);
  } else {
    paramserver::add_difference(ring, record.weight, local.parameters(), origin.reference, sums);
  }
  contribute_control(client, record, false);
}

// The client's model goes to local.parameters(); `origin` is its own.
LocalResult FederatedTrainer::State::train_alone(std::int64_t client) {
  LocalRule rule = rule_for(client);
  rule.repetition = origin.repetition;
  const bool attacks = is_attacker(options.attack, options.cohort.seed, client);
  local.set_labels(attacks && options.attack.kind == AttackKind::kLabelFlip ? Labels::kFlipped
                                                                            : Labels::kTrue);
  const LocalResult result = local.train(origin.model, client, origin.round, rule);
  if (attacks) {
    attack_alone(client);
  }
  return result;
}

ClientRecord FederatedTrainer::State::train_client(const RoundPlan& plan, std::size_t i) {
  const Clock::time_point began = Clock::now();
  const std::int64_t client = plan.cohort[i];
  const TrainedClient* trained = plan.flights.empty() ? nullptr : find_ahead(plan.flights[i]);
  origin = start_of(plan, i);
  const double mean_loss = loss_before(client);
  LocalResult result;
  if (trained == nullptr) {
    result = train_alone(client);
  } else {
    std::copy(trained->model.begin(), trained->model.end(), local.mutable_parameters().begin());
    result = trained->result;
  }
  ClientRecord record{.client = client,
                      .rejection = rejection(),
                      .weight = weight_of(plan, client) * origin.weight,
                      .samples = result.samples,
                      .correct = result.correct,
                      .steps = result.steps,
                      .loss_sum = result.loss_sum,
                      .bytes = model.layout().num_parameters() * std::int64_t{sizeof(float)}};
  record.denominator = base_weight(client);
  if (record.rejection == Rejection::kNone && privacy) {
    clip_update(client, record);
  }
  if (record.rejection == Rejection::kNone) {
    if (options.algorithm.kind == Algorithm::kQFedAvg) {
      contribute_q(record, mean_loss);
    } else {
      contribute(client, record);
    }
  }
  record.seconds = std::chrono::duration<double>(Clock::now() - began).count() +
                   (trained == nullptr ? 0.0 : trained->seconds);
  return record;
}

}  // namespace superstep::worker
