#include "worker/federated/local_trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"

namespace superstep::worker {

namespace {

// The arithmetic of the centralised optimizer: mean = sum / n, then w -= rate * mean.
void plain_step(float rate, float count, std::span<const float> gradient,
                std::span<float> parameters) {
  const float* __restrict g = gradient.data();
  float* __restrict w = parameters.data();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    w[i] -= rate * (g[i] / count);
  }
}

void general_step(float rate, float count, const LocalRule& rule, std::span<const float> gradient,
                  std::span<float> parameters) {
  const float* __restrict g = gradient.data();
  const float* __restrict anchor = rule.anchor.data();
  float* __restrict w = parameters.data();
  if (rule.shift.empty()) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const float mean = rule.gradient_factor * (g[i] / count);
      w[i] -= rate * (mean + rule.proximal * (w[i] - anchor[i]));
    }
    return;
  }
  const float* __restrict shift = rule.shift.data();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const float mean = rule.gradient_factor * (g[i] / count);
    w[i] -= rate * (mean + rule.proximal * (w[i] - anchor[i]) + shift[i]);
  }
}

void add(std::span<const float> part, std::span<float> sum) {
  const float* __restrict in = part.data();
  float* __restrict out = sum.data();
  for (std::size_t i = 0; i < sum.size(); ++i) {
    out[i] += in[i];
  }
}

SlotBatch empty_batch(const kernels::Shape& sample_shape, std::int64_t num_samples) {
  std::vector<std::int64_t> sizes{num_samples};
  sizes.insert(sizes.end(), sample_shape.sizes().begin(), sample_shape.sizes().end());
  SlotBatch batch;
  batch.images = kernels::Tensor::zeros(kernels::Shape(std::move(sizes)), kernels::DType::kFloat32);
  batch.labels = kernels::Tensor::zeros(kernels::Shape{num_samples}, kernels::DType::kInt64);
  batch.sample_ids = kernels::Tensor::zeros(kernels::Shape{num_samples}, kernels::DType::kInt64);
  return batch;
}

}  // namespace

void validate(const LocalOptions& options) {
  constexpr auto kWhere = "LocalOptions";
  if (options.epochs < 1) {
    throw InvalidArgument(kWhere,
                          fmt::format("epochs: got {}, expected at least 1", options.epochs));
  }
  if (options.batch < 0) {
    throw InvalidArgument(kWhere, fmt::format("batch: got {}, expected at least 0", options.batch));
  }
  for (const auto& [name, value] :
       {std::pair("learning_rate", options.learning_rate),
        std::pair("learning_rate_decay", options.learning_rate_decay)}) {
    if (!std::isfinite(value) || value < 0.0) {
      throw InvalidArgument(
          kWhere, fmt::format("{}: got {}, expected a number of at least 0", name, value));
    }
  }
}

LocalTrainer::LocalTrainer(const Model& model, std::shared_ptr<const ClientData> clients,
                           const LocalOptions& options)
    : model_(model),
      clients_(std::move(clients)),
      options_(options),
      parameters_(model.layout().size()),
      gradient_(model.layout().size()),
      programs_(model, parameters_.span(), {.seed = options.seed, .precision = options.precision}) {
  validate(options_);
}

std::int64_t LocalTrainer::num_steps(const LocalOptions& options, std::int64_t num_samples) {
  const std::int64_t batch = options.batch == 0 ? num_samples : options.batch;
  return options.epochs * ((num_samples + batch - 1) / batch);
}

double LocalTrainer::rate_of(std::int64_t round) const {
  return options_.learning_rate *
         std::pow(options_.learning_rate_decay, static_cast<double>(round));
}

const SlotBatch& LocalTrainer::read(std::int64_t client, std::span<const std::int64_t> positions) {
  const auto count = static_cast<std::int64_t>(positions.size());
  auto found = batches_.find(count);
  if (found == batches_.end()) {
    found = batches_.emplace(count, empty_batch(model_.sample_shape(), count)).first;
    if (watch_) {
      watch_(std::as_bytes(found->second.images.data<float>()));
      watch_(std::as_bytes(found->second.labels.data<std::int64_t>()));
    }
  }
  SlotBatch& batch = found->second;
  clients_->read(client, positions, options_.normalization, batch.images.mutable_data<float>(),
                 batch.labels.mutable_data<std::int64_t>(),
                 batch.sample_ids.mutable_data<std::int64_t>());
  if (labels_ == Labels::kFlipped) {
    for (std::int64_t& label : batch.labels.mutable_data<std::int64_t>()) {
      label = clients_->num_classes() - 1 - label;
    }
  }
  return batch;
}

// Fisher-Yates from the end. A single batch needs no order: its samples are taken as they lie.
std::span<const std::int64_t> LocalTrainer::order(std::int64_t client, std::int64_t round,
                                                  std::int64_t epoch, std::int64_t repetition,
                                                  std::int64_t num_samples) {
  order_.resize(as_size(num_samples));
  std::iota(order_.begin(), order_.end(), 0);
  if (options_.batch != 0 && options_.batch < num_samples) {
    constexpr std::uint64_t kPurpose = stream_id("federated local order");
    PhiloxStream stream =
        repetition == 0 ? PhiloxStream(options_.seed, kPurpose, client, round, epoch)
                        : PhiloxStream(options_.seed, kPurpose, client, round, epoch, repetition);
    for (std::int64_t i = num_samples - 1; i > 0; --i) {
      const std::uint64_t j = stream.below(static_cast<std::uint64_t>(i) + 1);
      std::swap(order_[as_size(i)], order_[static_cast<std::size_t>(j)]);
    }
  }
  return order_;
}

