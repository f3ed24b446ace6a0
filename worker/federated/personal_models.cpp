#include "worker/federated/personal_models.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/as_size.h"
#include "base/check.h"

namespace superstep::worker {

namespace {

LocalOptions personal_options(LocalOptions local, const PersonalizationOptions& options) {
  local.epochs = options.epochs;
  if (options.learning_rate > 0.0) {
    local.learning_rate = options.learning_rate;
    local.learning_rate_decay = 1.0;
  }
  return local;
}

bool is_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

PersonalModels::PersonalModels(const Model& model, std::shared_ptr<const ClientData> clients,
                               const LocalOptions& local, const PersonalizationOptions& options,
                               std::filesystem::path root)
    : root_(std::move(root)),
      kind_(options.kind),
      lambda_(static_cast<float>(options.lambda)),
      entries_(personal_entries(model.layout(), options)) {
  validate(options);
  if (kind_ == PersonalizationKind::kDitto || kind_ == PersonalizationKind::kFineTune) {
    trainer_.emplace(model, std::move(clients), personal_options(local, options));
  }
  if (!has_personal_state(kind_)) {
    return;
  }
  composed_ = AlignedBuffer<float>(model.layout().size());
  state_elements_ = model.layout().size();
  if (kind_ == PersonalizationKind::kFedPer) {
    state_elements_ = 0;
    for (const paramserver::LayoutEntry& entry : entries_) {
      state_elements_ += entry.num_elements();
    }
    layers_.resize(as_size(state_elements_));
  }
  restore(0);
}

void PersonalModels::set_sample_watch(LocalTrainer::SampleWatch watch) {
  if (trainer_) {
    trainer_->set_sample_watch(std::move(watch));
  }
}

void PersonalModels::restore(std::int64_t round) {
  if (has_personal_state(kind_)) {
    states_.emplace(root_, state_elements_, round);
  }
}

bool PersonalModels::has_own(std::int64_t client) const {
  return states_ && states_->is_touched(client);
}

void PersonalModels::note(std::int64_t client, std::int64_t version) {
  if (states_) {
    states_->note(client, version);
  }
}

std::span<const float> PersonalModels::with_own_layers(std::int64_t client,
                                                       std::span<const float> global) {
  std::copy(global.begin(), global.end(), composed_.span().begin());
  if (!has_own(client)) {
    return composed_.span();
  }
  states_->read(client, layers_);
  const float* next = layers_.data();
  for (const paramserver::LayoutEntry& entry : entries_) {
    std::copy_n(next, entry.num_elements(), composed_.data() + entry.offset);
    next += entry.num_elements();
  }
  return composed_.span();
}

std::span<const float> PersonalModels::ditto_model(std::int64_t client,
                                                   std::span<const float> global) {
  if (has_own(client)) {
    states_->read(client, composed_.span());
  } else {
    std::copy(global.begin(), global.end(), composed_.span().begin());
  }
  return composed_.span();
}

std::span<const float> PersonalModels::start_of(std::int64_t client,
                                                std::span<const float> global) {
  return kind_ == PersonalizationKind::kFedPer ? with_own_layers(client, global) : global;
}

bool PersonalModels::take_layers(std::span<const float> trained) {
  float* next = layers_.data();
  for (const paramserver::LayoutEntry& entry : entries_) {
    std::copy_n(trained.data() + entry.offset, entry.num_elements(), next);
    next += entry.num_elements();
  }
  return is_finite(layers_);
}

void PersonalModels::return_layers(std::span<const float> global, std::span<float> trained) const {
  for (const paramserver::LayoutEntry& entry : entries_) {
    std::copy_n(global.data() + entry.offset, entry.num_elements(), trained.data() + entry.offset);
  }
}

PersonalModels::Kept PersonalModels::keep(std::int64_t client, std::int64_t round,
                                          std::span<const float> global) {
  Kept kept = Kept::kNew;
  if (kind_ == PersonalizationKind::kFedPer) {
    states_->write(client, round + 1, layers_);
  } else if (kind_ == PersonalizationKind::kDitto) {
    const std::span<const float> old = ditto_model(client, global);
    trainer_->train(old, client, round, {.proximal = lambda_, .anchor = global});
    std::span<const float> personal = trainer_->parameters();
    if (!is_finite(personal)) {
      personal = old;
      kept = Kept::kOld;
    }
    states_->write(client, round + 1, personal);
  }
  return kept;
}

std::span<const float> PersonalModels::model_of(std::int64_t client, std::int64_t round,
                                                std::span<const float> global) {
  switch (kind_) {
    case PersonalizationKind::kDitto:
      return ditto_model(client, global);
    case PersonalizationKind::kFedPer:
      return with_own_layers(client, global);
    case PersonalizationKind::kFineTune:
      trainer_->train(global, client, round, {});
      return trainer_->parameters();
    case PersonalizationKind::kNone:
      break;
  }
  return global;
}

}  // namespace superstep::worker
