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

// SCAFFOLD's and Mime-lite's, without running statistics and never compressed.
std::int64_t FederatedTrainer::State::control_bytes() const {
  return server.num_channels() > 1 ? model.layout().num_parameters() * std::int64_t{sizeof(float)}
                                   : 0;
}

// Of the update that lies in local.parameters(). A private one is clipped, whatever its length.
Rejection FederatedTrainer::State::rejection() const {
  if (privacy) {
    return all_finite(local.parameters()) ? Rejection::kNone : Rejection::kNotFinite;
  }
  paramserver::RingFormat range = ring;  // which may be wider, for what decoding makes of it
  range.value_bound = options.update_bound;
  if (paramserver::fits(range, local.parameters(), origin.reference)) {
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

// q-FFL weighs a client by F^q, which may be anything; the ring holds weights up to 1. A common
// power of two changes no bit of the mean. Collective.
CohortLosses FederatedTrainer::State::measure_losses(const RoundPlan& plan) {
  CohortLosses result;
  result.means.resize(plan.cohort.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < plan.cohort.size(); ++i) {
    if (plan.placement[i] == world.rank()) {
      const std::int64_t client = plan.cohort[i];
      choose_labels(client);
      result.means[i] = local.evaluate_at(server.pull().buffer(), client).loss_sum /
                        static_cast<double>(clients->num_samples(client));
      largest = std::isfinite(result.means[i]) ? std::max(largest, result.means[i]) : largest;
    }
  }
  world.set_phase("measure losses");
  largest = world.allreduce(largest, bsp::ReduceOp::kMax);
  world.set_phase("compute");
  if (options.algorithm.q > 0.0 && largest > 0.0) {
    result.exponent = std::ceil(options.algorithm.q * std::log2(largest));
  }
  return result;
}

// q-FFL (Li et al. 2020, algorithm 2), divided by the Lipschitz estimate 1 / rate.
void FederatedTrainer::State::contribute_q(const RoundPlan& plan, ClientRecord& record) {
  const auto place = std::lower_bound(plan.cohort.begin(), plan.cohort.end(), record.client);
  const double mean_loss = losses.means[static_cast<std::size_t>(place - plan.cohort.begin())];
  if (!std::isfinite(mean_loss)) {
    record.rejection = Rejection::kNotFinite;
    return;
  }
  const double q = options.algorithm.q;
  const std::span<const float> global = server.pull().buffer();
  record.weight = q > 0.0 ? std::exp2(q * std::log2(mean_loss) - losses.exponent) : 1.0;
  const double squared = squared_distance(local.parameters(), global);
  const double curvature =
      q > 0.0 ? q * std::exp2((q - 1.0) * std::log2(mean_loss + 1e-10) - losses.exponent) *
                    squared / local.rate_of(rounds_done)
              : 0.0;
  record.denominator = record.weight + curvature;
  paramserver::add_difference(ring, record.weight, local.parameters(), global, server.sums(0));
}

// Running statistics are no gradients: a control says nothing about them.
void FederatedTrainer::State::clear_statistics(std::span<float> control) const {
  for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
    if (entry.role == paramserver::EntryRole::kStatistic) {
      const std::span<float> part = control.subspan(static_cast<std::size_t>(entry.offset),
                                                    static_cast<std::size_t>(entry.num_elements()));
      std::fill(part.begin(), part.end(), 0.0F);
    }
  }
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
      clear_statistics(update);
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
      // What the server sees of the update, so that its h stays the mean of the clients' h_i.
      for (std::size_t i = 0; i < update.size(); ++i) {
        const float seen = compressed.empty() ? own[i] - global[i] : compressed.data()[i];
        update[i] = client_state.data()[i] - static_cast<float>(options.algorithm.alpha) * seen;
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

// Mime-lite: the client's full gradient at the published model, before it trains.
void FederatedTrainer::State::measure_gradient(std::int64_t client) {
  const auto count = static_cast<float>(clients->num_samples(client));
  local.gradient_at(server.pull().buffer(), client, rounds_done, control_update.span());
  for (float& value : control_update.span()) {
    value /= count;
  }
  clear_statistics(control_update.span());
}

// Whether the client attacks. Before anything reads its samples, so that all see the same labels.
bool FederatedTrainer::State::choose_labels(std::int64_t client) {
  const bool attacks = is_attacker(options.attack, options.cohort.seed, client);
  local.set_labels(attacks && options.attack.kind == AttackKind::kLabelFlip ? Labels::kFlipped
                                                                            : Labels::kTrue);
  return attacks;
}

// Compresses the update in local.parameters(), padding and personal layers left out; what was lost
// goes to `lost` where error feedback is on. Returns the bytes on the wire.
std::int64_t FederatedTrainer::State::compress_update(std::int64_t client) {
  const std::span<const float> own = local.parameters();
  const std::span<float> update = compressed.span();
  if (errors) {
    errors->read(client, update);
  }
  elements.clear();
  for (const paramserver::LayoutEntry& entry : sent) {
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
  const auto scatter = [&](std::span<float> to, auto value) {
    std::size_t next = 0;
    for (const paramserver::LayoutEntry& entry : sent) {
      for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i, ++next) {
        to[static_cast<std::size_t>(i)] = value(next);
      }
    }
  };
  if (errors) {
    scatter(lost.span(), [&](std::size_t i) { return wanted[i] - elements[i]; });
  }
  scatter(update, [&](std::size_t i) { return elements[i]; });
  return bytes;
}

void FederatedTrainer::State::contribute(std::int64_t client, ClientRecord& record) {
  if (!contribute_control(client, record, true)) {
    record.rejection = Rejection::kOutOfRange;
    return;
  }
  const bool compresses = options.compression.kind != CompressionKind::kNone;
  if (compresses) {
    record.bytes = compress_update(client) + control_bytes();
    if (!paramserver::fits(ring, compressed.span())) {
      record.rejection = Rejection::kOutOfRange;
      return;
    }
    if (errors) {
      errors->write(client, rounds_done + 1, lost.span());  // of accepted clients only
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

// What the client sends of its model goes to local.parameters(); `origin` is its own. Personal
// layers leave it before anything of it is sent.
LocalTraining FederatedTrainer::State::train_alone(std::int64_t client) {
  const bool attacks = choose_labels(client);
  if (options.algorithm.kind == Algorithm::kMimeLite) {
    measure_gradient(client);
  }
  LocalRule rule = rule_for(client);
  rule.repetition = origin.repetition;
  LocalTraining training;
  training.result = local.train(personal ? personal->start_of(client, origin.model) : origin.model,
                                client, origin.round, rule);
  training.layers_are_finite = !personal || personal->take_layers(local.parameters());
  if (attacks) {
    attack_alone(client);
  }
  if (personal) {
    personal->return_layers(origin.model, local.mutable_parameters());
  }
  return training;
}

ClientRecord FederatedTrainer::State::train_client(const RoundPlan& plan, std::size_t i) {
  const Clock::time_point began = Clock::now();
  const std::int64_t client = plan.cohort[i];
  const TrainedClient* trained = plan.flights.empty() ? nullptr : find_ahead(plan.flights[i]);
  origin = start_of(plan, i);
  LocalTraining training;
  if (trained == nullptr) {
    training = train_alone(client);
  } else {
    std::copy(trained->model.begin(), trained->model.end(), local.mutable_parameters().begin());
    training = trained->training;
  }
  ClientRecord record{
      .client = client,
      .rejection = training.layers_are_finite ? rejection() : Rejection::kNotFinite,
      .weight = weight_of(plan, client) * origin.weight,
      .samples = training.result.samples,
      .correct = training.result.correct,
      .steps = training.result.steps,
      .loss_sum = training.result.loss_sum,
      .bytes = elements_on_the_wire(sent) * std::int64_t{sizeof(float)} + control_bytes()};
  record.denominator = base_weight(client);
  if (record.rejection == Rejection::kNone && privacy) {
    clip_update(client, record);
  }
  if (record.rejection == Rejection::kNone && norms) {
    bound_update(record);
  }
  if (record.rejection == Rejection::kNone) {
    if (options.algorithm.kind == Algorithm::kQFedAvg) {
      contribute_q(plan, record);
    } else {
      contribute(client, record);
    }
  }
  if (record.rejection == Rejection::kNone && personal) {
    record.diverged =
        personal->keep(client, rounds_done, server.pull().buffer()) == PersonalModels::Kept::kOld;
  }
  record.seconds = std::chrono::duration<double>(Clock::now() - began).count() +
                   (trained == nullptr ? 0.0 : trained->seconds);
  return record;
}

}  // namespace superstep::worker