void LocalTrainer::add_gradient(std::int64_t client, std::span<const std::int64_t> positions,
                                std::int64_t epoch_key, LocalResult& result) {
  const auto count = static_cast<std::int64_t>(positions.size());
  for (std::int64_t first = 0; first < count; first += kChunkSamples) {
    const std::int64_t length = std::min(kChunkSamples, count - first);
    const SlotBatch& batch = read(client, positions.subspan(as_size(first), as_size(length)));
    if (first > 0 && chunk_.empty()) {
      chunk_ = AlignedBuffer<float>(model_.layout().size());
    }
    const std::span<float> target = first == 0 ? gradient_.span() : chunk_.span();
    const paramserver::SlotSummary summary = programs_.train(batch, epoch_key, target);
    if (first > 0) {
      add(target, gradient_.span());
    }
    result.samples += summary.num_samples;
    result.correct += summary.num_correct;
    result.loss_sum += summary.loss_sum;
  }
}

// Statistics of batch normalisation are folded into the client's own copy.
void LocalTrainer::step(const LocalRule& rule, float rate, std::int64_t num_samples) {
  const auto count = static_cast<float>(num_samples);
  const bool plain = rule.gradient_factor == 1.0F && rule.proximal == 0.0F && rule.shift.empty();
  for (const paramserver::LayoutEntry& entry : model_.layout().entries()) {
    const std::size_t offset = as_size(entry.offset);
    const std::size_t length = as_size(entry.num_elements());
    const std::span<float> w = parameters_.span().subspan(offset, length);
    const std::span<const float> g = gradient_.span().subspan(offset, length);
    if (entry.role == paramserver::EntryRole::kStatistic) {
      for (std::size_t i = 0; i < length; ++i) {
        w[i] = (1.0F - entry.fold) * w[i] + entry.fold * (g[i] / count);
      }
    } else if (plain) {
      plain_step(rate, count, g, w);
    } else {
      LocalRule part = rule;
      part.shift = rule.shift.empty() ? rule.shift : rule.shift.subspan(offset, length);
      part.anchor = rule.anchor.subspan(offset, length);
      general_step(rate, count, part, g, w);
    }
  }
}

LocalResult LocalTrainer::train(std::span<const float> start, std::int64_t client,
                                std::int64_t round, const LocalRule& given) {
  SUPERSTEP_CHECK(start.size() == parameters_.span().size(), "elements of the model", start.size());
  LocalRule rule = given;
  if (rule.anchor.empty()) {
    rule.anchor = start;
  }
  SUPERSTEP_CHECK(rule.anchor.size() == start.size(), "elements of the anchor", rule.anchor.size());
  std::copy(start.begin(), start.end(), parameters_.span().begin());
  const std::int64_t num_samples = clients_->num_samples(client);
  const std::int64_t batch = options_.batch == 0 ? num_samples : options_.batch;
  const auto rate = static_cast<float>(rate_of(round));
  LocalResult result;
  for (std::int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
    const std::span<const std::int64_t> positions =
        order(client, round, epoch, rule.repetition, num_samples);
    for (std::int64_t first = 0; first < num_samples; first += batch) {
      const std::int64_t count = std::min(batch, num_samples - first);
      add_gradient(client, positions.subspan(as_size(first), as_size(count)),
                   round * options_.epochs + epoch, result);
      step(rule, rate, count);
      ++result.steps;
    }
  }
  return result;
}

LocalResult LocalTrainer::gradient_at(std::span<const float> at, std::int64_t client,
                                      std::int64_t round, std::span<float> gradient) {
  std::copy(at.begin(), at.end(), parameters_.span().begin());
  const std::int64_t num_samples = clients_->num_samples(client);
  order_.resize(as_size(num_samples));
  std::iota(order_.begin(), order_.end(), 0);
  LocalResult result;
  add_gradient(client, order_, round * options_.epochs, result);
  std::copy(gradient_.span().begin(), gradient_.span().end(), gradient.begin());
  return result;
}

LocalResult LocalTrainer::evaluate_at(std::span<const float> at, std::int64_t client) {
  std::copy(at.begin(), at.end(), parameters_.span().begin());
  const std::int64_t num_samples = clients_->num_samples(client);
  order_.resize(as_size(num_samples));
  std::iota(order_.begin(), order_.end(), 0);
  LocalResult result;
  for (std::int64_t first = 0; first < num_samples; first += kChunkSamples) {
    const std::int64_t length = std::min(kChunkSamples, num_samples - first);
    const paramserver::SlotSummary summary = programs_.evaluate(read(
        client, std::span<const std::int64_t>(order_).subspan(as_size(first), as_size(length))));
    result.samples += summary.num_samples;
    result.correct += summary.num_correct;
    result.loss_sum += summary.loss_sum;
  }
  return result;
}

}  // namespace superstep::worker
